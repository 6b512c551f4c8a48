package account_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/iam"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
)

var update = flag.Bool("update", false, "rewrite the golden setups")

const minted = `
issuers: [{url: https://acme.eu.auth0.com/, audiences: [https://uploads.acme.example]}]
web_identity: {mode: minted, issuer: https://broker.acme.example, signing_keys: [/run/secrets/web-identity.pem]}
sts: {region: ap-northeast-1}
grants:
  - {name: uploads, role_arn: "arn:aws:iam::123456789012:role/uploads", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read, write, delete]}
  - {name: reports, role_arn: "arn:aws:iam::123456789012:role/uploads", tenant: {request: true}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read], duration: 15m}
  - {name: own, role_arn: "arn:aws:iam::123456789012:role/team/own", tenant: {claim: org_id}, bucket: "{tenant}-files", region: ap-northeast-1, prefix: "u/{user}/", access: [read, write], duration: 2h, kms_key_arn: "arn:aws:kms:ap-northeast-1:123456789012:key/x"}
`

var forwarded = strings.NewReplacer(
	"audiences: [https://uploads.acme.example]", "audiences: [https://uploads.acme.example], clients: [spa, cli]",
	"{mode: minted, issuer: https://broker.acme.example, signing_keys: [/run/secrets/web-identity.pem]}", "{mode: forwarded}",
	"tenant: {request: true}", "tenant: {claim: org_id}", `{name: reports, role_arn: "arn:aws:iam::123456789012:role/uploads"`, `{name: reports, role_arn: "arn:aws:iam::123456789012:role/reports"`,
).Replace(minted)

func setup(t *testing.T, text string) (account.Setup, error) {
	t.Helper()
	cfg, err := config.Parse("c.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return account.Of(cfg)
}

func TestSetupsAreTheGoldenOnes(t *testing.T) {
	for name, text := range map[string]string{
		"minted": minted, "forwarded": forwarded,
		"china": strings.NewReplacer("arn:aws:", "arn:aws-cn:", "ap-northeast-1", "cn-north-1").Replace(minted),
	} {
		got, err := setup(t, text)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(want)), string(data)); diff != "" {
			t.Errorf("%s (-golden +got)\n%s", name, diff)
		}
	}
}

func TestWhatAModeCannotBoundIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"a tenant from the request, forwarded": {strings.Replace(forwarded, "tenant: {claim: org_id}", "tenant: {request: true}", 1), "the token's tag names it"},
		"two grants on one role, forwarded":    {strings.Replace(forwarded, "role/reports", "role/uploads", 1), `grants "uploads" and "reports" share the role`},
		"a bound address, forwarded":           {strings.Replace(forwarded, "access: [list, read],", "access: [list, read], bind_source_ip: true,", 1), `grant "reports" has bind_source_ip`},
		"an issuer without clients, forwarded": {strings.Replace(forwarded, ", clients: [spa, cli]", "", 1), "issuers[].clients of https://acme.eu.auth0.com/ is empty"},
	} {
		if got, err := setup(t, tc.text); err == nil || !strings.Contains(err.Error(), tc.want) || len(got.Roles) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const two = `
issuers:
  - {url: https://acme.eu.auth0.com/, audiences: [https://uploads.acme.example], clients: [spa]}
  - {url: https://login.other.example/, audiences: [https://uploads.acme.example], clients: [spa]}
web_identity: {mode: forwarded}
sts: {region: ap-northeast-1}
grants:
  - {name: ours, match: {claims: {iss: "https://acme.eu.auth0.com/"}}, role_arn: "arn:aws:iam::123456789012:role/ours", tenant: {claim: tenant}, bucket: acme-uploads, region: ap-northeast-1, prefix: "a/{tenant}/", access: [read]}
  - {name: theirs, match: {claims: {iss: "https://login.other.example/"}}, role_arn: "arn:aws:iam::123456789012:role/theirs", tenant: {claim: tenant}, bucket: acme-uploads, region: ap-northeast-1, prefix: "b/{tenant}/", access: [read]}
`

// With two issuers, a tenant of the one is nobody of the other's, though they have
// one name: the role of a grant for the one does not trust the other.
func TestARoleTrustsOnlyTheIssuerOfItsGrant(t *testing.T) {
	s, err := setup(t, two)
	if err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct{ trusted, not string }{{"acme.eu.auth0.com/", "login.other.example/"}, {"login.other.example/", "acme.eu.auth0.com/"}} {
		if trust := string(s.Roles[i].TrustPolicy); !strings.Contains(trust, tc.trusted) || strings.Contains(trust, tc.not) {
			t.Errorf("%s: %s", s.Roles[i].ARN, trust)
		}
	}
	if len(s.Providers) != 2 {
		t.Errorf("%d providers", len(s.Providers))
	}
	if s, err := setup(t, strings.Replace(two, `iss: "https://login.other.example/"`, `iss: "https://nobody.example/"`, 1)); err == nil {
		t.Errorf("a grant for an issuer that there is not: %s", s.Roles[1].TrustPolicy)
	}
}

// The role's own policy opens a session's own tenant, and no other, by
// evaluation: it is the lock that stands without a session policy.
func TestARoleIsBoundedByTheSessionsTags(t *testing.T) {
	s, err := setup(t, minted)
	if err != nil {
		t.Fatal(err)
	}
	uploads, own := parse(t, s.Roles[0].Policy), parse(t, s.Roles[1].Policy)
	const key = "arn:aws:kms:ap-northeast-1:123456789012:key/x"
	acme := map[string][]string{"aws:PrincipalTag/tenant": {"acme"}, "aws:PrincipalTag/user": {"u1"}, "aws:ResourceAccount": {"123456789012"}}
	with := func(more ...string) map[string][]string {
		all := map[string][]string{}
		for k, v := range acme {
			all[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = []string{more[i+1]}
		}
		return all
	}
	kms := func(object string) map[string][]string {
		return with("kms:ViaService", "s3.ap-northeast-1.amazonaws.com", "kms:EncryptionContext:aws:s3:arn", object)
	}
	for name, tc := range map[string]struct {
		role             iam.Document
		action, resource string
		context          map[string][]string
		want             bool
	}{
		"its own object":                 {uploads, "s3:PutObject", "arn:aws:s3:::acme-uploads/tenants/acme/x", acme, true},
		"another account's":              {uploads, "s3:PutObject", "arn:aws:s3:::acme-uploads/tenants/acme/x", with("aws:ResourceAccount", "210987654321"), false},
		"a listing of another account's": {uploads, "s3:ListBucket", "arn:aws:s3:::acme-uploads", with("s3:prefix", "tenants/acme/", "aws:ResourceAccount", "210987654321"), false},
		"its own listing":                {uploads, "s3:ListBucket", "arn:aws:s3:::acme-uploads", with("s3:prefix", "tenants/acme/"), true},
		"another's object":               {uploads, "s3:GetObject", "arn:aws:s3:::acme-uploads/tenants/globex/x", acme, false},
		"a sibling's object":             {uploads, "s3:GetObject", "arn:aws:s3:::acme-uploads/tenants/acme2/x", acme, false},
		"another's listing":              {uploads, "s3:ListBucket", "arn:aws:s3:::acme-uploads", with("s3:prefix", "tenants/globex/"), false},
		"a listing of all":               {uploads, "s3:ListBucket", "arn:aws:s3:::acme-uploads", acme, false},
		"without a tag":                  {uploads, "s3:GetObject", "arn:aws:s3:::acme-uploads/tenants//x", nil, false},
		"its own bucket":                 {own, "s3:PutObject", "arn:aws:s3:::acme-files/u/u1/x", acme, true},
		"another's bucket":               {own, "s3:PutObject", "arn:aws:s3:::globex-files/u/u1/x", acme, false},
		"another user":                   {own, "s3:PutObject", "arn:aws:s3:::acme-files/u/u2/x", acme, false},
		"a right of no grant":            {own, "s3:DeleteObject", "arn:aws:s3:::acme-files/u/u1/x", acme, false},
		"a listing of no grant":          {own, "s3:ListBucket", "arn:aws:s3:::acme-files", with("s3:prefix", "u/u1/"), false},
		"its key":                        {own, "kms:Decrypt", key, kms("arn:aws:s3:::acme-files/u/u1/x"), true},
		"its key for the bucket":         {own, "kms:GenerateDataKey", key, kms("arn:aws:s3:::acme-files"), true},
		"its key for another":            {own, "kms:Decrypt", key, kms("arn:aws:s3:::globex-files/u/u1/x"), false},
		"its key by itself":              {own, "kms:Decrypt", key, acme, false},
	} {
		req := iam.Request{Action: tc.action, Resource: tc.resource, Context: tc.context}
		if got := iam.Decide(req, tc.role).Allowed(); got != tc.want {
			t.Errorf("%s: allowed %t", name, got)
		}
	}
}

func parse(t *testing.T, text []byte) iam.Document {
	t.Helper()
	doc, err := iam.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
