package idtoken_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

// withNew is a token of the key that acme has next.
func withNew(d *draft) {
	kid("a2")(d)
	d.private = globexRSA()
}

// Threat case DS09: whenever the last refresh was.
func TestAKeyThatIsUsedASecondAfterItIsPublishedIsAccepted(t *testing.T) {
	for _, since := range []time.Duration{0, time.Second, 29 * time.Second, 4 * time.Minute} {
		inRoom(t, func(t *testing.T, r *room) {
			r.after(since)
			r.origin.serve(acme, jwks(jwkOf("a1", acmeRSA()), jwkOf("a2", globexRSA())))
			r.after(time.Second)
			r.accepts(withNew)
			r.accepts()
			if n := r.fetches(acme); n != 2 {
				t.Errorf("%s after the refresh: %d fetches", since, n)
			}
		})
	}
}

// Threat case DS01, at the edge: the cool-down is for unknown keys, and begins
// with the claim.
func TestAnUnknownKeyHasTheIssuerAskedOnceInThirtySeconds(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		for _, step := range []struct {
			wait    time.Duration
			fetches int
		}{
			{0, 2}, {0, 2}, {29 * time.Second, 2}, {time.Second - 1, 2}, {1, 3}, {30*time.Second - 1, 3}, {1, 4},
		} {
			r.after(step.wait)
			r.refuses(broker.ErrInvalidToken, "is not known", kid("a3"))
			if n := r.fetches(acme); n != step.fetches {
				t.Fatalf("after another %s: %d fetches, want %d", step.wait, n, step.fetches)
			}
		}
	})
}

// A rotation as Auth0 makes it: the next key is published, signs, and the last is
// withdrawn. Nobody with a good token is refused on any second of it.
func TestARotationRefusesNobody(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		both := jwks(jwkOf("a1", acmeRSA()), jwkOf("a2", globexRSA()))
		steps := map[int]func(){
			100: func() { r.origin.serve(acme, both) },
			101: func() { r.accepts(withNew) },                                         // signed at once
			500: func() { r.origin.serve(acme, jwks(jwkOf("a2", globexRSA()))) },       // the last tokens of a1 have ended
			831: func() { r.refuses(broker.ErrInvalidToken, `key "a1" is not known`) }, // by the next refresh
		}
		for second := range 900 {
			if step, ok := steps[second]; ok {
				step()
			}
			if second < 500 {
				r.accepts()
			}
			if second > 101 {
				r.accepts(withNew)
			}
			r.after(time.Second)
		}
	})
}

// follow makes a verifier of acme that takes over what r's knows.
func follow(t *testing.T, r *room, change func(*idtoken.Config)) *room {
	t.Helper()
	next := &room{t: t, origin: r.origin, outcomes: map[string][]error{}}
	cfg := idtoken.Config{
		Transport: r.origin, Previous: r.v,
		Issuers: []idtoken.Issuer{{URL: acme, Audiences: []string{audience}, Algorithms: []string{"RS256"}}},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if next.v, err = idtoken.New(cfg); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAVerifierThatFollowsAnotherBeginsWithItsKeys(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.origin.set(acme+"keys", status(http.StatusInternalServerError))
		next := follow(t, r, nil)
		if err := next.v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := next.v.Await(t.Context()); err != nil {
			t.Fatalf("not ready while the issuer is out: %v", err)
		}
		next.accepts()
		next.after(24*time.Hour - time.Since(r.origin.moments()[0])) // as old as they were
		next.accepts()
		next.after(1)
		next.refuses(broker.ErrKeysUnavailable, "the keys are 24h0m0")
	})
}

func TestAVerifierThatFollowsAnotherKeepsItsCoolDown(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.refuses(broker.ErrInvalidToken, "is not known", kid("a3"))
		r.after(time.Second)
		next := follow(t, r, nil)
		if err := next.v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n := r.fetches(acme)
		next.refuses(broker.ErrInvalidToken, "is not known", kid("a3"))
		if again := r.fetches(acme) - n; again != 0 {
			t.Errorf("%d fetches", again)
		}
	})
}

// What the one before hears after it was taken over counts, as long as the new one has
// heard nothing later: a withdrawn key is not good again because of a reload.
func TestAVerifierThatFollowsAnotherHearsWhatThatHears(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		next := follow(t, r, nil)
		next.accepts()
		r.after(time.Second)
		r.origin.serve(acme, jwks(jwkOf("a2", globexRSA()))) // a1 is withdrawn
		r.accepts(withNew)
		r.refuses(broker.ErrInvalidToken, "is not known")
		r.origin.set(acme+"keys", status(http.StatusInternalServerError))
		if err := next.v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		next.accepts(withNew)
		next.refuses(broker.ErrKeysUnavailable, "is not known")
		if s := next.v.Status()[0]; s.Keys != 1 {
			t.Errorf("%+v", s)
		}
		last := follow(t, next, nil) // and who follows that one
		last.accepts(withNew)
		last.refuses(broker.ErrInvalidToken, "is not known")
		r.origin.serve(acme, jwks(jwkOf("a1", acmeRSA()))) // and the other way round
		next.after(time.Minute)
		next.accepts()
		next.refuses(broker.ErrInvalidToken, "is not known", withNew)
	})
}

func TestKeysOfAnotherSourceAreNotTakenOver(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		for name, change := range map[string]func(*idtoken.Config){
			"keys from elsewhere": func(c *idtoken.Config) { c.Issuers[0].JWKSURL = acme + "other" },
			"another issuer":      func(c *idtoken.Config) { c.Issuers[0].URL = globex },
		} {
			if err := follow(t, r, change).v.Ready(); !errors.Is(err, broker.ErrKeysUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Of a verifier that has none itself, there are none to take.
		if err := follow(t, follow(t, r, func(c *idtoken.Config) { c.Previous = nil }), nil).v.Ready(); err == nil {
			t.Error("ready without keys")
		}
	})
}

func TestAwaitEndsWithTheFirstKeysOrWithItsContext(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		if err := r.v.Await(t.Context()); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		quick := o.answers[acme+"keys"]
		o.set(acme+"keys", func(request *http.Request) (*http.Response, error) {
			<-time.After(3 * time.Second)
			return quick(request)
		})
		r := newRoom(t, o, globex)
		work, end := context.WithCancel(t.Context())
		if err := r.v.Start(work); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 3*time.Second-1)
		defer cancel()
		if err := r.v.Await(short); err == nil || !strings.Contains(err.Error(), acme) || strings.Contains(err.Error(), globex) {
			t.Errorf("before there are keys: %v", err)
		}
		if err := r.v.Await(t.Context()); err != nil {
			t.Errorf("with keys: %v", err)
		}
		end()
		r.v.Wait()
		never := newRoom(t, o)
		work, end = context.WithCancel(t.Context())
		o.set(acme+"keys", hang)
		if err := never.v.Start(work); err != nil {
			t.Fatal(err)
		}
		end()
		never.v.Wait()
		if err := never.v.Await(t.Context()); !errors.Is(err, broker.ErrKeysUnavailable) {
			t.Errorf("after the end of its work: %v", err)
		}
	})
}

func TestTheStatusSaysHowEachIssuersKeysStand(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		first := r.origin.moments()[0]
		r.origin.set(acme+"keys", status(http.StatusInternalServerError))
		r.after(6 * time.Minute)
		all := r.v.Status()
		if len(all) != 2 || all[0].Issuer != acme || all[1].Issuer != globex {
			t.Fatalf("%+v", all)
		}
		if a := all[0]; a.Keys != 1 || !a.Fetched.Equal(first) || a.Problem == nil || !strings.Contains(a.Problem.Error(), "status 500") {
			t.Errorf("%+v", a)
		}
		if b := all[1]; b.Keys != 6 || time.Since(b.Fetched) > time.Minute+time.Second || b.Problem != nil {
			t.Errorf("%+v", b)
		}
		if none := newRoom(t, r.origin).v.Status()[0]; none.Keys != 0 || !none.Fetched.IsZero() || none.Problem != nil {
			t.Errorf("before the start: %+v", none)
		}
	}, globex)
}
