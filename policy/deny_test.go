package policy_test

import (
	"testing"
	"time"

	"credential-broker/policy"
)

func TestADenialNamesTheSessionsThatEnd(t *testing.T) {
	acme, err := policy.ParseTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 13, 0, 0, 0, time.FixedZone("CET", 3600))
	a, b := policy.UserOf("i", "a"), policy.UserOf("i", "b")
	const (
		head = `{"Version":"2012-10-17","Statement":[{"Sid":"EndSessions","Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-24T12:00:0`
		tail = `}}]}`
	)
	for name, tc := range map[string]struct {
		sessions policy.Sessions
		want     string
	}{
		"all":         {policy.Sessions{Before: at}, head + `0Z"}` + tail},
		"a moment on": {policy.Sessions{Before: at.Add(1)}, head + `1Z"}` + tail},
		"of a tenant": {policy.Sessions{Before: at, Tenant: acme}, head + `0Z"},"StringEquals":{"aws:PrincipalTag/tenant":"acme"}` + tail},
		"of a user":   {policy.Sessions{Before: at, Sources: []policy.User{a}}, head + `0Z"},"StringEquals":{"aws:SourceIdentity":"` + a.String() + `"}` + tail},
		"of a name":   {policy.Sessions{Before: at, Names: []string{"cb-x"}}, head + `0Z"},"StringLike":{"aws:userid":"*:cb-x"}` + tail},
		"of each": {
			policy.Sessions{Before: at, Tenant: acme, Sources: []policy.User{a, b}, Names: []string{"cb-x", "cb-y"}},
			head + `0Z"},"StringEquals":{"aws:PrincipalTag/tenant":"acme","aws:SourceIdentity":["` + a.String() + `","` + b.String() + `"]},"StringLike":{"aws:userid":["*:cb-x","*:cb-y"]}` + tail,
		},
	} {
		if got, err := policy.DenyDocument(tc.sessions); err != nil || got != tc.want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, tc.want)
		}
	}
	if got, err := policy.DenyDocument(policy.Sessions{Tenant: acme}); err == nil || got != "" {
		t.Errorf("without a time: %s", got)
	}
}
