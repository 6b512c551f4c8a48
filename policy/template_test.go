package policy_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/policy"
)

func tenant(t testing.TB, s string) policy.Tenant {
	t.Helper()
	got, err := policy.ParseTenant(s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func template(t testing.TB, s string) policy.Template {
	t.Helper()
	got, err := policy.ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestATemplateKeepsTenantsApartByItsForm(t *testing.T) {
	user := policy.UserOf("i", "s")
	for s, want := range map[string]string{
		"{tenant}/":                        "org_a/",
		"tenants/{tenant}/":                "tenants/org_a/",
		"t/{tenant}/u/{user}/":             "t/org_a/u/" + user.String() + "/",
		"{user}/{tenant}/":                 user.String() + "/org_a/",
		"A-z_0.9=@/{tenant}/v1.0/uploads/": "A-z_0.9=@/org_a/v1.0/uploads/",
		"uploads/":                         "uploads/",
		"u/{user}/":                        "u/" + user.String() + "/",
	} {
		got := template(t, s)
		prefix, err := got.Render(tenant(t, "org_a"), user)
		if err != nil || prefix.String() != want || got.String() != s {
			t.Errorf("%q: %q, %v", s, prefix, err)
		}
	}
	for _, s := range []string{
		"", "/", "tenants", "tenants/{tenant}", "/tenants/{tenant}/", "tenants//{tenant}/", "tenants/./{tenant}/",
		"../{tenant}/", "t-{tenant}/", "{tenant}-x/", "{tenant}{user}/", "{tenant}/{tenant}/", "{user}/{user}/{tenant}/", "{other}/{tenant}/",
		"{Tenant}/", "{tenant}*/", "a*/{tenant}/", "a?/{tenant}/", "${x}/{tenant}/", "a$/{tenant}/", "a b/{tenant}/", "a%/{tenant}/", "é/{tenant}/",
		"{tenant/}/", "}/{tenant}/", strings.Repeat("a", 250) + "/{tenant}/",
	} {
		if got, err := policy.ParseTemplate(s); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q is taken: %v", s, err)
		}
	}
}

func TestAVariableInPartOfASegmentIsExplained(t *testing.T) {
	if _, err := policy.ParseTemplate("t-{tenant}/"); err == nil || !strings.Contains(err.Error(), "a variable is not the whole segment") {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsRenderedOfNothing(t *testing.T) {
	user, acme := policy.UserOf("i", "s"), tenant(t, "org_a")
	for name, render := range map[string]func() (policy.Prefix, error){
		"no template": func() (policy.Prefix, error) { return policy.Template{}.Render(acme, user) },
		"no tenant":   func() (policy.Prefix, error) { return template(t, "{tenant}/").Render(policy.Tenant{}, user) },
		"no user":     func() (policy.Prefix, error) { return template(t, "{tenant}/{user}/").Render(acme, policy.User{}) },
	} {
		if got, err := render(); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if (policy.Template{}).String() != "" {
		t.Error("the zero template has a text")
	}
}

// Under one template, two tenants' prefixes are neither equal nor nested.
func TestPrefixesOfTwoTenantsNeverContainOneAnother(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tpl := drawTemplate(rt, "template")
		a, b := drawTenant(rt, "a"), drawTenant(rt, "b")
		if a == b {
			return
		}
		pa, err1 := tpl.Render(a, policy.UserOf("i", rapid.StringN(1, 2, 4).Draw(rt, "s")))
		pb, err2 := tpl.Render(b, policy.UserOf("i", "s"))
		if err := errors.Join(err1, err2); err != nil {
			rt.Fatal(err)
		}
		if strings.HasPrefix(pa.String(), pb.String()) || strings.HasPrefix(pb.String(), pa.String()) {
			rt.Fatalf("%q and %q", pa, pb)
		}
	})
}

func TestOverlapsFindsTemplatesWhoseTenantsCanMeet(t *testing.T) {
	name := policy.UserOf("i", "s").String()
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"tenants/{tenant}/", "tenants/{tenant}/", false},
		{"tenants/{tenant}/", "tenants/{tenant}/in/", false},
		{"tenants/{tenant}/", "archive/{tenant}/", false},
		{"tenants/{tenant}/", "tenants/shared/{tenant}/", true},
		{"a/{tenant}/", "b/x/{tenant}/", false},
		{"{tenant}/", "tenants/{tenant}/", true},
		{"{tenant}/", "a.b/{tenant}/", false}, // no tenant has a dot
		{"{tenant}/{user}/", "{user}/{tenant}/", true},
		{"{user}/{tenant}/", "short/x/{tenant}/", false}, // no user's name is that short
		{"{user}/{tenant}/", name + "/x/{tenant}/", true},
	} {
		a, b := template(t, tc.a), template(t, tc.b)
		if a.Overlaps(b) != tc.want || b.Overlaps(a) != tc.want {
			t.Errorf("%s and %s: want %t", tc.a, tc.b, tc.want)
		}
	}
	if (policy.Template{}).Overlaps(template(t, "{tenant}/")) || template(t, "{tenant}/").Overlaps(policy.Template{}) {
		t.Error("what renders nothing meets something")
	}
}

// If two tenants' prefixes meet, Overlaps has said so.
func TestOverlapsIsNeverFalseForPrefixesThatMeet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ta, tb := drawTemplate(rt, "ta"), drawTemplate(rt, "tb")
		a, b := drawTenant(rt, "a"), drawTenant(rt, "b")
		if a == b {
			return
		}
		pa, err1 := ta.Render(a, policy.UserOf("i", "s"))
		pb, err2 := tb.Render(b, policy.UserOf("i", "s"))
		if err := errors.Join(err1, err2); err != nil {
			rt.Fatal(err)
		}
		meet := strings.HasPrefix(pa.String(), pb.String()) || strings.HasPrefix(pb.String(), pa.String())
		if meet && !ta.Overlaps(tb) {
			rt.Fatalf("%s → %s and %s → %s meet", ta, pa, tb, pb)
		}
	})
}

func drawTenant(rt *rapid.T, label string) policy.Tenant {
	got, err := policy.ParseTenant(rapid.SampledFrom([]string{"a", "b", "ab", "a-", "x", "y"}).Draw(rt, label))
	if err != nil {
		rt.Fatal(err)
	}
	return got
}

// drawTemplate draws from few segments, so that they meet often.
func drawTemplate(rt *rapid.T, label string) policy.Template {
	segments := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "x", "{user}", policy.UserOf("i", "s").String()}), 0, 3).Draw(rt, label)
	at := rapid.IntRange(0, len(segments)).Draw(rt, label+" at")
	segments = append(segments[:at:at], append([]string{"{tenant}"}, segments[at:]...)...)
	got, err := policy.ParseTemplate(strings.Join(segments, "/") + "/")
	if err != nil {
		rt.Skip(err) // {user} twice
	}
	return got
}

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{"tenants/{tenant}/", "{tenant}/{user}/", "a/{tenant}*/", "../{tenant}/", "{tenant}//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tpl, err := policy.ParseTemplate(s)
		if err != nil {
			return
		}
		if tpl.String() != s {
			t.Fatalf("%q became %q", s, tpl)
		}
		prefix, err := tpl.Render(tenant(t, "org_a"), policy.UserOf("i", "s"))
		if err != nil {
			t.Fatal(err)
		}
		if p := prefix.String(); strings.Contains(s, "{tenant}") && !strings.Contains("/"+p, "/org_a/") || !strings.HasSuffix(p, "/") || strings.ContainsAny(p, "*?${}") || strings.Contains("/"+p, "/../") {
			t.Fatalf("%q renders %q", s, p)
		}
	})
}

func TestPathsAreBelowAndPlain(t *testing.T) {
	for s, object := range map[string]bool{"": false, "a": true, "a/": false, "a/b.txt": true, "in/box/": false, "a..b": true} {
		got, err := policy.ParsePath(s)
		if err != nil || got.String() != s || got.IsObject() != object || got.IsZero() != (s == "") {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"/", "/a", "a//b", "..", "../a", "a/..", "a/../b", ".", "./a", "a/.", "*", "a?", "${x}", "a$", "a b", "a%2F", "a\n", "é", `a\b`, "a+b", strings.Repeat("a", 257)} {
		if got, err := policy.ParsePath(s); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q is taken: %v", s, err)
		}
	}
}
