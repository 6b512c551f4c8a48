package credcache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/policy"
)

type never struct{}

func (never) Issue(context.Context, broker.Order) (broker.Credentials, error) {
	panic("not to be asked")
}

// Only a fault of the cache itself can put another's credentials under a key,
// so this case reaches inside.
func TestCredentialsOfAnotherScopeAreRefusedOnTheWayOut(t *testing.T) {
	c, err := New(Config{Issuer: never{}, Entries: 1})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	order := broker.Order{SessionName: "cb-alice", NotAfter: now.Add(time.Hour)}
	c.held.add(&entry{
		origin:   keyOf(order).origin,
		creds:    broker.Credentials{SessionName: "cb-bob", IssuedAt: now, Expiration: now.Add(time.Hour)},
		notAfter: now, refreshAt: now.Add(time.Minute),
	}, now)
	if got, err := c.Issue(t.Context(), order); broker.ClassOf(err) != broker.ErrInternal || got.SessionName != "" {
		t.Errorf("got %q, %v", got.SessionName, err)
	}
}

// CC05, CC06: what differs in anything has another key, however its texts could be
// joined, cut, folded or trimmed.
func TestKeysAreEqualOnlyOfEqualOrders(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "a", "b", "a|b", "|", "b|c", "c", "1:a", "auth0|1", "auth0", "1", "A", "a ", "a\x00", "a\x00b", "é", "e\u0301"})
	rapid.Check(t, func(rt *rapid.T) {
		var tenants []policy.Tenant
		for _, name := range []string{"a", "A", "a-b"} {
			tenant, err := policy.ParseTenant(name)
			if err != nil {
				rt.Fatal(err)
			}
			tenants = append(tenants, tenant)
		}
		// Nearly all of the second is the first's, so that they differ in one thing.
		draw := func(label string, or broker.Order) broker.Order {
			change := rapid.SliceOfN(rapid.Bool(), 9, 9).Draw(rt, label)
			for i, set := range []func(){
				func() { or.Revision = text.Draw(rt, "revision") },
				func() { or.Identity.Issuer = text.Draw(rt, "issuer") },
				func() { or.Identity.Subject = text.Draw(rt, "subject") },
				func() { or.Identity.Client = text.Draw(rt, "client") },
				func() { or.Identity.Audience = rapid.SliceOfN(text, 0, 3).Draw(rt, "audience") },
				func() { or.Identity.KeyID = text.Draw(rt, "kid") },
				func() { or.Identity.KeyThumbprint = text.Draw(rt, "thumbprint") },
				func() { or.Scope.Tenant = rapid.SampledFrom(tenants).Draw(rt, "tenant") },
				func() { or.Scope.Grant = text.Draw(rt, "grant") },
			} {
				if change[i] {
					set()
				}
			}
			return or
		}
		what := func(o broker.Order) string {
			return fmt.Sprintf("%q %q %q %q %q %q %q %q %q", o.Revision, o.Identity.Issuer, o.Identity.Subject, o.Identity.Client,
				o.Identity.Audience, o.Identity.KeyID, o.Identity.KeyThumbprint, o.Scope.Tenant, o.Scope.Grant)
		}
		a := draw("a", broker.Order{})
		b := draw("b", a)
		if (keyOf(a) == keyOf(b)) != (what(a) == what(b)) {
			rt.Fatalf("%s and %s", what(a), what(b))
		}
	})
}

func BenchmarkKey(b *testing.B) {
	o := broker.Order{Revision: "r", Identity: broker.Identity{Issuer: "https://acme.eu.auth0.com/", Subject: "auth0|alice", Audience: []string{"https://a", "https://b"}}}
	held := map[key]bool{keyOf(o): true}
	b.ReportAllocs()
	for b.Loop() {
		if !held[keyOf(o)] {
			b.Fatal("not found")
		}
	}
}
