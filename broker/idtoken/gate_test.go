package idtoken_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

// inLine begins a call, which must be waiting for its turn when this returns.
func (r *room) inLine(call func() error) <-chan error {
	r.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- call() }()
	synctest.Wait()
	select {
	case err := <-ended:
		r.t.Fatalf("it did not wait: %v", err)
	default:
	}
	return ended
}

// Threat case DS13: signatures are checked a few at a time, in turn.
func TestASignatureWaitsForItsTurn(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		places, release := r.v.Hold()
		if want := max(1, runtime.GOMAXPROCS(0)/2); places != want {
			t.Errorf("%d at a time, not %d", places, want)
		}
		ended := r.inLine(func() error { return r.verify() })
		release()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Nobody listens for longer: who has no turn by then is told when to come again, and
// nothing is remembered of the token.
func TestATurnIsNotWaitedForLongerThanASecond(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		_, release := r.v.Hold()
		ended := r.inLine(func() error { return r.verify() })
		r.after(time.Second - time.Nanosecond)
		select {
		case err := <-ended:
			t.Fatalf("too early: %v", err)
		default:
		}
		r.after(time.Nanosecond)
		err := <-ended
		refused(t, err, broker.ErrBusy, "too many signatures")
		if after, ok := broker.RetryAfter(err); !ok || after != time.Second {
			t.Errorf("retry after %s, %t", after, ok)
		}
		release()
		r.accepts()
	})
}

func TestWhoLeavesNeedsNoTurn(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		_, release := r.v.Hold()
		defer release()
		ctx, leave := context.WithCancel(t.Context())
		ended := r.inLine(func() error { return r.verifyIn(ctx) })
		leave()
		err := <-ended
		refused(t, err, broker.ErrBusy, "canceled")
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// What needs no signature to be checked needs no turn: a token that is remembered, one
// that is refused for what it says, one whose key is not known.
func TestWhatNeedsNoSignatureDoesNotWait(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		forged := func(d *draft) { d.private = globexRSA() }
		r.accepts()
		r.refuses(broker.ErrInvalidToken, "signature", forged)
		_, release := r.v.Hold()
		defer release()
		r.accepts()
		r.refuses(broker.ErrInvalidToken, "signature", forged)
		r.refuses(broker.ErrInvalidToken, "aud", inClaims("aud", "https://other.example"))
		r.refuses(broker.ErrInvalidToken, "not known", kid("invented"))
	})
}

// Each turn is given back, whatever came of it.
func TestATurnIsGivenBack(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		for i := range 2 * runtime.GOMAXPROCS(0) {
			number := inClaims("jti", i)
			r.accepts(number)
			r.refuses(broker.ErrInvalidToken, "signature", number, func(d *draft) { d.private = globexRSA() })
		}
	})
}

// A log-out that is not heard is not told again.
func TestALogoutWaitsForItsTurnAsLongAsNeedBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, newOrigin())
		cfg := idtoken.Config{Transport: r.origin, Issuers: []idtoken.Issuer{{URL: acme, Audiences: []string{audience}, Algorithms: []string{"RS256"}, LogoutAudiences: []string{"spa"}}}}
		v, err := idtoken.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, release := v.Hold()
		ended := r.inLine(func() error {
			_, err := v.VerifyLogout(t.Context(), broker.NewSecret(newLogout(time.Now()).mint()))
			return err
		})
		r.after(10 * time.Second)
		release()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
