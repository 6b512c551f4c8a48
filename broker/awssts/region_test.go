package awssts_test

import (
	"context"
	"encoding/json"
	"fmt"
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

// regions sets the regions of a client.
func regions(first string, further ...string) func(*awssts.Config) {
	return func(cfg *awssts.Config) { cfg.Region, cfg.FallbackRegions = first, further }
}

// asked are the regions that were asked since last time.
func (f *fakeSTS) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, host := range f.hosts {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(host, "https://sts."), ".amazonaws.com"))
	}
	f.hosts, f.times = nil, nil
	return all
}

type answers = map[string]func(int, url.Values) (*http.Response, error)

func wantAsked(t testing.TB, f *fakeSTS, want ...string) {
	t.Helper()
	if got := f.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// open makes five calls that fail.
func open(t testing.TB, f *fakeSTS, c *awssts.Client) {
	t.Helper()
	was := f.answer
	f.answer = refusal(500, "InternalFailure", "")
	for f.calls.Store(0); f.calls.Load() < 5; {
		if _, err := issue(t, c); broker.ClassOf(err) != broker.ErrSTSUnavailable {
			t.Fatal(err)
		}
	}
	f.answer = was
	f.calls.Store(0)
	f.asked()
}

func TestFiveFailuresInARowOpenTheBreaker(t *testing.T) {
	for name, failure := range map[string]answerer{
		"of no connection": refusedConnection, "of 500": refusal(500, "InternalFailure", ""), "of 503": refusal(503, "ServiceUnavailable", ""),
		"of no time": hang, "of nonsense": func(int, url.Values) (*http.Response, error) { return response(200, "<html>"), nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: failure}
				c, log := setup(t, f, nil)
				for range 2 {
					if _, err := issue(t, c); retryAfter(err) != 2*time.Second || f.calls.Load()%2 != 0 {
						t.Errorf("%d calls, come again in %s: %v", f.calls.Load(), retryAfter(err), err)
					}
				}
				if strings.Contains(log.String(), "breaker") {
					t.Errorf("open after four: %s", log)
				}
				_, err := issue(t, c) // its second attempt is not made
				if f.calls.Load() != 5 || broker.ClassOf(err) != broker.ErrSTSUnavailable {
					t.Fatalf("%d calls: %v", f.calls.Load(), err)
				}
				if after := retryAfter(err); after != 5*time.Second {
					t.Errorf("come again in %s", after)
				}
				if got := strings.Count(log.String(), `"msg":"circuit breaker of STS","region":"eu-west-1","from":"closed","to":"open"`); got != 1 {
					t.Errorf("logged %s", log)
				}
				took, err := issue(t, c)
				if took != 0 || f.calls.Load() != 5 || broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) <= 0 {
					t.Errorf("%d calls, after %s: %v", f.calls.Load(), took, err)
				}
			})
		})
	}
}

// Whoever throttles, refuses, or cannot reach an issuer is there.
func TestAnAnswerIsNotAFailureOfTheRegion(t *testing.T) {
	for _, answer := range []answerer{
		refusal(400, "Throttling", "Rate exceeded"), refusal(429, "SomethingElse", ""), refusal(400, "IDPCommunicationError", ""),
		refusal(400, "InvalidIdentityToken", "Couldn&#39;t retrieve verification key"), refusal(403, "AccessDenied", ""),
		refusal(400, "ExpiredTokenException", ""), refusal(400, "PackedPolicyTooLarge", ""), refusal(400, "InvalidIdentityToken", ""),
	} {
		inBubble(t, func(t *testing.T) {
			f := &fakeSTS{answer: answer}
			c, log := setup(t, f, nil)
			for range 10 {
				before := f.calls.Load()
				if _, err := issue(t, c); f.calls.Load() == before {
					t.Errorf("not asked: %v", err)
				}
			}
			if strings.Contains(log.String(), "breaker") {
				t.Errorf("logged %s", log)
			}
			// And it ends a row of failures.
			fails := refusal(500, "InternalFailure", "")
			f.answer = inTurn(fails, fails, fails, fails, answer, fails, fails, fails, fails, good)
			f.calls.Store(0)
			for range 9 {
				_, _ = issue(t, c)
			}
			if _, err := issue(t, c); err != nil {
				t.Error(err)
			}
		})
	}
}

// A caller who goes away says nothing of the region, however many they are.
func TestCallersWhoGoAwayDoNotOpenTheBreaker(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: hang}
		c, _ := setup(t, f, nil)
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			if _, err := c.Issue(ctx, order(t, nil)); broker.ClassOf(err) != broker.ErrSTSUnavailable {
				t.Error(err)
			}
		}
		if f.answer = good; f.calls.Load() != 10 {
			t.Errorf("%d calls", f.calls.Load())
		}
		if _, err := issue(t, c); err != nil {
			t.Error(err)
		}
	})
}

func TestAfterFiveSecondsOneCallLooksWhetherTheRegionIsBack(t *testing.T) {
	for name, tc := range map[string]struct {
		probe answerer
		open  bool // again
	}{
		"it is": {good, false}, "it throttles": {refusal(400, "Throttling", ""), false},
		"it refuses": {refusal(403, "AccessDenied", ""), false}, "it is not": {refusal(500, "InternalFailure", ""), true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: good}
				c, log := setup(t, f, nil)
				open(t, f, c)
				for _, wait := range []time.Duration{2 * time.Second, 2999 * time.Millisecond, time.Millisecond} { // 5 s in all
					<-time.After(wait)
					took, err := issue(t, c)
					if took != 0 || f.calls.Load() != 0 || broker.ClassOf(err) != broker.ErrSTSUnavailable {
						t.Fatalf("%d calls, after %s: %v", f.calls.Load(), took, err)
					}
				}
				if _, err := issue(t, c); retryAfter(err) != 1 {
					t.Errorf("come again in %s", retryAfter(err))
				}
				<-time.After(1)
				f.answer = inTurn(tc.probe, good)
				_, err := issue(t, c)
				if (f.calls.Load() == 1) != (tc.open || name == "it is" || name == "it refuses") {
					t.Errorf("%d calls: %v", f.calls.Load(), err)
				}
				f.calls.Store(1)
				_, err = issue(t, c)
				if (err != nil) != tc.open || (f.calls.Load() == 1) != tc.open {
					t.Errorf("%d calls: %v", f.calls.Load(), err)
				}
				if after := retryAfter(err); tc.open && after != 5*time.Second {
					t.Errorf("come again in %s", after)
				}
				if !tc.open && !strings.Contains(log.String(), `"to":"closed"`) {
					t.Errorf("logged %s", log)
				}
			})
		})
	}
}

func TestWhileOneCallLooksTheOthersAreToldAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.PerSecond = 4 }) // one at once: nobody else may wait for a turn
		open(t, f, c)
		<-time.After(5*time.Second + 1)
		f.answer = after(500*time.Millisecond, good)
		var wg sync.WaitGroup
		wg.Go(func() {
			if took, err := issue(t, c); err != nil || took != 500*time.Millisecond {
				t.Errorf("after %s: %v", took, err)
			}
		})
		synctest.Wait()
		for range 100 {
			if took, err := issue(t, c); took != 0 || broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) != time.Second {
				t.Errorf("after %s: %v", took, err)
			}
		}
		wg.Wait()
		if f.calls.Load() != 1 {
			t.Errorf("%d calls", f.calls.Load())
		}
		if _, err := issue(t, c); err != nil {
			t.Error(err)
		}
	})
}

// Who came before it was known that one call looks is told when it gets its turn.
func TestManyWhoComeWhenTheBreakerHalfOpensMakeOneCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good}
		c, _ := setup(t, f, func(cfg *awssts.Config) {
			cfg.MaxConcurrent = 50
			cfg.Assert = func(ctx context.Context, o broker.Order) (broker.Assertion, error) {
				<-time.After(10 * time.Millisecond) // all have come by then
				return assert(false)(ctx, o)
			}
		})
		open(t, f, c)
		<-time.After(5*time.Second + 1)
		f.answer = after(100*time.Millisecond, good)
		var served, refused atomic.Int64
		var wg sync.WaitGroup
		for range 4 { // as many places as there are
			wg.Go(func() {
				_, err := issue(t, c)
				switch {
				case err == nil:
					served.Add(1)
				case broker.ClassOf(err) == broker.ErrSTSUnavailable && retryAfter(err) == time.Second:
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if served.Load() != 1 || refused.Load() != 3 || f.calls.Load() != 1 {
			t.Errorf("%d served, %d refused, %d calls", served.Load(), refused.Load(), f.calls.Load())
		}
	})
}

// A caller who goes away from the call that looks leaves the breaker half open: it
// neither stays so for ever, nor closes.
func TestWhoGoesAwayFromTheCallThatLooksLeavesItToTheNext(t *testing.T) {
	for name, back := range map[string]bool{"it is back": true, "it is not": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: good}
				c, _ := setup(t, f, nil)
				open(t, f, c)
				<-time.After(5*time.Second + 1)
				f.answer = hang
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(10*time.Millisecond, cancel)
				_, _ = c.Issue(ctx, order(t, nil))
				if f.answer = good; !back {
					f.answer = refusedConnection
				}
				for range 3 {
					if _, err := issue(t, c); (err == nil) != back {
						t.Error(err)
					}
				}
				if n := f.calls.Load(); back && n != 4 || !back && n != 2 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestTheNextRegionIsAskedAtOnceWhereOneFails(t *testing.T) {
	for name, failure := range map[string]answerer{"no connection": refusedConnection, "500": refusal(500, "InternalFailure", "")} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: good, at: answers{"eu-west-1": failure}}
				c, _ := setup(t, f, regions("eu-west-1", "eu-west-2", "eu-west-3"))
				for range 5 {
					if took, err := issue(t, c); err != nil || took != 0 {
						t.Errorf("after %s: %v", took, err)
					}
					wantAsked(t, f, "eu-west-1", "eu-west-2")
				}
				for range 5 { // its breaker is open
					if took, err := issue(t, c); err != nil || took != 0 {
						t.Errorf("after %s: %v", took, err)
					}
					wantAsked(t, f, "eu-west-2")
				}
				f.at["eu-west-2"] = failure // the third, in the order of the configuration
				for range 5 {
					if _, err := issue(t, c); err != nil {
						t.Error(err)
					}
					wantAsked(t, f, "eu-west-2", "eu-west-3")
				}
				if _, err := issue(t, c); err != nil {
					t.Error(err)
				}
				wantAsked(t, f, "eu-west-3")
				<-time.After(5*time.Second + 1)
				delete(f.at, "eu-west-1") // the first is back
				for range 3 {
					if _, err := issue(t, c); err != nil {
						t.Error(err)
					}
					wantAsked(t, f, "eu-west-1")
				}
			})
		})
	}
}

// One region hangs: the second attempt has what is left of 1.8 s, elsewhere.
func TestARegionThatHangsIsLeftAfterASecond(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: after(799*time.Millisecond, good), at: answers{"eu-west-1": hang}}
		c, _ := setup(t, f, regions("eu-west-1", "eu-west-2"))
		if took, err := issue(t, c); err != nil || took != 1799*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		}
		wantAsked(t, f, "eu-west-1", "eu-west-2")
	})
}

// What the region has answered is not asked elsewhere.
func TestASecondAttemptStaysWithARegionThatAnswers(t *testing.T) {
	for _, answer := range []answerer{refusal(400, "Throttling", ""), refusal(400, "IDPCommunicationError", "")} {
		inBubble(t, func(t *testing.T) {
			f := &fakeSTS{answer: good, at: answers{"eu-west-1": inTurn(answer, good)}}
			c, _ := setup(t, f, regions("eu-west-1", "eu-west-2"))
			if took, err := issue(t, c); err != nil || took < 50*time.Millisecond {
				t.Errorf("after %s: %v", took, err)
			}
			wantAsked(t, f, "eu-west-1", "eu-west-1")
		})
	}
}

func TestWhereTheLastRegionFailsTheFirstIsAskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: good, at: answers{"eu-west-1": refusedConnection}}
		c, _ := setup(t, f, regions("eu-west-1", "eu-west-2"))
		for range 5 {
			_, _ = issue(t, c)
		}
		<-time.After(4900 * time.Millisecond) // not yet half open
		f.asked()
		f.at = answers{"eu-west-2": after(200*time.Millisecond, refusedConnection)}
		if _, err := issue(t, c); err != nil {
			t.Error(err)
		}
		wantAsked(t, f, "eu-west-2", "eu-west-1")
	})
}

func TestAllRegionsFailing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: refusedConnection}
		c, _ := setup(t, f, regions("eu-west-1", "eu-west-2"))
		for range 5 {
			if took, err := issue(t, c); took != 0 || broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) < 2*time.Second {
				t.Errorf("after %s: %v", took, err)
			}
			<-time.After(100 * time.Millisecond)
		}
		f.asked()
		<-time.After(3 * time.Second) // both are open, the second for as long as the first
		_, err := issue(t, c)
		if want := 1900 * time.Millisecond; retryAfter(err) != want {
			t.Errorf("come again in %s: %v", retryAfter(err), err)
		}
		wantAsked(t, f)
	})
}

// When to come again is when the first of the regions may be asked.
func TestTheShortestRestCounts(t *testing.T) {
	for _, order := range [][2]string{{"eu-west-1", "eu-west-2"}, {"eu-west-2", "eu-west-1"}} {
		inBubble(t, func(t *testing.T) {
			f := &fakeSTS{answer: good, at: answers{"eu-west-1": refusedConnection}}
			c, _ := setup(t, f, regions(order[0], order[1]))
			if order[0] == "eu-west-2" {
				f.at = answers{"eu-west-2": refusedConnection}
			}
			for range 5 {
				_, _ = issue(t, c)
			}
			<-time.After(time.Second)
			f.answer = refusedConnection
			for range 4 {
				_, _ = issue(t, c)
				<-time.After(250 * time.Millisecond)
			}
			_, _ = issue(t, c) // the second opens two seconds after the first
			if _, err := issue(t, c); retryAfter(err) != 3*time.Second {
				t.Errorf("come again in %s: %v", retryAfter(err), err)
			}
		})
	}
}

func TestARegionThatTheAccountHasSwitchedOffIsLeftOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		off := refusal(403, "RegionDisabledException", "STS is not activated in this region")
		f := &fakeSTS{answer: good, at: answers{"ap-east-1": off}}
		c, log := setup(t, f, regions("ap-east-1", "eu-west-2"))
		if took, err := issue(t, c); err != nil || took != 0 {
			t.Errorf("after %s: %v", took, err)
		}
		wantAsked(t, f, "ap-east-1", "eu-west-2")
		for range 10 {
			if _, err := issue(t, c); err != nil {
				t.Error(err)
			}
		}
		if got := f.asked(); slices.Contains(got, "ap-east-1") {
			t.Errorf("asked %q", got)
		}
		wantAlert(t, log.String(), awssts.AlertRegion, 1)
		<-time.After(time.Minute - 1)
		_, _ = issue(t, c)
		wantAsked(t, f, "eu-west-2")
		<-time.After(1)
		_, _ = issue(t, c)
		wantAsked(t, f, "ap-east-1", "eu-west-2")
		wantAlert(t, log.String(), awssts.AlertRegion, 2)
	})
}

// With no region left, it is the configuration that is wrong; with one that may
// come back, it is not.
func TestNoRegionIsSwitchedOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		off := refusal(403, "RegionDisabledException", "")
		f := &fakeSTS{answer: off}
		c, log := setup(t, f, regions("eu-west-1"))
		for i := range 3 {
			took, err := issue(t, c)
			if _, again := broker.RetryAfter(err); took != 0 || broker.ClassOf(err) != broker.ErrSTSRejected || again {
				t.Errorf("%d, after %s: %v", i, took, err)
			}
		}
		wantAsked(t, f, "eu-west-1")
		wantAlert(t, log.String(), awssts.AlertRegion, 1)
		<-time.After(time.Minute)
		f.answer = good // switched on
		if _, err := issue(t, c); err != nil {
			t.Error(err)
		}

		f = &fakeSTS{answer: off}
		c, _ = setup(t, f, regions("eu-west-1", "eu-west-2"))
		for range 2 {
			if took, err := issue(t, c); took != 0 || broker.ClassOf(err) != broker.ErrSTSRejected {
				t.Errorf("after %s: %v", took, err)
			}
		}
		wantAsked(t, f, "eu-west-1", "eu-west-2")

		f = &fakeSTS{answer: good, at: answers{"eu-west-2": refusedConnection}}
		c, _ = setup(t, f, regions("eu-west-2", "eu-west-1"))
		for range 5 {
			_, _ = issue(t, c)
		}
		f.asked()
		f.answer = off
		_, err := issue(t, c) // one is switched off, the other may come back
		if broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) != 5*time.Second {
			t.Errorf("come again in %s: %v", retryAfter(err), err)
		}
		wantAsked(t, f, "eu-west-1")
		took, err := issue(t, c)
		if took != 0 || broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) != 5*time.Second {
			t.Errorf("come again in %s: %v", retryAfter(err), err)
		}
	})
}

// That others learned meanwhile that the region is switched off does not change
// what this order was told.
func TestAnOrderIsClassifiedByItsOwnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: inTurn(after(100*time.Millisecond, refusal(400, "Throttling", "")), refusal(403, "RegionDisabledException", ""))}
		c, _ := setup(t, f, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			if took, err := issue(t, c); took != 100*time.Millisecond || broker.ClassOf(err) != broker.ErrSTSUnavailable {
				t.Errorf("after %s: %v", took, err)
			}
		})
		synctest.Wait()
		if _, err := issue(t, c); broker.ClassOf(err) != broker.ErrSTSRejected {
			t.Error(err)
		}
		wg.Wait()
	})
}

// An order that finds the only region switched off takes no turn.
func TestARegionThatIsSwitchedOffCostsNoTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: refusal(403, "RegionDisabledException", "")}
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.PerSecond = 1 })
		for range 5 {
			if took, err := issue(t, c); took != 0 || broker.ClassOf(err) != broker.ErrSTSRejected {
				t.Errorf("after %s: %v", took, err)
			}
		}
	})
}

// wantAlert counts the lines of a log that are an alert.
func wantAlert(t testing.TB, log string, alert awssts.Alert, n int) {
	t.Helper()
	got := 0
	for line := range strings.Lines(log) {
		var l struct{ Level, Alert, Msg, Error string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if (l.Level == "ERROR") != (l.Alert != "") {
			t.Errorf("an error that is no alert: %s", line)
		}
		if l.Alert != "" && (l.Alert != string(alert) || l.Msg == l.Alert || l.Error == "") {
			t.Errorf("another alert: %s", line)
		}
		if l.Alert == string(alert) {
			got++
		}
	}
	if got != n {
		t.Errorf("%d alerts %q, want %d: %s", got, alert, n, log)
	}
}

// What is told of what happened: each call, what was not called, each alert.
func TestEventsTellWhatHappened(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []awssts.Event
		take := func() string {
			mu.Lock()
			defer mu.Unlock()
			text := ""
			for _, e := range events {
				text += fmt.Sprintf("%s%s %s %d %s; ", e.Code, e.Alert, e.Region, e.Attempt, e.Duration)
			}
			events = nil
			return text
		}
		f := &fakeSTS{answer: after(10*time.Millisecond, good)}
		c, _ := setup(t, f, func(cfg *awssts.Config) {
			cfg.FallbackRegions, cfg.PerSecond = []string{"eu-west-2"}, 4
			cfg.Observe = func(e awssts.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e)
			}
		})
		expect := func(answer answerer, want string) {
			t.Helper()
			<-time.After(6 * time.Second) // for turns, and for breakers
			f.answer = answer
			_, _ = issue(t, c)
			if got := take(); got != want {
				t.Errorf("events %q, want %q", got, want)
			}
		}
		expect(after(10*time.Millisecond, good), "OK eu-west-1 1 10ms; ")
		expect(after(time.Millisecond, refusal(403, "AccessDenied", "")), "AccessDenied eu-west-1 1 1ms; sts_rejected eu-west-1 0 0s; ")
		expect(refusal(400, "Throttling", ""), "Throttling eu-west-1 1 0s; Throttling eu-west-1 2 0s; ")
		expect(refusal(503, "Weird", ""), "Other eu-west-1 1 0s; Other eu-west-2 2 0s; ")
		expect(hang, "Timeout eu-west-1 1 1s; Timeout eu-west-2 2 800ms; ")
		expect(refusedConnection, "NoAnswer eu-west-1 1 0s; NoAnswer eu-west-2 2 0s; ")
		expect(func(int, url.Values) (*http.Response, error) { return redirect(), nil }, "Redirect eu-west-1 1 0s; sts_endpoint eu-west-1 0 0s; ")
		expect(func(_ int, form url.Values) (*http.Response, error) {
			answer := goodFields(form)
			answer.subject = "user2"
			return response(http.StatusOK, answer.xml()), nil
		}, "OK eu-west-1 1 0s; sts_answer_differs eu-west-1 0 0s; ")
		<-time.After(time.Second)
		f.answer = hang
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, _ = c.Issue(ctx, order(t, nil))
		if got := take(); got != "Canceled eu-west-1 1 20ms; " {
			t.Errorf("events %q", got)
		}
		_, _ = c.Issue(ctx, order(t, nil)) // who is gone
		_, _ = c.Issue(t.Context(), order(t, func(o *broker.Order) { o.SessionName = "" }))
		if got := take(); got != "Busy  1 0s; order_unproved  0 0s; " {
			t.Errorf("events %q", got)
		}
		for range 5 {
			expect(refusedConnection, "NoAnswer eu-west-1 1 0s; NoAnswer eu-west-2 2 0s; ")
		}
		_, _ = issue(t, c)
		if got := take(); got != "NoRegion  0 0s; " {
			t.Errorf("events %q", got)
		}
	})
}

func redirect() *http.Response {
	r := response(302, "")
	r.Header.Set("Location", "https://evil.example/")
	return r
}

// Who follows another client of the same STS goes on where it was.
func TestWhatIsKnownOfAnSTSIsTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{}
		first, _ := setup(t, f, nil)
		open(t, f, first)
		f.answer = good
		after := func(previous *awssts.Client, change func(*awssts.Config)) *awssts.Client {
			c, _ := setup(t, f, func(cfg *awssts.Config) {
				cfg.Previous = previous
				if change != nil {
					change(cfg)
				}
			})
			return c
		}
		second := after(first, nil)
		third := after(second, func(cfg *awssts.Config) { cfg.Timeout = time.Second }) // which says nothing of STS
		for _, c := range []*awssts.Client{second, third} {
			if _, err := issue(t, c); broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) <= 0 || f.calls.Load() != 0 {
				t.Errorf("asked an STS that is down: %d calls, %v", f.calls.Load(), err)
			}
		}
		for what, change := range map[string]func(*awssts.Config){
			"region":         func(cfg *awssts.Config) { cfg.Region = "eu-north-1" },
			"further region": func(cfg *awssts.Config) { cfg.FallbackRegions = []string{"eu-north-1"} },
			"endpoint":       func(cfg *awssts.Config) { cfg.Endpoint = "https://sts.example" },
			"bound at once":  func(cfg *awssts.Config) { cfg.MaxConcurrent++ },
			"bound a second": func(cfg *awssts.Config) { cfg.PerSecond++ },
		} {
			if _, err := issue(t, after(first, change)); err != nil {
				t.Errorf("another %s: %v", what, err)
			}
		}
		<-time.After(5*time.Second + 1) // and it opens again for all of them at once
		if _, err := issue(t, third); err != nil {
			t.Error(err)
		}
		if _, err := issue(t, first); err != nil {
			t.Error(err)
		}
	})
}

// The calls of both count together, at a time and a second.
func TestBoundsHoldAcrossClientsThatFollow(t *testing.T) {
	both := func(t *testing.T, change func(*awssts.Config)) *fakeSTS {
		f := &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
			<-time.After(400 * time.Millisecond)
			return good(call, form)
		}}
		first, _ := setup(t, f, change)
		second, _ := setup(t, f, func(cfg *awssts.Config) { change(cfg); cfg.Previous = first })
		var asking sync.WaitGroup
		for _, c := range []*awssts.Client{first, second} {
			asking.Go(func() {
				if _, err := issue(t, c); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		return f
	}
	inBubble(t, func(t *testing.T) {
		if f := both(t, func(cfg *awssts.Config) { cfg.MaxConcurrent = 1 }); f.peak != 1 {
			t.Errorf("%d at a time", f.peak)
		}
	})
	inBubble(t, func(t *testing.T) {
		if f := both(t, func(cfg *awssts.Config) { cfg.PerSecond = 1 }); f.times[1].Sub(f.times[0]) != time.Second {
			t.Errorf("the second %s after the first", f.times[1].Sub(f.times[0]))
		}
	})
}

// idle counts how often it is asked to let go of its connections.
type idle struct {
	http.RoundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

func TestACloseReachesTheConnections(t *testing.T) {
	i := &idle{}
	c, _ := setup(t, &fakeSTS{}, func(cfg *awssts.Config) { cfg.Transport = i })
	if c.Close(); i.closed != 1 {
		t.Errorf("asked %d times", i.closed)
	}
}
