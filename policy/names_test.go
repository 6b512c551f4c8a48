package policy_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/policy"
)

// Names come out as they went in, whatever is a part of what.
func TestNamesComeOutAsTheyWentIn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tenant, err := policy.ParseTenant(rapid.StringMatching(`[ab]{1,3}`).Draw(rt, "tenant"))
		if err != nil {
			rt.Fatal(err)
		}
		user := policy.UserOf("i", rapid.StringMatching(`[ab]`).Draw(rt, "user"))
		template, err := policy.ParseTemplate(rapid.SampledFrom([]string{"{tenant}/", "ab/{tenant}/", "{tenant}/{user}/", "b/"}).Draw(rt, "template"))
		if err != nil {
			rt.Fatal(err)
		}
		s := scope(t, "org_acme", func(*policy.Scope) {})
		if s.Prefix, err = template.Render(tenant, user); err != nil {
			rt.Fatal(err)
		}
		if s.Path, err = policy.ParsePath(rapid.SampledFrom([]string{"", "a/", "ab", "b/a/"}).Draw(rt, "path")); err != nil {
			rt.Fatal(err)
		}
		var more [policy.MoreNames]string
		for i := range more {
			more[i] = rapid.StringMatching(`[ab/]{0,4}`).Draw(rt, "more")
		}
		n, err := policy.NewNames(tenant, s, user, more)
		if err != nil {
			rt.Fatal(err)
		}
		base := s
		base.Prefix, base.Path = policy.Prefix{}, policy.Path{}
		gotScope, gotTenant, gotUser := n.Of(base)
		if gotScope != s || gotTenant != tenant || gotUser != user || n.Key() != s.Key() {
			rt.Fatalf("%+v %s %s, want %+v %s %s", gotScope, gotTenant, gotUser, s, tenant, user)
		}
		for i, want := range more {
			if n.More(i) != want {
				rt.Fatalf("text %d is %q, want %q", i, n.More(i), want)
			}
		}
		if n.Bytes() > len(s.Key())+len(tenant.String())+len(user.String())+len(strings.Join(more[:], "")) {
			rt.Fatalf("%d bytes", n.Bytes())
		}
	})
}

func TestANameWithinAnotherTakesNoRoom(t *testing.T) {
	tenant, _ := policy.ParseTenant("org_acme")
	user := policy.UserOf("https://i/", "alice")
	template, _ := policy.ParseTemplate("tenants/{tenant}/{user}/")
	prefix, err := template.Render(tenant, user)
	if err != nil {
		t.Fatal(err)
	}
	n, err := policy.NewNames(tenant, policy.Scope{Prefix: prefix}, user, [policy.MoreNames]string{"!"})
	if err != nil || n.Bytes() != len(prefix.String())+1 {
		t.Errorf("%d bytes, %v", n.Bytes(), err)
	}
}

func TestNamesHaveTheirBound(t *testing.T) {
	for length, want := range map[int]bool{1<<16 - 1: true, 1 << 16: false} {
		n, err := policy.NewNames(policy.Tenant{}, policy.Scope{}, policy.User{}, [policy.MoreNames]string{strings.Repeat("x", length)})
		if (err == nil) != want || !want && n != (policy.Names{}) {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
	if _, tenant, user := (policy.Names{}).Of(policy.Scope{}); !tenant.IsZero() || !user.IsZero() {
		t.Error("of no names there are some")
	}
}
