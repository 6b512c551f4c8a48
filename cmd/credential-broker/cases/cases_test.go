package cases_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"credential-broker/cmd/credential-broker/cases"
	"credential-broker/cmd/credential-broker/config"
)

const deploy = "../../../deploy/"

// quick has tokens signed with keys that are made in no time.
var quick = []string{"algorithms: [RS256]", "algorithms: [ES256]"}

func example(t *testing.T, oldnew ...string) config.Config {
	t.Helper()
	text, err := os.ReadFile(deploy + "config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("config.example.yaml", []byte(strings.NewReplacer(oldnew...).Replace(string(text))), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// folder writes files of cases.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func run(t *testing.T, cfg config.Config, dir string) cases.Report {
	t.Helper()
	all, err := cases.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := cases.Run(t.Context(), cfg, all)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The example in deploy/ is held against the configuration there.
func TestTheExampleHolds(t *testing.T) {
	r := run(t, example(t), deploy+"policy-tests")
	if !r.OK || r.Passed < 15 || r.Failed != 0 {
		t.Errorf("%+v", r)
	}
	// And it notices what it is there to notice.
	for what, change := range map[string][]string{
		"the tenant comes from elsewhere": {"claim: org_id", "claim: sub"},
		"anybody may upload":              {"permissions: [upload:files]", "permissions: []"},
		"the folder is another":           {"prefix: tenants/{tenant}/", "prefix: files/{tenant}/"},
		"a right more":                    {"access: [list, read]", "access: [list, read, write]"},
		"a longer session":                {"duration: 1h", "duration: 2h"},
	} {
		if r := run(t, example(t, append(change, quick...)...), deploy+"policy-tests"); r.OK {
			t.Errorf("%s: every case holds", what)
		}
	}
}

func TestEachExpectationIsHeld(t *testing.T) {
	const good = "{claims: {org_id: org_acme, permissions: [\"upload:files\"]}}"
	for expect, words := range map[string]string{
		"{grant: reports}":     "grant: want reports, got uploads",
		"{tenant: org_globex}": "tenant: want org_globex, got org_acme",
		"{bucket: other}":      "bucket: want other, got acme-uploads",
		"{region: eu-west-1}":  "region: want eu-west-1, got ap-northeast-1",
		"{prefix: tenants/}":   "prefix: want tenants/, got tenants/org_acme/",
		"{access: [read]}":     "access: want read, got delete, list, read, write",
		"{role_arn: x}":        "role_arn: want x, got arn:aws:iam::123456789012:role/tenant-uploads",
		"{duration: 2h}":       "duration: want 2h0m0s, got 1h0m0s",
		"{code: no_grant}":     "want no_grant, got credentials for org_acme",
		"{access: [write, read, list, delete], grant: uploads}": "",
	} {
		r := run(t, example(t, quick...), folder(t, map[string]string{"a.yaml": fmt.Sprintf("cases: [{name: a, token: %s, expect: %s}]", good, expect)}))
		got := strings.Join(r.Cases[0].Problems, "; ")
		if got != words || r.OK != (words == "") {
			t.Errorf("%s: %q, want %q", expect, got, words)
		}
	}
	r := run(t, example(t, quick...), folder(t, map[string]string{"a.yaml": "cases: [{name: a, token: {claims: {}}, expect: {tenant: org_acme}}]"}))
	var text strings.Builder
	cases.Print(&text, r)
	if !strings.Contains(text.String(), "  ✘ a\n      want credentials, got no_grant: none of 2 grants matches the token\n0 passed, 1 failed\n") {
		t.Error(&text)
	}
}

func TestCasesThatProveNothingAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nothing expected":        "cases: [{name: a}]",
		"code and scope":          "cases: [{name: a, expect: {code: no_grant, grant: x}}]",
		"no name":                 "cases: [{expect: {code: no_grant}}]",
		"a name twice":            "cases: [{name: a, expect: {code: no_grant}}, {name: a, expect: {code: no_grant}}]",
		"a misspelt key":          "cases: [{name: a, expect: {codes: no_grant}}]",
		"two documents":           "cases: []\n---\ncases: []",
		"not a list":              "cases: 5",
		"no case at all":          "",
		"a duration without unit": "cases: [{name: a, token: {age: x}, expect: {code: no_grant}}]",
	} {
		if all, err := cases.Read(folder(t, map[string]string{"a.yaml": text})); err == nil {
			t.Errorf("%s: taken: %+v", name, all)
		}
	}
	if _, err := cases.Read(folder(t, map[string]string{"readme.txt": "cases: []"})); err == nil {
		t.Error("a folder without a file is taken")
	}
}

func TestFilesAreReadInAndBelowAFolder(t *testing.T) {
	one := func(name string) string {
		return fmt.Sprintf(`{"cases": [{"name": %q, "expect": {"code": "no_grant"}}]}`, name)
	}
	all, err := cases.Read(folder(t, map[string]string{"b/c.json": one("3"), "a.yml": one("1"), "b/a.yaml": one("2"), "b/x.txt": "{"}))
	if err != nil || len(all) != 3 || all[0].Name+all[1].Name+all[2].Name != "123" {
		t.Errorf("%+v, %v", all, err)
	}
}

// Each algorithm that an issuer may have signs what the verifier takes, and what a
// forger signs it does not take.
func TestEveryAlgorithmSigns(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": `
cases:
  - {name: good, token: {claims: {org_id: org_acme, permissions: ["upload:files"]}}, expect: {tenant: org_acme}}
  - {name: forged, token: {claims: {org_id: org_acme, permissions: ["upload:files"]}, forged: true}, expect: {code: invalid_token}}
`})
	for _, alg := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		if r := run(t, example(t, "algorithms: [RS256]", "algorithms: ["+alg+"]"), dir); !r.OK {
			t.Errorf("%s: %+v", alg, r)
		}
	}
}

func TestATokenIsOfTheIssuerThatItNames(t *testing.T) {
	cfg := example(t, "issuers:", "issuers:\n  - {url: \"https://b.example/\", audiences: [b], algorithms: [ES256]}",
		"claims: {}}", "claims: {iss: \"https://acme.eu.auth0.com/\"}}", "match: {permissions: [broker:act-for-tenant]}", "match: {claims: {iss: \"https://b.example/\"}}")
	r := run(t, cfg, folder(t, map[string]string{"a.yaml": `
cases:
  - {name: the first, request: {tenant: org_acme}, expect: {grant: reports}}
  - {name: the other, token: {claims: {iss: "https://acme.eu.auth0.com/", org_id: org_acme, permissions: ["upload:files"]}}, expect: {grant: uploads}}
`}))
	if !r.OK {
		t.Errorf("%+v", r)
	}
}
