package sharedcache_test

import (
	"fmt"
	"testing"

	"github.com/redis/rueidis"

	"credential-broker/broker"
	"credential-broker/broker/sharedcache"
)

// A log-out that one replica hears ends what all of them hold, and what is shared.
// Threat case SC15.
func TestALogOutReachesAll(t *testing.T) {
	w := newWorld(t)
	all := w.joined(3)
	o, other := w.order("s"), w.order("other")
	for i, r := range all {
		source := broker.FromShared
		if i == 0 {
			source = broker.FromSTS
		}
		w.from(r.cache, o, source)
		w.from(r.cache, other, source)
	}
	all[2].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	w.from(all[2].cache, o, broker.FromSTS) // at once, before anybody was told
	for _, r := range all {
		r.await(t, sharedcache.Heard, 1)
	}
	w.from(all[2].cache, other, broker.FromCache)
	calls := w.sts.calls.Load()
	for _, r := range all[:2] {
		if got := w.issue(r.cache, o); got.Source == broker.FromCache || got.AccessKeyID == "ASIA1" {
			t.Errorf("what was held is given after the log-out: %+v", got)
		}
		w.from(r.cache, other, broker.FromCache)
	}
	if n := w.sts.calls.Load() - calls; n > 1 { // none, where the third had heard itself before it asked
		t.Errorf("%d calls after the log-out", n)
	}
}

// What STS is being asked for when the log-out comes is for who asked, and for nobody
// later. Threat case SC15.
func TestACallUnderWayIsFromBeforeTheLogOut(t *testing.T) {
	w := newWorld(t)
	all := w.joined(3)
	o := w.order("s")
	asked, answer := make(chan struct{}), make(chan struct{})
	w.sts.before = fail(func() error {
		if w.sts.calls.Load() == 1 {
			close(asked)
			<-answer
		}
		return nil
	})
	done := make(chan broker.Credentials)
	go func() { done <- w.issue(all[0].cache, o) }()
	<-asked
	all[1].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	for _, r := range all {
		r.await(t, sharedcache.Heard, 1)
	}
	close(answer)
	<-done
	all[0].await(t, sharedcache.Written, 1)
	for i, r := range all {
		if got := w.issue(r.cache, o); got.AccessKeyID == "ASIA1" {
			t.Errorf("replica %d gives what was asked for before the log-out", i)
		}
	}
	if all[0].of(sharedcache.LoggedOut) == 0 {
		t.Errorf("%v", all[0].counts)
	}
}

// Who was cut off hears what he missed when he is back; where nobody can tell what
// that is, he forgets everything. Threat case SC16.
func TestWhoWasCutOffHearsWhatHeMissed(t *testing.T) {
	for name, lost := range map[string]bool{"it is all there": false, "it is gone": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.redis.Wire(t)
			a := w.joined(1)[0]
			b := w.joined(1, through(p))[0]
			o, other := w.order("s"), w.order("other")
			w.issue(b.cache, o)
			w.issue(b.cache, other)
			p.Cut()
			b.await(t, sharedcache.Failed, 1)
			w.from(b.cache, o, broker.FromCache) // it cannot know
			a.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
			a.await(t, sharedcache.Heard, 1)
			if lost {
				w.redis.Kill()
				w.redis.Again()
				a.await(t, sharedcache.Joined, 2)
			}
			p.Mend()
			b.await(t, sharedcache.Joined, 2)
			if !lost && (b.of(sharedcache.Heard) != 1 || b.of(sharedcache.BeganAnew) != 0) || lost && b.of(sharedcache.BeganAnew) == 0 {
				t.Errorf("%v", b.counts)
			}
			if got := w.issue(b.cache, o); got.Source == broker.FromCache || got.AccessKeyID == "ASIA1" {
				t.Errorf("%+v", got)
			}
			if got := w.issue(b.cache, other); (got.Source == broker.FromCache) == lost {
				t.Errorf("the other subject: %+v", got)
			}
		})
	}
}

// What a replica hears while Redis is away it tells when Redis is back.
// Threat case SC17.
func TestWhatWasHeardMeanwhileIsTold(t *testing.T) {
	w := newWorld(t)
	p := w.redis.Wire(t)
	a := w.joined(1, through(p))[0]
	b := w.joined(1)[0]
	o := w.order("s")
	w.issue(b.cache, o)
	p.Cut()
	a.await(t, sharedcache.Failed, 1)
	a.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	a.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	p.Mend()
	b.await(t, sharedcache.Heard, 1)
	if got := w.issue(b.cache, o); got.Source == broker.FromCache || got.AccessKeyID == "ASIA1" {
		t.Errorf("%+v", got)
	}
	if n := b.of(sharedcache.Heard); n != 1 {
		t.Errorf("it was told %d times", n)
	}
}

// A log-out by a session that another replica knows. Threat case SC15.
func TestASessionIsLookedForOnAll(t *testing.T) {
	w := newWorld(t)
	all := w.joined(3)
	o := w.order("s")
	all[1].sessions.Learn(o.Identity.Issuer, "sid", o.Identity.Subject)
	w.issue(all[0].cache, o)
	w.issue(all[2].cache, o)
	if subject, known := all[1].sessions.Subject(o.Identity.Issuer, "sid"); !known || subject != "s" {
		t.Error("who knows it has forgotten it")
	}
	if _, known := all[2].sessions.Subject(o.Identity.Issuer, "sid"); known {
		t.Error("who does not know it says whose it is")
	}
	for _, r := range all {
		r.await(t, sharedcache.Heard, 1)
	}
	for _, r := range all {
		if got := w.issue(r.cache, o); got.Source == broker.FromCache && r != all[0] && got.AccessKeyID == "ASIA1" {
			t.Errorf("%+v", got)
		}
	}
}

// Who writes to Redis brings back neither an entry from before a log-out nor an age
// that has ended. Threat case SC04.
func TestNothingOldIsBroughtBack(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	o := w.order("s")
	raw := w.raw()
	w.issue(all[0].shared, o)
	name, old := w.only(w.entries(raw))
	begin := w.records(raw)[0]

	all[0].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	all[0].await(t, sharedcache.Heard, 1)
	all[1].await(t, sharedcache.Heard, 1)
	w.set(raw, name, old)
	for _, r := range all {
		if got := w.issue(r.shared, o); got.AccessKeyID == "ASIA1" {
			t.Errorf("from before the log-out: %+v", got)
		}
		w.set(raw, name, old)
	}
	// The journal is rolled back to its beginning.
	if err := raw.Do(t.Context(), raw.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	w.record(raw, begin)
	w.set(raw, name, old)
	for _, r := range all {
		if got := w.issue(r.shared, o); got.AccessKeyID == "ASIA1" {
			t.Errorf("from before the log-out, with a journal that does not know of it: %+v", got)
		}
		w.set(raw, name, old)
	}
	// A new age, and then a record that says that the old one begins.
	w.redis.Kill()
	w.redis.Again()
	for _, r := range all {
		r.await(t, sharedcache.BeganAnew, 1)
		r.await(t, sharedcache.Joined, 2)
	}
	p := w.sharing(all)
	again := w.raw()
	anew := all[1].of(sharedcache.BeganAnew)
	w.record(again, begin)
	all[0].forget.Forget("https://i/", "somebody") // behind it
	all[1].await(t, sharedcache.Heard, 2)
	if n := all[1].of(sharedcache.BeganAnew); n != anew {
		t.Error("an age that had ended began again")
	}
	w.from(all[1].shared, p, broker.FromShared)
	w.set(again, name, old)
	if got := w.issue(all[1].shared, o); got.AccessKeyID == "ASIA1" {
		t.Errorf("of an age that has ended: %+v", got)
	}
}

// A replica that starts reads the log-outs that there were, and takes no entry from
// before them. Threat case SC04.
func TestWhoStartsKnowsTheLogOuts(t *testing.T) {
	w := newWorld(t)
	a := w.joined(1)[0]
	o, other := w.order("s"), w.order("other")
	w.issue(a.shared, o)
	w.issue(a.shared, other)
	a.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	a.await(t, sharedcache.Heard, 1)
	b := w.joined(1)[0]
	w.from(b.shared, o, broker.FromSTS)
	w.from(b.shared, other, broker.FromShared)
	// Of a journal whose beginning was cut off, it trusts nothing that is older.
	raw := w.raw()
	if err := raw.Do(t.Context(), raw.B().Xtrim().Key("cb:journal").Maxlen().Threshold("1").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	c := w.joined(1)[0]
	w.from(c.shared, other, broker.FromSTS)
	// The age is the others', though its beginning is gone.
	c.forget.Forget(o.Identity.Issuer, "another")
	a.await(t, sharedcache.Heard, 2)
	if n := a.of(sharedcache.BeganAnew); n != 0 {
		t.Errorf("who joins has the others forget everything: %d times", n)
	}
}

// Records that are none are counted. They end nothing that a replica holds; what is
// shared from before them is no answer, since each may have been a log-out.
// Threat case SC05.
func TestRecordsThatAreForged(t *testing.T) {
	w := newWorld(t)
	a := w.joined(1)[0]
	o := w.order("s")
	w.issue(a.cache, o)
	raw := w.raw()
	good := w.records(raw)[0]
	_, entry := w.only(w.entries(raw))
	for i, value := range []string{"", "x", good[:len(good)-1], "\x02" + good[1:], entry} {
		w.record(raw, value)
		a.await(t, sharedcache.Forged, i+1)
	}
	w.from(a.cache, o, broker.FromCache)
	w.from(a.shared, o, broker.FromSTS)
	w.from(a.shared, o, broker.FromShared)
	w.record(raw, good[:1]+"else"+good[5:])
	a.await(t, sharedcache.OtherKey, 1)
	if n := a.of(sharedcache.Forged); n != 5 || a.of(sharedcache.OldKey) != 0 {
		t.Errorf("%v", a.counts)
	}
	w.from(a.cache, o, broker.FromCache)
	w.from(a.shared, o, broker.FromSTS)
	a.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	a.await(t, sharedcache.Heard, 1)
}

// More log-outs than there is room for while Redis is away: everything is forgotten
// instead. Threat case SC17.
func TestTooMuchToTell(t *testing.T) {
	w := newWorld(t)
	p := w.redis.Wire(t)
	a := w.joined(1, through(p))[0]
	b := w.joined(1)[0]
	w.issue(b.cache, w.order("s"))
	p.Cut()
	a.await(t, sharedcache.Failed, 1)
	for n := range 10_001 {
		a.forget.Forget("https://i/", fmt.Sprint(n))
	}
	p.Mend()
	b.await(t, sharedcache.BeganAnew, 1)
	if got := w.issue(b.cache, w.order("s")); got.Source == broker.FromCache {
		t.Errorf("%+v", got)
	}
	if n := b.of(sharedcache.Heard); n != 0 {
		t.Errorf("%d were told", n)
	}
}

// records are the journal's.
func (w *world) records(c rueidis.Client) []string {
	w.t.Helper()
	all, err := c.Do(w.t.Context(), c.B().Xrange().Key("cb:journal").Start("-").End("+").Build()).AsXRange()
	if err != nil {
		w.t.Fatal(err)
	}
	var values []string
	for _, e := range all {
		values = append(values, e.FieldValues["d"])
	}
	return values
}

func (w *world) record(c rueidis.Client, value string) {
	w.t.Helper()
	if err := c.Do(w.t.Context(), c.B().Xadd().Key("cb:journal").Id("*").FieldValue().FieldValue("d", value).Build()).Error(); err != nil {
		w.t.Fatal(err)
	}
}

// A replica that has the new key alone cannot read a log-out that was told under the
// old one, and takes nothing from before it. Threat case SC20.
func TestALogOutUnderAnOldKeyIsHeldToo(t *testing.T) {
	w := newWorld(t)
	next := newKey()
	with := func(keys ...broker.Secret) func(*sharedcache.Config) {
		return func(c *sharedcache.Config) { c.Keys = keys }
	}
	both := w.joined(1, with(w.keys[0], next))[0]
	turned := w.joined(1, with(next, w.keys[0]))[0]
	o := w.order("s")
	first := w.issue(turned.shared, o)
	both.forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	turned.await(t, sharedcache.Heard, 1)
	turned.forget.Forget(o.Identity.Issuer, "another") // tells the new one of the age
	turned.await(t, sharedcache.Heard, 2)
	last := w.joined(1, with(next))[0]
	if got := w.issue(last.shared, o); got.AccessKeyID == first.AccessKeyID {
		t.Errorf("from before the log-out: %+v", got)
	}
	if last.of(sharedcache.BeganAnew) != 0 || last.of(sharedcache.LoggedOut) == 0 {
		t.Errorf("%v", last.counts)
	}
}

// A Redis that takes over without the end of the journal, as a follower may that the
// end had not reached: nobody can tell what was in it, and the age ends.
// Threat cases SC04 and SC16.
func TestTheEndOfTheJournalIsLost(t *testing.T) {
	w := newWorld(t)
	all := w.joined(2)
	raw := w.raw()
	o := w.order("s")
	w.issue(all[0].shared, o)
	name, old := w.only(w.entries(raw))
	log, err := w.do(raw, "XRANGE", "cb:journal", "-", "+").AsXRange()
	if err != nil {
		t.Fatal(err)
	}
	all[0].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
	for _, r := range all {
		r.await(t, sharedcache.Heard, 1)
	}
	w.do(raw, "FLUSHALL")
	w.do(raw, "XADD", "cb:journal", log[0].ID, "d", log[0].FieldValues["d"])
	w.disconnects(raw, all...)
	for _, r := range all {
		r.await(t, sharedcache.Joined, 2)
		r.await(t, sharedcache.BeganAnew, 1)
	}
	for _, r := range all {
		w.set(raw, name, old)
		if got := w.issue(r.shared, o); got.AccessKeyID == "ASIA1" {
			t.Errorf("from before a log-out that is in no journal any more: %+v", got)
		}
	}
}

// Who was cut off for longer than the journal reaches back forgets everything; the
// others need not. Threat case SC16.
func TestTheBeginningOfTheJournalIsGone(t *testing.T) {
	w := newWorld(t)
	p := w.redis.Wire(t)
	a := w.joined(1)[0]
	b := w.joined(1, through(p))[0]
	o := w.order("s")
	w.issue(b.cache, o)
	p.Cut()
	b.await(t, sharedcache.Failed, 1)
	a.forget.Forget("https://i/", "one")
	a.await(t, sharedcache.Heard, 1)
	a.forget.Forget("https://i/", "two")
	a.await(t, sharedcache.Heard, 2)
	w.do(w.raw(), "XTRIM", "cb:journal", "MAXLEN", "1")
	p.Mend()
	b.await(t, sharedcache.Joined, 2)
	if got := w.issue(b.cache, o); got.Source != broker.FromSTS || b.of(sharedcache.BeganAnew) != 1 {
		t.Errorf("%s, %v", got.Source, b.counts)
	}
	b.forget.Forget("https://i/", "three")
	a.await(t, sharedcache.Heard, 3)
	if n := a.of(sharedcache.BeganAnew); n != 0 {
		t.Errorf("who heard everything forgets everything too: %d times", n)
	}
}

// Nothing is taken before all log-outs are read. Threat case SC04.
func TestTheJournalIsReadToItsEndFirst(t *testing.T) {
	const many = 1200 // more than are read at a time
	w := newWorld(t)
	a := w.joined(1)[0]
	for n := range many {
		a.forget.Forget("https://i/", fmt.Sprint(n))
	}
	a.await(t, sharedcache.Heard, many)
	heard := make(chan int, 1)
	w.joined(1, func(c *sharedcache.Config) {
		observe, n := c.Observe, 0
		c.Observe = func(e sharedcache.Event) {
			switch e {
			case sharedcache.Heard:
				n++
			case sharedcache.Joined:
				heard <- n
			}
			observe(e)
		}
	})
	if n := <-heard; n != many {
		t.Errorf("it joins after %d of %d", n, many)
	}
}
