package policy_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/policy"
)

func bucketTemplate(t testing.TB, s string) policy.BucketTemplate {
	t.Helper()
	got, err := policy.ParseBucketTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestABucketTemplateGivesEachTenantABucketUnderS3sRules(t *testing.T) {
	for s, want := range map[string]string{
		"acme-uploads":     "acme-uploads",
		"{tenant}":         "acme",
		"{tenant}-uploads": "acme-uploads",
		"up-{tenant}":      "up-acme",
		"a{tenant}b":       "aacmeb",
	} {
		got := bucketTemplate(t, s)
		bucket, err := got.Render(tenant(t, "acme"))
		if err != nil || bucket.String() != want || got.String() != s || got.IsZero() || got.PerTenant() != strings.Contains(s, "{") || got.Bare() != (s == "{tenant}") {
			t.Errorf("%q: %q, %v", s, bucket, err)
		}
	}
	for _, s := range []string{
		"", "ab", "A-{tenant}", "-{tenant}", "{tenant}-", "{tenant}.x", "{tenant}/x", "{tenant}{tenant}", "{user}", "{tenant}-{user}", "{Tenant}",
		"{tenant", "tenant}", "xn--{tenant}", "{tenant}-s3alias", "*{tenant}", "${tenant}", strings.Repeat("a", 61) + "{tenant}",
	} {
		if got, err := policy.ParseBucketTemplate(s); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q is taken: %v", s, err)
		}
	}
}

// What is no bucket's name is not made into one: org_a and ORG-A would meet.
func TestATenantThatS3WouldNotTakeHasNoBucket(t *testing.T) {
	tpl := bucketTemplate(t, "{tenant}-uploads")
	for _, name := range []string{"org_a", "Acme", strings.Repeat("a", 56), "xn--a"} {
		if got, err := tpl.Render(tenant(t, name)); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if got, err := tpl.Render(tenant(t, strings.Repeat("a", tpl.MaxTenant()))); err != nil || len(got.String()) != 63 {
		t.Errorf("the longest: %q, %v", got, err)
	}
	if got, err := tpl.Render(policy.Tenant{}); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
		t.Errorf("no tenant: %q, %v", got, err)
	}
	if got, err := bucketTemplate(t, "acme-{tenant}-x").Render(policy.Tenant{}); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
		t.Errorf("no tenant between hyphens: %q, %v", got, err)
	}
	if got, err := (policy.BucketTemplate{}).Render(tenant(t, "acme")); err == nil {
		t.Errorf("no template: %q", got)
	}
	if bucketTemplate(t, "acme-uploads").MaxTenant() != 63 {
		t.Error("a bucket for all bounds the tenant's name")
	}
}

func layout(t testing.TB, bucket, prefix string) policy.Layout {
	t.Helper()
	return policy.Layout{Bucket: bucketTemplate(t, bucket), Prefix: template(t, prefix)}
}

func TestALayoutNamesTheTenantInItsBucketOrItsPrefix(t *testing.T) {
	acme, user := tenant(t, "acme"), policy.UserOf("i", "s")
	for _, tc := range []struct{ bucket, prefix, want string }{
		{"uploads", "tenants/{tenant}/", "uploads/tenants/acme/"},
		{"{tenant}-files", "data/", "acme-files/data/"},
		{"{tenant}-files", "u/{user}/", "acme-files/u/" + user.String() + "/"},
		{"{tenant}-files", "{tenant}/", "acme-files/acme/"},
	} {
		bucket, prefix, err := layout(t, tc.bucket, tc.prefix).Place(acme, user)
		if got := bucket.String() + "/" + prefix.String(); err != nil || got != tc.want {
			t.Errorf("%s/%s: %q, %v", tc.bucket, tc.prefix, got, err)
		}
	}
	for name, l := range map[string]policy.Layout{
		"nothing":              {},
		"no bucket":            {Prefix: template(t, "{tenant}/")},
		"no prefix":            {Bucket: bucketTemplate(t, "{tenant}-files")},
		"no tenant":            layout(t, "uploads", "data/"),
		"a user and no tenant": layout(t, "uploads", "u/{user}/"),
	} {
		if err := l.Validate(); !errors.Is(err, policy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if bucket, prefix, err := l.Place(acme, user); err == nil || !bucket.IsZero() || !prefix.IsZero() {
			t.Errorf("%s: a place %s/%s", name, bucket, prefix)
		}
	}
	if _, _, err := layout(t, "{tenant}-files", "data/").Place(tenant(t, "Acme"), user); !errors.Is(err, policy.ErrInvalid) {
		t.Errorf("a tenant without a bucket: %v", err)
	}
}

func TestOverlapsFindsLayoutsWhoseTenantsCanMeet(t *testing.T) {
	for _, tc := range []struct {
		bucketA, prefixA, bucketB, prefixB string
		want                               bool
	}{
		{"uploads", "{tenant}/", "uploads", "a/{tenant}/", true},
		{"uploads", "{tenant}/", "uploads2", "a/{tenant}/", false},
		{"{tenant}-files", "data/", "{tenant}-files", "data/", false},
		{"{tenant}-files", "data/", "{tenant}-files", "{tenant}/", false},
		{"{tenant}-files", "data/", "acme-files", "data/{tenant}/", true},
		{"{tenant}-files", "data/", "acme-files", "other/{tenant}/", false},
		{"{tenant}-files", "data/", "acme-uploads", "data/{tenant}/", false},
		{"{tenant}-files", "data/", "-files-x", "data/{tenant}/", false},
		{"acme-{tenant}-x", "data/", "acme--x", "data/{tenant}/", false}, // no tenant has no name
		{"t-{tenant}", "data/", "t-acme", "data/{tenant}/", true},
		{"t-{tenant}", "data/", "u-acme", "data/{tenant}/", false},
		{"t-{tenant}", "data/", "{tenant}-u", "data/", true}, // t-x-u is x-u's and t-x's
		{"t-{tenant}", "data/", "u-{tenant}", "data/", false},
		{"{tenant}-t", "data/", "{tenant}-u", "data/", false},
		{"t{tenant}", "data/", "tt{tenant}", "data/", true},
		{"{tenant}t", "data/", "{tenant}tt", "data/", true},
	} {
		a := policy.Layout{Prefix: template(t, tc.prefixA)}
		b := policy.Layout{Prefix: template(t, tc.prefixB)}
		var err error
		if a.Bucket, err = policy.ParseBucketTemplate(tc.bucketA); err != nil {
			t.Fatal(err)
		}
		if b.Bucket, err = policy.ParseBucketTemplate(tc.bucketB); err != nil {
			continue // no such bucket
		}
		if a.Overlaps(b) != tc.want || b.Overlaps(a) != tc.want {
			t.Errorf("%s/%s and %s/%s: want %t", tc.bucketA, tc.prefixA, tc.bucketB, tc.prefixB, tc.want)
		}
	}
}

// If two tenants' places meet, Overlaps has said so; and under one layout they
// never do.
func TestPlacesOfTwoTenantsMeetOnlyWhereOverlapsSaysSo(t *testing.T) {
	draw := func(rt *rapid.T, label string) policy.Layout {
		bucket := rapid.SampledFrom([]string{"{tenant}", "x{tenant}", "{tenant}x", "x-{tenant}-x", "xa-x", "aaa", "xaa", "xaax"}).Draw(rt, label+" bucket")
		prefix := rapid.SampledFrom([]string{"a/", "b/", "{tenant}/", "a/{tenant}/", "{user}/", "a/{user}/", "{tenant}/a/"}).Draw(rt, label+" prefix")
		return layout(t, bucket, prefix)
	}
	name := rapid.StringMatching(`[ax][ax-]{1,3}`)
	rapid.Check(t, func(rt *rapid.T) {
		la, lb := draw(rt, "la"), draw(rt, "lb")
		same := rapid.Bool().Draw(rt, "one layout")
		if same {
			lb = la
		}
		a, b := tenant(t, name.Draw(rt, "a")), tenant(t, name.Draw(rt, "b"))
		bucketA, pa, err1 := la.Place(a, policy.UserOf("i", "s"))
		bucketB, pb, err2 := lb.Place(b, policy.UserOf("i", "s"))
		if a == b || err1 != nil || err2 != nil {
			return
		}
		meet := bucketA == bucketB && (strings.HasPrefix(pa.String(), pb.String()) || strings.HasPrefix(pb.String(), pa.String()))
		if meet && (same || !la.Overlaps(lb)) {
			rt.Fatalf("%s and %s meet in %s/%s and %s/%s", a, b, bucketA, pa, bucketB, pb)
		}
	})
}
