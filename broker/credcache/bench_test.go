package credcache_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
	"credential-broker/policy"
)

// realistic answers with parts as long as AWS's: a session token of 1.2 kB.
type realistic struct{}

func (realistic) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	now := time.Now()
	return broker.Credentials{
		AccessKeyID:     strings.Clone("ASIAIOSFODNN7EXAMPLE"),
		SecretAccessKey: broker.NewSecret(strings.Repeat("s", 40)), SessionToken: broker.NewSecret(strings.Repeat("t", 1200)),
		IssuedAt: now, Expiration: now.Add(o.Lifetime),
		SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}, nil
}

// users are orders as a broker makes them: each comes from a token of its own, and
// shares no text with another.
type users struct {
	broker   *broker.Broker
	identity broker.Identity
	last     broker.Order
}

func (u *users) Verify(context.Context, broker.Secret) (broker.Identity, error) {
	return u.identity, nil
}

func (u *users) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	u.last = o
	return broker.Credentials{}, broker.ErrBusy
}

func newUsers(b *testing.B) *users {
	b.Helper()
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/tenant-uploads")
	if err != nil {
		b.Fatal(err)
	}
	var u users
	u.broker, err = broker.New(broker.Config{
		Revision: "5db7b94e0b12e61e", Verifier: &u, Issuer: &u, Auditor: broker.NewAuditLog(io.Discard),
		Grants: []broker.Grant{{
			Name: "uploads", Tenant: broker.TenantRule{Claim: "org_id"}, RoleARN: role, Bucket: bucket(b, "acme-uploads"), Region: "eu-west-1",
			Prefix: prefix(b, "tenants/{tenant}/{user}/"), Access: policy.List | policy.Read | policy.Write | policy.Delete, Duration: time.Hour,
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return &u
}

func (u *users) order(b *testing.B, n int) broker.Order {
	b.Helper()
	u.identity = broker.Identity{
		Issuer: "https://acme.eu.auth0.com/", Subject: fmt.Sprintf("auth0|%024d", n), Client: "3fVpWq8yZb1nTtGkC5rXsL0aHdJmEoUi",
		Audience: []string{"https://uploads.acme.example", "https://acme.eu.auth0.com/userinfo"}, Expiry: time.Now().Add(2 * time.Hour),
		Claims: broker.Claims{"org_id": fmt.Sprintf("org_%016d", n%100)}, KeyID: "kid", KeyThumbprint: "thumbprint", Plans: &broker.Plans{},
	}
	if _, err := u.broker.Exchange(b.Context(), broker.Request{Token: broker.NewToken(u.identity.Subject)}); broker.ClassOf(err) != broker.ErrBusy {
		b.Fatal(err)
	}
	o := u.last
	o.Token = broker.Secret{}
	return o
}

func fill(b *testing.B, u *users, entries int) *credcache.Cache {
	b.Helper()
	c, err := credcache.New(credcache.Config{Issuer: realistic{}, Entries: entries})
	if err != nil {
		b.Fatal(err)
	}
	for n := range entries {
		if _, err := c.Issue(b.Context(), u.order(b, n)); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

func BenchmarkHit(b *testing.B) {
	u := newUsers(b)
	const entries = 10_000
	c := fill(b, u, entries)
	orders := make([]broker.Order, entries)
	for n := range orders {
		orders[n] = u.order(b, n)
		orders[n].NotAfter = orders[n].NotAfter.Add(time.Minute)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := c.Issue(b.Context(), orders[n%entries]); err != nil {
			b.Fatal(err)
		}
		n += 7919
	}
}

func BenchmarkHitByMany(b *testing.B) {
	u := newUsers(b)
	const entries = 10_000
	c := fill(b, u, entries)
	orders := make([]broker.Order, entries)
	for n := range orders {
		orders[n] = u.order(b, n)
		orders[n].NotAfter = orders[n].NotAfter.Add(time.Minute)
	}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n += 7919 {
			if _, err := c.Issue(b.Context(), orders[n%entries]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkEntry prints what an entry costs, everything that only it holds
// included: its texts, its keys, its places in the lists.
func BenchmarkEntry(b *testing.B) {
	u := newUsers(b)
	const entries = 20_000
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	var each float64
	for b.Loop() {
		before := heap()
		c := fill(b, u, entries)
		each = (heap() - before) / entries
		runtime.KeepAlive(c)
	}
	b.ReportMetric(each, "B/entry")
	b.ReportMetric(float64(credcache.HeldBytes(fill(b, u, 1))), "B/entry-as-counted")
	b.ReportMetric(0, "ns/op")
}
