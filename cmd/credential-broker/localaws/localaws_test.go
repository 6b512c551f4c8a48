package localaws_test

import (
	"strings"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/localaws"
)

func parse(t *testing.T, mode string) config.Config {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(`
issuers: [{url: "https://acme.eu.auth0.com/", audiences: ["https://uploads.acme.example"]}]
web_identity: `+mode+`
sts: {region: `+brokertest.Region+`}
grants: [{name: uploads, match: {permissions: ["upload:files"]}, role_arn: "arn:aws:iam::123456789012:role/apps/tenant-uploads", tenant: {claim: org_id}, bucket: b-1, region: `+brokertest.Region+`, prefix: "tenants/{tenant}/", access: [list, read], duration: 2h}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// What is deployed is what is printed, to the byte.
func TestTheAccountIsWhatIsPrinted(t *testing.T) {
	cfg := parse(t, `{mode: minted, issuer: "https://broker.acme.example", signing_keys: ["/run/secrets/k.pem"]}`)
	printed, err := account.Of(cfg)
	if err != nil {
		t.Fatal(err)
	}
	local, err := localaws.Of(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(local.Providers) != 1 || local.Providers[0].URL != printed.Providers[0].URL || strings.Join(local.Providers[0].ClientIDs, " ") != strings.Join(printed.Providers[0].ClientIDs, " ") {
		t.Errorf("providers %+v, printed %+v", local.Providers, printed.Providers)
	}
	role, want := local.Roles[0], printed.Roles[0]
	if len(local.Roles) != 1 || role.Name != "apps/tenant-uploads" || string(role.Policy) != string(want.Policy) || string(role.TrustPolicy) != string(want.TrustPolicy) || role.MaxSession != 2*time.Hour {
		t.Errorf("role %+v, printed %+v", role, want)
	}
	if len(local.Buckets) != 1 || local.Buckets[0].Name != brokertest.Bucket {
		t.Errorf("buckets %+v", local.Buckets)
	}
}

// An account that cannot bound what the grants give is not made.
func TestWhatIsNotPrintedIsNotMade(t *testing.T) {
	cfg := parse(t, "{mode: forwarded}")
	cfg.Issuers[0].Clients = nil
	if _, err := account.Of(cfg); err == nil {
		t.Fatal("this was to be refused")
	}
	if local, err := localaws.Of(cfg); err == nil || len(local.Roles) > 0 {
		t.Errorf("%+v, %v", local, err)
	}
}
