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
	alice := broker.Order{SessionName: "cb-alice", Scope: broker.Scope{Grant: "a"}, NotAfter: now.Add(time.Hour)}
	for name, change := range map[string]func(*broker.Order){
		"session": func(o *broker.Order) { o.SessionName = "cb-bob" },
		"scope":   func(o *broker.Order) { o.Scope.Grant = "b" },
	} {
		bob := alice
		change(&bob)
		e := newHeld(t, broker.Credentials{SessionName: bob.SessionName, Scope: bob.Scope, IssuedAt: now, Expiration: now.Add(time.Hour)}, bob)
		e.waits(now.Add(time.Minute))
		c.held.link(e)
		c.held.entries.Add(alice.Fingerprint(), e)
		if got, err := c.Issue(t.Context(), alice); broker.ClassOf(err) != broker.ErrInternal || got.SessionName != "" {
			t.Errorf("%s: got %q, %v", name, got.SessionName, err)
		}
		c.Clear()
	}
}

func newHeld(t testing.TB, creds broker.Credentials, order broker.Order) *entry {
	t.Helper()
	e, err := newEntry(creds, order)
	if err != nil {
		t.Fatal(err)
	}
	return e
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
		if (a.Fingerprint() == b.Fingerprint()) != (what(a) == what(b)) {
			rt.Fatalf("%s and %s", what(a), what(b))
		}
	})
}

func BenchmarkKey(b *testing.B) {
	o := broker.Order{Revision: "r", Identity: broker.Identity{Issuer: "https://acme.eu.auth0.com/", Subject: "auth0|alice", Audience: []string{"https://a", "https://b"}}}
	held := map[key]bool{o.Fingerprint(): true}
	b.ReportAllocs()
	for b.Loop() {
		if !held[o.Fingerprint()] {
			b.Fatal("not found")
		}
	}
}
