package main

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/awssts"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/localredis"
	"credential-broker/broker/sharedcache"
)

// population is how many subjects there are, and how long a session lasts that
// stands for one of a quarter of an hour: so long that three brokers, an STS and who
// asks all of them find the time on a machine of two cores. SUBJECTS=2000 makes more.
func population() (subjects int, session time.Duration, measured bool) {
	subjects, err := strconv.Atoi(os.Getenv("SUBJECTS"))
	if measured = err == nil; !measured {
		subjects = 13
	}
	return subjects, 10*time.Second + time.Duration(subjects)*25*time.Millisecond, measured
}

// simulated is a time in terms of sessions of a quarter of an hour.
func simulated(d, session time.Duration) time.Duration {
	return (d * (15 * time.Minute / session)).Round(time.Second)
}

// visits is how often somebody comes in the life of a session.
const visits = 6

// twice counts the calls to STS that came while what the call before them brought was
// young: with a third of its life gone and more, it is renewed.
func twice(calls [][]time.Time, life time.Duration) (n int) {
	for _, c := range calls {
		for i := 1; i < len(c); i++ {
			if c[i].Sub(c[i-1]) < time.Duration(sharedcache.YoungUntil*float64(life)) {
				n++
			}
		}
	}
	return n
}

// least is the number of calls of who has the fewest; all of all.
func least(calls [][]time.Time) (fewest, all int) {
	fewest = len(calls[0])
	for _, c := range calls {
		fewest, all = min(fewest, len(c)), all+len(c)
	}
	return fewest, all
}

// alone counts what made replicas ask STS although another had: Redis was not there
// for them in time, as a busy machine has it now and then.
func (f *fleet) alone() (n int) {
	f.Helper()
	f.mu.Lock()
	replicas := f.replicas
	f.mu.Unlock()
	for _, p := range replicas {
		for _, event := range []string{"failed", "overdue", "skipped"} {
			n += f.events(p, event)
		}
	}
	return n
}

// Three real brokers, with sessions that last seconds: STS is asked once for each
// subject in the life of a session, also while each broker is replaced by another.
// Redis is killed in the middle of it and comes back. No request is refused, and no
// answer is another's, or has ended. Threat cases SC12 and SC24.
func TestReplicasLive(t *testing.T) {
	subjects, session, measured := population()
	f := newFleet(t, true, session)
	f.all(3)
	callers := f.callers("s", subjects, nil)
	began := time.Now()
	round, stop := f.live(callers, session/visits)

	round()
	waited := 0
	for _, p := range f.replicas {
		waited += f.events(p, "waited")
	}
	if waited == 0 {
		t.Error("nobody waited for what another was asking for")
	}
	slow := f.summary("with Redis")
	excused := 0
	for _, p := range f.replicas[:3:3] {
		excused += f.alone()
		f.replace(p)
	}
	f.await("each is renewed twice", func() bool { fewest, _ := least(f.called(callers, began)); return fewest >= 3 })
	excused += f.alone()
	slow = max(slow, f.summary("in a rolling restart"))
	calls := f.called(callers, began)
	_, all := least(calls)
	t.Logf("%d subjects, sessions of %s, %s of life (%s with sessions of 15m): %d calls to STS, %.2f for each, %d of them while what was there was young (Redis was not in time %d times)",
		subjects, session, time.Since(began).Round(time.Second), simulated(time.Since(began), session), all, float64(all)/float64(subjects), twice(calls, f.life), excused)
	if n := twice(calls, f.life); n > excused {
		t.Errorf("%d calls for what another had asked for, and Redis was not in time %d times", n, excused)
	}

	f.redis.Kill()
	round()
	for _, p := range f.replicas {
		f.until(p, "shared_cache_up", 0)
	}
	slow = max(slow, f.summary("while Redis is killed"))
	// A log-out meanwhile waits, and is told when Redis is back.
	if status, body := f.ask(http.MethodDelete, f.replicas[0].public+"/v1/credentials", f.callers("out", 1, nil)[0].token); status != http.StatusNoContent {
		t.Errorf("%d %s", status, body)
	}
	if n := f.metric(f.replicas[0], "shared_cache_untold"); n != 1 {
		t.Errorf("%d log-outs wait", n)
	}
	heard := f.events(f.replicas[1], "heard")
	f.redis.Again()
	f.until(f.replicas[1], `shared_cache_events_total{event="heard"}`, heard+1)
	for _, p := range f.replicas {
		f.until(p, "shared_cache_up", 1)
	}
	round() // who came first may have begun an age before another did: what was asked for in the first is asked for again
	slow = max(slow, f.summary("while Redis comes back"))
	back, before := time.Now(), f.alone()
	f.await("each is renewed", func() bool { fewest, _ := least(f.called(callers, back)); return fewest >= 1 })
	slow = max(slow, f.summary("after it came back"))
	if n := twice(f.called(callers, back), f.life); n > f.alone()-before {
		t.Errorf("%d calls for what another had asked for after Redis came back", n)
	}
	stop()
	refused := f.refused()
	t.Logf("%s of life in all, %s with sessions of 15m; %d requests were put off", time.Since(began).Round(time.Second), simulated(time.Since(began), session), refused)
	if measured && refused > 0 { // not where the machine has other work
		t.Errorf("%d requests were put off", refused)
	}
	if measured && slow > awssts.MaxTimeout {
		t.Errorf("p99 %s: more than the broker's patience", slow)
	}
}

// Without Redis, each of them asks for itself: what is above saves something.
func TestReplicasThatShareNothing(t *testing.T) {
	subjects, session, _ := population()
	f := newFleet(t, false, session)
	f.all(3)
	callers := f.callers("s", subjects, nil)
	began := time.Now()
	round, stop := f.live(callers, session/visits)
	round()
	stop()
	pairs := 0
	for _, by := range f.served {
		pairs += len(by)
	}
	calls := f.called(callers, began)
	_, all := least(calls)
	t.Logf("%d subjects, each at %.2f of 3 brokers: %d calls to STS, %.2f for each", subjects, float64(pairs)/float64(subjects), all, float64(all)/float64(subjects))
	if all < pairs || pairs <= 2*subjects {
		t.Errorf("%d calls for %d subjects, who were at %d brokers", all, subjects, pairs)
	}
	f.summary("without Redis")
}

// logsOut has the issuer tell a replica of a log-out, by subject or by session.
func (f *fleet) logsOut(p *process, claims map[string]any) {
	f.Helper()
	now := time.Now().Unix()
	maps.Copy(claims, map[string]any{
		"iss": f.issuer, "aud": "demo-spa", "iat": now, "exp": now + 120, "jti": rand.Text(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	})
	token, err := f.auth0.Mint(claims, localauth0.WithHeader("typ", "logout+jwt"))
	if err != nil {
		f.Fatal(err)
	}
	r, err := http.NewRequestWithContext(f.Context(), http.MethodPost, p.public+"/v1/backchannel-logout", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if status, body := f.send(r); status != http.StatusOK {
		f.Fatalf("%d %s", status, body)
	}
}

// forgotten waits until each of the replicas gives something else than before, and
// returns how long the slowest took.
func (f *fleet) forgotten(c caller, before string, replicas ...*process) time.Duration {
	f.Helper()
	began, took := time.Now(), make(chan time.Duration, len(replicas))
	for _, p := range replicas {
		go func() {
			for f.credentials(p.public, c) == before && time.Since(began) < patience {
			}
			took <- time.Since(began)
		}()
	}
	var slowest time.Duration
	for range replicas {
		slowest = max(slowest, <-took)
	}
	if slowest >= patience {
		f.Fatalf("%s: what was there before the log-out is still given", c.subject)
	}
	return slowest
}

// A log-out at one broker, by its caller or by the issuer, by subject or by a session
// that only others know, ends what all hold. One that was cut off from Redis, or from
// which nothing came, learns of it when it is back. How long that takes is printed.
// Threat case SC15.
func TestALogOutReachesEveryReplica(t *testing.T) {
	times, cuts := 3, 1
	if _, _, measured := population(); measured {
		times, cuts = 30, 10
	}
	f := newFleet(t, true, 15*time.Minute)
	var wires []*localredis.Wire
	for range 3 {
		wires = append(wires, f.redis.Wire(t))
		f.start(wires[len(wires)-1].URL())
	}
	first, last := f.replicas[0], f.replicas[2]
	held := func(c caller, by ...*process) (id string) {
		t.Helper()
		for _, p := range by {
			next := f.credentials(p.public, c)
			if id != "" && next != id {
				t.Errorf("%s: not shared", c.subject)
			}
			id = next
		}
		return id
	}
	byCaller := func(c caller) {
		t.Helper()
		if status, body := f.ask(http.MethodDelete, first.public+"/v1/credentials", c.token); status != http.StatusNoContent {
			t.Fatalf("%d %s", status, body)
		}
	}
	bySubject := func(c caller) { t.Helper(); f.logsOut(first, map[string]any{"sub": c.subject}) }
	bySession := func(c caller) { t.Helper(); f.logsOut(first, map[string]any{"sid": "of " + c.subject}) }
	for _, way := range []struct {
		name  string
		out   func(caller)
		holds []*process
	}{
		{"DELETE", byCaller, f.replicas},
		{"the issuer's, by subject", bySubject, f.replicas},
		{"the issuer's, by a session that others know", bySession, f.replicas[1:]},
	} {
		var took []time.Duration
		for i := range times {
			name := fmt.Sprint(way.name, i)
			c := f.callers(name, 1, func(claims map[string]any) { claims["sid"] = "of auth0|" + name + "-0" })[0]
			before := held(c, way.holds...)
			way.out(c)
			took = append(took, f.forgotten(c, before, way.holds...))
		}
		slices.Sort(took)
		t.Logf("%s: all replicas after %s, the slowest of %d after %s", way.name, took[len(took)/2], len(took), took[len(took)-1])
	}

	for name, breaks := range map[string]func(){"cut off": wires[2].Cut, "nothing comes": wires[2].Hold} {
		var took []time.Duration
		for i := range cuts {
			c := f.callers(fmt.Sprint(name, i), 1, nil)[0]
			before := held(c, f.replicas...)
			breaks()
			f.until(last, "shared_cache_up", 0)
			byCaller(c)
			f.forgotten(c, before, f.replicas[:2]...)
			if id := f.credentials(last.public, c); id != before {
				t.Errorf("%s: it cannot know", name)
			}
			wires[2].Mend()
			took = append(took, f.forgotten(c, before, last))
			f.until(last, "shared_cache_up", 1)
		}
		t.Logf("%s: who is back knows after %s", name, took)
	}
}
