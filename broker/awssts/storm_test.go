package awssts_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/time/rate"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
	"credential-broker/broker/credcache"
)

// strict is an STS that takes so many calls a second, as many at once after a
// quiet time, and answers all of them after 50 ms.
func strict(perSecond int) *fakeSTS {
	quota := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	return &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
		taken := quota.Allow()
		<-time.After(50 * time.Millisecond)
		if !taken {
			return refusal(400, "Throttling", "Rate exceeded")(call, form)
		}
		return good(call, form)
	}}
}

// crowd lets so many callers come, so many at a time, and returns how many were
// refused.
func crowd(callers, atATime int, serve func() error) (refused int64) {
	var n, failed atomic.Int64
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for n.Add(1) <= int64(callers) {
				if serve() != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return failed.Load()
}

// bySDK is a caller without a limit of its own: the SDK's client behind a fixed
// bound on the calls at a time.
func bySDK(t testing.TB, f *fakeSTS, bound int, retryer aws.Retryer) func() error {
	client := sts.New(sts.Options{Region: "eu-west-1", Credentials: aws.AnonymousCredentials{}, HTTPClient: &http.Client{Transport: f}, Retryer: retryer})
	places := make(chan struct{}, bound)
	return func() error {
		ctx, cancel := context.WithTimeout(t.Context(), awssts.MaxTimeout)
		defer cancel()
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), RoleSessionName: aws.String("cb"), WebIdentityToken: aws.String(canaryToken),
		})
		return err
	}
}

// 3,000 callers, 800 at a time, at an STS that takes 600 a second. More at a time
// could not be served within 1.8 s: of those who come together, 600 are in the
// burst, and the others have 1.5 s of turns.
func TestAThrottlingSTSRefusesNobodyBehindTheAdaptiveLimit(t *testing.T) {
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("ten thousand calls: without -short")
	}
	const callers, atATime, quota, bound = 3000, 800, 600, 256
	type storm struct {
		refused, calls int64
		took           time.Duration
	}
	run := func(t *testing.T, serve func(testing.TB, *fakeSTS) func() error) (s storm) {
		inBubble(t, func(t *testing.T) {
			f := strict(quota)
			began := time.Now()
			s.refused = crowd(callers, atATime, serve(t, f))
			s.calls, s.took = f.calls.Load(), time.Since(began)
		})
		return s
	}
	adaptive := run(t, func(t testing.TB, f *fakeSTS) func() error {
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.MaxConcurrent, cfg.PerSecond = bound, 10_000 })
		o := order(t, nil)
		return func() error { _, err := c.Issue(t.Context(), o); return err }
	})
	t.Logf("the adaptive limit: %d of %d refused, %d calls, %s", adaptive.refused, callers, adaptive.calls, adaptive.took)
	if adaptive.refused > callers/100 {
		t.Errorf("%d refused", adaptive.refused)
	}
	if wasted := adaptive.calls - callers; wasted > callers/20 {
		t.Errorf("%d calls for nothing", wasted)
	}
	if ideal := time.Duration((callers - quota) * int(time.Second) / quota); adaptive.took > ideal*10/9 {
		t.Errorf("took %s, ideal %s", adaptive.took, ideal)
	}
	fixed := run(t, func(t testing.TB, f *fakeSTS) func() error {
		return bySDK(t, f, bound, retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = 2, noQuota{} }))
	})
	byDefault := run(t, func(t testing.TB, f *fakeSTS) func() error { return bySDK(t, f, bound, retry.NewStandard()) })
	t.Logf("a fixed bound of %d: %d refused with two attempts, %d with the SDK's own retryer", bound, fixed.refused, byDefault.refused)
	if fixed.refused < callers/10 || byDefault.refused < callers/3 {
		t.Error("a fixed bound does as well: what is the adaptive one for?")
	}
}

// noQuota lets the SDK's retryer retry as often as it is asked to.
type noQuota struct{}

func (noQuota) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noQuota) AddTokens(uint) error { return nil }

// 1,500 callers at one instant, five times what STS takes in a second, who come
// again when they are told to, as clients do: all are served.
func TestWhoComesAgainAsToldIsServed(t *testing.T) {
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("thousands of calls: without -short")
	}
	inBubble(t, func(t *testing.T) {
		f := strict(300)
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.MaxConcurrent, cfg.PerSecond = 256, 10_000 })
		began, o := time.Now(), order(t, nil)
		var again atomic.Int64
		refused := crowd(1500, 1500, func() error {
			for {
				_, err := c.Issue(t.Context(), o)
				after, ok := broker.RetryAfter(err)
				if !ok || time.Since(began) > 15*time.Second {
					return err
				}
				again.Add(1)
				<-time.After(after.Truncate(time.Second) + time.Second) // as the header says it
			}
		})
		t.Logf("%d refused, %d came again, %d calls, %s", refused, again.Load(), f.calls.Load(), time.Since(began))
		if refused != 0 || f.calls.Load() > 1500*11/10 || time.Since(began) > 10*time.Second {
			t.Error("not all were served in time")
		}
	})
}

// An STS that takes 5 calls a second, as some report of this action: the limit
// goes below one place.
func TestALowQuotaIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := strict(5)
		c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.MaxConcurrent, cfg.PerSecond = 32, 20 })
		began, o := time.Now(), order(t, nil)
		refused := crowd(500, 4, func() error { _, err := c.Issue(t.Context(), o); return err })
		took, calls := time.Since(began), f.calls.Load()
		t.Logf("%d refused, %d calls, %s", refused, calls, took)
		if refused > 50 || calls > 500*5/4 || took > 120*time.Second {
			t.Errorf("%d refused, %d calls, %s", refused, calls, took)
		}
	})
}

// keyed is the order of one of many subjects.
func keyed(t testing.TB, i int) broker.Order {
	return order(t, func(o *broker.Order) {
		o.Identity = broker.Identity{Issuer: "https://acme.example/", Subject: fmt.Sprint("user", i)}
		o.NotAfter = time.Now().Add(time.Hour)
	})
}

// Threat case CC18, and DS12: 1,000 orders for 1,000 keys at once.
func TestAThousandOrdersForAThousandKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		perSecond, places int
		took              time.Duration // a call
		least, most       int64         // served
	}{
		"as configured by default":   {20, 32, 50 * time.Millisecond, 34, 35},
		"more turns than places":     {10_000, 32, 100 * time.Millisecond, 400, 480}, // slow start, then 320 a second for 1.5 s
		"more of both than there is": {10_000, 512, 50 * time.Millisecond, 1000, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: after(tc.took, good)}
				client, _ := setup(t, f, func(cfg *awssts.Config) { cfg.MaxConcurrent, cfg.PerSecond = tc.places, tc.perSecond })
				cache, err := credcache.New(credcache.Config{Issuer: client, Entries: 2000})
				if err != nil {
					t.Fatal(err)
				}
				var served atomic.Int64
				began := time.Now()
				var wg sync.WaitGroup
				for i := range 1000 {
					o := keyed(t, i)
					wg.Go(func() {
						_, err := cache.Issue(t.Context(), o)
						_, again := broker.RetryAfter(err)
						switch {
						case err == nil:
							served.Add(1)
						case broker.ClassOf(err) != broker.ErrBusy || !again:
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if n := served.Load(); n < tc.least || n > tc.most || f.calls.Load() != n {
					t.Errorf("%d served by %d calls", n, f.calls.Load())
				}
				if f.peak > tc.places || time.Since(began) > awssts.MaxTimeout {
					t.Errorf("%d calls at a time, %s", f.peak, time.Since(began))
				}
			})
		})
	}
}

// Threat cases DS11 and DS12: while STS throttles or is down, who is cached is
// served, and the others cost STS nothing that the limit or the breaker would not.
func TestWhoIsCachedIsServedWhileSTSIsNot(t *testing.T) {
	for name, tc := range map[string]struct {
		answer answerer
		calls  int64 // at most, in ten seconds
	}{
		"throttling":  {refusal(400, "Throttling", "Rate exceeded"), 40},
		"down":        {refusedConnection, 5 + 2},
		"hanging":     {hang, 5 + 2},
		"answers 500": {refusal(500, "InternalFailure", ""), 5 + 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: good}
				client, _ := setup(t, f, func(cfg *awssts.Config) { cfg.MaxConcurrent, cfg.PerSecond = 1, 20 })
				cache, err := credcache.New(credcache.Config{Issuer: client, Entries: 100})
				if err != nil {
					t.Fatal(err)
				}
				cached := keyed(t, 0)
				if _, err := cache.Issue(t.Context(), cached); err != nil {
					t.Fatal(err)
				}
				f.answer = tc.answer
				f.calls.Store(0)
				stop := time.Now().Add(10 * time.Second)
				var wg sync.WaitGroup
				for i := range 10 { // who comes again at once, whatever is said
					o := keyed(t, 1+i)
					wg.Go(func() {
						for time.Now().Before(stop) {
							if _, err := cache.Issue(t.Context(), o); broker.ClassOf(err) != broker.ErrSTSUnavailable && broker.ClassOf(err) != broker.ErrBusy {
								t.Error(err)
							}
							<-time.After(20 * time.Millisecond)
						}
					})
				}
				for time.Now().Before(stop) {
					began := time.Now()
					if creds, err := cache.Issue(t.Context(), cached); err != nil || creds.Source != broker.FromCache || time.Since(began) != 0 {
						t.Errorf("after %s: %v", time.Since(began), err)
					}
					<-time.After(10 * time.Millisecond)
				}
				wg.Wait()
				if f.calls.Load() > tc.calls {
					t.Errorf("%d calls", f.calls.Load())
				}
			})
		})
	}
}

// Threat case DS13: one caller, a thousand times.
func TestOneKeyIsOneCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fakeSTS{answer: after(50*time.Millisecond, good)}
		client, _ := setup(t, f, nil)
		cache, err := credcache.New(credcache.Config{Issuer: client, Entries: 100})
		if err != nil {
			t.Fatal(err)
		}
		o := keyed(t, 0)
		if refused := crowd(1000, 100, func() error { _, err := cache.Issue(t.Context(), o); return err }); refused != 0 || f.calls.Load() != 1 {
			t.Errorf("%d refused, %d calls", refused, f.calls.Load())
		}
	})
}
