package credcache_test

import (
	"context"
	"fmt"
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

// users are orders that share no text, as each comes from a token of its own.
type users struct {
	bucket   policy.Bucket
	template policy.Template
	role     broker.RoleARN
}

func newUsers(b *testing.B) users {
	b.Helper()
	var u users
	var err error
	if u.bucket, err = policy.ParseBucket("acme-uploads"); err != nil {
		b.Fatal(err)
	}
	if u.template, err = policy.ParseTemplate("tenants/{tenant}/{user}/"); err != nil {
		b.Fatal(err)
	}
	if u.role, err = broker.ParseRoleARN("arn:aws:iam::123456789012:role/tenant-uploads"); err != nil {
		b.Fatal(err)
	}
	return u
}

func (u users) order(b *testing.B, n int) broker.Order {
	b.Helper()
	subject := fmt.Sprintf("auth0|%024d", n)
	tenant, err := policy.ParseTenant(fmt.Sprintf("org_%016d", n%100))
	if err != nil {
		b.Fatal(err)
	}
	user := policy.UserOf("https://acme.eu.auth0.com/", subject)
	prefix, err := u.template.Render(tenant, user)
	if err != nil {
		b.Fatal(err)
	}
	s3 := policy.Scope{Partition: policy.AWS, Bucket: u.bucket, Prefix: prefix, Access: policy.List | policy.Read | policy.Write | policy.Delete}
	document, err := policy.Generate(s3)
	if err != nil {
		b.Fatal(err)
	}
	return broker.Order{
		Revision: "5db7b94e0b12e61e",
		Identity: broker.Identity{
			Issuer: "https://acme.eu.auth0.com/", Subject: subject, Client: strings.Clone("3fVpWq8yZb1nTtGkC5rXsL0aHdJmEoUi"),
			Audience: []string{strings.Clone("https://uploads.acme.example"), strings.Clone("https://acme.eu.auth0.com/userinfo")},
		},
		Scope:       broker.Scope{Grant: "uploads", Tenant: tenant, User: user, RoleARN: u.role, Region: "eu-west-1", S3: s3, Duration: time.Hour},
		Document:    document,
		SessionName: broker.SessionName("https://acme.eu.auth0.com/", subject, tenant),
		Lifetime:    time.Hour,
		NotAfter:    time.Now().Round(0).Add(time.Hour),
	}
}

func fill(b *testing.B, u users, entries int) *credcache.Cache {
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
