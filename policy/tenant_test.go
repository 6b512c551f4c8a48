package policy_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/policy"
)

// hostile are values of a tenant claim that would widen a policy, or that two
// readers would take for different things.
var hostile = []string{
	"", "*", "?", "org_*", "a?b", "${aws:username}", "${*}", "${aws:username, 'org_victim'}", "$", "{", "}", "a$b",
	"/", "a/b", "a/", "/a", "..", ".", "a..b", "../org_b", "a//b", "a.b", "%2F", "a%2e", "a+b", "a b", " a", "a ", "a\n", "a\x00", "a\x7f",
	"\u00e9", "Ａ", "а", "\u212a", "ı", "a\u200b", "\u202ea", "\ufeffa", "\ufffd", "\xff",
	`a"b`, `a\b`, "a<b", "a&b", `","arn:aws:s3:::bkt/*`, "a:b", "_a", "-a", strings.Repeat("a", 64), "a|b", "a,b", "a@b", "a=b",
}

func TestATenantFollowsTheGrammarToTheLastByte(t *testing.T) {
	for _, s := range []string{"a", "0", "org_acme", "Org-1", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "a_", "a-", strings.Repeat("a", 63)} {
		got, err := policy.ParseTenant(s)
		if err != nil || got.String() != s || got.IsZero() {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range hostile {
		if got, err := policy.ParseTenant(s); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q is taken as %q, %v", s, got, err)
		}
	}
	if !(policy.Tenant{}).IsZero() {
		t.Error("the zero tenant is somebody")
	}
}

func FuzzParseTenant(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Add("org_acme")
	grammar := regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := policy.ParseTenant(s)
		if (err == nil) != grammar.MatchString(s) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && got.String() != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func TestUsersAreOpaqueStableAndInjective(t *testing.T) {
	// The name is in keys that exist already: it must never change.
	if got := policy.UserOf("https://acme.eu.auth0.com/", "auth0|alice").String(); got != "n4cmyy3xy7rhcf7k6z7a4uqomeqn4mthcb7tg6mtn54e7fo4av7q" {
		t.Errorf("the user is now named %q", got)
	}
	if policy.UserOf("i", "s").IsZero() {
		t.Error("a user is nobody")
	}
	if !policy.UserOf("", "s").IsZero() || !policy.UserOf("i", "").IsZero() {
		t.Error("half an identity is somebody")
	}
	rapid.Check(t, func(rt *rapid.T) {
		part := rapid.StringMatching(`[ab|\x00]{1,3}`)
		type id struct{ issuer, subject string }
		a, b := id{part.Draw(rt, "i"), part.Draw(rt, "s")}, id{part.Draw(rt, "i2"), part.Draw(rt, "s2")}
		na, nb := policy.UserOf(a.issuer, a.subject), policy.UserOf(b.issuer, b.subject)
		if (a == b) != (na == nb) {
			rt.Fatalf("%v and %v: %s and %s", a, b, na, nb)
		}
		if _, err := policy.ParseTenant(na.String()); err != nil {
			rt.Fatalf("%s is not fit for a segment: %v", na, err)
		}
	})
}

func TestLabelsAndListsKeepNamesApart(t *testing.T) {
	names := map[string]bool{}
	for _, fields := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"aa"}, {"a", "a"}} {
		for _, label := range []string{"x", "y"} {
			names[policy.OpaqueName(label, fields...)] = true
		}
	}
	if len(names) != 16 {
		t.Errorf("%d names for 16 lists", len(names))
	}
}
