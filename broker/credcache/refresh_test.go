package credcache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
)

// told is what an observer was told.
type told struct {
	mu  sync.Mutex
	all []string
}

func (l *told) observe(source broker.Source, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(source)
	if err != nil {
		text += ": " + err.Error()
	}
	l.all = append(l.all, text)
}

func (l *told) is(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.EqualFunc(l.all, want, func(got, want string) bool {
		return got == want || strings.Contains(want, ": ") && strings.HasPrefix(got, want)
	}) {
		t.Errorf("told %q, want %q", l.all, want)
	}
}

// middle draws no jitter.
func middle() float64 { return 0.5 }

// living is an order for a session of that life, under a token that is good for longer.
func living(t testing.TB, subject string, life time.Duration, change ...func(*broker.Order)) broker.Order {
	t.Helper()
	return order(t, subject, func(o *broker.Order) {
		o.Lifetime, o.NotAfter = life, time.Now().Round(0).Add(life)
		for _, c := range change {
			c(o)
		}
	})
}

func TestAHitPastHalfLifeIsServedAtOnceAndRenewed(t *testing.T) {
	for _, life := range []time.Duration{15 * time.Minute, time.Hour, 12 * time.Hour} {
		for _, tc := range []struct{ random, part float64 }{{0, 0.45}, {0.5, 0.5}, {1, 0.55}} {
			t.Run(fmt.Sprint(life, " ", tc.random), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					i := &issuer{before: slow}
					c := made(t, credcache.Config{Issuer: i, Random: func() float64 { return tc.random }})
					first := mustIssue(t, c, living(t, "alice", life))
					hit := func(id string, calls int64) {
						t.Helper()
						synctest.Wait()
						began := time.Now()
						got := mustIssue(t, c, living(t, "alice", life))
						if waited := time.Since(began); got.AccessKeyID != id || got.Source != broker.FromCache || waited != 0 {
							t.Errorf("got %s from %q after %s, want %s from the cache at once", got.AccessKeyID, got.Source, waited, id)
						}
						synctest.Wait()
						if n := i.calls.Load(); n != calls {
							t.Errorf("%d calls, want %d", n, calls)
						}
					}
					begin := first.IssuedAt.Add(time.Duration(float64(life) * tc.part))
					pass(time.Until(begin) - time.Second)
					hit("ASIA1", 1)
					pass(time.Second)
					hit("ASIA1", 2)
					hit("ASIA1", 2) // it is under way
					pass(time.Second)
					hit("ASIA2", 2)
					pass(time.Duration(float64(life)*tc.part) - time.Second) // its own half-life
					hit("ASIA2", 2)
					pass(time.Second)
					hit("ASIA2", 3)
				})
			})
		}
	}
}

func TestWhatBeganTogetherIsNotRenewedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		c := made(t, credcache.Config{Issuer: i, Entries: 100, Refreshes: 100})
		ask := func() {
			for n := range 100 {
				mustIssue(t, c, living(t, fmt.Sprint("user", n), time.Hour))
			}
			synctest.Wait()
		}
		ask()
		var most, before int64 = 0, 100
		pass(27 * time.Minute)
		for range 6 * 60 {
			pass(time.Second)
			ask()
			n := i.calls.Load()
			most, before = max(most, n-before), n
		}
		if before != 200 || most > 10 {
			t.Errorf("%d calls between 27 and 33 minutes, %d of them in one second", before-100, most)
		}
	})
}

func TestARefreshIsMadeWithThePresentCallersToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown []string
		i := &issuer{before: func(_ context.Context, o broker.Order) error {
			shown = append(shown, o.Token.Reveal())
			return nil
		}}
		c := made(t, credcache.Config{Issuer: i, Random: middle})
		mustIssue(t, c, living(t, "alice", time.Hour, token("first")))
		pass(30 * time.Minute)
		mustIssue(t, c, living(t, "alice", time.Hour, token("second")))
		synctest.Wait()
		if fmt.Sprint(shown) != "[first second]" {
			t.Errorf("shown %q", shown)
		}
	})
}

// While STS fails, every hit down to the floor is served, and STS is asked once in
// a while and not at every hit.
func TestTheLastGoodOnesServeDownToTheFloorWhileSTSFails(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		pause int
	}{
		"unavailable": {broker.WithRetryAfter(fmt.Errorf("%w: throttled", broker.ErrSTSUnavailable), 2*time.Second), 20},
		"for longer":  {broker.WithRetryAfter(broker.ErrSTSUnavailable, 50*time.Second), 50},
		"busy":        {broker.ErrBusy, 20},
		"internal":    {broker.ErrInternal, 20},
		"no class":    {errors.New("odd"), 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				i := &issuer{before: func(context.Context, broker.Order) error {
					if down.Load() {
						return tc.err
					}
					return nil
				}}
				c := made(t, credcache.Config{Issuer: i, Random: middle})
				first := mustIssue(t, c, living(t, "alice", time.Hour))
				down.Store(true)
				pass(30 * time.Minute)
				for range 10*60 + 1 {
					if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.AccessKeyID != first.AccessKeyID {
						t.Fatalf("got %s", got.AccessKeyID)
					}
					pass(time.Second)
				}
				want := int64(1 + 600/tc.pause + 1)
				if n := i.calls.Load(); n != want {
					t.Errorf("%d calls, want %d", n, want)
				}
				if _, err := c.Issue(t.Context(), living(t, "alice", time.Hour)); !errors.Is(err, tc.err) {
					t.Errorf("a second below the floor: %v", err)
				}
				down.Store(false)
				if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.Source != broker.FromSTS {
					t.Errorf("afterwards from %q", got.Source)
				}
			})
		})
	}
}

func TestARefreshThatFailedIsMadeAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		var ends told
		c := made(t, credcache.Config{Issuer: i, Random: middle, Observe: ends.observe})
		hit := func(calls int64) {
			t.Helper()
			mustIssue(t, c, living(t, "alice", time.Hour))
			synctest.Wait()
			if n := i.calls.Load(); n != calls {
				t.Errorf("%d calls, want %d", n, calls)
			}
		}
		hit(1)
		pass(30 * time.Minute)
		i.before = func(context.Context, broker.Order) error { panic("boom") }
		hit(2)
		pass(19 * time.Second)
		hit(2)
		pass(time.Second)
		i.before = nil
		i.change = func(c *broker.Credentials) { c.Expiration = c.IssuedAt } // of no use to anybody
		hit(3)
		pass(19 * time.Second)
		hit(3)
		pass(time.Second)
		i.change = nil
		hit(4)
		if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.AccessKeyID != "ASIA4" {
			t.Errorf("got %s", got.AccessKeyID)
		}
		ends.is(t, "sts", "refresh: internal", "refresh", "refresh")
	})
}

// A caller whose token ends sooner misses, and STS fails for him. That says nothing
// about what is held, which is not renewed any sooner for it.
func TestAFailureDoesNotMakeARefreshSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		c := made(t, credcache.Config{Issuer: i, Random: middle})
		mustIssue(t, c, living(t, "alice", time.Hour))
		i.before = func(context.Context, broker.Order) error { return broker.ErrSTSUnavailable }
		if _, err := c.Issue(t.Context(), living(t, "alice", 20*time.Minute)); err == nil {
			t.Fatal("an answer that outlives the token")
		}
		i.before = nil
		pass(time.Minute)
		mustIssue(t, c, living(t, "alice", time.Hour))
		synctest.Wait()
		if n := i.calls.Load(); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
	})
}

// CC28
func TestARefusedRefreshDropsWhatIsHeld(t *testing.T) {
	for _, class := range []broker.Class{broker.ErrSTSRejected, broker.ErrExpiredToken, broker.ErrInvalidToken} {
		t.Run(string(class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{}
				c := made(t, credcache.Config{Issuer: i, Random: middle})
				mustIssue(t, c, living(t, "alice", time.Hour))
				mustIssue(t, c, living(t, "bob", time.Hour))
				i.before = func(_ context.Context, o broker.Order) error {
					if o.Token.Reveal() == "" {
						return fmt.Errorf("%w: AccessDenied", class)
					}
					return nil
				}
				pass(30 * time.Minute)
				mustIssue(t, c, living(t, "alice", time.Hour)) // nobody knows yet
				synctest.Wait()
				if c.Len() != 1 {
					t.Errorf("%d entries, want bob's", c.Len())
				}
				if _, err := c.Issue(t.Context(), living(t, "alice", time.Hour)); broker.ClassOf(err) != class {
					t.Errorf("got %v", err)
				}
				if n := i.calls.Load(); n != 3 {
					t.Errorf("%d calls, want 3", n)
				}
				if got := mustIssue(t, c, living(t, "alice", time.Hour, token("another"))); got.Source != broker.FromSTS {
					t.Errorf("with another token from %q", got.Source)
				}
			})
		})
	}
}

func TestRefreshesAreBoundedAndMissesAreNot(t *testing.T) {
	for _, tc := range []struct{ bound, want int64 }{{0, 8}, {2, 2}} {
		synctest.Test(t, func(t *testing.T) {
			var now, most atomic.Int64
			i := &issuer{before: func(ctx context.Context, o broker.Order) error {
				if o.Token.Reveal() == "miss" {
					return nil
				}
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
				return slow(ctx, o)
			}}
			c := made(t, credcache.Config{Issuer: i, Entries: 100, Refreshes: int(tc.bound), Random: middle})
			hits := func() {
				for n := range 20 {
					mustIssue(t, c, living(t, fmt.Sprint("user", n), time.Hour))
				}
			}
			hits()
			pass(30 * time.Minute)
			most.Store(0)
			hits()
			synctest.Wait()
			if most.Load() != tc.want {
				t.Errorf("%d refreshes at a time, want %d", most.Load(), tc.want)
			}
			began := time.Now()
			mustIssue(t, c, living(t, "carol", time.Hour, token("miss")))
			if waited := time.Since(began); waited != 0 {
				t.Errorf("a miss waited %s", waited)
			}
			for range 20 { // the others come when there is room
				pass(time.Second)
				hits()
			}
			if n := i.calls.Load(); n != 41 {
				t.Errorf("%d calls, want 41", n)
			}
		})
	}
}

// A caller who cannot use what is held waits for the refresh that is under way, if
// it brings what he can use.
func TestWhoMissesWaitsForTheRefreshUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		c := made(t, credcache.Config{Issuer: i, Random: middle})
		mustIssue(t, c, living(t, "alice", time.Hour))
		pass(30 * time.Minute)
		i.before = slow
		mustIssue(t, c, living(t, "alice", time.Hour))
		pass(10*time.Minute + time.Second - 1) // meanwhile the old ones fall below the floor
		synctest.Wait()
		if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.AccessKeyID != "ASIA2" || got.Source != broker.FromCache {
			t.Errorf("got %s from %q", got.AccessKeyID, got.Source)
		}
	})
}

func TestARefreshUnderWayIsForgottenAndBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		var ends told
		c := made(t, credcache.Config{Issuer: i, Random: middle, Observe: ends.observe})
		mustIssue(t, c, living(t, "alice", time.Hour))
		pass(30 * time.Minute)
		i.before = func(ctx context.Context, _ broker.Order) error { <-ctx.Done(); return ctx.Err() }
		mustIssue(t, c, living(t, "alice", time.Hour))
		synctest.Wait()
		i.before = nil
		c.Forget("https://i/", "alice")
		synctest.Wait()
		ends.is(t, "sts", "refresh: context canceled")
		if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.AccessKeyID != "ASIA3" || got.Source != broker.FromSTS {
			t.Errorf("got %s from %q", got.AccessKeyID, got.Source)
		}
	})
}

// stubborn is a refresh of alice's under way which takes a second, and for which a
// caller waits whose token ends before what is held.
func stubborn(t *testing.T, i *issuer, c *credcache.Cache) (waited *sync.WaitGroup) {
	t.Helper()
	mustIssue(t, c, living(t, "alice", time.Hour))
	pass(30 * time.Minute)
	i.before = func(ctx context.Context, _ broker.Order) error {
		select {
		case <-time.After(time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	mustIssue(t, c, living(t, "alice", 30*time.Minute))
	synctest.Wait()
	waited = &sync.WaitGroup{}
	waited.Go(func() {
		if got, err := c.Issue(t.Context(), living(t, "alice", 29*time.Minute)); err != nil {
			t.Errorf("who waited got %s, %v", got.AccessKeyID, err)
		}
	})
	synctest.Wait()
	return waited
}

func TestARefreshThatSomebodyWaitsForIsNotBrokenOff(t *testing.T) {
	for name, end := range map[string]func(*credcache.Cache){
		"Forget": func(c *credcache.Cache) { c.Forget("https://i/", "alice") },
		"Close":  func(c *credcache.Cache) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{}
				var ends told
				c := made(t, credcache.Config{Issuer: i, Random: middle, Observe: ends.observe})
				waited := stubborn(t, i, c)
				end(c)
				waited.Wait()
				synctest.Wait()
				ends.is(t, "sts", "refresh", "sts") // the last: what came outlives the token of who waited
			})
		})
	}
}

// Nor is one that cannot be broken off any more, since STS has answered.
func TestWhatARefreshBringsAfterForgetIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		var ends told
		c := made(t, credcache.Config{Issuer: i, Random: middle, Observe: ends.observe})
		mustIssue(t, c, living(t, "alice", time.Hour))
		pass(30 * time.Minute)
		release := make(chan struct{})
		i.before = func(context.Context, broker.Order) error { <-release; return nil } // whatever becomes of its context
		mustIssue(t, c, living(t, "alice", time.Hour))
		synctest.Wait()
		i.before = nil
		c.Forget("https://i/", "alice")
		close(release)
		synctest.Wait()
		ends.is(t, "sts", "refresh")
		if c.Len() != 0 {
			t.Errorf("%d entries are held", c.Len())
		}
		if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.AccessKeyID != "ASIA3" || got.Source != broker.FromSTS {
			t.Errorf("got %s from %q", got.AccessKeyID, got.Source)
		}
	})
}

// CC19: what a call brings after a reload is for who waits for it, and is kept by
// neither the old cache nor the new one.
func TestWhatACallBringsAfterCloseIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		old, young := newCache(t, i, 10), newCache(t, i, 10)
		mustIssue(t, old, order(t, "bob", nil))
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := mustIssue(t, old, order(t, "alice", nil)); got.AccessKeyID != "ASIA2" {
				t.Errorf("who waited got %s", got.AccessKeyID)
			}
		})
		synctest.Wait()
		old.Close()
		if old.Len() != 0 {
			t.Errorf("%d entries are left", old.Len())
		}
		wg.Wait()
		if old.Len() != 0 {
			t.Error("it was kept")
		}
		got := mustIssue(t, young, order(t, "alice", func(o *broker.Order) { o.Revision = "r2" }))
		if got.AccessKeyID != "ASIA3" || got.Source != broker.FromSTS {
			t.Errorf("under the new revision %s from %q", got.AccessKeyID, got.Source)
		}
		// Who was still on his way through the old one is answered, and nothing stays.
		for range 2 {
			if got := mustIssue(t, old, order(t, "alice", nil)); got.Source != broker.FromSTS || old.Len() != 0 {
				t.Errorf("from %q, %d entries", got.Source, old.Len())
			}
		}
		i.before = func(context.Context, broker.Order) error { return broker.ErrSTSRejected }
		for range 2 {
			if _, err := old.Issue(t.Context(), order(t, "alice", nil)); !errors.Is(err, broker.ErrSTSRejected) {
				t.Error(err)
			}
		}
		if n := i.calls.Load(); n != 7 {
			t.Errorf("%d calls, want 7", n)
		}
		old.Close() // once more does no harm
	})
}

// CC19
func TestAnEntryThatIsCrowdedOutDuringItsRefreshComesBackWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		c := made(t, credcache.Config{Issuer: i, Entries: 1, Random: middle})
		mustIssue(t, c, living(t, "alice", time.Hour))
		pass(30 * time.Minute)
		i.before = slow
		mustIssue(t, c, living(t, "alice", time.Hour))
		synctest.Wait()
		i.before = nil
		mustIssue(t, c, living(t, "bob", time.Hour))
		pass(2 * time.Second)
		if got := mustIssue(t, c, living(t, "alice", time.Hour)); got.AccessKeyID != "ASIA2" || got.Source != broker.FromCache || c.Len() != 1 {
			t.Errorf("got %s from %q, %d entries", got.AccessKeyID, got.Source, c.Len())
		}
	})
}

// CC27: under synctest, which fails too if a goroutine is left that waits.
func TestAThousandCachesLeaveNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		for range 1000 {
			i := &issuer{}
			c := made(t, credcache.Config{Issuer: i, Random: middle})
			mustIssue(t, c, living(t, "alice", time.Hour))
			pass(30 * time.Minute)
			i.before = func(ctx context.Context, _ broker.Order) error { <-ctx.Done(); return ctx.Err() }
			mustIssue(t, c, living(t, "alice", time.Hour))
			synctest.Wait()
			c.Close()
			if c.Len() != 0 {
				t.Fatal("not empty")
			}
		}
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before+10 { // of the test's own
			t.Errorf("%d goroutines, %d before", after, before)
		}
	})
}

// Close returns when what nobody waits for has ended, and not before.
func TestCloseWaitsForRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		c := made(t, credcache.Config{Issuer: i, Random: middle})
		mustIssue(t, c, living(t, "alice", time.Hour))
		pass(30 * time.Minute)
		i.before = slow // deaf to its context
		mustIssue(t, c, living(t, "alice", time.Hour))
		began := time.Now()
		c.Close()
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
}
