package broker_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/iam"
	"credential-broker/policy"
)

func kmsKey(t testing.TB, s string) policy.KMSKey {
	t.Helper()
	k, err := policy.ParseKMSKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func bucket(t testing.TB, s string) policy.BucketTemplate {
	t.Helper()
	b, err := policy.ParseBucketTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestATenantMayHaveItsOwnBucket(t *testing.T) {
	w := newWorld(t)
	w.cfg.Grants[0].Bucket, w.cfg.Grants[0].Prefix = bucket(t, "{tenant}-uploads"), template(t, "data/")
	w.identity.Claims["org_id"] = "acme"
	creds, err := w.exchange(t, broker.Request{})
	if err != nil {
		t.Fatal(err)
	}
	if s := creds.Scope.S3; s.Bucket.String() != "acme-uploads" || s.Prefix.String() != "data/" || w.lastRecord(t).Bucket != "acme-uploads" {
		t.Errorf("%+v", s)
	}
	// A name that no bucket can have is refused, and not made into one that can.
	for _, name := range []string{"org_acme", "Acme"} {
		w.identity.Claims["org_id"] = name
		if _, err := w.exchange(t, broker.Request{}); !errors.Is(err, broker.ErrInvalidTenant) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentialsAreBoundToTheCallersAddress(t *testing.T) {
	w := newWorld(t)
	w.cfg.Grants[0].BindSourceIP = true
	for given, want := range map[string]string{"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8::7": "2001:db8::7/128"} {
		creds, err := w.exchange(t, broker.Request{Address: given})
		if err != nil {
			t.Fatal(err)
		}
		order := w.orders[len(w.orders)-1]
		if !strings.Contains(order.Document.String(), `{"aws:SourceIp":"`+want+`"}`) || creds.Scope.S3.SourceIP != netip.MustParsePrefix(want).Addr() {
			t.Errorf("%s: %s", given, order.Document)
		}
	}
	for _, given := range []string{"", "unix", "192.0.2.7:80", "fe80::1%eth0"} {
		if creds, err := w.exchange(t, broker.Request{Address: given}); err == nil {
			t.Errorf("%q: %+v", given, creds.Scope)
		}
	}
	// The credentials of one address are not those of another.
	a, err1 := w.exchange(t, broker.Request{Address: "192.0.2.7"})
	b, err2 := w.exchange(t, broker.Request{Address: "192.0.2.8"})
	if err := errors.Join(err1, err2); err != nil || a.Scope == b.Scope {
		t.Errorf("%+v, %v", a.Scope, err)
	}
}

// drawGrant draws from all shapes that a grant can have.
func drawGrant(t *testing.T, rt *rapid.T) broker.Grant {
	layouts := [][2]string{
		{"acme-uploads", "tenants/{tenant}/"}, {"acme-uploads", "{tenant}/{user}/"}, {"acme-uploads", "u/{user}/t/{tenant}/x/"},
		{"{tenant}-uploads", "data/"}, {"up-{tenant}", "u/{user}/"}, {"t-{tenant}", "{tenant}/"},
	}
	return grant(t, "g", func(g *broker.Grant) {
		l := rapid.SampledFrom(layouts).Draw(rt, "layout")
		g.Bucket, g.Prefix = bucket(t, l[0]), template(t, l[1])
		g.Access = policy.Access(rapid.IntRange(1, 15).Draw(rt, "access"))
		g.BindSourceIP = rapid.Bool().Draw(rt, "bound")
		g.Tenant = rapid.SampledFrom([]broker.TenantRule{{Claim: "org_id"}, {Claim: "/app/tenant"}, {Request: true}}).Draw(rt, "tenant")
		account := rapid.SampledFrom([][2]string{{"aws", "eu-west-1"}, {"aws-cn", "cn-north-1"}, {"aws-us-gov", "us-gov-west-1"}}).Draw(rt, "account")
		g.Region = account[1]
		var err error
		if g.RoleARN, err = broker.ParseRoleARN("arn:" + account[0] + ":iam::123456789012:role/uploads"); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "kms") {
			g.KMSKey = kmsKey(t, "arn:"+account[0]+":kms:"+account[1]+":123456789012:key/x")
		}
	})
}

// drawRequest asks every second time for what the grant has, or few requests
// would be answered.
func drawRequest(rt *rapid.T, g broker.Grant) broker.Request {
	asked := rapid.SliceOfN(rapid.SampledFrom([]string{"list", "read", "write", "delete", "admin"}), 0, 3)
	paths := []string{"", "a/", "a/b/", "a", "a/b", "..", "../x", "a/../b", "/a", "a//b", "*", "a*", "${x}/"}
	durations := []time.Duration{0, 15 * time.Minute, time.Hour, time.Second, 2 * time.Hour}
	if rapid.Bool().Draw(rt, "within the grant") {
		asked = rapid.SliceOfNDistinct(rapid.SampledFrom(g.Access.Names()), 0, len(g.Access.Names()), rapid.ID)
		paths, durations = paths[:5], durations[:3]
	}
	req := broker.Request{
		Token: broker.NewSecret("t"), Address: rapid.SampledFrom([]string{"192.0.2.7", "2001:db8::7"}).Draw(rt, "address"),
		Path:     rapid.SampledFrom(paths).Draw(rt, "path"),
		Access:   asked.Draw(rt, "asked"),
		Duration: rapid.SampledFrom(durations).Draw(rt, "duration"),
	}
	if g.Tenant.Request {
		req.Tenant = "acme"
	}
	return req
}

// Whatever the grant and whatever the request asks: the document is proved for
// its own scope and for the whole scope of the grant; and whatever it allows, by
// evaluation, the grant's whole document allows. What is refused has no document.
func TestNarrowingNeverWidens(t *testing.T) {
	given := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.identity.Claims["org_id"], w.identity.Claims["app"] = "acme", map[string]any{"tenant": "acme"}
		g := drawGrant(t, rt)
		w.cfg.Grants = []broker.Grant{g}
		req := drawRequest(rt, g)
		whole, err := w.exchange(t, broker.Request{Token: req.Token, Address: req.Address, Tenant: req.Tenant})
		if err != nil {
			rt.Fatal(err)
		}
		narrow, err := w.exchange(t, req)
		if err != nil {
			if len(w.orders) != 1 {
				rt.Fatalf("refused, and ordered: %v", err)
			}
			return
		}
		given++
		all, some := w.orders[0], w.orders[1]
		if err := errors.Join(policy.Confined(some.Document.String(), narrow.Scope.S3), policy.Confined(some.Document.String(), whole.Scope.S3)); err != nil {
			rt.Fatalf("%s\n%v", some.Document, err)
		}
		if some.Lifetime > all.Lifetime || narrow.Scope.Duration > whole.Scope.Duration {
			rt.Fatalf("%s is longer than %s", some.Lifetime, all.Lifetime)
		}
		big, small := parsePolicy(rt, all.Document), parsePolicy(rt, some.Document)
		for range 20 {
			probe := drawProbe(rt, whole.Scope.S3)
			if iam.Decide(probe, small).Allowed() && !iam.Decide(probe, big).Allowed() {
				rt.Fatalf("%+v is allowed by\n%s\nand not by\n%s", probe, some.Document, all.Document)
			}
		}
	})
	least := 10
	if testing.Short() {
		least /= 5 // as rapid does with the number of requests
	}
	if given < least {
		t.Errorf("only %d requests were answered", given)
	}
}

func parsePolicy(rt *rapid.T, d policy.Document) iam.Document {
	doc, err := iam.Parse([]byte(d.String()))
	if err != nil {
		rt.Fatal(err)
	}
	return doc
}

// drawProbe draws a request to S3 or KMS, in and around the scope.
func drawProbe(rt *rapid.T, s policy.Scope) iam.Request {
	prefix := s.Prefix.String()
	key := rapid.SampledFrom([]string{
		prefix, prefix + "a", prefix + "a/", prefix + "a/b", prefix + "a/b/c", prefix + "..", strings.TrimSuffix(prefix, "/"), strings.TrimSuffix(prefix, "/") + "2/a", "", "a", "/",
	}).Draw(rt, "key")
	partition := rapid.SampledFrom([]string{"aws", "aws-cn", "aws-us-gov"}).Draw(rt, "partition")
	name := rapid.SampledFrom([]string{s.Bucket.String(), s.Bucket.String(), "other"}).Draw(rt, "bucket")
	arn := "arn:" + partition + ":s3:::" + name
	req := iam.Request{Context: map[string][]string{"aws:SourceIp": {rapid.SampledFrom([]string{"192.0.2.7", "2001:db8::7", "192.0.2.8"}).Draw(rt, "from")}}}
	req.Action = rapid.SampledFrom([]string{
		"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucket",
		"s3:GetObjectVersion", "s3:PutObjectAcl", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt",
	}).Draw(rt, "action")
	switch {
	case strings.HasPrefix(req.Action, "kms:"):
		req.Resource = s.KMSKey.String()
		req.Context["kms:ViaService"] = []string{rapid.SampledFrom([]string{"s3.eu-west-1.amazonaws.com", "s3.cn-north-1.amazonaws.com.cn", "ec2.eu-west-1.amazonaws.com"}).Draw(rt, "service")}
		req.Context["kms:EncryptionContext:aws:s3:arn"] = []string{rapid.SampledFrom([]string{arn, arn + "/" + key}).Draw(rt, "context")}
	case strings.HasPrefix(req.Action, "s3:ListBucket"):
		req.Resource = arn
		if rapid.Bool().Draw(rt, "with a prefix") {
			req.Context["s3:prefix"] = []string{key}
		}
	default:
		req.Resource = arn + "/" + key
	}
	return req
}

func TestClaimsOfNamesWhatTheGrantsReadAndNoMore(t *testing.T) {
	got := broker.ClaimsOf([]broker.Grant{
		grant(t, "a", func(g *broker.Grant) {
			g.Match = broker.Match{Permissions: []string{"p"}, Claims: map[string]any{"/app~1x/plan": "gold", "iss": "i"}}
			g.Tenant = broker.TenantRule{Claim: "https://acme.test/tenant"}
		}),
		grant(t, "b", func(g *broker.Grant) { g.Match, g.Tenant = broker.Match{}, broker.TenantRule{Request: true} }),
		grant(t, "c", func(g *broker.Grant) {
			g.Match, g.Tenant = broker.Match{Scopes: []string{"s"}}, broker.TenantRule{Claim: "/org/id"}
		}),
	})
	want := []string{"app/x", "https://acme.test/tenant", "iss", "org", "permissions", "scope", "sid"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
