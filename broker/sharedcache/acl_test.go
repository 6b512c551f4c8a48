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
