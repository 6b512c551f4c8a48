package credcache_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
)

// CC12
func TestARefusalIsRememberedForSecondsForThatTokenAndOrder(t *testing.T) {
	for _, class := range []broker.Class{broker.ErrSTSRejected, broker.ErrExpiredToken, broker.ErrInvalidToken} {
		t.Run(string(class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{before: func(context.Context, broker.Order) error { return fmt.Errorf("%w: AccessDenied", class) }}
				c := newCache(t, i, 10)
				refused := func(calls int64, change ...func(*broker.Order)) {
					t.Helper()
					o := living(t, "alice", time.Hour, append([]func(*broker.Order){token("a")}, change...)...)
					creds, err := c.Issue(t.Context(), o)
					if broker.ClassOf(err) != class || !strings.Contains(err.Error(), "AccessDenied") || creds != (broker.Credentials{}) {
						t.Errorf("got %v, %v", creds, err)
					}
					if _, ok := broker.RetryAfter(err); ok {
						t.Error("a refusal that does not pass says when to come again")
					}
					if n := i.calls.Load(); n != calls {
						t.Errorf("%d calls, want %d", n, calls)
					}
				}
				refused(1)
				refused(1)
				refused(2, token("b"))
				refused(3, ofTenant(t, "org_other"))
				refused(4, func(o *broker.Order) { o.Revision = "r2" })
				pass(4 * time.Second)
				refused(4)
				pass(time.Second)
				refused(5) // remembered anew
				pass(4 * time.Second)
				refused(5)
				i.before = nil // somebody has put the role right
				pass(time.Second)
				if got := mustIssue(t, c, living(t, "alice", time.Hour, token("a"))); got.Source != broker.FromSTS {
					t.Errorf("from %q", got.Source)
				}
			})
		})
	}
}

// CC12
func TestWhatMayPassIsNotRemembered(t *testing.T) {
	for _, class := range []broker.Class{broker.ErrSTSUnavailable, broker.ErrBusy, broker.ErrInternal} {
		i := &issuer{before: func(context.Context, broker.Order) error { return broker.WithRetryAfter(class, time.Second) }}
		c := newCache(t, i, 10)
		for range 2 {
			if _, err := c.Issue(t.Context(), order(t, "alice", nil)); broker.ClassOf(err) != class {
				t.Errorf("got %v", err)
			}
		}
		if n := i.calls.Load(); n != 2 {
			t.Errorf("%s: %d calls, want 2", class, n)
		}
	}
}

func TestAClockThatIsPutBackForgetsRefusals(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	i := &issuer{before: func(context.Context, broker.Order) error { return broker.ErrSTSRejected }}
	c := made(t, configAt(i, func() time.Time { return now }))
	for _, step := range []time.Duration{0, -time.Second} {
		now = now.Add(step)
		if _, err := c.Issue(t.Context(), order(t, "alice", nil)); broker.ClassOf(err) != broker.ErrSTSRejected {
			t.Errorf("got %v", err)
		}
	}
	if n := i.calls.Load(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestForgetDropsASubjectsRefusalsAndNobodyElses(t *testing.T) {
	i := &issuer{before: func(context.Context, broker.Order) error { return broker.ErrSTSRejected }}
	c := newCache(t, i, 10)
	ask := func(subject string, calls int64) {
		t.Helper()
		if _, err := c.Issue(t.Context(), order(t, subject, nil)); broker.ClassOf(err) != broker.ErrSTSRejected {
			t.Errorf("got %v", err)
		}
		if n := i.calls.Load(); n != calls {
			t.Errorf("%s: %d calls, want %d", subject, n, calls)
		}
	}
	ask("alice", 1)
	ask("bob", 2)
	c.Forget("https://i/", "alice")
	ask("bob", 2)
	ask("alice", 3)
}

// A refusal that comes for a call that was forgotten is forgotten with it.
func TestARefusalAfterForgetIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: func(ctx context.Context, o broker.Order) error { _ = slow(ctx, o); return broker.ErrSTSRejected }}
		c := newCache(t, i, 10)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Issue(t.Context(), order(t, "alice", nil)) })
		synctest.Wait()
		c.Forget("https://i/", "alice")
		wg.Wait()
		i.before = nil
		mustIssue(t, c, order(t, "alice", nil))
	})
}

// CC16: the refusal is of the other's token, so who waited asks with his own, once.
func TestARefusalOfAnotherCallersTokenIsNotThisCallers(t *testing.T) {
	for _, class := range []broker.Class{broker.ErrSTSRejected, broker.ErrExpiredToken, broker.ErrInvalidToken} {
		t.Run(string(class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{before: func(ctx context.Context, o broker.Order) error {
					_ = slow(ctx, o)
					if o.Token.Reveal() == "bad" {
						return class
					}
					return nil
				}}
				c := newCache(t, i, 10)
				var wg sync.WaitGroup
				ask := func(text string, want broker.Class) {
					wg.Go(func() {
						creds, err := c.Issue(t.Context(), living(t, "alice", time.Hour, token(text)))
						if broker.ClassOf(err) != want || (err == nil) != (creds.AccessKeyID != "") {
							t.Errorf("%s got %v, %v", text, creds, err)
						}
					})
					synctest.Wait()
				}
				ask("bad", class)
				for range 5 {
					ask("bad", class) // the same token is refused without another call
					ask("good", "")
				}
				wg.Wait()
				if n := i.calls.Load(); n != 2 {
					t.Errorf("%d calls, want 2", n)
				}
			})
		})
	}
}

// Each with a bad token of his own: nobody is refused for another's, and the calls
// are bounded.
func TestManyBadTokensOfOneSubjectMakeFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: func(ctx context.Context, o broker.Order) error { _ = slow(ctx, o); return broker.ErrExpiredToken }}
		c := newCache(t, i, 10)
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[broker.Class]int{}
		for n := range 50 {
			wg.Go(func() {
				_, err := c.Issue(t.Context(), living(t, "alice", time.Hour, token(fmt.Sprint(n))))
				mu.Lock()
				defer mu.Unlock()
				got[broker.ClassOf(err)]++
				if after, ok := broker.RetryAfter(err); ok != (broker.ClassOf(err) == broker.ErrBusy) || ok && after != time.Second {
					t.Errorf("%v: again after %s, %t", err, after, ok)
				}
			})
		}
		wg.Wait()
		if n := i.calls.Load(); n != 3 || got[broker.ErrExpiredToken] != 3 || got[broker.ErrBusy] != 47 {
			t.Errorf("%d calls, %v", n, got)
		}
	})
}
