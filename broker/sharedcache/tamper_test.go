package sharedcache_test

import (
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/sharedcache"
)

// only is the name and value of the one entry that is there.
func (w *world) only(all map[string]string) (string, string) {
	w.t.Helper()
	if len(all) != 1 {
		w.t.Fatalf("%d entries", len(all))
	}
	for name, value := range all {
		return name, value
	}
	return "", ""
}

// Whatever somebody writes in the place of an entry, it is no answer: each byte of
// one flipped, and each length that one can be cut to. Threat case SC01.
func TestNothingThatWasChangedIsAnAnswer(t *testing.T) {
	w := newWorld(t)
	r := w.joined(1)[0]
	o := w.order("s")
	w.issue(r.shared, o)
	raw := w.raw()
	name, good := w.only(w.entries(raw))
	w.set(raw, name, good)
	if got := w.issue(r.shared, o); got.Source != broker.FromShared {
		t.Fatalf("what was not changed is no answer: %+v", got)
	}
	tries := []string{"", good + "x", good + good, "{}"}
	for i := range good {
		changed := []byte(good)
		changed[i] ^= 1 << (i % 8)
		tries = append(tries, string(changed), good[:i])
	}
	calls := w.sts.calls.Load()
	for i, value := range tries {
		w.set(raw, name, value)
		if got := w.issue(r.shared, o); got.Source != broker.FromSTS {
			t.Fatalf("try %d is an answer: %+v", i, got)
		}
	}
	n := len(tries)
	if got := w.sts.calls.Load() - calls; got != int64(n) {
		t.Errorf("%d calls for %d tries", got, n)
	}
	if got := r.of(sharedcache.Tampered); got < n { // the look before the lock, and the one under it
		t.Errorf("%d of %d were seen", got, n)
	}
}

// Entries that are moved: to the place of another tenant's, of another revision's, of
// another subject's, of the same under another key of the broker's. Threat case SC02.
func TestAnEntryIsAnAnswerInItsPlaceAlone(t *testing.T) {
	w := newWorld(t)
	r := w.joined(1)[0]
	orders := []broker.Order{
		w.order("s"),
		w.order("s", w.tenant("org_globex")),
		w.order("other"),
		w.order("s", func(o *broker.Order) { o.Revision = "r2" }),
		w.order("s", func(o *broker.Order) { o.Identity.KeyThumbprint = "B" }),
		w.order("s", func(o *broker.Order) { o.Scope.Duration = 30 * time.Minute }),
	}
	raw := w.raw()
	var names, values []string
	for _, o := range orders {
		before := w.entries(raw)
		w.issue(r.shared, o)
		for name, value := range w.entries(raw) {
			if before[name] == "" {
				names, values = append(names, name), append(values, value)
			}
		}
	}
	if len(names) != len(orders) {
		t.Fatalf("%d names for %d orders", len(names), len(orders))
	}
	for to, o := range orders {
		for from := range orders {
			if from == to {
				continue
			}
			w.set(raw, names[to], values[from])
			if got := w.issue(r.shared, o); got.Source != broker.FromSTS {
				t.Errorf("the entry of order %d answers order %d", from, to)
			}
		}
	}
	if got := r.of(sharedcache.Tampered); got < len(orders)*(len(orders)-1) {
		t.Errorf("%d were seen", got)
	}
}

// A key that is not the replicas' opens nothing and is not opened; one that they hold
// beside the first is. Threat case SC20.
func TestKeysAreChangedOneByOne(t *testing.T) {
	w := newWorld(t)
	next := newKey()
	with := func(keys ...broker.Secret) func(*sharedcache.Config) {
		return func(c *sharedcache.Config) { c.Keys = keys }
	}
	old := w.joined(1)[0]
	both := w.joined(1, with(w.keys[0], next))[0]
	turned := w.joined(1, with(next, w.keys[0]))[0]
	answered := func(o broker.Order, want broker.Source, all ...*replica) {
		t.Helper()
		for i, r := range all {
			if got := w.issue(r.shared, o); got.Source != want {
				t.Errorf("replica %d: from %s, not %s", i, got.Source, want)
			}
		}
	}
	o := w.order("s")
	answered(o, broker.FromSTS, old)
	answered(o, broker.FromShared, both, turned)
	// The first that has the new key alone cannot read that the age has begun. It begins
	// a new one, which all hear of that have the key.
	last := w.joined(1, with(next))[0]
	both.await(t, sharedcache.BeganAnew, 1)
	turned.await(t, sharedcache.BeganAnew, 1)
	old.await(t, sharedcache.OtherKey, 1)
	if n, m := last.of(sharedcache.OldKey), last.of(sharedcache.Forged)+last.of(sharedcache.OtherKey); n == 0 || m != 0 {
		t.Errorf("%v", last.counts)
	}
	p := w.order("p")
	answered(p, broker.FromSTS, turned)
	answered(p, broker.FromShared, both, last)
	answered(p, broker.FromSTS, old)
	answered(p, broker.FromSTS, w.joined(1, with(newKey()))[0]) // a stranger
}

// What STS gave for something else is not kept for anybody. Threat case SC08.
func TestNothingElseIsWritten(t *testing.T) {
	for name, change := range map[string]func(*broker.Credentials){
		"another scope":   func(c *broker.Credentials) { c.Scope.Grant = "else" },
		"another session": func(c *broker.Credentials) { c.SessionName = "else" },
		"nearly ended": func(c *broker.Credentials) {
			c.IssuedAt = c.IssuedAt.Add(-50 * time.Minute)
			c.Expiration = c.Expiration.Add(-50 * time.Minute)
		},
	} {
		w := newWorld(t)
		r := w.joined(1)[0]
		w.sts.change = change
		if _, err := r.shared.Issue(t.Context(), w.order("s")); err != nil {
			t.Fatal(err)
		}
		if all := w.entries(w.raw()); len(all) != 0 || r.of(sharedcache.Written) != 0 {
			t.Errorf("%s: %d entries, the lock included", name, len(all))
		}
	}
}

// An entry that somebody kept, and brings back without an end, is as old as it is.
// Threat case SC03.
func TestWhatHasEndedIsNotBroughtBack(t *testing.T) {
	w := newWorld(t)
	r := w.joined(1)[0]
	o := w.order("s")
	first := w.issue(r.shared, o)
	raw := w.raw()
	name, old := w.only(w.entries(raw))
	for _, passed := range []time.Duration{41 * time.Minute, 2 * time.Hour, 9 * time.Hour} {
		w.clock.pass(passed)
		w.set(raw, name, old)
		w.sts.before = fails(broker.ErrSTSUnavailable)
		if got, err := r.shared.Issue(t.Context(), o); err == nil {
			t.Errorf("after %s, while STS is out: %+v", passed, got)
		}
		w.sts.before = nil
		w.set(raw, name, old)
		if got := w.from(r.shared, o, broker.FromSTS); got.AccessKeyID == first.AccessKeyID {
			t.Errorf("after %s: %+v", passed, got)
		}
	}
}
