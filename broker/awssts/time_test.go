package awssts_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
)

type answerer = func(int, url.Values) (*http.Response, error)

// after lets an answer take so long.
func after(d time.Duration, answer answerer) answerer {
	return func(call int, form url.Values) (*http.Response, error) {
		<-time.After(d)
		return answer(call, form)
	}
}

// hang answers when nobody waits any more.
func hang(int, url.Values) (*http.Response, error) {
	<-time.After(time.Minute)
	return nil, io.EOF
}

func refusedConnection(int, url.Values) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

// inTurn answers the calls one after the other, and all further ones by the last.
func inTurn(answers ...answerer) answerer {
	return func(call int, form url.Values) (*http.Response, error) {
		return answers[min(call, len(answers))-1](call, form)
	}
}

// inBubble runs a test in virtual time, until the fake's own goroutines have ended.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer func() { <-time.After(2 * time.Minute) }()
		test(t)
	})
}

// issue issues one order and says how long it took; turns are counted in
// fractions, so not to the last nanosecond.
func issue(t testing.TB, c *awssts.Client) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	creds, err := c.Issue(t.Context(), order(t, nil))
	if (err == nil) == (creds == (broker.Credentials{})) {
		t.Errorf("%v, %v", creds, err)
	}
	return time.Since(began).Round(time.Microsecond), err
}

func retryAfter(err error) time.Duration {
	d, _ := broker.RetryAfter(err)
	return d
}

// The two attempts at an STS that hangs: one of a second, and one of what is left.
func TestTheFirstAttemptLeavesTimeForASecond(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: hang}
		c, _ := setup(t, f, nil)
		took, err := issue(t, c)
		if took != awssts.MaxTimeout || broker.ClassOf(err) != broker.ErrSTSUnavailable || len(f.times) != 2 {
			t.Errorf("%d calls, %s: %v", len(f.times), took, err)
		}
		if pause := f.times[1].Sub(f.times[0]) - time.Second; pause < 50*time.Millisecond || pause >= 150*time.Millisecond {
			t.Errorf("a pause of %s", pause)
		}
	})
}

func TestTheTimeoutIsTheConfigured(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: hang}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.Timeout = 900 * time.Millisecond })
		if took, err := issue(t, c); took != 900*time.Millisecond || f.calls.Load() != 2 {
			t.Errorf("%d calls, %s: %v", f.calls.Load(), took, err)
		}
	})
}

func TestAnAnswerWithinTheLastMomentIsTaken(t *testing.T) {
	for name, tc := range map[string]struct {
		answer answerer
		calls  int64
	}{
		"of the first attempt":  {after(time.Second-1, good), 1},
		"of the second attempt": {inTurn(hang, after(650*time.Millisecond-1, good)), 2}, // after the longest pause
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: tc.answer}
				c, _ := setup(t, f, nil)
				if took, err := issue(t, c); err != nil || f.calls.Load() != tc.calls {
					t.Errorf("%d calls, %s: %v", f.calls.Load(), took, err)
				}
			})
		})
	}
}

// How long the pause is depends on what it waits for; that there is no time for
// one is said at once.
func TestThePauseFitsWhatWentWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		answer      answerer
		least, most time.Duration
	}{
		"throttled":     {refusal(400, "Throttling", ""), 50 * time.Millisecond, 150 * time.Millisecond},
		"failed":        {refusal(500, "InternalFailure", ""), 50 * time.Millisecond, 150 * time.Millisecond},
		"no connection": {refusedConnection, 50 * time.Millisecond, 150 * time.Millisecond},
		"no keys":       {refusal(400, "IDPCommunicationError", ""), 300 * time.Millisecond, 900 * time.Millisecond},
		"no keys, in other words": {
			refusal(400, "InvalidIdentityToken", "Couldn&#39;t retrieve verification key from your identity provider"), 300 * time.Millisecond, 900 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				least, most := time.Hour, time.Duration(0)
				f := &fakeSTS{answer: inTurn(tc.answer, good)}
				c, _ := setup(t, f, nil)
				for range 300 {
					f.calls.Store(0)
					f.times = nil
					if took, err := issue(t, c); err != nil || took >= tc.most {
						t.Fatalf("%s: %v", took, err)
					}
					pause := f.times[1].Sub(f.times[0])
					least, most = min(least, pause), max(most, pause)
				}
				if span := tc.most - tc.least; least < tc.least || least > tc.least+span/10 || most < tc.most-span/10 || most >= tc.most {
					t.Errorf("pauses from %s to %s", least, most)
				}
			})
		})
	}
}

func TestWithoutTimeForASecondAttemptTheFirstAnswerIsGivenAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: after(960*time.Millisecond, refusal(400, "IDPCommunicationError", ""))}
		c, _ := setup(t, f, nil)
		// 840 ms are left: enough for a pause of 540 ms and a call of 300, no more.
		second := 0
		for range 100 {
			f.calls.Store(0)
			took, err := issue(t, c)
			if broker.ClassOf(err) != broker.ErrSTSUnavailable {
				t.Fatal(err)
			}
			switch f.calls.Load() {
			case 1:
				if took != 960*time.Millisecond || !strings.Contains(err.Error(), "IDPCommunicationError") {
					t.Fatalf("one call, and after %s %v", took, err)
				}
			case 2:
				second++
				if took < 960*time.Millisecond+300*time.Millisecond {
					t.Fatalf("two calls in %s", took)
				}
			}
		}
		if second < 20 || second > 60 { // 240 of 600 ms
			t.Errorf("%d second attempts of 100", second)
		}
	})
}

// Who goes away in the pause is not asked for again.
func TestWhoGoesAwayInThePauseEndsIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: refusal(400, "IDPCommunicationError", "")}
		c, _ := setup(t, f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		began := time.Now()
		_, err := c.Issue(ctx, order(t, nil))
		if took := time.Since(began); took != 100*time.Millisecond || f.calls.Load() != 1 || broker.ClassOf(err) != broker.ErrSTSUnavailable {
			t.Errorf("%d calls, after %s: %v", f.calls.Load(), took, err)
		}
	})
}

// A call that could not have 300 ms is not begun.
func TestACallBeginsWithTimeToEndOrNotAtAll(t *testing.T) {
	for first, want := range map[time.Duration]broker.Class{
		1500*time.Millisecond - 1: "",
		1500*time.Millisecond + 1: broker.ErrBusy,
	} {
		inBubble(t, func(t *testing.T) {
			f := &fakeSTS{answer: after(299*time.Millisecond, good)}
			var asserted atomic.Int64
			c, _ := setup(t, f, func(cfg *awssts.Config) {
				cfg.MaxConcurrent = 1
				cfg.Assert = func(ctx context.Context, o broker.Order) (broker.Assertion, error) {
					if asserted.Add(1) == 1 { // so long the place is taken
						<-time.After(first)
						return broker.Assertion{}, io.EOF
					}
					return assert(false)(ctx, o)
				}
			})
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = c.Issue(t.Context(), order(t, nil)) })
			synctest.Wait()
			took, err := issue(t, c)
			if got := broker.ClassOf(err); got != want || want != "" && (took != 1500*time.Millisecond || retryAfter(err) != time.Second) {
				t.Errorf("%s, after %s: %v", first, took, err)
			}
			wg.Wait()
			if want != "" && asserted.Load() != 1 {
				t.Error("a token was made for nothing")
			}
		})
	}
}

func TestNoMoreCallsAreUnderWayThanThereArePlaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: after(400*time.Millisecond, good)}
		c, _ := setup(t, f, nil) // two places
		var good, busy atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				took, err := issue(t, c)
				switch class := broker.ClassOf(err); {
				case err == nil:
					good.Add(1)
				case class == broker.ErrBusy && retryAfter(err) == time.Second && took == 1500*time.Millisecond:
					busy.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if good.Load() != 8 || busy.Load() != 2 || f.peak != 2 { // four rounds begin before 1.5 s
			t.Errorf("%d served, %d busy, %d at a time", good.Load(), busy.Load(), f.peak)
		}
	})
}

// Orders that hang do not keep others from being served afterwards.
func TestPlacesComeBackFromCallsThatHang(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: hang}
		c, _ := setup(t, f, nil)
		for range 2 {
			_, _ = issue(t, c)
		}
		f.answer = good
		for range 3 {
			if took, err := issue(t, c); err != nil || took != 0 {
				t.Errorf("after %s: %v", took, err)
			}
		}
	})
}

func TestAPanicGivesThePlaceBack(t *testing.T) {
	f := &fakeSTS{answer: good}
	panics := true
	c, _ := setup(t, f, func(cfg *awssts.Config) {
		cfg.MaxConcurrent = 1
		cfg.Assert = func(ctx context.Context, o broker.Order) (broker.Assertion, error) {
			if panics {
				panic("no token")
			}
			return assert(false)(ctx, o)
		}
	})
	func() {
		defer func() { _ = recover() }()
		_, _ = c.Issue(t.Context(), order(t, nil))
	}()
	panics = false
	if took, err := issue(t, c); err != nil || took > time.Second {
		t.Errorf("after %s: %v", took, err)
	}
}

// Of 20 calls a second, five at once, then one each 50 ms. Whose turn would come
// with less than 300 ms left is told so at once, and when to come again.
func TestCallsASecondAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.PerSecond, cfg.MaxConcurrent = 20, 100 })
		begin := time.Now()
		var waits []time.Duration
		var busy int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				took, err := issue(t, c)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					waits = append(waits, took)
					return
				}
				// The next turn is in 1.5 s, when there would not be 300 ms left.
				if busy++; took != 0 || broker.ClassOf(err) != broker.ErrBusy || retryAfter(err) != 1500*time.Millisecond {
					t.Errorf("after %s, come again in %s: %v", took, retryAfter(err), err)
				}
			})
		}
		wg.Wait()
		slices.Sort(waits)
		if len(waits) != 34 || busy != 66 || waits[4] != 0 || waits[5] != 50*time.Millisecond || waits[33] != 1450*time.Millisecond {
			t.Errorf("%d busy, waits %s", busy, waits)
		}
		<-time.After(time.Until(begin.Add(1500 * time.Millisecond)))
		if took, err := issue(t, c); err != nil || took != 0 {
			t.Errorf("who came again as told: after %s: %v", took, err)
		}
		for i := range f.times { // at most a quarter more than 20 in any second
			n := 0
			for _, at := range f.times[i:] {
				if at.Sub(f.times[i]) < time.Second {
					n++
				}
			}
			if n > 25 {
				t.Errorf("%d calls in a second", n)
			}
		}
	})
}

// Who is told to come again is not told a moment.
func TestBusyIsForASecondAtLeast(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.PerSecond, cfg.Timeout = 20, 120*time.Millisecond })
		var busy atomic.Int64
		var wg sync.WaitGroup
		for range 7 { // five at once, one after 50 ms; the seventh would be after 100
			wg.Go(func() {
				if _, err := issue(t, c); err != nil {
					busy.Add(1)
					if retryAfter(err) != time.Second {
						t.Errorf("come again in %s: %v", retryAfter(err), err)
					}
				}
			})
		}
		wg.Wait()
		if busy.Load() != 1 {
			t.Errorf("%d busy", busy.Load())
		}
	})
}

func TestASecondAttemptTakesATurnToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: inTurn(refusal(500, "InternalFailure", ""), good)}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.PerSecond = 1 })
		if took, err := issue(t, c); err != nil || took != time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		// Where no turn comes in time, the answer is what STS said.
		f.answer = refusal(500, "InternalFailure", "")
		<-time.After(500 * time.Millisecond)
		took, err := issue(t, c)
		if broker.ClassOf(err) != broker.ErrSTSUnavailable || !strings.Contains(err.Error(), "InternalFailure") || took > 700*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

func TestWhoGoesAwayDoesNotWaitForATurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.PerSecond = 1 })
		if _, err := issue(t, c); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		began := time.Now()
		_, err := c.Issue(ctx, order(t, nil))
		if took := time.Since(began); took != 100*time.Millisecond || broker.ClassOf(err) != broker.ErrBusy {
			t.Errorf("after %s: %v", took, err)
		}
		if took, err := issue(t, c); err != nil || took != 900*time.Millisecond { // the turn was given back
			t.Errorf("after %s: %v", took, err)
		}
	})
}
