package credcache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
	"credential-broker/policy"
)

// issuer answers like STS: for as long as the order asks.
type issuer struct {
	calls  atomic.Int64
	before func(context.Context, broker.Order) error
	change func(*broker.Credentials)
	now    func() time.Time // nil: time.Now
}

func (i *issuer) Issue(ctx context.Context, o broker.Order) (broker.Credentials, error) {
	n := i.calls.Add(1)
	if i.before != nil {
		if err := i.before(ctx, o); err != nil {
			return broker.Credentials{}, err
		}
	}
	now := time.Now()
	if i.now != nil {
		now = i.now()
	}
	c := broker.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIA%d", n),
		SecretAccessKey: broker.NewSecret("secret"), SessionToken: broker.NewSecret("token"),
		IssuedAt: now, Expiration: now.Add(o.Lifetime),
		SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}
	if i.change != nil {
		i.change(&c)
	}
	return c, nil
}

func newCache(t *testing.T, i broker.Issuer, entries int) *credcache.Cache {
	t.Helper()
	return made(t, credcache.Config{Issuer: i, Entries: entries})
}

// made is a cache of a configuration that a test has a part of.
func made(t testing.TB, cfg credcache.Config) *credcache.Cache {
	t.Helper()
	if cfg.Entries == 0 {
		cfg.Entries = 10
	}
	c, err := credcache.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// token makes an order one that came with that token.
func token(text string) func(*broker.Order) {
	return func(o *broker.Order) { o.Token = broker.NewSecret(text) }
}

// ofTenant makes an order one of another tenant, its policy included.
func ofTenant(t testing.TB, name string) func(*broker.Order) {
	t.Helper()
	tenant, err := policy.ParseTenant(name)
	if err != nil {
		t.Fatal(err)
	}
	template, _ := policy.ParseTemplate("tenants/{tenant}/")
	prefix, _ := template.Render(tenant, policy.User{})
	return func(o *broker.Order) {
		o.Scope.Tenant, o.Scope.S3.Prefix = tenant, prefix
		o.Document, err = policy.Generate(o.Scope.S3)
		if err != nil {
			t.Fatal(err)
		}
		o.SessionName += name
	}
}

// pass lets time pass on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

// order is a good order for the subject; change makes it another.
func order(t testing.TB, subject string, change func(*broker.Order)) broker.Order {
	t.Helper()
	tenant, err := policy.ParseTenant("org_acme")
	if err != nil {
		t.Fatal(err)
	}
	template, _ := policy.ParseTemplate("tenants/{tenant}/")
	bucket, _ := policy.ParseBucket("acme-uploads")
	prefix, _ := template.Render(tenant, policy.User{})
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/uploads")
	if err != nil {
		t.Fatal(err)
	}
	s3 := policy.Scope{Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.Read}
	document, err := policy.Generate(s3)
	if err != nil {
		t.Fatal(err)
	}
	o := broker.Order{
		Revision: "r1",
		Identity: broker.Identity{
			Issuer: "https://i/", Subject: subject, Client: "c", Audience: []string{"https://api"}, KeyID: "a", KeyThumbprint: "A",
		},
		Scope:       broker.Scope{Grant: "g", Tenant: tenant, RoleARN: role, S3: s3, Duration: time.Hour},
		Document:    document,
		SessionName: "cb-" + subject,
		Lifetime:    time.Hour,
		NotAfter:    time.Now().Round(0).Add(time.Hour),
	}
	if change != nil {
		change(&o)
	}
	return o
}

func mustIssue(t *testing.T, c *credcache.Cache, o broker.Order) broker.Credentials {
	t.Helper()
	creds, err := c.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

func TestRefusesToBeMadeOfNothing(t *testing.T) {
	if _, err := credcache.New(credcache.Config{Entries: 1}); err == nil {
		t.Error("no issuer: want an error")
	}
	for _, entries := range []int{0, -1} {
		_, err := credcache.New(credcache.Config{Issuer: &issuer{}, Entries: entries})
		if err == nil || !strings.Contains(err.Error(), "at least one entry") {
			t.Errorf("%d entries: %v", entries, err)
		}
	}
	if _, err := credcache.New(credcache.Config{Issuer: &issuer{}, Entries: 1, Refreshes: -1}); err == nil {
		t.Error("refreshes below zero: want an error")
	}
}

// CC09, CC10
func TestServesUntilTheFloorAndNotASecondLonger(t *testing.T) {
	for _, tc := range []struct{ life, floor time.Duration }{
		{time.Hour, 20 * time.Minute},
		{12 * time.Hour, 20 * time.Minute},
		{15 * time.Minute, 5 * time.Minute},
		{30 * time.Minute, 10 * time.Minute},
	} {
		t.Run(tc.life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, &issuer{}, 10)
				o := func() broker.Order {
					return order(t, "alice", func(o *broker.Order) {
						o.Lifetime, o.NotAfter = tc.life, time.Now().Round(0).Add(tc.life)
					})
				}
				first := mustIssue(t, c, o())
				if first.Source != broker.FromSTS {
					t.Errorf("first answer comes from %q", first.Source)
				}
				pass(tc.life - tc.floor) // the bubble's clock
				if got := mustIssue(t, c, o()); got.AccessKeyID != first.AccessKeyID || got.Source != broker.FromCache {
					t.Errorf("at the floor: got %s from %q, want %s from the cache", got.AccessKeyID, got.Source, first.AccessKeyID)
				}
			})
			synctest.Test(t, func(t *testing.T) { // without the hit, which renews
				c := newCache(t, &issuer{}, 10)
				o := func() broker.Order {
					return order(t, "alice", func(o *broker.Order) {
						o.Lifetime, o.NotAfter = tc.life, time.Now().Round(0).Add(tc.life)
					})
				}
				first := mustIssue(t, c, o())
				pass(tc.life - tc.floor + time.Second)
				if got := mustIssue(t, c, o()); got.AccessKeyID == first.AccessKeyID || got.Source != broker.FromSTS {
					t.Errorf("a second past the floor: got %s from %q", got.AccessKeyID, got.Source)
				}
			})
		})
	}
}

// CC10: whatever the clock does, by the clock as it is now there is enough left.
func TestAClockThatIsPutForwardOrBackServesNothingTooOld(t *testing.T) {
	for _, step := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		for _, at := range []time.Duration{0, 34 * time.Minute, 35 * time.Minute, 35*time.Minute + time.Second, 45 * time.Minute} {
			var clock atomic.Int64
			now := func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }
			c := made(t, credcache.Config{Issuer: &issuer{now: now}, Now: now})
			ask := func() broker.Credentials {
				return mustIssue(t, c, order(t, "alice", func(o *broker.Order) { o.NotAfter = now().Add(time.Hour) }))
			}
			ask()
			clock.Add(int64(at / time.Second))
			ask()
			clock.Add(int64(step / time.Second))
			if got := ask(); got.Expiration.Sub(now()) < 20*time.Minute || got.Expiration.Sub(now()) > time.Hour {
				t.Errorf("clock put by %s at %s: %s are left", step, at, got.Expiration.Sub(now()))
			}
			c.Close()
		}
	}
}

// CC01 to CC04, CC06, CC21, CC22
func TestAnythingThatShapesTheAnswerIsAnotherEntry(t *testing.T) {
	other, _ := policy.ParseTenant("org_other")
	bucket, _ := policy.ParseBucket("other-uploads")
	path, _ := policy.ParsePath("in/")
	role, _ := broker.ParseRoleARN("arn:aws:iam::123456789012:role/other")
	for name, change := range map[string]func(*broker.Order){
		"revision":                 func(o *broker.Order) { o.Revision = "r2" },
		"issuer":                   func(o *broker.Order) { o.Identity.Issuer = "https://j/" },
		"subject":                  func(o *broker.Order) { o.Identity.Subject = "alice2" },
		"in capitals":              func(o *broker.Order) { o.Identity.Subject = "Alice" },
		"by another normalisation": func(o *broker.Order) { o.Identity.Subject = "ali\u0063\u0327e" },
		"audience":                 func(o *broker.Order) { o.Identity.Audience = []string{"https://other"} },
		"audiences":                func(o *broker.Order) { o.Identity.Audience = []string{"https://api", "https://other"} },
		"key":                      func(o *broker.Order) { o.Identity.KeyID = "b" },
		"key under its name":       func(o *broker.Order) { o.Identity.KeyThumbprint = "B" },
		"bucket":                   func(o *broker.Order) { o.Scope.S3.Bucket = bucket },
		"path":                     func(o *broker.Order) { o.Scope.S3.Path = path },
		"client":                   func(o *broker.Order) { o.Identity.Client = "d" },
		"tenant":                   func(o *broker.Order) { o.Scope.Tenant = other },
		"grant":                    func(o *broker.Order) { o.Scope.Grant = "h" },
		"role":                     func(o *broker.Order) { o.Scope.RoleARN = role },
		"access":                   func(o *broker.Order) { o.Scope.S3.Access = policy.Write },
		"policy": func(o *broker.Order) {
			s := o.Scope.S3
			s.Access = policy.Write
			o.Document, _ = policy.Generate(s)
		},
		"duration": func(o *broker.Order) { o.Scope.Duration = 2 * time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			i := &issuer{}
			c := newCache(t, i, 10)
			first := mustIssue(t, c, order(t, "alice", nil))
			second := mustIssue(t, c, order(t, "alice", change))
			if n := i.calls.Load(); n != 2 || c.Len() != 2 {
				t.Errorf("%d calls and %d entries, want 2", n, c.Len())
			}
			if got := mustIssue(t, c, order(t, "alice", nil)); got.AccessKeyID != first.AccessKeyID {
				t.Error("the second displaced the first")
			}
			if got := mustIssue(t, c, order(t, "alice", change)); got.AccessKeyID != second.AccessKeyID {
				t.Error("the first is given for the second")
			}
		})
	}
}

// CC01: both at once, too.
func TestTwoTenantsOfOneSubjectAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		var wg sync.WaitGroup
		for n := range 100 {
			name := fmt.Sprint("org_", n%2)
			wg.Go(func() {
				got, err := c.Issue(t.Context(), order(t, "alice", ofTenant(t, name)))
				if err != nil || got.Scope.Tenant.String() != name || !strings.Contains(got.Scope.S3.Prefix.String(), name) {
					t.Errorf("%s got %s: %v", name, got.Scope.Tenant, err)
				}
			})
		}
		wg.Wait()
		if n := i.calls.Load(); n != 2 || c.Len() != 2 {
			t.Errorf("%d calls, %d entries, want 2", n, c.Len())
		}
	})
}

// CC31: a replica asks for itself, so STS is asked once for each.
func TestTwoCachesShareNothing(t *testing.T) {
	i := &issuer{}
	for range 2 {
		mustIssue(t, newCache(t, i, 10), order(t, "alice", nil))
	}
	if n := i.calls.Load(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestASessionNeverOutlivesTheTokenThatAsks(t *testing.T) {
	i := &issuer{}
	c := newCache(t, i, 10)
	mustIssue(t, c, order(t, "alice", nil))
	short := func(o *broker.Order) {
		o.Lifetime, o.NotAfter = 40*time.Minute, time.Now().Round(0).Add(40*time.Minute)
	}
	got := mustIssue(t, c, order(t, "alice", short))
	if left := time.Until(got.Expiration); left > 40*time.Minute {
		t.Errorf("a token with 40 minutes left got a session of %s", left)
	}
	if got := mustIssue(t, c, order(t, "alice", nil)); got.Source != broker.FromCache {
		t.Error("a longer token cannot use the shorter session")
	}
}

// The other way round, what ends in time is an answer: of two tokens that both last,
// none has to ask again because the other lasts longer.
func TestASessionThatEndsInTimeIsForAnyToken(t *testing.T) {
	i := &issuer{}
	c := newCache(t, i, 10)
	good := func(until time.Duration) broker.Order {
		return order(t, "alice", func(o *broker.Order) { o.NotAfter = o.NotAfter.Add(until) })
	}
	first := mustIssue(t, c, good(10*time.Hour))
	if got := mustIssue(t, c, good(first.Expiration.Sub(good(0).NotAfter))); got.Source != broker.FromCache {
		t.Errorf("it ends with the token: %s", got.Source)
	}
	if got := mustIssue(t, c, good(-time.Second)); got.Source != broker.FromSTS {
		t.Errorf("it ends a second after the token: %s", got.Source)
	}
}

// CC17: with real goroutines and a call that is over at once, so that many look in
// the moment between its end and its beginning.
func TestOneCallForAKeyHoweverFastItIs(t *testing.T) {
	for range 20 {
		i := &issuer{}
		c := newCache(t, i, 10)
		o := order(t, "alice", nil)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				<-start
				if _, err := c.Issue(t.Context(), o); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if n := i.calls.Load(); n != 1 {
			t.Fatalf("%d calls, want 1", n)
		}
	}
}

// CC17
func TestOneCallForAKeyHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if _, err := c.Issue(t.Context(), order(t, "alice", nil)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := i.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// CC13
func TestWhoBeganACallMayHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: func(ctx context.Context, _ broker.Order) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		c := newCache(t, i, 10)
		ctx, hangUp := context.WithCancel(t.Context())
		go func() {
			if _, err := c.Issue(ctx, order(t, "alice", nil)); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller who hung up got %v", err)
			}
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if got, err := c.Issue(t.Context(), order(t, "alice", nil)); err != nil || got.Source != broker.FromCache {
					t.Errorf("one who waited got %q: %v", got.Source, err)
				}
			})
		}
		synctest.Wait()
		hangUp()
		wg.Wait()
		if n := i.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// CC15: the call by its own bound, who waits by his.
func TestACallThatNeverEndsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: func(ctx context.Context, _ broker.Order) error { <-ctx.Done(); return ctx.Err() }}
		c := newCache(t, i, 10)
		begin := time.Now()
		ask := func(ctx context.Context, want time.Duration) {
			if _, err := c.Issue(ctx, order(t, "alice", nil)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took != want {
				t.Errorf("took %s, want %s", took, want)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { ask(t.Context(), 4*time.Second) })
		for _, patience := range []time.Duration{time.Second, 2 * time.Second} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				ask(ctx, patience)
			})
		}
		wg.Wait()
	})
}

// CC12
func TestFailuresAreNotKept(t *testing.T) {
	fail := true
	i := &issuer{before: func(context.Context, broker.Order) error {
		if fail {
			return broker.ErrSTSUnavailable
		}
		return nil
	}}
	c := newCache(t, i, 10)
	if creds, err := c.Issue(t.Context(), order(t, "alice", nil)); !errors.Is(err, broker.ErrSTSUnavailable) || creds.AccessKeyID != "" {
		t.Fatalf("got %v, %v", creds, err)
	}
	fail = false
	mustIssue(t, c, order(t, "alice", nil))
}

// Who waited for a call that failed does not make the next one: that would be a
// call for each of them, one behind the other, while STS is down.
func TestAFailureIsSharedByWhoWaitedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: func(ctx context.Context, o broker.Order) error {
			_ = slow(ctx, o)
			return broker.ErrSTSUnavailable
		}}
		c := newCache(t, i, 10)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if creds, err := c.Issue(t.Context(), order(t, "alice", nil)); !errors.Is(err, broker.ErrSTSUnavailable) || creds.AccessKeyID != "" {
					t.Errorf("got %v, %v", creds, err)
				}
			})
		}
		wg.Wait()
		if n := i.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// both breaks the contract of an Issuer in its first answer: credentials, and an
// error with them.
type both struct{ issuer }

func (b *both) Issue(ctx context.Context, o broker.Order) (broker.Credentials, error) {
	creds, err := b.issuer.Issue(ctx, o)
	pass(time.Second)
	if creds.AccessKeyID == "ASIA1" {
		err = broker.ErrExpiredToken
	}
	return creds, err
}

func TestCredentialsThatCameWithAnErrorAreNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, &both{}, 10)
		go func() {
			if creds, err := c.Issue(t.Context(), order(t, "alice", token("first"))); !errors.Is(err, broker.ErrExpiredToken) || creds.AccessKeyID != "" {
				t.Errorf("who asked first got %v, %v", creds, err)
			}
		}()
		synctest.Wait()
		if got := mustIssue(t, c, order(t, "alice", token("second"))); got.AccessKeyID != "ASIA2" {
			t.Errorf("who waited got %s", got.AccessKeyID)
		}
	})
}

// All of the calls end at once, and there is room for one result: who waited has
// its answer from the call itself.
func TestWhoWaitedIsAnsweredAlthoughTheResultWasCrowdedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys, callers = 50, 3
		i := &issuer{before: slow}
		c := newCache(t, i, 1)
		var wg sync.WaitGroup
		for k := range keys {
			for range callers {
				wg.Go(func() {
					if _, err := c.Issue(t.Context(), order(t, fmt.Sprint("user", k), nil)); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if n := i.calls.Load(); n != keys {
			t.Errorf("%d calls for %d keys", n, keys)
		}
	})
}

// CC14
func TestAPanicIsAnErrorAndTheKeyIsFree(t *testing.T) {
	for name, end := range map[string]func(){
		"panic":  func() { panic("boom") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broken := true
				i := &issuer{before: func(context.Context, broker.Order) error {
					pass(time.Second)
					if broken {
						end()
					}
					return nil
				}}
				c := newCache(t, i, 10)
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						creds, err := c.Issue(t.Context(), order(t, "alice", nil))
						if broker.ClassOf(err) != broker.ErrInternal || creds.AccessKeyID != "" || !strings.Contains(err.Error(), "the issuer ") {
							t.Errorf("got %v, %v", creds, err)
						}
					})
				}
				wg.Wait()
				if n := i.calls.Load(); n != 1 || c.Len() != 0 {
					t.Errorf("%d calls, %d entries", n, c.Len())
				}
				broken = false
				mustIssue(t, c, order(t, "alice", nil))
			})
		})
	}
}

func TestCredentialsOfAnotherScopeAreRefusedOnTheWayIn(t *testing.T) {
	other, _ := policy.ParseTenant("org_other")
	for name, change := range map[string]func(*broker.Credentials){
		"scope":   func(c *broker.Credentials) { c.Scope.Tenant = other },
		"session": func(c *broker.Credentials) { c.SessionName = "cb-bob" },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, &issuer{change: change}, 10)
			creds, err := c.Issue(t.Context(), order(t, "alice", nil))
			if broker.ClassOf(err) != broker.ErrInternal || creds.AccessKeyID != "" {
				t.Errorf("got %v, %v", creds, err)
			}
			if c.Len() != 0 {
				t.Error("they were kept")
			}
		})
	}
}

// CC11
func TestCredentialsWithTooLittleLifeAreNotKept(t *testing.T) {
	i := &issuer{change: func(c *broker.Credentials) { c.Expiration = c.IssuedAt }}
	c := newCache(t, i, 10)
	_, _ = c.Issue(t.Context(), order(t, "alice", nil))
	if c.Len() != 0 {
		t.Error("they were kept")
	}
}

func TestForgetDropsASubjectAndNobodyElse(t *testing.T) {
	i := &issuer{}
	c := newCache(t, i, 10)
	mustIssue(t, c, order(t, "alice", nil))
	mustIssue(t, c, order(t, "alice", func(o *broker.Order) { o.Revision = "r2" }))
	mustIssue(t, c, order(t, "bob", nil))
	c.Forget("https://i/", "alice")
	if c.Len() != 1 {
		t.Fatalf("%d entries are left, want 1", c.Len())
	}
	if got := mustIssue(t, c, order(t, "bob", nil)); got.Source != broker.FromCache {
		t.Error("bob was forgotten too")
	}
	if got := mustIssue(t, c, order(t, "alice", nil)); got.Source != broker.FromSTS {
		t.Error("alice was not forgotten")
	}
}

func TestWhatACallBringsAfterForgetIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		go func() { _, _ = c.Issue(t.Context(), order(t, "alice", nil)) }()
		synctest.Wait()
		c.Forget("https://i/", "alice")
		if got := mustIssue(t, c, order(t, "alice", nil)); got.AccessKeyID != "ASIA2" {
			t.Errorf("got %s: the forgotten call's result", got.AccessKeyID)
		}
		if got := mustIssue(t, c, order(t, "alice", nil)); got.AccessKeyID != "ASIA2" {
			t.Errorf("got %s from the cache: the forgotten call's result", got.AccessKeyID)
		}
	})
}

func TestASharedResultThatOutlivesTheTokenIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		go func() { _, _ = c.Issue(t.Context(), order(t, "alice", nil)) }()
		synctest.Wait()
		end := time.Now().Round(0).Add(20 * time.Minute)
		got := mustIssue(t, c, order(t, "alice", func(o *broker.Order) { o.Lifetime, o.NotAfter = 20*time.Minute-2*time.Second, end }))
		if got.Expiration.After(end) {
			t.Errorf("the session ends %s after the token", got.Expiration.Sub(end))
		}
	})
}

func slow(context.Context, broker.Order) error { pass(time.Second); return nil }

func TestACallUnderWayWhenItsSubjectIsForgottenIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		go func() { _, _ = c.Issue(t.Context(), order(t, "alice", nil)) }()
		synctest.Wait()
		c.Forget("https://i/", "alice")
		pass(2 * time.Second)
		if c.Len() != 0 {
			t.Error("it was kept")
		}
	})
}

// CC29: a call that was forgotten lands while a newer one for its key is under way:
// the newer one goes on, and who comes then waits for it.
func TestAForgottenCallDoesNotDisturbTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		ask := func() { _, _ = c.Issue(t.Context(), order(t, "alice", nil)) }
		go ask()
		synctest.Wait()
		c.Forget("https://i/", "alice")
		pass(500 * time.Millisecond)
		go ask()
		pass(700 * time.Millisecond) // the first has landed, the second has not
		ask()
		if n := i.calls.Load(); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
	})
}

func TestForgettingOneSubjectLeavesAnothersCallAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{before: slow}
		c := newCache(t, i, 10)
		ask := func() { _, _ = c.Issue(t.Context(), order(t, "bob", nil)) }
		go ask()
		synctest.Wait()
		c.Forget("https://i/", "alice")
		ask()
		if n := i.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

func TestTheLeastRecentlyUsedGoesFirstAndItsIndexWithIt(t *testing.T) {
	i := &issuer{}
	c := newCache(t, i, 2)
	for _, subject := range []string{"alice", "bob", "alice", "carol"} {
		mustIssue(t, c, order(t, subject, nil))
	}
	if got := mustIssue(t, c, order(t, "alice", nil)); got.Source != broker.FromCache {
		t.Error("the one used last was dropped")
	}
	c.Forget("https://i/", "bob") // long gone; must not disturb
	if c.Len() != 2 {
		t.Errorf("%d entries, want 2", c.Len())
	}
}

// CC20: a thousand users of one tenant, in a cache of a hundred.
func TestAnotherTenantsEntrySurvivesManyUsers(t *testing.T) {
	c := newCache(t, &issuer{}, 100)
	ofOther := ofTenant(t, "org_other")
	mustIssue(t, c, order(t, "bob", ofOther))
	for n := range 1000 {
		mustIssue(t, c, order(t, fmt.Sprint("user", n), nil))
	}
	if got := mustIssue(t, c, order(t, "bob", ofOther)); got.Source != broker.FromCache || c.Len() != 100 {
		t.Errorf("from %q, %d entries", got.Source, c.Len())
	}
}

// CC26
func TestWhatACallerDoesToItsCopyStaysThere(t *testing.T) {
	c := newCache(t, &issuer{}, 10)
	mustIssue(t, c, order(t, "alice", nil))
	mine := mustIssue(t, c, order(t, "alice", nil))
	want := mine
	mine.AccessKeyID, mine.Scope.Grant, mine.SecretAccessKey = "changed", "changed", broker.Secret{}
	got := mustIssue(t, c, order(t, "alice", nil))
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b broker.Credentials) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// Whatever the order of requests, time steps and forgettings: an answer is the
// asker's own, fresh, and ends no later than its order allows.
func TestAnswersAreAlwaysTheAskersOwn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var elapsed atomic.Int64 // seconds
		clock := func() time.Time { return time.Unix(1_800_000_000+elapsed.Load(), 0) }
		entries := rapid.IntRange(1, 3).Draw(rt, "entries")
		c, err := credcache.New(credcache.Config{Issuer: &issuer{now: clock}, Entries: entries, Now: clock})
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		rt.Repeat(map[string]func(*rapid.T){
			"ask": func(rt *rapid.T) {
				subject := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "subject")
				life := time.Duration(rapid.IntRange(900, 3600).Draw(rt, "life")) * time.Second
				o := order(t, subject, func(o *broker.Order) { o.Lifetime, o.NotAfter = life, clock().Add(life) })
				got, err := c.Issue(t.Context(), o)
				switch {
				case err != nil:
					rt.Fatal(err)
				case got.SessionName != o.SessionName || got.Scope != o.Scope:
					rt.Fatalf("%s got %s's", o.SessionName, got.SessionName)
				case !got.Fresh(clock()):
					rt.Fatal("below the floor")
				case got.Expiration.After(o.NotAfter):
					rt.Fatal("outlives the order")
				case c.Len() > entries:
					rt.Fatal("more entries than the bound")
				}
			},
			"wait": func(rt *rapid.T) {
				c.Settle() // no call takes half an hour
				elapsed.Add(int64(rapid.IntRange(0, 1800).Draw(rt, "seconds")))
			},
			"forget": func(rt *rapid.T) {
				c.Forget("https://i/", rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "subject"))
			},
		})
	})
}

func configAt(i broker.Issuer, now func() time.Time) credcache.Config {
	return credcache.Config{Issuer: i, Entries: 10, Now: now}
}
