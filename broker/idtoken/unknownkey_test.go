package idtoken_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

func TestANewKeyIsAcceptedByOneFetchForAllWhoWait(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.after(31 * time.Second)
		r.origin.serve(acme, jwks(jwkOf("a1", acmeRSA()), jwkOf("a2", globexRSA())))
		quick := r.origin.answers[acme+"keys"]
		r.origin.set(acme+"keys", func(request *http.Request) (*http.Response, error) {
			<-time.After(2 * time.Second)
			return quick(request)
		})
		const callers = 100
		errs := make(chan error, callers)
		for range callers {
			go func() { errs <- r.verify(kid("a2"), func(d *draft) { d.private = globexRSA() }) }()
		}
		synctest.Wait() // all wait for the fetch
		began := time.Now()
		r.accepts() // a known key does not
		if waited := time.Since(began); waited != 0 {
			t.Errorf("a known key waited %s", waited)
		}
		for range callers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := r.fetches(acme); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestAFetchUnderWayIsWaitedForAndNotRepeated(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		quick := r.origin.answers[acme+"keys"]
		r.origin.set(acme+"keys", func(request *http.Request) (*http.Response, error) {
			<-time.After(4 * time.Second)
			return quick(request)
		})
		for r.fetches(acme) == 1 { // until the refresh has begun
			r.after(time.Second)
		}
		r.refuses(broker.ErrInvalidToken, "is not known", kid("a2"))
		r.refuses(broker.ErrInvalidToken, "is not known", kid("a2"))
		if n := r.fetches(acme); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

// Threat case DS01 and DS02: whatever the issuer answers.
func TestAStormOfUnknownKeysMakesOneFetchInThirtySeconds(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		class  broker.Class
	}{
		"answering well":    {nil, broker.ErrInvalidToken},
		"answering 500":     {status(http.StatusInternalServerError), broker.ErrKeysUnavailable},
		"answering nothing": {text(`{"keys":[]}`), broker.ErrKeysUnavailable},
		"hanging":           {hang, broker.ErrKeysUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			inRoom(t, func(t *testing.T, r *room) {
				r.after(31 * time.Second)
				if c.answer != nil {
					r.origin.set(acme+"keys", c.answer)
				}
				storm := newDraft(time.Now())
				seen := map[broker.Class]int{}
				for i := range 10_000 { // over 100 s
					storm.header["kid"] = strings.Repeat("k", i%100+1) + string(rune('a'+i%26))
					signed := b64([]byte(marshal(storm.header))) + "." + b64([]byte(marshal(storm.claims)))
					_, err := r.v.Verify(t.Context(), broker.NewSecret(signed+".c2lnbmF0dXJl"))
					seen[broker.ClassOf(err)]++
					if i%100 == 99 {
						r.accepts() // good traffic goes on
						<-time.After(time.Second)
					}
				}
				if seen[c.class] != 10_000 {
					t.Errorf("answers: %v", seen)
				}
				if n := r.fetches(acme) - 1; n < 3 || n > 4 {
					t.Errorf("%d fetches in 100 s", n)
				}
				times := r.origin.moments()[1:]
				for i, at := range times[1:] {
					if gap := at.Sub(times[i]); gap < 30*time.Second {
						t.Errorf("fetched again after %s", gap)
					}
				}
			})
		})
	}
}

func TestThousandsAtOnceMakeOneFetch(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.after(31 * time.Second)
		var wg sync.WaitGroup
		d := newDraft(time.Now())
		d.header["kid"] = "a2"
		token := broker.NewSecret(d.mint())
		for range 10_000 {
			wg.Go(func() {
				if _, err := r.v.Verify(t.Context(), token); !errors.Is(err, broker.ErrInvalidToken) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := r.fetches(acme); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestAWaitForKeysEndsWithItsCaller(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		r.after(31 * time.Second)
		r.origin.set(acme+"keys", hang)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := r.verifyIn(ctx, kid("a2"))
		refused(t, err, broker.ErrKeysUnavailable, "deadline exceeded")
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
		began = time.Now() // another goes on waiting, for the same fetch, until that gives up
		r.refuses(broker.ErrKeysUnavailable, "the last fetch failed", kid("a2"))
		if waited := time.Since(began); waited != 4*time.Second {
			t.Errorf("waited %s", waited)
		}
		if n := r.fetches(acme); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

// The day passes between the first look at the keys and the second, and nobody
// fetches any more: that the issuer has no such key is then not known.
func TestKeysThatAreTooOldDoNotSayThatAKeyIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nextDay = 1000 // more reads than the start needs
		var reads atomic.Int32
		cfg := config(newOrigin())
		cfg.Now = func() time.Time {
			switch n := reads.Add(1); {
			case n < nextDay:
				return noon
			case n <= nextDay+2: // for the claims, and for the first look
				return noon.Add(24 * time.Hour)
			default:
				return noon.Add(24*time.Hour + 1)
			}
		}
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
		reads.Store(nextDay)
		d := newDraft(noon.Add(24 * time.Hour))
		kid("a2")(d)
		_, err = v.Verify(t.Context(), secretOf(d))
		refused(t, err, broker.ErrKeysUnavailable, "24h0m0")
	})
}
