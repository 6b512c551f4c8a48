package sharedcache_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/sharedcache"
)

// Three replicas, whichever of them a subject comes to: one call to STS for a key
// and a life, and the same once half of it has passed. Threat case SC09.
func TestOneCallForAllReplicas(t *testing.T) {
	w := newWorld(t)
	all := w.joined(3)
	const subjects = 300
	ask := func() {
		var callers sync.WaitGroup
		for i := range subjects {
			for _, r := range all {
				callers.Go(func() {
					if _, err := r.cache.Issue(t.Context(), w.order(fmt.Sprint("s", i))); err != nil {
						t.Error(err)
					}
				})
			}
		}
		callers.Wait()
	}
	for life := 1; life <= 3; life++ {
		ask()
		ask()
		for _, r := range all {
			if r.of(sharedcache.Failed)+r.of(sharedcache.Skipped)+r.of(sharedcache.Overdue)+int(w.sts.late.Load()) > 0 { // a machine so busy that Redis was given up: once more
				t.Log(r.counts)
				TestOneCallForAllReplicas(t)
				return
			}
		}
		for name, n := range w.sts.per {
			if n != life {
				t.Fatalf("%s: %d calls in %d lives: %v %v %v", name, n, life, all[0].counts, all[1].counts, all[2].counts)
			}
		}
		if got := w.sts.calls.Load(); got != int64(life*subjects) {
			t.Fatalf("%d calls in %d lives", got, life)
		}
		w.clock.pass(41 * time.Minute) // past serving
	}
	if all[0].of(sharedcache.Failed)+all[1].of(sharedcache.Tampered)+all[2].of(sharedcache.Overdue) > 0 {
		t.Errorf("%v %v %v", all[0].counts, all[1].counts, all[2].counts)
	}
}

// What is renewed ahead of need is renewed once for all, and not with itself.
// Threat case SC09.
func TestARenewalIsShared(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	o := w.order("s")
	first := w.issue(all[0].cache, o)
	if got := w.issue(all[1].cache, o); got.AccessKeyID != first.AccessKeyID || got.Source != broker.FromShared {
		t.Fatalf("%+v", got)
	}
	w.clock.pass(31 * time.Minute)
	for i, r := range all { // a hit past the half-life begins the renewal
		w.issue(r.cache, o)
		if i == 0 {
			r.await(t, sharedcache.Written, 2)
		} else {
			r.await(t, sharedcache.Hit, 2)
		}
	}
	if n := w.sts.calls.Load(); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// An entry past its youth is no answer, since nobody would renew; it is one while
// STS is out, and never past its time. Threat case SC03.
func TestAnOldEntryServesWhileSTSIsOut(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	o := w.order("s")
	first := w.issue(all[0].shared, o)
	w.clock.pass(30 * time.Minute)
	for i, out := range []error{broker.ErrBusy, broker.ErrSTSUnavailable} {
		w.sts.before = fails(out)
		if got := w.issue(all[1].shared, o); got.AccessKeyID != first.AccessKeyID || got.Source != broker.FromShared || all[1].of(sharedcache.FellBack) != i+1 {
			t.Errorf("%v: %+v, %v", out, got, all[1].counts)
		}
	}
	held := o
	held.After = first.IssuedAt
	if got, err := all[1].shared.Issue(t.Context(), held); err == nil {
		t.Errorf("what is held is given again: %+v", got)
	}
	w.sts.before = fails(broker.ErrSTSRejected)
	if got, err := all[1].shared.Issue(t.Context(), o); err == nil {
		t.Errorf("although STS refuses: %+v", got)
	}
	w.sts.before = fails(broker.ErrSTSUnavailable)
	w.clock.pass(11 * time.Minute)
	if got, err := all[1].shared.Issue(t.Context(), o); err == nil {
		t.Errorf("past its time: %+v", got)
	}
	w.sts.before = nil
	if got := w.issue(all[1].shared, o); got.Source != broker.FromSTS {
		t.Errorf("%+v", got)
	}
}

// A token that ends soon gets no session that outlives it. Threat case SC07.
func TestAnEntryOfALongerTokenIsNoAnswer(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	w.issue(all[0].shared, w.order("s"))
	last := w.order("s", func(o *broker.Order) { o.NotAfter = w.clock.now().Add(o.Lifetime) })
	w.from(all[1].shared, last, broker.FromShared) // it ends with the token
	short := w.order("s", func(o *broker.Order) { o.NotAfter = last.NotAfter.Add(-time.Second) })
	if got := w.issue(all[1].shared, short); got.Source != broker.FromSTS {
		t.Errorf("%+v", got)
	}
	if got := w.issue(all[0].shared, w.order("s")); got.Source != broker.FromShared {
		t.Errorf("a longer one is not answered from a shorter's: %+v", got)
	}
}

// Who holds the lock and fails lets the next one try at once. Threat case SC10.
func TestAFailureIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	o := w.order("s")
	asked, answer := make(chan struct{}), make(chan struct{})
	first := true
	var mu sync.Mutex
	w.sts.before = fail(func() error {
		mu.Lock()
		was := first
		first = false
		mu.Unlock()
		if !was {
			return nil
		}
		close(asked)
		<-answer
		return broker.ErrSTSUnavailable
	})
	done := make(chan error)
	go func() {
		_, err := all[0].shared.Issue(t.Context(), o)
		done <- err
	}()
	<-asked
	got := make(chan broker.Credentials)
	go func() { got <- w.issue(all[1].shared, o) }()
	close(answer)
	if err := <-done; err == nil {
		t.Error("no failure")
	}
	if c := <-got; c.Source != broker.FromSTS {
		t.Errorf("%+v", c)
	}
}

// Whoever waits for a replica that hangs asks STS himself before his patience ends.
// Threat case SC10.
func TestNobodyWaitsForAReplicaThatHangs(t *testing.T) {
	w := newWorld(t)
	hangs := w.joined(1)[0]
	other := w.joined(1)[0]
	o := w.order("s")
	asked, end := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.sts.before = fail(func() error {
		first := false
		once.Do(func() { first = true })
		if first {
			close(asked)
			<-end
		}
		return nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.issue(hangs.shared, o)
	}()
	<-asked
	if got := w.issue(other.store.Issuer(w.sts, 600*time.Millisecond), o); got.Source != broker.FromSTS || other.of(sharedcache.Overdue) != 1 {
		t.Errorf("%+v, %v", got, other.counts)
	}
	close(end)
	<-done
}

// What is in Redis says nothing: no name, no value has a readable part.
// Threat case SC06.
func TestNothingInRedisCanBeRead(t *testing.T) {
	w := newWorld(t)
	r := w.joined(1)[0]
	o := w.order("canary-subject")
	w.issue(r.shared, o)
	r.forget.Forget(o.Identity.Issuer, "canary-subject")
	r.await(t, sharedcache.Heard, 1)
	raw := w.raw()
	var dump strings.Builder
	for name, value := range w.entries(raw) {
		dump.WriteString(name + value)
	}
	log, err := raw.Do(t.Context(), raw.B().Xrange().Key("cb:journal").Start("-").End("+").Build()).AsXRange()
	if err != nil || len(log) < 2 {
		t.Fatal(log, err)
	}
	for _, e := range log {
		for k, v := range e.FieldValues {
			dump.WriteString(k + v)
		}
	}
	for _, secret := range []string{"canary", "ASIA", "org_acme", "acme-uploads", "https://", "123456789012", "cb-s", "r1", w.keys[0].Reveal()} {
		if strings.Contains(dump.String(), secret) && secret != "r1" {
			t.Errorf("%q is there to read", secret)
		}
	}
}

// A holder that took too long lets go of no lock but its own, whether STS answered it
// or not: another may ask by now. Threat case SC10.
func TestNobodyLetsGoOfAnothersLock(t *testing.T) {
	for name, answer := range map[string]error{"with an answer": nil, "without one": broker.ErrSTSUnavailable} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r, raw := w.joined(1)[0], w.raw()
			var locks []string
			w.sts.before = fail(func() (err error) {
				locks, err = raw.Do(t.Context(), raw.B().Keys().Pattern("cb:{*}l").Build()).AsStrSlice()
				for _, name := range locks {
					w.set(raw, name, "another's")
				}
				return errors.Join(err, answer)
			})
			if _, err := r.shared.Issue(t.Context(), w.order("s")); !errors.Is(err, answer) {
				t.Fatal(err)
			}
			if len(locks) != 1 {
				t.Fatalf("locks %q", locks)
			}
			if text, err := raw.Do(t.Context(), raw.B().Get().Key(locks[0]).Build()).ToString(); text != "another's" {
				t.Errorf("the lock is %q, %v", text, err)
			}
		})
	}
}

// What a replica writes whose clock goes ahead is no answer for one whose clock goes
// right: it would be kept for longer than it is young. Threat case SC03.
func TestAnEntryOfTheFutureIsNoAnswer(t *testing.T) {
	w := newWorld(t)
	ahead := w.joined(1)[0]
	behind := func(d time.Duration) *replica {
		return w.joined(1, func(c *sharedcache.Config) { c.Now = func() time.Time { return w.clock.now().Add(-d) } })[0]
	}
	o := w.order("s")
	w.from(ahead.shared, o, broker.FromSTS)
	w.from(behind(time.Minute).shared, o, broker.FromShared)
	w.from(behind(time.Minute+time.Second).shared, o, broker.FromSTS)
}

// What has ended already is for who asked, and not kept.
func TestWhatHasEndedIsNotShared(t *testing.T) {
	w := newWorld(t)
	r := w.joined(1)[0]
	w.sts.change = func(c *broker.Credentials) { c.IssuedAt = c.IssuedAt.Add(-time.Hour) }
	if _, err := r.shared.Issue(t.Context(), w.order("s", func(o *broker.Order) { o.Lifetime = 10 * time.Minute })); err != nil {
		t.Fatal(err)
	}
	if r.of(sharedcache.Written) != 0 || r.of(sharedcache.Failed) != 0 {
		t.Errorf("%v", r.counts)
	}
}
