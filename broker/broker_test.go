package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/policy"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is a broker with good parts; a test breaks one of them.
type world struct {
	cfg      broker.Config
	identity broker.Identity
	refuse   error // of the verifier
	records  bytes.Buffer
	orders   []broker.Order
	answer   func(broker.Order) (broker.Credentials, error)
}

func (w *world) Verify(context.Context, broker.Secret) (broker.Identity, error) {
	return w.identity, w.refuse
}

func (w *world) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	w.orders = append(w.orders, o)
	return w.answer(o)
}

func good(o broker.Order) (broker.Credentials, error) {
	return broker.Credentials{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: broker.NewSecret("canary-secret"), SessionToken: broker.NewSecret("canary-session"),
		IssuedAt: noon, Expiration: noon.Add(o.Lifetime), SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}, nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{answer: good, identity: broker.Identity{
		Issuer: "https://acme.eu.auth0.com/", Subject: "auth0|alice", Client: "spa", Expiry: noon.Add(24 * time.Hour),
		Claims: broker.Claims{
			"org_id": "org_acme", "permissions": []any{"upload:files"}, "scope": "openid profile",
			"plan": "gold", "beta": true, "level": json.Number("3"), "half": json.Number("0.5"), "huge": json.Number("9223372036854775808"),
			"app_metadata": map[string]any{"tenant": "org_meta", "a/b": map[string]any{"~": "org_tilde"}},
			"number":       json.Number("7"), "list": []any{"org_acme"}, "star": "org_*",
		},
	}}
	w.cfg = broker.Config{
		Revision: "r1", Grants: []broker.Grant{grant(t, "uploads", nil)},
		Verifier: w, Issuer: w, Auditor: broker.NewAuditLog(&w.records), Now: func() time.Time { return noon },
	}
	return w
}

// grant is a good grant; change makes it another.
func grant(t testing.TB, name string, change func(*broker.Grant)) broker.Grant {
	t.Helper()
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/path/uploads")
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := policy.ParseBucketTemplate("acme-uploads")
	if err != nil {
		t.Fatal(err)
	}
	g := broker.Grant{
		Name: name, Match: broker.Match{Permissions: []string{"upload:files"}}, RoleARN: role,
		Tenant: broker.TenantRule{Claim: "org_id"}, Bucket: bucket, Region: "eu-west-1",
		Prefix: template(t, "tenants/{tenant}/"), Access: policy.List | policy.Read | policy.Write | policy.Delete,
		Duration: time.Hour,
	}
	if change != nil {
		change(&g)
	}
	return g
}

func template(t testing.TB, s string) policy.Template {
	t.Helper()
	tpl, err := policy.ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func (w *world) exchange(t testing.TB, req broker.Request) (broker.Credentials, error) {
	t.Helper()
	b, err := broker.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if req.Token.IsZero() {
		req.Token = broker.NewSecret("canary-token")
	}
	return b.Exchange(t.Context(), req)
}

func (w *world) lastRecord(t testing.TB) broker.Record {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(w.records.String()), "\n")
	var r broker.Record
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("record %q: %v", lines[len(lines)-1], err)
	}
	return r
}

func TestAGoodTokenGetsItsTenantsScopeAndARecord(t *testing.T) {
	w := newWorld(t)
	creds, err := w.exchange(t, broker.Request{ID: "req-1", Address: "192.0.2.1", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if got := creds.Scope.S3.Key(); got != "tenants/org_acme/" {
		t.Errorf("prefix %q", got)
	}
	if want, err := policy.Generate(creds.Scope.S3); err != nil || w.orders[0].Document != want {
		t.Errorf("ordered with %q, %v", w.orders[0].Document, err)
	}
	name := broker.SessionName("https://acme.eu.auth0.com/", "auth0|alice", creds.Scope.Tenant)
	expiration := noon.Add(time.Hour)
	want := broker.Record{
		V: 1, Action: broker.ActionCredentials, User: policy.UserOf("https://acme.eu.auth0.com/", "auth0|alice").String(),
		Time: noon, Decision: "allow", RequestID: "req-1",
		Issuer: "https://acme.eu.auth0.com/", Subject: "auth0|alice", Client: "spa", Tenant: "org_acme", Grant: "uploads",
		RoleARN: "arn:aws:iam::123456789012:role/path/uploads", Bucket: "acme-uploads", Prefix: "tenants/org_acme/",
		Access: []string{"list", "read", "write", "delete"}, SessionName: name, AccessKeyID: "ASIAEXAMPLE",
		Expiration: expiration, Source: broker.FromSTS, PolicySHA256: w.orders[0].Document.Digest(),
		TokenSHA256: broker.NewSecret("canary-token").SHA256(), Address: "192.0.2.1", UserAgent: "test",
	}
	if diff := cmp.Diff(want, w.lastRecord(t)); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if strings.Contains(w.records.String(), "canary") {
		t.Error("the record holds a secret")
	}
}

func TestWhoGetsWhat(t *testing.T) {
	type row struct {
		name   string
		change func(*broker.Grant)
		req    broker.Request
		class  broker.Class // "" allows
		key    string
	}
	match := func(m broker.Match) func(*broker.Grant) { return func(g *broker.Grant) { g.Match = m } }
	tenant := func(r broker.TenantRule) func(*broker.Grant) { return func(g *broker.Grant) { g.Tenant = r } }
	pattern, err := broker.CompilePattern("org_b|org_acm")
	if err != nil {
		t.Fatal(err)
	}
	const home = "tenants/org_acme/"
	for _, r := range []row{
		{name: "permission held", change: match(broker.Match{Permissions: []string{"upload:files"}}), key: home},
		{name: "permission missing", change: match(broker.Match{Permissions: []string{"upload:files", "admin"}}), class: broker.ErrNoGrant},
		{name: "scope held", change: match(broker.Match{Scopes: []string{"profile"}}), key: home},
		{name: "part of a scope's name", change: match(broker.Match{Scopes: []string{"prof"}}), class: broker.ErrNoGrant},
		{name: "claims held", change: match(broker.Match{Claims: map[string]any{"plan": "gold", "beta": true, "level": int64(3)}}), key: home},
		{name: "claim differs", change: match(broker.Match{Claims: map[string]any{"plan": "Gold"}}), class: broker.ErrNoGrant},
		{name: "claim absent", change: match(broker.Match{Claims: map[string]any{"nope": "gold"}}), class: broker.ErrNoGrant},
		{name: "number as a string", change: match(broker.Match{Claims: map[string]any{"level": "3"}}), class: broker.ErrNoGrant},
		{name: "a whole number that is none", change: match(broker.Match{Claims: map[string]any{"half": int64(0)}}), class: broker.ErrNoGrant},
		{name: "a number too large", change: match(broker.Match{Claims: map[string]any{"huge": int64(math.MaxInt64)}}), class: broker.ErrNoGrant},
		{name: "array with the value", change: match(broker.Match{Claims: map[string]any{"list": "org_acme"}}), class: broker.ErrNoGrant},

		{name: "tenant by pointer", change: tenant(broker.TenantRule{Claim: "/app_metadata/tenant"}), key: "tenants/org_meta/"},
		{name: "tenant by escaped pointer", change: tenant(broker.TenantRule{Claim: "/app_metadata/a~1b/~0"}), key: "tenants/org_tilde/"},
		{name: "pointer through a string", change: tenant(broker.TenantRule{Claim: "/org_id/x"}), class: broker.ErrInvalidTenant},
		{name: "tenant claim absent", change: tenant(broker.TenantRule{Claim: "org"}), class: broker.ErrInvalidTenant},
		{name: "tenant claim a number", change: tenant(broker.TenantRule{Claim: "number"}), class: broker.ErrInvalidTenant},
		{name: "tenant claim an array", change: tenant(broker.TenantRule{Claim: "list"}), class: broker.ErrInvalidTenant},
		{name: "tenant claim an object", change: tenant(broker.TenantRule{Claim: "app_metadata"}), class: broker.ErrInvalidTenant},
		{name: "tenant claim a wildcard", change: tenant(broker.TenantRule{Claim: "star"}), class: broker.ErrInvalidTenant},
		{name: "pattern matches the whole", change: tenant(broker.TenantRule{Request: true, Pattern: pattern}), req: broker.Request{Tenant: "org_b"}, key: "tenants/org_b/"},
		{name: "pattern matches a part", change: tenant(broker.TenantRule{Claim: "org_id", Pattern: pattern}), class: broker.ErrInvalidTenant},

		{name: "request may not name a tenant", req: broker.Request{Tenant: "org_acme"}, class: broker.ErrScopeNotAllowed},
		{name: "request names the tenant", change: tenant(broker.TenantRule{Request: true}), req: broker.Request{Tenant: "org_b"}, key: "tenants/org_b/"},
		{name: "request must name the tenant", change: tenant(broker.TenantRule{Request: true}), class: broker.ErrInvalidRequest},
		{name: "request names a wildcard", change: tenant(broker.TenantRule{Request: true}), req: broker.Request{Tenant: "*"}, class: broker.ErrInvalidTenant},
		{name: "request names outside the pattern", change: tenant(broker.TenantRule{Request: true, Pattern: pattern}), req: broker.Request{Tenant: "org_c"}, class: broker.ErrInvalidTenant},

		{name: "the grant by name", req: broker.Request{Grant: "uploads"}, key: home},
		{name: "an unknown grant", req: broker.Request{Grant: "other"}, class: broker.ErrNoGrant},
		{name: "a grant that does not match, by name", change: match(broker.Match{Permissions: []string{"admin"}}), req: broker.Request{Grant: "uploads"}, class: broker.ErrNoGrant},

		{name: "a folder", req: broker.Request{Path: "in/box/"}, key: home + "in/box/"},
		{name: "one object", req: broker.Request{Path: "in/a.txt", Access: []string{"read"}}, key: home + "in/a.txt"},
		{name: "one object loses the listing", req: broker.Request{Path: "in/a.txt"}, key: home + "in/a.txt"},
		{name: "one object listed", req: broker.Request{Path: "in/a.txt", Access: []string{"list"}}, class: broker.ErrScopeNotAllowed},
		{name: "a path with a wildcard", req: broker.Request{Path: "*"}, class: broker.ErrInvalidRequest},
		{name: "a path upwards", req: broker.Request{Path: "../org_b/"}, class: broker.ErrInvalidRequest},
		{name: "less access", req: broker.Request{Access: []string{"read"}}, key: home},
		{name: "an unknown right", req: broker.Request{Access: []string{"admin"}}, class: broker.ErrInvalidRequest},
		{name: "more access", change: func(g *broker.Grant) { g.Access = policy.Read }, req: broker.Request{Access: []string{"read", "write"}}, class: broker.ErrScopeNotAllowed},
		{name: "nothing is left", change: func(g *broker.Grant) { g.Access = policy.List }, req: broker.Request{Path: "a.txt"}, class: broker.ErrScopeNotAllowed},
		{name: "a shorter life", req: broker.Request{Duration: 20 * time.Minute}, key: home},
		{name: "a longer life", req: broker.Request{Duration: 2 * time.Hour}, class: broker.ErrScopeNotAllowed},
		{name: "a life below STS's", req: broker.Request{Duration: time.Minute}, class: broker.ErrInvalidRequest},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Grants = []broker.Grant{grant(t, "uploads", r.change)}
			creds, err := w.exchange(t, r.req)
			if got := broker.ClassOf(err); got != r.class {
				t.Fatalf("class %q, want %q (%v)", got, r.class, err)
			}
			if rec := w.lastRecord(t); rec.Code != r.class || (rec.Decision == "allow") != (r.class == "") {
				t.Errorf("record says %s %q", rec.Decision, rec.Code)
			}
			if r.class != "" {
				if len(w.orders) != 0 || creds != (broker.Credentials{}) {
					t.Error("something was ordered or released")
				}
				return
			}
			if got := creds.Scope.S3.Key(); got != r.key {
				t.Errorf("key %q, want %q", got, r.key)
			}
			if r.req.Duration != 0 && w.orders[0].Lifetime != r.req.Duration {
				t.Errorf("life %s", w.orders[0].Lifetime)
			}
		})
	}
}

func TestTheFirstGrantThatMatchesWins(t *testing.T) {
	w := newWorld(t)
	w.cfg.Grants = []broker.Grant{
		grant(t, "admin", func(g *broker.Grant) {
			g.Match.Permissions, g.Prefix = []string{"admin"}, template(t, "admin/{tenant}/")
		}),
		grant(t, "first", func(g *broker.Grant) { g.Prefix = template(t, "first/{tenant}/{user}/") }),
		grant(t, "second", func(g *broker.Grant) { g.Prefix = template(t, "second/{tenant}/") }),
	}
	for req, want := range map[string]string{"": "first", "second": "second", "first": "first"} {
		creds, err := w.exchange(t, broker.Request{Grant: req})
		if err != nil || creds.Scope.Grant != want {
			t.Errorf("asked for %q: got %q, %v", req, creds.Scope.Grant, err)
		}
	}
	b, err := broker.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	scopes, err := b.Grants(t.Context(), broker.Request{Token: broker.NewSecret("t")})
	if err != nil || len(scopes) != 2 {
		t.Errorf("grants: %v, %v", scopes, err)
	}
}

func TestALifeIsBoundedByTheGrantTheTokenAndSTS(t *testing.T) {
	for _, r := range []struct{ left, want time.Duration }{
		{24 * time.Hour, time.Hour},
		{time.Hour, time.Hour},
		{59*time.Minute + 1500*time.Millisecond, 59*time.Minute + time.Second},
		{15 * time.Minute, 15 * time.Minute},
		{time.Second, 15 * time.Minute},
	} {
		w := newWorld(t)
		w.identity.Expiry = noon.Add(r.left)
		if _, err := w.exchange(t, broker.Request{}); err != nil {
			t.Fatal(err)
		}
		if got := w.orders[0].Lifetime; got != r.want {
			t.Errorf("token good for %s: life %s, want %s", r.left, got, r.want)
		}
	}
}

func TestWhatTheIssuerGivesIsReleasedOnlyIfItIsTheOrders(t *testing.T) {
	other, _ := policy.ParseTenant("org_other")
	for name, change := range map[string]func(*broker.Credentials){
		"no key id":       func(c *broker.Credentials) { c.AccessKeyID = "" },
		"no secret key":   func(c *broker.Credentials) { c.SecretAccessKey = broker.Secret{} },
		"no token":        func(c *broker.Credentials) { c.SessionToken = broker.Secret{} },
		"another scope":   func(c *broker.Credentials) { c.Scope.Tenant = other },
		"another session": func(c *broker.Credentials) { c.SessionName = "cb-x" },
		"below the floor": func(c *broker.Credentials) {
			c.IssuedAt = noon.Add(-41 * time.Minute)
			c.Expiration = noon.Add(19 * time.Minute)
		},
		"never issued": func(c *broker.Credentials) { c.Expiration = c.IssuedAt },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.answer = func(o broker.Order) (broker.Credentials, error) {
				c, err := good(o)
				change(&c)
				return c, err
			}
			creds, err := w.exchange(t, broker.Request{})
			if broker.ClassOf(err) != broker.ErrInternal || creds != (broker.Credentials{}) {
				t.Errorf("got %v, %v", creds, err)
			}
		})
	}
}

// The last moment above the floor may pass between the issuer's look at the clock and
// ours. That is no bug, and was answered as one.
func TestWhatTheIssuerFoundFreshIsReleased(t *testing.T) {
	for name, below := range map[string]bool{"as it was asked": false, "already before": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			now := noon
			w.cfg.Now = func() time.Time { return now }
			w.answer = func(o broker.Order) (broker.Credentials, error) {
				c, err := good(o)
				c.IssuedAt, c.Expiration = noon.Add(-40*time.Minute), noon.Add(20*time.Minute)
				if below {
					c.Expiration = c.Expiration.Add(-time.Second)
				}
				now = now.Add(time.Millisecond)
				return c, err
			}
			if _, err := w.exchange(t, broker.Request{}); (err != nil) != below {
				t.Error(err)
			}
		})
	}
}

type failingAuditor struct{}

func (failingAuditor) Record(context.Context, broker.Record) error { return errors.New("disk full") }

func TestNoRecordNoCredentials(t *testing.T) {
	w := newWorld(t)
	w.cfg.Auditor = failingAuditor{}
	creds, err := w.exchange(t, broker.Request{})
	if broker.ClassOf(err) != broker.ErrBusy || creds != (broker.Credentials{}) {
		t.Errorf("got %v, %v", creds, err)
	}
	if err := (&broker.AuditLog{}).Record(t.Context(), broker.Record{}); err == nil {
		t.Error("an audit log without a destination takes records")
	}
	w.cfg.Grants[0].Match.Permissions = []string{"admin"}
	if _, err := w.exchange(t, broker.Request{}); broker.ClassOf(err) != broker.ErrNoGrant || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("a refusal without its record: got %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestARecordThatIsNotWrittenIsAnError(t *testing.T) {
	if err := broker.NewAuditLog(fullDisk{}).Record(t.Context(), broker.Record{}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("to a full disk: %v", err)
	}
	var log bytes.Buffer
	year := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // which RFC 3339, and so JSON, cannot say
	if err := broker.NewAuditLog(&log).Record(t.Context(), broker.Record{Expiration: year}); err == nil || log.Len() != 0 {
		t.Errorf("what cannot be said: %v, written %q", err, &log)
	}
}

// The class is the issuer's, and what came beside the error is not released.
func TestWhatTheIssuerRefusesIsRefused(t *testing.T) {
	for _, class := range []broker.Class{broker.ErrSTSRejected, broker.ErrSTSUnavailable, broker.ErrBusy, broker.ErrExpiredToken} {
		w := newWorld(t)
		w.answer = func(o broker.Order) (broker.Credentials, error) {
			c, _ := good(o)
			return c, fmt.Errorf("%w: story", class)
		}
		creds, err := w.exchange(t, broker.Request{})
		if broker.ClassOf(err) != class || creds != (broker.Credentials{}) {
			t.Errorf("%s: got %v, %v", class, creds, err)
		}
		if rec := w.lastRecord(t); rec.Decision != "deny" || rec.Code != class || rec.AccessKeyID != "" {
			t.Errorf("%s: record %+v", class, rec)
		}
	}
}

// The grant's own document fits; with the path it does not, and no order is made
// without one: STS would take it for the whole role.
func TestAPathThatMakesTheDocumentTooLongIsNotOrdered(t *testing.T) {
	w := newWorld(t)
	w.cfg.Grants = []broker.Grant{longGrant(t)}
	creds, err := w.exchange(t, broker.Request{Path: strings.Repeat("b/", 128)})
	if err == nil || !strings.Contains(err.Error(), "bytes, at most 2048") || len(w.orders) != 0 || creds != (broker.Credentials{}) {
		t.Errorf("%d orders, %v", len(w.orders), err)
	}
}

// longGrant is one whose document just fits.
func longGrant(t testing.TB) broker.Grant {
	t.Helper()
	return grant(t, "long", func(g *broker.Grant) {
		g.Bucket, g.Prefix = bucket(t, strings.Repeat("b", 63)), template(t, strings.Repeat("a/", 115)+"{tenant}/{user}/")
		g.KMSKey = kmsKey(t, "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	})
}

func TestTheRevokedGetNothing(t *testing.T) {
	for name, revoked := range map[string]broker.Revoked{
		"subject": {Subjects: map[string]bool{"auth0|alice": true}},
		"tenant":  {Tenants: map[string]bool{"org_acme": true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Revoked = revoked
			if _, err := w.exchange(t, broker.Request{}); broker.ClassOf(err) != broker.ErrRevoked || len(w.orders) != 0 {
				t.Errorf("got %v", err)
			}
			b, _ := broker.New(w.cfg)
			if scopes, _ := b.Grants(t.Context(), broker.Request{Token: broker.NewSecret("t")}); len(scopes) != 0 {
				t.Errorf("grants: %v", scopes)
			}
		})
	}
}

func TestATokenThatIsRefusedGetsNothing(t *testing.T) {
	w := newWorld(t)
	w.refuse = fmt.Errorf("%w: broken", broker.ErrInvalidToken)
	if _, err := w.exchange(t, broker.Request{}); !errors.Is(err, w.refuse) || len(w.orders) != 0 {
		t.Errorf("exchange: %v", err)
	}
	b, f := mustNew(t, w), &forgetter{}
	if scopes, err := b.Grants(t.Context(), broker.Request{Token: broker.NewSecret("t")}); !errors.Is(err, w.refuse) || scopes != nil {
		t.Errorf("grants: %v, %v", scopes, err)
	}
	w.cfg.Forgetter = f
	if err := mustNew(t, w).Forget(t.Context(), broker.Request{Token: broker.NewSecret("t")}); !errors.Is(err, w.refuse) || len(f.got) != 0 {
		t.Errorf("forget: %v", err)
	}
}

func mustNew(t testing.TB, w *world) *broker.Broker {
	t.Helper()
	b, err := broker.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The class is the same; the reason in the record is what tells them apart.
func TestTheRecordSaysWhy(t *testing.T) {
	for _, r := range []struct {
		reason string
		change func(*broker.Grant)
		req    broker.Request
	}{
		{`the token lacks the permission "admin"`, func(g *broker.Grant) { g.Match.Permissions = []string{"admin"} }, broker.Request{Grant: "uploads"}},
		{`no grant is named "x"`, nil, broker.Request{Grant: "x"}},
		{`the token has no claim "org"`, func(g *broker.Grant) { g.Tenant.Claim = "org" }, broker.Request{}},
		{`the token has no claim "/app_metadata/org"`, func(g *broker.Grant) { g.Tenant.Claim = "/app_metadata/org" }, broker.Request{}},
		{`tenant: byte 4 is '*'`, func(g *broker.Grant) { g.Tenant.Claim = "star" }, broker.Request{}},
		{`one object cannot be listed`, nil, broker.Request{Path: "a.txt", Access: []string{"list", "read"}}},
		{`the claim "number" is not a string`, func(g *broker.Grant) { g.Tenant.Claim = "number" }, broker.Request{}},
	} {
		w := newWorld(t)
		w.cfg.Grants = []broker.Grant{grant(t, "uploads", r.change)}
		_, _ = w.exchange(t, r.req)
		if got := w.lastRecord(t).Reason; !strings.Contains(got, r.reason) {
			t.Errorf("reason %q, want %q in it", got, r.reason)
		}
	}
}

// Two orders under one token must end at the same instant; the monotonic clock
// would set them apart by the drift between the two clocks.
func TestALifeEndsOnTheWallClock(t *testing.T) {
	w := newWorld(t)
	w.cfg.Now = time.Now
	_, _ = w.exchange(t, broker.Request{})
	if end := w.orders[0].NotAfter; end != end.Round(0) {
		t.Errorf("ends %s", end)
	}
}

// However little the moments in which they are made are apart: replicas that are asked
// at once share what STS gave one of them, whoever was first. Threat case SC24.
func TestOrdersUnderOneTokenEndTogether(t *testing.T) {
	w := newWorld(t)
	w.identity.Expiry = noon.Add(24 * time.Hour)
	for _, at := range []time.Duration{time.Millisecond, 0, 22 * time.Hour} {
		w.cfg.Now = func() time.Time { return noon.Add(at) }
		w.answer = func(o broker.Order) (broker.Credentials, error) {
			c, err := good(o)
			c.IssuedAt, c.Expiration = noon.Add(at), noon.Add(at+o.Lifetime)
			return c, err
		}
		if _, err := w.exchange(t, broker.Request{}); err != nil {
			t.Fatal(err)
		}
		if o := w.orders[len(w.orders)-1]; !o.NotAfter.Equal(w.identity.Expiry) || o.Lifetime != o.Scope.Duration {
			t.Errorf("after %s: %s, until %s", at, o.Lifetime, o.NotAfter)
		}
	}
}

func TestGrantsAreListedForTheTenantThatMayBeNamed(t *testing.T) {
	w := newWorld(t)
	w.cfg.Grants = []broker.Grant{
		grant(t, "own", nil),
		grant(t, "any", func(g *broker.Grant) {
			g.Tenant, g.Prefix = broker.TenantRule{Request: true}, template(t, "any/{tenant}/")
		}),
	}
	for tenant, want := range map[string][]string{
		"": {"tenants/org_acme/"}, "org_b": {"tenants/org_acme/", "any/org_b/"},
	} {
		scopes, err := mustNew(t, w).Grants(t.Context(), broker.Request{Token: broker.NewSecret("t"), Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range scopes {
			got = append(got, s.S3.Key())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tenant %q: %s", tenant, diff)
		}
	}
}

func TestNoTokenIsNotAskedAbout(t *testing.T) {
	w := newWorld(t)
	b, _ := broker.New(w.cfg)
	if _, err := b.Exchange(t.Context(), broker.Request{}); broker.ClassOf(err) != broker.ErrMissingToken {
		t.Errorf("exchange: %v", err)
	}
	if _, err := b.Grants(t.Context(), broker.Request{}); broker.ClassOf(err) != broker.ErrMissingToken {
		t.Errorf("grants: %v", err)
	}
	if err := b.Forget(t.Context(), broker.Request{}); broker.ClassOf(err) != broker.ErrMissingToken {
		t.Errorf("forget: %v", err)
	}
}

type forgetter struct{ got []string }

func (f *forgetter) Forget(issuer, subject string) { f.got = append(f.got, issuer+" "+subject) }

func TestForgetIsForTheTokensOwnSubject(t *testing.T) {
	w, f := newWorld(t), &forgetter{}
	w.cfg.Forgetter = f
	b, _ := broker.New(w.cfg)
	if err := b.Forget(t.Context(), broker.Request{Token: broker.NewSecret("t")}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://acme.eu.auth0.com/ auth0|alice"}, f.got); diff != "" {
		t.Error(diff)
	}
}

func TestABrokerThatIsNotWholeIsNotMade(t *testing.T) {
	for name, change := range map[string]func(*broker.Config){
		"no revision": func(c *broker.Config) { c.Revision = "" },
		"no verifier": func(c *broker.Config) { c.Verifier = nil },
		"no issuer":   func(c *broker.Config) { c.Issuer = nil },
		"no auditor":  func(c *broker.Config) { c.Auditor = nil },
		"no grants":   func(c *broker.Config) { c.Grants = nil },
		"one name twice": func(c *broker.Config) {
			c.Grants = append(c.Grants, grant(t, "uploads", func(g *broker.Grant) { g.Prefix = template(t, "b/{tenant}/") }))
		},
		"prefixes that meet": func(c *broker.Config) {
			c.Grants = append(c.Grants, grant(t, "b", func(g *broker.Grant) { g.Prefix = template(t, "tenants/shared/{tenant}/") }))
		},
		"no name":     func(c *broker.Config) { c.Grants[0].Name = "" },
		"no role":     func(c *broker.Config) { c.Grants[0].RoleARN = broker.RoleARN{} },
		"no tenant":   func(c *broker.Config) { c.Grants[0].Tenant = broker.TenantRule{} },
		"two tenants": func(c *broker.Config) { c.Grants[0].Tenant.Request = true },
		"no bucket":   func(c *broker.Config) { c.Grants[0].Bucket = policy.BucketTemplate{} },
		"no region":   func(c *broker.Config) { c.Grants[0].Region = "" },
		"no prefix":   func(c *broker.Config) { c.Grants[0].Prefix = policy.Template{} },
		"no access":   func(c *broker.Config) { c.Grants[0].Access = 0 },
		"too short":   func(c *broker.Config) { c.Grants[0].Duration = 14 * time.Minute },
		"too long":    func(c *broker.Config) { c.Grants[0].Duration = 13 * time.Hour },
		"a key elsewhere": func(c *broker.Config) {
			c.Grants[0].KMSKey = kmsKey(t, "arn:aws:kms:eu-west-2:123456789012:key/x")
		},
		"prefix for all":    func(c *broker.Config) { c.Grants[0].Prefix = template(t, "data/") },
		"claim of no value": func(c *broker.Config) { c.Grants[0].Match.Claims = map[string]any{"a": 1.5} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(&w.cfg)
			if _, err := broker.New(w.cfg); err == nil {
				t.Error("want an error")
			}
		})
	}
	// Too long by what only a bound address adds.
	long := longGrant(t)
	if err := long.Validate(); err != nil {
		t.Errorf("a long one: %v", err)
	}
	long.BindSourceIP = true
	if err := long.Validate(); err == nil || !strings.Contains(err.Error(), "bytes, at most 2048") {
		t.Errorf("too long a one: %v", err)
	}
	// All that is wrong is said at once, and nothing that follows from it.
	if err := (broker.Grant{}).Validate(); err == nil || !strings.Contains(err.Error(), "role_arn is missing") || !strings.Contains(err.Error(), "bucket: missing") {
		t.Errorf("a grant of nothing: %v", err)
	}
	nameless := func(g *broker.Grant) { g.Name = "" }
	err := broker.ValidateGrants([]broker.Grant{grant(t, "", nameless), grant(t, "", nameless)})
	if err == nil || !strings.Contains(err.Error(), "name is missing") || strings.Contains(err.Error(), "taken") {
		t.Errorf("two without a name: %v", err)
	}
	w := newWorld(t)
	w.cfg.Now = nil
	if _, err := broker.New(w.cfg); err != nil {
		t.Errorf("without a clock: %v", err)
	}
}

func TestErrorsAreClassifiedAndCausesStayInside(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("outer: %w", broker.WithRetryAfter(fmt.Errorf("%w: %w", broker.ErrBusy, cause), time.Minute))
	if broker.ClassOf(err) != broker.ErrBusy || !errors.Is(err, cause) || !errors.Is(err, broker.ErrBusy) {
		t.Errorf("class %q", broker.ClassOf(err))
	}
	if after, ok := broker.RetryAfter(err); !ok || after != time.Minute {
		t.Errorf("retry after %s, %t", after, ok)
	}
	if _, ok := broker.RetryAfter(cause); ok {
		t.Error("retry after out of nothing")
	}
	if broker.ClassOf(cause) != broker.ErrInternal || broker.ClassOf(nil) != "" || broker.WithRetryAfter(nil, 1) != nil {
		t.Error("an error without a class is internal, no error has none")
	}
}

func TestPatternsMatchTheWholeName(t *testing.T) {
	for _, p := range []string{"a)|(b", "["} {
		if _, err := broker.CompilePattern(p); err == nil {
			t.Errorf("%q compiles", p)
		}
	}
	p, err := broker.CompilePattern("a|b")
	if err != nil {
		t.Fatal(err)
	}
	// "ax" and "xb" are what an anchor without a group lets through.
	for s, want := range map[string]bool{"a": true, "b": true, "ax": false, "xb": false, "a\n": false} {
		if p.MatchString(s) != want {
			t.Errorf("%q: %t", s, !want)
		}
	}
}

// Threat case DS19: the length is looked at before the pattern is, and the pattern
// is matched in linear time whatever it is.
func TestAPatternIsNotAskedAboutALongName(t *testing.T) {
	pattern, err := broker.CompilePattern("(([a-z])+.)+[A-Z]([a-z])+")
	if err != nil {
		t.Fatal(err)
	}
	for length, reason := range map[int]string{63: "does not match the grant's pattern", 1 << 20: "tenant: "} {
		w := newWorld(t)
		w.cfg.Grants = []broker.Grant{grant(t, "uploads", func(g *broker.Grant) { g.Tenant.Pattern = pattern })}
		w.identity.Claims["org_id"] = strings.Repeat("a", length)
		if _, err := w.exchange(t, broker.Request{}); broker.ClassOf(err) != broker.ErrInvalidTenant || !strings.Contains(err.Error(), reason) ||
			strings.Contains(err.Error(), "pattern") != (length == 63) || len(err.Error()) > 1000 {
			t.Errorf("%d bytes: %.200v", length, err)
		}
	}
}

func TestRoleARNs(t *testing.T) {
	for _, s := range []string{
		"", "arn:aws:iam::123:role/x", "arn:aws:iam::123456789012:user/x", "arn:aws-iso:iam::123456789012:role/x",
		"arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/a b", "arn:aws:iam::123456789012:role/x\n",
		" arn:aws:iam::123456789012:role/x", "arn:aws:iam::123456789012:role/" + strings.Repeat("x", 65),
		"arn:aws:iam::123456789012:role/" + strings.Repeat("x", 2048-32) + "/x", // one byte more than STS takes
	} {
		if _, err := broker.ParseRoleARN(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	r, err := broker.ParseRoleARN("arn:aws-cn:iam::123456789012:role/path/name")
	if err != nil {
		t.Fatal(err)
	}
	if r.Partition() != policy.AWSChina || r.Account() != "123456789012" || r.Name() != "name" ||
		r.SessionARN("s") != "arn:aws-cn:sts::123456789012:assumed-role/name/s" {
		t.Errorf("%s, %s, %s, %s", r.Partition(), r.Account(), r.Name(), r.SessionARN("s"))
	}
	if zero := (broker.RoleARN{}); zero.Account() != "" || !zero.IsZero() {
		t.Error("the zero ARN has parts")
	}
}

func TestWhoWantsToKnowIsToldOfADecision(t *testing.T) {
	w := newWorld(t)
	var began int
	var scopes []string
	var errs []error
	w.cfg.Deciding = func(context.Context) func(broker.Scope, error) {
		began++
		return func(s broker.Scope, err error) {
			scopes, errs = append(scopes, s.Tenant.String()), append(errs, err)
		}
	}
	if _, err := w.exchange(t, broker.Request{}); err != nil {
		t.Fatal(err)
	}
	_, err := w.exchange(t, broker.Request{Grant: "none"})
	if began != 2 || len(errs) != 2 || scopes[0] != "org_acme" || errs[0] != nil || !errors.Is(errs[1], broker.ErrNoGrant) || !errors.Is(err, broker.ErrNoGrant) {
		t.Errorf("%d begun, ended with %q and %v", began, scopes, errs)
	}
}
