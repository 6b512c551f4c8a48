package broker_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"
	"unsafe"

	"credential-broker/broker"
)

// A decision is made once for a token that asks the same, and again for whatever
// differs. Whether it was made shows in the tenant: between the two requests the
// identity is another one's, which no verifier would do.
func TestADecisionIsKeptForTheVerySameRequestAlone(t *testing.T) {
	acme := broker.Request{Token: broker.NewToken("canary-a")}
	for name, tc := range map[string]struct {
		first, second broker.Request
		again         bool // the decision is made again
		other         bool // the second is another broker's
	}{
		"the same":              {acme, acme, false, false},
		"the same, with all":    {full("canary-a"), full("canary-a"), false, false},
		"another address":       {acme, broker.Request{Token: acme.Token, Address: "192.0.2.7", ID: "other", UserAgent: "other"}, false, false},
		"another token":         {acme, broker.Request{Token: broker.NewToken("canary-b")}, true, false},
		"a grant":               {acme, broker.Request{Token: acme.Token, Grant: "uploads"}, true, false},
		"rights":                {acme, broker.Request{Token: acme.Token, Access: []string{"read"}}, true, false},
		"a path":                {acme, broker.Request{Token: acme.Token, Path: "in/"}, true, false},
		"a duration":            {acme, broker.Request{Token: acme.Token, Duration: 20 * time.Minute}, true, false},
		"less than before":      {full("canary-a"), acme, true, false},
		"another configuration": {acme, acme, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.identity.Plans = &broker.Plans{}
			b := mustNew(t, w)
			if creds, err := b.Exchange(t.Context(), tc.first); err != nil || creds.Scope.Tenant.String() != "org_acme" {
				t.Fatalf("%+v, %v", creds.Scope, err)
			}
			w.identity.Claims = maps.Clone(w.identity.Claims)
			w.identity.Claims["org_id"] = "org_globex"
			if tc.other {
				b = mustNew(t, w)
			}
			want := map[bool]string{false: "org_acme", true: "org_globex"}[tc.again]
			creds, err := b.Exchange(t.Context(), tc.second)
			if err != nil || creds.Scope.Tenant.String() != want {
				t.Errorf("tenant %q, %v; want %q", creds.Scope.Tenant, err, want)
			}
			// The record says what was given, however it was found.
			r := w.lastRecord(t)
			if r.Tenant != want || r.Prefix != creds.Scope.S3.Key() || r.SessionName != creds.SessionName || r.TokenSHA256 != tc.second.Token.SHA256() ||
				r.PolicySHA256 != w.orders[len(w.orders)-1].Document.Digest() || strings.Join(r.Access, ",") != strings.Join(creds.Scope.S3.Access.Names(), ",") ||
				r.Grant != "uploads" || r.User == "" || r.RoleARN == "" || r.Bucket == "" {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// full is a request that says all that can be said without naming a tenant.
func full(token string) broker.Request {
	return broker.Request{Token: broker.NewToken(token), Grant: "uploads", Access: []string{"list", "read"}, Path: "in/", Duration: 20 * time.Minute}
}

func TestADecisionForOneNamedTenantIsNoOther(t *testing.T) {
	w := newWorld(t)
	w.identity.Plans = &broker.Plans{}
	w.cfg.Grants = []broker.Grant{grant(t, "any", func(g *broker.Grant) { g.Tenant = broker.TenantRule{Request: true} })}
	b := mustNew(t, w)
	for _, tenant := range []string{"org_acme", "org_globex", "org_globex", "org_acme"} {
		creds, err := b.Exchange(t.Context(), broker.Request{Token: broker.NewToken("canary"), Tenant: tenant})
		if err != nil || creds.Scope.Tenant.String() != tenant {
			t.Errorf("asked for %s: %q, %v", tenant, creds.Scope.Tenant, err)
		}
	}
	if _, err := b.Exchange(t.Context(), broker.Request{Token: broker.NewToken("canary")}); broker.ClassOf(err) != broker.ErrInvalidRequest {
		t.Errorf("asked for none: %v", err)
	}
}

func TestADecisionThatIsBoundToAnAddressIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.identity.Plans = &broker.Plans{}
	w.cfg.Grants = []broker.Grant{grant(t, "uploads", func(g *broker.Grant) { g.BindSourceIP = true })}
	b := mustNew(t, w)
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
		creds, err := b.Exchange(t.Context(), broker.Request{Token: broker.NewToken("canary"), Address: address})
		if err != nil || creds.Scope.S3.SourceIP.String() != address {
			t.Errorf("from %s: %s, %v", address, creds.Scope.S3.SourceIP, err)
		}
	}
}

// Who is shut out is asked each time. (A broker's lists do not change; here one does.)
func TestWhoIsShutOutIsAskedWhateverIsKept(t *testing.T) {
	for name, shut := range map[string]func(*broker.Revoked){
		"tenant":  func(r *broker.Revoked) { r.Tenants["org_acme"] = true },
		"subject": func(r *broker.Revoked) { r.Subjects["auth0|alice"] = true },
	} {
		w := newWorld(t)
		w.identity.Plans = &broker.Plans{}
		w.cfg.Revoked = broker.Revoked{Subjects: map[string]bool{}, Tenants: map[string]bool{}}
		b := mustNew(t, w)
		req := broker.Request{Token: broker.NewToken("canary")}
		if _, err := b.Exchange(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		shut(&w.cfg.Revoked)
		if _, err := b.Exchange(t.Context(), req); broker.ClassOf(err) != broker.ErrRevoked {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// How long a session may last is the matter of each request.
func TestTheLifeOfASessionIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.identity.Plans = &broker.Plans{}
	now := noon
	w.cfg.Now = func() time.Time { return now }
	w.identity.Expiry = noon.Add(time.Hour)
	w.answer = func(o broker.Order) (broker.Credentials, error) {
		c, err := good(o)
		c.IssuedAt, c.Expiration = now, now.Add(o.Lifetime)
		return c, err
	}
	b := mustNew(t, w)
	for _, left := range []time.Duration{time.Hour, 40 * time.Minute, 15 * time.Minute} {
		now = w.identity.Expiry.Add(-left)
		if _, err := b.Exchange(t.Context(), broker.Request{Token: broker.NewToken("canary")}); err != nil {
			t.Fatal(err)
		}
		if o := w.orders[len(w.orders)-1]; o.Lifetime != left || !o.NotAfter.Equal(w.identity.Expiry) {
			t.Errorf("with %s left of the token: %s, until %s", left, o.Lifetime, o.NotAfter)
		}
	}
}

// An explanation shows how it is decided, and never what was.
func TestAnExplanationDecidesAnew(t *testing.T) {
	w := newWorld(t)
	w.identity.Plans = &broker.Plans{}
	b := mustNew(t, w)
	req := broker.Request{Token: broker.NewToken("canary")}
	if _, err := b.Exchange(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if e := b.Explain(t.Context(), req); e.Err != nil || len(e.Looked) != 1 || e.Given.Grant != "uploads" {
		t.Errorf("%+v", e)
	}
}

// What is kept does not hold on to the request that it came from.
func TestWhatIsKeptIsNoPartOfARequest(t *testing.T) {
	long := strings.Repeat("&", 30_000) + "in/"
	w := newWorld(t)
	w.identity.Plans = &broker.Plans{}
	req := broker.Request{Token: broker.NewToken("canary"), Path: long[30_000:]}
	if _, err := mustNew(t, w).Exchange(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	path := w.orders[0].Scope.S3.Path.String()
	if path != "in/" || unsafe.StringData(path) == unsafe.StringData(req.Path) {
		t.Errorf("path %q lies in the request", path)
	}
}

// To find a decision allocates nothing.
func TestADecisionThatIsKeptIsFree(t *testing.T) {
	w := newWorld(t)
	w.identity.Plans = &broker.Plans{}
	w.cfg.Auditor = discard{}
	creds, err := good(broker.Order{})
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Issuer = issuerFunc(func(o broker.Order) (broker.Credentials, error) {
		creds.Scope, creds.SessionName, creds.Expiration = o.Scope, o.SessionName, noon.Add(o.Lifetime)
		return creds, nil
	})
	b := mustNew(t, w)
	req := full("canary")
	if got := testing.AllocsPerRun(100, func() {
		if _, err := b.Exchange(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// discard takes every record.
type discard struct{}

func (discard) Record(context.Context, broker.Record) error { return nil }

type issuerFunc func(broker.Order) (broker.Credentials, error)

func (f issuerFunc) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) { return f(o) }

// What an exchange costs up to the order, with a decision and with one that is kept.
func BenchmarkDecide(b *testing.B) {
	for name, plans := range map[string]*broker.Plans{"anew": nil, "kept": {}} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			w.identity.Plans, w.cfg.Auditor = plans, discard{}
			w.cfg.Issuer = issuerFunc(func(broker.Order) (broker.Credentials, error) { return broker.Credentials{}, broker.ErrBusy })
			bk, err := broker.New(w.cfg)
			if err != nil {
				b.Fatal(err)
			}
			req := broker.Request{Token: broker.NewToken("canary")}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = bk.Exchange(b.Context(), req)
			}
		})
	}
}
