package sharedcache_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/rueidis"

	"credential-broker/broker"
	"credential-broker/broker/sharedcache"
)

// documentedUser is what deploy/scaling.md lets the broker's user do, as arguments of
// redis-server.
func documentedUser(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`(?m)^user broker on #\$\(.*\) (~.+)$`).FindSubmatch(text)
	if rights == nil {
		t.Fatal("no rights are named")
	}
	return append([]string{"--user", "broker", "on", ">password"}, strings.Fields(string(rights[1]))...)
}

// do has a client say something to its Redis.
func (w *world) do(c rueidis.Client, words ...string) rueidis.RedisResult {
	w.t.Helper()
	result := c.Do(w.t.Context(), c.B().Arbitrary(words...).Build())
	if err := result.Error(); err != nil {
		w.t.Fatal(err)
	}
	return result
}

// waits has one replica wait for what another asks STS for; the clients are those of
// the nodes on which it may wait.
func (w *world) waits(all []*replica, nodes ...rueidis.Client) {
	w.t.Helper()
	o := w.order("waited for")
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.sts.before = fail(func() error {
		once.Do(func() { close(asked) })
		<-answer
		return nil
	})
	done := make(chan broker.Credentials, 2)
	for i, r := range all[:2] {
		go func() { done <- w.issue(r.shared, o) }()
		if i == 0 {
			<-asked
		}
	}
	for !slices.ContainsFunc(nodes, func(c rueidis.Client) bool { // the waiter's read, within a transaction
		commands, err := w.do(c, "CLIENT", "LIST").ToString()
		if err != nil {
			w.t.Fatal(err)
		}
		return strings.Contains(commands, "cmd=exec")
	}) {
	}
	close(answer)
	if a, b := <-done, <-done; a.AccessKeyID != b.AccessKeyID || all[1].of(sharedcache.Waited) != 1 {
		w.t.Errorf("%v", all[1].counts)
	}
}

// disconnects ends every connection but the client's own, until each replica has
// noticed: one that asks nothing at that moment connects again and has lost nothing.
func (w *world) disconnects(raw rueidis.Client, all ...*replica) {
	w.t.Helper()
	for _, r := range all {
		for failed := r.of(sharedcache.Failed); r.of(sharedcache.Failed) == failed; {
			w.do(raw, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
	}
}

// nothingDenied reports what a user asked for and may not do.
func (w *world) nothingDenied(nodes ...rueidis.Client) {
	w.t.Helper()
	for _, c := range nodes {
		denied, err := w.do(c, "ACL", "LOG").ToArray()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range denied {
			m, _ := d.AsStrMap()
			w.t.Errorf("denied: %s %s", m["reason"], m["object"])
		}
	}
}

// A right that is missing costs what it is needed for, and each time one answer that it
// may not: an order that cannot wait asks STS itself, at once; a lock that is not let go of is not
// taken for a success.
func TestARightThatIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		right string
		want  map[sharedcache.Event]int
	}{
		"it cannot wait":       {"+multi", map[sharedcache.Event]int{sharedcache.Failed: 1, sharedcache.Overdue: 0, sharedcache.Waited: 0, sharedcache.Written: 0}},
		"it cannot take locks": {"+set", map[sharedcache.Event]int{sharedcache.Failed: 1, sharedcache.Overdue: 0, sharedcache.Waited: 0, sharedcache.Written: 0}},
		"it cannot let go":     {"+eval", map[sharedcache.Event]int{sharedcache.Failed: 1, sharedcache.Written: 0}},
	} {
		t.Run(name, func(t *testing.T) {
			user := documentedUser(t)
			user = slices.Delete(user, slices.Index(user, tc.right), slices.Index(user, tc.right)+1)
			w := newWorld(t, user...)
			holder := w.joined(1)[0]
			limited := w.joined(1, func(c *sharedcache.Config) {
				c.URL = broker.NewSecret(fmt.Sprintf("redis://broker:password@127.0.0.1:%d", w.redis.Port))
			})[0]
			o := w.order("s")
			if tc.right == "+multi" { // somebody has the lock
				inner := w.order("s")
				w.sts.before = fail(func() error {
					if w.sts.calls.Load() == 1 {
						w.from(limited.shared, inner, broker.FromSTS)
					}
					return nil
				})
				w.from(holder.shared, o, broker.FromSTS)
			} else {
				w.from(limited.shared, o, broker.FromSTS)
			}
			for event, want := range tc.want {
				if got := limited.of(event); got != want {
					t.Errorf("%s: %d, want %d: %v", event, got, want, limited.counts)
				}
			}
		})
	}
}

// Who cannot read the journal takes nothing from Redis, and keeps the others from
// nothing. Who could and cannot find his place any more does not take that for a
// journal that is lost. Threat case SC21.
func TestWhoCannotHearDoesNotShare(t *testing.T) {
	for _, right := range []string{"+xread", "+xrange"} {
		t.Run(right, func(t *testing.T) {
			w := newWorld(t, documentedUser(t)...)
			a := w.joined(1)[0]
			o := w.order("s")
			w.from(a.shared, o, broker.FromSTS)
			raw := w.raw()
			b := w.replica(func(c *sharedcache.Config) {
				c.URL = broker.NewSecret(fmt.Sprintf("redis://broker:password@127.0.0.1:%d", w.redis.Port))
			})
			b.await(t, sharedcache.Joined, 1)
			w.do(raw, "ACL", "SETUSER", "broker", "-"+right[1:])
			w.disconnects(raw, b)
			b.await(t, sharedcache.Failed, 3)
			skipped := b.of(sharedcache.Skipped)
			w.from(b.shared, o, broker.FromSTS)
			if b.store.Live() || b.of(sharedcache.Joined) != 1 || b.of(sharedcache.Skipped) == skipped || b.of(sharedcache.LoggedOut) != 0 || b.of(sharedcache.BeganAnew) != 0 {
				t.Errorf("%v", b.counts)
			}
			a.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
			a.await(t, sharedcache.Heard, 1)
			if n := a.of(sharedcache.BeganAnew); n != 0 {
				t.Errorf("the others forget everything: %d times", n)
			}
		})
	}
}

// Who may not begin the journal hears nobody, and says so each time.
func TestWhoCannotBeginDoesNotShare(t *testing.T) {
	user := documentedUser(t)
	user = slices.Delete(user, slices.Index(user, "+xadd"), slices.Index(user, "+xadd")+1)
	w := newWorld(t, user...)
	r := w.replica(func(c *sharedcache.Config) {
		c.URL = broker.NewSecret(fmt.Sprintf("redis://broker:password@127.0.0.1:%d", w.redis.Port))
	})
	r.await(t, sharedcache.Failed, 2)
	if r.store.Live() {
		t.Error("it shares")
	}
}

// What deploy/scaling.md lets the broker's user do is enough, and is no more than its
// own keys. Threat case SC21.
func TestTheDocumentedRightsAreEnough(t *testing.T) {
	w := newWorld(t, documentedUser(t)...)
	raw := w.raw()
	url := fmt.Sprintf("redis://broker:password@127.0.0.1:%d", w.redis.Port)
	all := w.joined(2, func(c *sharedcache.Config) { c.URL = broker.NewSecret(url) })
	o := w.order("s")
	w.from(all[0].shared, o, broker.FromSTS)
	w.from(all[1].shared, o, broker.FromShared)
	w.waits(all, raw)
	all[0].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	all[1].await(t, sharedcache.Heard, 1)
	if _, _, err := all[0].store.Spend(t.Context(), sharedcache.Allowance{PerMinute: 4, Kind: "subject"}); err != nil {
		t.Error(err)
	}
	w.nothingDenied(raw)
}
