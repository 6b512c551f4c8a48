package idtoken_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

func TestWithoutStartNothingIsAcceptedAndNobodyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, newOrigin())
		r.refuses(broker.ErrKeysUnavailable, "no keys yet")
		r.refuses(broker.ErrKeysUnavailable, "no keys yet", kid("a2"))
		if err := r.v.Ready(); !errors.Is(err, broker.ErrKeysUnavailable) {
			t.Errorf("ready: %v", err)
		}
		if n := len(r.origin.all()); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestAVerifierStartsOnce(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		if err := r.v.Start(t.Context()); err == nil {
			t.Error("started twice")
		}
		if n := r.fetches(acme); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestTheZeroVerifierRefuses(t *testing.T) {
	var v idtoken.Verifier
	_, err := v.Verify(t.Context(), broker.NewSecret(newDraft(noon).mint()))
	refused(t, err, broker.ErrInvalidToken, "")
	if err := v.Start(t.Context()); err == nil {
		t.Error("started")
	}
}

// Threat case DS08, at the start.
func TestStartRetriesWithPausesThatGrowUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.set(acme+"keys", status(http.StatusServiceUnavailable))
		r := newRoom(t, o)
		if err := r.v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r.after(3 * time.Minute)
		if r.v.Ready() == nil {
			t.Fatal("ready without keys")
		}
		r.refuses(broker.ErrKeysUnavailable, "no keys yet")
		var before time.Time
		for i, at := range o.times {
			want := min(time.Second<<max(i-1, 0), 30*time.Second) // 1, 2, 4 … 30 s
			if gap := at.Sub(before); i > 0 && (gap < want || gap > want+want/10) {
				t.Errorf("retry %d came %s after the one before, want %s", i, gap, want)
			}
			before = at
		}
		if n := len(o.times); n < 8 || n > 10 {
			t.Errorf("%d fetches in %s", n, time.Since(began))
		}
		o.serve(acme, jwks(jwkOf("a1", acmeRSA())))
		r.after(33 * time.Second)
		if err := r.v.Ready(); err != nil {
			t.Fatal(err)
		}
		r.accepts()
	})
}

func TestIssuersFailApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.set(acme+".well-known/openid-configuration", hang)
		r := newRoom(t, o, globex)
		if err := r.v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.accepts(ofGlobex)
		r.refuses(broker.ErrKeysUnavailable, "no keys yet")
		if err := r.v.Ready(); err == nil || !strings.Contains(err.Error(), acme) || strings.Contains(err.Error(), globex) {
			t.Errorf("ready: %v", err)
		}
	})
}

func TestKeysAreRefreshedEveryFiveMinutes(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.after(10 * time.Hour)
		gaps := map[time.Duration]bool{}
		for i, at := range r.origin.moments()[1:] {
			gap := at.Sub(r.origin.moments()[i])
			if gap < 5*time.Minute || gap > 5*time.Minute+30*time.Second {
				t.Errorf("refreshed after %s", gap)
			}
			gaps[gap] = true
		}
		if len(gaps) < 50 {
			t.Errorf("all replicas would ask in step: %d pauses", len(gaps))
		}
		if n := r.fetches(acme); n < 109 || n > 121 {
			t.Errorf("%d fetches in 10 h", n)
		}
	})
}

// Threat case CC22: what a token of that key had cached needs a token that is
// verified, and there is none.
func TestAWithdrawnKeyStopsWorkingAtTheNextRefresh(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.origin.serve(acme, jwks(jwkOf("a2", globexRSA())))
		r.accepts()
		r.after(5*time.Minute + 30*time.Second)
		r.refuses(broker.ErrInvalidToken, `key "a1" is not known`)
		r.accepts(kid("a2"), func(d *draft) { d.private = globexRSA() })
	})
}

func TestAKeyThatChangesUnderItsNameIsTheNewKey(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.origin.serve(acme, jwks(jwkOf("a1", globexRSA())))
		r.after(5*time.Minute + 30*time.Second)
		r.refuses(broker.ErrInvalidToken, "the signature is not the key's")
		r.accepts(func(d *draft) { d.private = globexRSA() })
	})
}

func TestTheWorkEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		r := newRoom(t, newOrigin(), globex)
		ctx, cancel := context.WithCancel(t.Context())
		if err := r.v.Start(ctx); err != nil {
			t.Fatal(err)
		}
		r.after(31 * time.Second)
		cancel()
		synctest.Wait()
		n := r.fetches(acme)
		began := time.Now()
		r.accepts()
		r.refuses(broker.ErrInvalidToken, "is not known", kid("a2"))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %s for nobody", waited)
		}
		r.after(time.Hour)
		if r.fetches(acme) != n {
			t.Error("fetched after the end")
		}
	})
}

// The alert of threat case DS07, among others.
func TestAFailedFetchIsLoggedUnlessTheWorkHasEnded(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		logged bool
	}{
		"no answer at all": {status(http.StatusNotFound), true},
		"the end":          {hang, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, log := newOrigin(), bytes.Buffer{}
				o.set(acme+"keys", c.answer)
				cfg := config(o)
				cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
				v, err := idtoken.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				if err := v.Start(ctx); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				cancel()
				synctest.Wait()
				if got := strings.Contains(log.String(), "fetch signing keys"); got != c.logged {
					t.Errorf("logged: %t\n%s", got, log.String())
				}
			})
		})
	}
}

// Threat case DS08, afterwards.
func TestKeysServeForADayWithoutTheIssuerAndNoLonger(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.after(6 * time.Minute) // a second good answer
		fetched := r.origin.moments()[1]
		r.origin.set(acme+"keys", status(http.StatusInternalServerError))
		r.after(time.Until(fetched.Add(24 * time.Hour)))
		r.accepts()
		r.after(1)
		r.refuses(broker.ErrKeysUnavailable, "the keys are 24h0m0")
		r.refuses(broker.ErrKeysUnavailable, "the keys are 24h0m0", kid("a2"))
		if err := r.v.Ready(); err != nil {
			t.Errorf("one issuer's old keys end readiness: %v", err)
		}
		r.origin.serve(acme, jwks(jwkOf("a1", acmeRSA())))
		r.after(34 * time.Second)
		r.accepts()
	}, globex)
}

func TestAfterAFailureTheIssuerIsAskedAgainAfterTheCoolDown(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.origin.set(acme+"keys", status(http.StatusInternalServerError))
		r.after(time.Hour)
		times := r.origin.moments()[1:]
		for i, at := range times[1:] {
			if gap := at.Sub(times[i]); gap < 30*time.Second || gap > 33*time.Second {
				t.Errorf("asked again after %s", gap)
			}
		}
		if len(times) < 99 {
			t.Errorf("%d fetches in an hour", len(times))
		}
		r.origin.serve(acme, jwks(jwkOf("a1", acmeRSA()))) // and once it is well, as ever
		r.after(33 * time.Second)
		n := r.fetches(acme)
		r.after(4 * time.Minute)
		if again := r.fetches(acme) - n; again != 0 {
			t.Errorf("%d fetches in 4 min", again)
		}
	})
}

func TestKeysOfAConfiguredURLNeedNoDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		v, err := idtoken.New(idtoken.Config{Transport: o, Issuers: []idtoken.Issuer{{
			URL: acme, Audiences: []string{audience}, Algorithms: []string{"RS256"}, JWKSURL: acme + "keys",
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := v.Verify(t.Context(), broker.NewSecret(newDraft(time.Now()).mint())); err != nil {
			t.Error(err)
		}
		if len(o.all()) != 1 {
			t.Errorf("asked for %v", o.all())
		}
	})
}
