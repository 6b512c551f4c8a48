package limits_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/broker/limits"
	"credential-broker/policy"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// clock is a time that a test moves, and an issuer that counts.
type clock struct {
	now   time.Time
	calls int
	err   error
}

func (c *clock) Issue(context.Context, broker.Order) (broker.Credentials, error) {
	c.calls++
	return broker.Credentials{AccessKeyID: "ASIAEXAMPLE"}, c.err
}

func (c *clock) issuer(t testing.TB, counters *limits.Counters, perSubject, perTenant int) *limits.Issuer {
	t.Helper()
	i, err := limits.New(limits.Config{
		Issuer: c, Counters: counters, PerSubject: perSubject, PerTenant: perTenant, Now: func() time.Time { return c.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func order(t testing.TB, issuer, subject, tenant string) broker.Order {
	t.Helper()
	name, err := policy.ParseTenant(tenant)
	if err != nil {
		t.Fatal(err)
	}
	return broker.Order{Identity: broker.Identity{Issuer: issuer, Subject: subject}, Scope: broker.Scope{Tenant: name}}
}

// ask returns how long to wait, and 0 for what is passed on.
func ask(t testing.TB, i broker.Issuer, o broker.Order) time.Duration {
	t.Helper()
	creds, err := i.Issue(t.Context(), o)
	if err == nil {
		return 0
	}
	after, ok := broker.RetryAfter(err)
	if !errors.Is(err, broker.ErrRateLimited) || !ok || after <= 0 || creds != (broker.Credentials{}) {
		t.Fatalf("got %v, %v", creds, err)
	}
	return after
}

func TestASubjectHasItsMinuteAtOnceAndThenEvenly(t *testing.T) {
	c := &clock{now: noon}
	i, o := c.issuer(t, limits.NewCounters(), 30, 600), order(t, "i", "s", "acme")
	for n := range 30 {
		if wait := ask(t, i, o); wait != 0 {
			t.Fatalf("request %d waits %s", n+1, wait)
		}
	}
	for _, step := range []struct{ pass, wait time.Duration }{
		{0, 2 * time.Second}, {time.Second, time.Second}, {time.Second - 1, 1}, {1, 0}, {0, 2 * time.Second},
		{3 * time.Second, 0}, {0, time.Second}, {time.Second, 0}, {0, 2 * time.Second},
	} {
		c.now = c.now.Add(step.pass)
		if wait := ask(t, i, o); wait != step.wait {
			t.Fatalf("%s after noon: waits %s, want %s", c.now.Sub(noon), wait, step.wait)
		}
	}
	c.now = c.now.Add(time.Minute) // all of it has come back, and no more
	for n := range 31 {
		if wait := ask(t, i, o); (wait == 0) != (n < 30) {
			t.Errorf("request %d of the next minute waits %s", n+1, wait)
		}
	}
}

// Threat case DS12: what comes without a pause costs nobody anything.
func TestAClientInALoopDoesNotGetAsFarAsTheCache(t *testing.T) {
	c := &clock{now: noon}
	i, o := c.issuer(t, limits.NewCounters(), 30, 600), order(t, "i", "s", "acme")
	for range 100_000 {
		_, _ = i.Issue(t.Context(), o)
	}
	if c.calls != 30 {
		t.Errorf("%d calls", c.calls)
	}
	// And it has not used up what others of its tenant have.
	for n := range 570 {
		if wait := ask(t, i, order(t, "i", fmt.Sprint("other", n), "acme")); wait != 0 {
			t.Fatalf("other %d waits %s", n, wait)
		}
	}
}

// Threat case DS10.
func TestATenantOfManySubjectsSpendsItsOwn(t *testing.T) {
	c := &clock{now: noon}
	i := c.issuer(t, limits.NewCounters(), 30, 600)
	passed := 0
	for n := range 50_000 {
		if ask(t, i, order(t, "i", fmt.Sprint(n), "acme")) == 0 {
			passed++
		}
		if n%1000 == 0 {
			if wait := ask(t, i, order(t, "i", fmt.Sprint("globex", n), "globex")); wait != 0 {
				t.Fatalf("another tenant waits %s", wait)
			}
		}
	}
	if passed != 600 {
		t.Errorf("%d passed", passed)
	}
	// A subject that its tenant's limit refused has not spent its own.
	c.now = noon.Add(100 * time.Millisecond)
	if wait := ask(t, i, order(t, "i", "49999", "acme")); wait != 0 {
		t.Errorf("the next free request waits %s", wait)
	}
	if wait := ask(t, i, order(t, "i", "49998", "acme")); wait != 100*time.Millisecond {
		t.Errorf("the one after it waits %s", wait)
	}
}

func TestWhoIsCountedIsIssuerAndSubject(t *testing.T) {
	c := &clock{now: noon}
	i := c.issuer(t, limits.NewCounters(), 1, 600)
	for _, who := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"a", "b"}, {"b", "b"}} {
		if wait := ask(t, i, order(t, who[0], who[1], "acme")); wait != 0 {
			t.Errorf("%q waits %s", who, wait)
		}
		if wait := ask(t, i, order(t, who[0], who[1], "globex")); wait != time.Minute {
			t.Errorf("%q, again, for another tenant: waits %s", who, wait)
		}
	}
}

func TestCountersGoOnUnderOtherLimits(t *testing.T) {
	c, counters, o := &clock{now: noon}, limits.NewCounters(), order(t, "i", "s", "acme")
	many := c.issuer(t, counters, 60, 600)
	for range 30 {
		ask(t, many, o)
	}
	few := c.issuer(t, counters, 2, 600) // half of it is left, of whatever it is
	if first, second := ask(t, few, o), ask(t, few, o); first != 0 || second != 30*time.Second {
		t.Errorf("under the lower limit: %s, %s", first, second)
	}
	if wait := ask(t, many, o); wait != time.Second {
		t.Errorf("under the higher one again: %s", wait)
	}
}

func TestAClockThatIsSetBackLocksNobodyOut(t *testing.T) {
	c := &clock{now: noon}
	i, o := c.issuer(t, limits.NewCounters(), 1, 600), order(t, "i", "s", "acme")
	ask(t, i, o)
	c.now = noon.Add(-24 * time.Hour)
	if wait := ask(t, i, o); wait != time.Minute {
		t.Errorf("waits %s", wait)
	}
}

// Whatever the limit and whenever somebody asks: in no minute does more than
// twice the limit pass, and who waits as long as he is told gets through.
func TestNoMinuteHasMoreThanTheLimitAllows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 1000).Draw(rt, "limit")
		c := &clock{now: noon}
		i, o := c.issuer(t, limits.NewCounters(), most, 1_000_000), order(t, "i", "s", "acme")
		var passed []time.Time
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			c.now = c.now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "pause")))
			for range rapid.IntRange(1, 2*most).Draw(rt, "burst") {
				wait := ask(t, i, o)
				if wait == 0 {
					passed = append(passed, c.now)
					continue
				}
				c.now = c.now.Add(wait)
				if again := ask(t, i, o); again != 0 {
					rt.Fatalf("told to wait %s, and then %s", wait, again)
				}
				passed = append(passed, c.now)
				break
			}
		}
		for begin := range passed {
			within := 0
			for _, at := range passed[begin:] {
				if at.Sub(passed[begin]) < time.Minute {
					within++
				}
			}
			if within > 2*most {
				rt.Fatalf("%d in a minute of %d", within, most)
			}
		}
	})
}

func TestWhatIsPassedOnComesBackAsItIs(t *testing.T) {
	c := &clock{now: noon, err: broker.ErrSTSRejected}
	if _, err := c.issuer(t, limits.NewCounters(), 1, 1).Issue(t.Context(), order(t, "i", "s", "acme")); !errors.Is(err, broker.ErrSTSRejected) {
		t.Error(err)
	}
}

func TestLimitsThatAreNotWholeAreNotMade(t *testing.T) {
	c, counters := &clock{}, limits.NewCounters()
	good := limits.Config{Issuer: c, Counters: counters, PerSubject: 1, PerTenant: 1}
	if _, err := limits.New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*limits.Config){
		"no issuer":       func(c *limits.Config) { c.Issuer = nil },
		"no counters":     func(c *limits.Config) { c.Counters = nil },
		"subject nothing": func(c *limits.Config) { c.PerSubject = 0 },
		"tenant nothing":  func(c *limits.Config) { c.PerTenant = 0 },
	} {
		cfg := good
		change(&cfg)
		if _, err := limits.New(cfg); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if _, err := limits.NewAddresses(limits.AddressConfig{Counters: counters, Failures: 1}); err != nil {
		t.Error(err)
	}
	for _, cfg := range []limits.AddressConfig{{Failures: 1}, {Counters: counters}} {
		if _, err := limits.NewAddresses(cfg); err == nil {
			t.Errorf("%+v: want an error", cfg)
		}
	}
}

func addresses(t testing.TB, c *clock, failures int) *limits.Addresses {
	t.Helper()
	a, err := limits.NewAddresses(limits.AddressConfig{Counters: limits.NewCounters(), Failures: failures, Now: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnAddressThatFailsTooOftenIsNotHeard(t *testing.T) {
	c := &clock{now: noon}
	a, peer := addresses(t, c, 60), netip.MustParseAddr("192.0.2.1")
	for range 60 {
		if err := a.Check(peer); err != nil {
			t.Fatal(err)
		}
		a.Failed(peer)
	}
	for range 1000 { // were under way already, and make it no worse
		a.Failed(peer)
	}
	for _, step := range []struct{ pass, wait time.Duration }{{0, time.Second}, {time.Second - 1, 1}, {1, 0}, {time.Hour, 0}} {
		c.now = c.now.Add(step.pass)
		err := a.Check(peer)
		after, _ := broker.RetryAfter(err)
		if after != step.wait || (err != nil) != errors.Is(err, broker.ErrRateLimited) {
			t.Errorf("after another %s: %v, waits %s, want %s", step.pass, err, after, step.wait)
		}
	}
}

func TestAnIPv6NetworkIsOneAddress(t *testing.T) {
	for _, tc := range []struct {
		failed, asks string
		same         bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"", "", true},
		{"", "192.0.2.1", false},
		{"::", "", false},
		{"0.0.0.0", "::", false},
	} {
		a := addresses(t, &clock{now: noon}, 1)
		failed, _ := netip.ParseAddr(tc.failed)
		asks, _ := netip.ParseAddr(tc.asks)
		a.Failed(failed)
		if err := a.Check(asks); (err != nil) != tc.same {
			t.Errorf("%q failed, %q asks: %v", tc.failed, tc.asks, err)
		}
	}
}

// The bound: who asked least lately is forgotten first, and who goes on asking
// is not.
func TestCountersAreBounded(t *testing.T) {
	c := &clock{now: noon}
	i, a := c.issuer(t, limits.NewCounters(), 1, 1_000_000), addresses(t, c, 1)
	first, early := order(t, "i", "first", "acme"), order(t, "i", "early", "acme")
	ask(t, i, first)
	ask(t, i, early)
	failed := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
	for n := range 100_000 {
		ask(t, i, order(t, "i", fmt.Sprint(n), "acme"))
		a.Failed(failed(n))
		if n%10_000 == 0 && ask(t, i, first) == 0 {
			t.Fatal("who goes on asking was forgotten")
		}
	}
	if ask(t, i, early) != 0 {
		t.Error("an early subject is still counted: there is no bound")
	}
	if a.Check(failed(0)) == nil {
		t.Error("the first of as many addresses as there is room for was forgotten")
	}
	a.Failed(failed(100_000))
	if a.Check(failed(1)) != nil {
		t.Error("an early address is still counted: there is no bound")
	}
}

func BenchmarkIssue(b *testing.B) {
	c := &clock{now: noon}
	i := c.issuer(b, limits.NewCounters(), 1_000_000, 1_000_000)
	o := order(b, "i", "s", "acme")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = i.Issue(b.Context(), o)
	}
}

func TestEachRefusalIsToldWithItsLimit(t *testing.T) {
	c := &clock{now: noon}
	var told []limits.Limit
	observe := func(l limits.Limit) { told = append(told, l) }
	counters := limits.NewCounters()
	i, err := limits.New(limits.Config{Issuer: c, Counters: counters, PerSubject: 1, PerTenant: 2, Now: func() time.Time { return c.now }, Observe: observe})
	if err != nil {
		t.Fatal(err)
	}
	a, err := limits.NewAddresses(limits.AddressConfig{Counters: counters, Failures: 1, Now: func() time.Time { return c.now }, Observe: observe})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"one", "one", "two", "three"} {
		ask(t, i, order(t, "i", subject, "acme"))
	}
	address := netip.MustParseAddr("192.0.2.1")
	_ = a.Check(address)
	a.Failed(address)
	_ = a.Check(address)
	if want := []limits.Limit{limits.OfSubject, limits.OfTenant, limits.OfAddress}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
