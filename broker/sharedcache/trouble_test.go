package sharedcache_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/localredis"
	"credential-broker/broker/sharedcache"
)

// from issues and wants to know where it came from.
func (w *world) from(i broker.Issuer, o broker.Order, want broker.Source) broker.Credentials {
	w.t.Helper()
	c := w.issue(i, o)
	if c.Source != want {
		w.t.Errorf("from %s, not %s", c.Source, want)
	}
	return c
}

// sharing returns when the first two replicas share again, and an order that both
// have the same answer to. Who joined first may have begun another age since, and who
// waits for a record may be sent away for a moment.
func (w *world) sharing(all []*replica) broker.Order {
	w.t.Helper()
	for n := 0; ; n++ {
		o := w.order(fmt.Sprint("sharing", n))
		if w.issue(all[0].shared, o).AccessKeyID == w.issue(all[1].shared, o).AccessKeyID {
			return o
		}
	}
}

// A replica starts without Redis, goes on when it dies, and shares again when it is
// back, each time by itself. Threat case SC12.
func TestRedisComesAndGoes(t *testing.T) {
	w := newWorld(t)
	w.redis.Kill()
	a, b := w.replica(), w.replica()
	w.from(a.shared, w.order("s"), broker.FromSTS)
	w.from(b.shared, w.order("s"), broker.FromSTS)
	for round := 1; round <= 2; round++ {
		w.redis.Again()
		a.await(t, sharedcache.Joined, round)
		b.await(t, sharedcache.Joined, round)
		w.sharing([]*replica{a, b})
		w.redis.Kill()
		for n := range 10 {
			w.from(a.shared, w.order(fmt.Sprint("without", round, n)), broker.FromSTS)
		}
	}
}

// One that says nothing costs the timeout a few times, and then no time.
// Threat case SC11.
func TestRedisThatHangsIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	a := w.joined(1, func(c *sharedcache.Config) { c.Timeout = 20 * time.Millisecond })[0]
	w.redis.Stop()
	t.Cleanup(w.redis.Continue)
	for n := range 30 {
		w.from(a.shared, w.order(fmt.Sprint("s", n)), broker.FromSTS)
		if failed := a.of(sharedcache.Failed); n < 3 && failed != n+1 { // the fourth could meet who reads the journal
			t.Errorf("%d orders waited %d times", n+1, failed)
		}
	}
	if a.of(sharedcache.Skipped) < 20 {
		t.Errorf("%v", a.counts)
	}
	if !a.store.LeftAlone() {
		t.Error("it is not said to be left alone")
	}
}

// One that can be read and not written, or has no room: STS is asked, and what is
// there still serves. A log-out waits until it can be told, and it is known that it
// does. Threat case SC13.
func TestRedisThatTakesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		begin, end []string
		why        string
	}{
		"read-only": {[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, "READONLY"},
		"full":      {[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, "OOM"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var said lines
			all := w.joined(2, func(c *sharedcache.Config) { c.Log = slog.New(slog.NewTextHandler(&said, nil)) })
			raw := w.raw()
			do := func(words []string) {
				if err := raw.Do(t.Context(), raw.B().Arbitrary(words...).Build()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			w.from(all[0].shared, w.order("before"), broker.FromSTS)
			do(tc.begin)
			for w.issue(all[1].shared, w.order("before")).Source != broker.FromShared { // who waits for a record may be sent away for a moment
			}
			for range 10 {
				w.from(all[0].shared, w.order("s"), broker.FromSTS)
			}
			if n := all[0].store.Untold(); n != 0 || all[0].store.LeftAlone() {
				t.Errorf("%d log-outs are untold, left alone: %v", n, all[0].store.LeftAlone())
			}
			failed := all[0].of(sharedcache.Failed)
			all[0].forget.Forget("https://i/", "out")
			all[0].await(t, sharedcache.Failed, failed+1)
			if n := all[0].store.Untold(); n != 1 {
				t.Errorf("%d log-outs are untold", n)
			}
			all[0].await(t, sharedcache.Failed, failed+2) // tried again, and not said again
			if text := said.String(); strings.Count(text, "cannot be told") != 1 || !strings.Contains(text, tc.why) {
				t.Errorf("said: %s", text)
			}
			do(tc.end)
			for _, r := range all {
				r.await(t, sharedcache.Heard, 1)
			}
			if n := all[0].store.Untold(); n != 0 {
				t.Errorf("%d log-outs are still untold", n)
			}
			w.sharing(all)
		})
	}
}

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A replica that does not hear the others says so, with the reason, and when it does
// again. Threat case SC16.
func TestWhoDoesNotHearSaysWhy(t *testing.T) {
	w := newWorld(t)
	var said lines
	p := w.redis.Wire(t)
	a := w.joined(1, through(p), func(c *sharedcache.Config) { c.Log = slog.New(slog.NewTextHandler(&said, nil)) })[0]
	if text := said.String(); strings.Count(text, "is in use") != 1 {
		t.Errorf("said: %s", text)
	}
	p.Cut()
	a.await(t, sharedcache.Failed, 1)
	if text := said.String(); !strings.Contains(text, "not heard") || !strings.Contains(text, "error=") || strings.Contains(text, "again") {
		t.Errorf("said: %s", text)
	}
	p.Mend()
	a.await(t, sharedcache.Joined, 2)
	if text := said.String(); strings.Count(text, "heard again") != 1 || strings.Count(text, "is in use") != 1 {
		t.Errorf("said: %s", text)
	}
}

// What is no Redis at all is gone round. Threat case SC14.
func TestWhatIsNoRedis(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}
	}()
	a := w.replica(func(c *sharedcache.Config) { c.URL = broker.NewSecret("redis://" + l.Addr().String()) })
	w.from(a.shared, w.order("s"), broker.FromSTS)
}

// A fail-over by Sentinel: the replicas go on with the new master by themselves.
// Threat case SC12.
func TestSentinelFailsOver(t *testing.T) {
	w := newWorld(t)
	follower := localredis.Start(t, "--replicaof", "127.0.0.1", strconv.Itoa(w.redis.Port))
	sentinel := localredis.StartSentinel(t,
		fmt.Sprintf("sentinel monitor m 127.0.0.1 %d 1", w.redis.Port), "sentinel down-after-milliseconds m 500", "sentinel failover-timeout m 2000")
	by := func(c *sharedcache.Config) { c.URL = broker.NewSecret(sentinel.URL("?master_set=m")) }
	all := w.joined(2, by)
	w.from(all[0].shared, w.order("s"), broker.FromSTS)
	w.from(all[1].shared, w.order("s"), broker.FromShared)
	w.redis.Kill()
	w.from(all[0].shared, w.order("meanwhile"), broker.FromSTS)
	all[0].await(t, sharedcache.Joined, 2)
	all[1].await(t, sharedcache.Joined, 2)
	o := w.sharing(all)
	_ = follower
	// What the one that hears says, the other hears on the new master.
	all[0].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	all[1].await(t, sharedcache.Heard, 1)
}

// allowance is of 4 a minute.
func allowance(kind string, name ...string) sharedcache.Allowance {
	return sharedcache.Allowance{PerMinute: 4, Kind: kind, Name: name}
}

// Over all replicas there are so many a minute; whatever stands in Redis for it.
// Threat cases SC18 and SC19.
func TestLimitsAreCountedTogether(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	spend := func(r *replica, name string) time.Duration {
		t.Helper()
		over, wait, err := r.store.Spend(t.Context(), allowance("subject", "i", name))
		if err != nil || over != 0 {
			t.Fatal(over, err)
		}
		return wait
	}
	for n := range 4 {
		if wait := spend(all[n%2], "s"); wait != 0 {
			t.Errorf("event %d waits %s", n, wait)
		}
	}
	for _, r := range all {
		if wait := spend(r, "s"); wait <= 0 || wait > time.Minute {
			t.Errorf("over the limit: waits %s", wait)
		}
	}
	if wait := spend(all[0], "other"); wait != 0 {
		t.Errorf("another waits %s", wait)
	}
	raw := w.raw()
	for value, want := range map[string]bool{"99999999999999999999": true, "-5": false, "words": false, "": false} {
		for name := range w.entries(raw) {
			w.set(raw, name, value)
		}
		if wait := spend(all[0], "s"); (wait > 0) != want || wait > time.Minute {
			t.Errorf("%q: waits %s", value, wait)
		}
	}
	w.redis.Kill()
	if _, _, err := all[0].store.Spend(t.Context(), allowance("subject", "i", "s")); err == nil {
		t.Error("nobody can know")
	}
	if _, _, err := all[0].store.Spend(t.Context(), allowance("subject"), sharedcache.Allowance{Kind: "tenant"}); err == nil {
		t.Error("no limit is none")
	}
}

// Who is over his own limit takes nothing of what his tenant has. Threat case SC18.
func TestWhoIsOverOneLimitSpendsNoOther(t *testing.T) {
	w := newWorld(t)
	s := w.joined(1)[0].store
	for subject, want := range map[string]int{"a": 4, "b": 4} { // of 8 events of the tenant
		for n := range 6 {
			tenant := sharedcache.Allowance{PerMinute: 8, Kind: "tenant", Name: []string{"acme"}}
			over, wait, err := s.Spend(t.Context(), allowance("subject", subject), tenant)
			if err != nil || over != 0 || (wait > 0) != (n >= want) {
				t.Fatalf("event %d of %s: over %d, waits %s, %v", n, subject, over, wait, err)
			}
		}
	}
	for range 2 {
		over, wait, err := s.Spend(t.Context(), allowance("subject", "c"), allowance("tenant", "globex"), sharedcache.Allowance{PerMinute: 8, Kind: "tenant", Name: []string{"acme"}})
		if err != nil || over != 2 || wait <= 0 {
			t.Fatalf("the tenant that is over its limit: over %d, waits %s, %v", over, wait, err)
		}
	}
}

// A Redis that hangs costs a request the timeout once, however many limits there are:
// four of them are not the five failures after which it is left alone.
// Threat case SC11.
func TestLimitsHaveOnePatience(t *testing.T) {
	w := newWorld(t)
	a := w.joined(1, func(c *sharedcache.Config) { c.Timeout = 20 * time.Millisecond })[0]
	w.redis.Stop()
	t.Cleanup(w.redis.Continue)
	for range 4 {
		if _, _, err := a.store.Spend(t.Context(), allowance("subject", "s"), allowance("tenant", "acme")); err == nil {
			t.Error("nobody can know")
		}
	}
	if a.store.LeftAlone() {
		t.Errorf("one request fails more than once: %v", a.counts)
	}
}

// That a caller hangs up says nothing of Redis.
func TestACallerWhoHangsUpIsNoFailure(t *testing.T) {
	w := newWorld(t)
	a := w.joined(1)[0]
	w.redis.Stop()
	t.Cleanup(w.redis.Continue)
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	for range 6 {
		if _, _, err := a.store.Spend(ctx, allowance("subject", "s")); err == nil {
			t.Error("nobody can know")
		}
	}
	if a.store.LeftAlone() || a.of(sharedcache.Skipped) != 0 {
		t.Errorf("%v", a.counts)
	}
}
