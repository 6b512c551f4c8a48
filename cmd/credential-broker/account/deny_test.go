package account_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/iam"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/policy"
)

// Evaluated as IAM does it, beside the role's own policy: the sessions that are
// meant end, to the second, and no other does.
func TestADenialEndsTheSessionsThatAreMeant(t *testing.T) {
	const auth0, other = "https://acme.eu.auth0.com/", "https://globex.eu.auth0.com/"
	two := func(text string) string {
		text = strings.Replace(text, "issuers: [", "issuers: [{url: "+other+", audiences: [a], clients: [c]}, ", 1)
		return strings.ReplaceAll(text, "role_arn:", "match: {claims: {iss: \""+auth0+"\"}}, role_arn:")
	}
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	// session is what IAM knows of one that the broker made.
	session := func(issuer, subject, tenant string, issued time.Time, minted bool) map[string][]string {
		name, err := policy.ParseTenant(tenant)
		if err != nil {
			t.Fatal(err)
		}
		context := map[string][]string{
			"aws:TokenIssueTime": {issued.Format(time.RFC3339)}, "aws:PrincipalTag/tenant": {tenant},
			"aws:userid": {"AROAEXAMPLE:" + broker.SessionName(issuer, subject, name)},
		}
		if minted {
			context["aws:SourceIdentity"] = []string{policy.UserOf(issuer, subject).String()}
		}
		return context
	}
	for name, tc := range map[string]struct {
		text string
		who  account.Who
		ends func(issuer, subject, tenant string) bool
	}{
		"minted, all":                   {minted, account.Who{}, func(string, string, string) bool { return true }},
		"minted, a tenant":              {minted, account.Who{Tenant: "acme"}, func(_, _, tenant string) bool { return tenant == "acme" }},
		"minted, a subject":             {two(minted), account.Who{Subject: "alice"}, func(_, subject, _ string) bool { return subject == "alice" }},
		"minted, a subject of a tenant": {two(minted), account.Who{Subject: "alice", Tenant: "acme"}, func(_, subject, tenant string) bool { return subject == "alice" && tenant == "acme" }},
		"minted, of one issuer":         {minted, account.Who{Subject: "alice"}, func(issuer, subject, _ string) bool { return subject == "alice" && issuer == auth0 }},
		"forwarded, all":                {forwarded, account.Who{}, func(string, string, string) bool { return true }},
		"forwarded, a tenant":           {forwarded, account.Who{Tenant: "acme"}, func(_, _, tenant string) bool { return tenant == "acme" }},
		"forwarded, a subject":          {two(forwarded), account.Who{Subject: "alice", Tenant: "acme"}, func(_, subject, tenant string) bool { return subject == "alice" && tenant == "acme" }},
		"forwarded, of one issuer": {forwarded, account.Who{Subject: "alice", Tenant: "acme"}, func(issuer, subject, tenant string) bool {
			return subject == "alice" && tenant == "acme" && issuer == auth0
		}},
		"minted, a subject of no tenant": {minted, account.Who{Subject: "nobody"}, func(string, string, string) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := account.Deny(configured(t, tc.text), noon, tc.who)
			if err != nil {
				t.Fatal(err)
			}
			roles := []string{"arn:aws:iam::123456789012:role/uploads", "arn:aws:iam::123456789012:role/reports", "arn:aws:iam::123456789012:role/team/own"}
			if strings.HasPrefix(name, "minted") { // two grants share one
				roles = slices.Delete(roles, 1, 2)
			}
			if diff := cmp.Diff(roles, d.Roles); diff != "" {
				t.Error(diff)
			}
			deny := parse(t, d.Policy)
			all := parse(t, []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`))
			for _, issuer := range []string{auth0, other} {
				for _, subject := range []string{"alice", "bob"} {
					for _, tenant := range []string{"acme", "acme2"} {
						for issued, before := range map[time.Duration]bool{-time.Hour: true, -time.Second: true, 0: false, time.Second: false} {
							context := session(issuer, subject, tenant, noon.Add(issued), strings.HasPrefix(name, "minted"))
							got := iam.Decide(iam.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::acme-uploads/tenants/acme/a", Context: context}, all, deny)
							want := iam.Allow
							if before && tc.ends(issuer, subject, tenant) {
								want = iam.ExplicitDeny
							}
							if got != want {
								t.Errorf("%s of %s in %s, issued %s: %v", subject, issuer, tenant, issued, got)
							}
						}
					}
				}
			}
		})
	}
}

func TestADenialThatWouldMeanOthersIsNotWritten(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		text   string
		before time.Time
		who    account.Who
	}{
		"a tenant of no name":            {minted, noon, account.Who{Tenant: "*"}},
		"forwarded, a subject alone":     {forwarded, noon, account.Who{Subject: "alice"}},
		"before no time":                 {minted, time.Time{}, account.Who{}},
		"forwarded, a tenant of no name": {forwarded, noon, account.Who{Subject: "alice", Tenant: "a b"}},
	} {
		if d, err := account.Deny(configured(t, tc.text), tc.before, tc.who); err == nil || d.Policy != nil || d.Roles != nil {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func configured(t *testing.T, text string) config.Config {
	t.Helper()
	cfg, err := config.Parse("c.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
