package account_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/tofu"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
)

// made is the part of a setup that a cloud gets: JSON as values, whose order does
// not count.
type made struct {
	Providers map[string][]string // :: URL → clients
	Roles     map[string]role     // :: ARN
}

type role struct {
	MaxSessionDuration int
	Trust, Own         any
}

func value(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func printed(t *testing.T, s account.Setup) made {
	t.Helper()
	m := made{map[string][]string{}, map[string]role{}}
	for _, p := range s.Providers {
		m.Providers[p.URL] = slices.Sorted(slices.Values(p.ClientIDs)) // IAM has a set
	}
	for _, r := range s.Roles {
		m.Roles[r.ARN] = role{r.MaxSessionDuration, value(t, string(r.TrustPolicy)), value(t, string(r.Policy))}
	}
	return m
}

func planned(t *testing.T, s tofu.State, partition string) made {
	t.Helper()
	m := made{map[string][]string{}, map[string]role{}}
	for _, r := range s.Of("aws_iam_openid_connect_provider") {
		var clients []string
		for _, c := range r.Values["client_id_list"].([]any) {
			clients = append(clients, c.(string))
		}
		m.Providers[r.Text("url")] = slices.Sorted(slices.Values(clients))
	}
	own := map[any]string{}
	for _, p := range s.Of("aws_iam_role_policy") {
		own[p.Index] = p.Text("policy")
	}
	for _, r := range s.Of("aws_iam_role") {
		arn := "arn:" + partition + ":iam::123456789012:role" + r.Text("path") + r.Text("name")
		m.Roles[arn] = role{int(r.Values["max_session_duration"].(float64)), value(t, r.Text("assume_role_policy")), value(t, own[r.Index])}
	}
	return m
}

// every is a configuration with a grant, and a role, for every shape of place,
// every access, with and without a key.
func every(head string) string {
	var b strings.Builder
	b.WriteString(head + "grants:\n")
	n := 0
	for _, place := range []struct{ bucket, prefix string }{
		{"files-%d", "tenants/{tenant}/"}, {"files-%d", "a/{tenant}/b/{user}/"}, {"{tenant}-files-%d", "data/"}, {"x-%d-{tenant}", "{user}/x.y_=@-/"},
	} {
		for bits := 1; bits < 16; bits++ {
			var access []string
			for i, right := range []string{"list", "read", "write", "delete"} {
				if bits&(1<<i) != 0 {
					access = append(access, right)
				}
			}
			for _, key := range []string{"", "arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd-12ab"} {
				n++
				issuer := "https://acme.eu.auth0.com/"
				if n%3 == 0 && strings.Contains(head, "login.acme.example") {
					issuer = "https://login.acme.example/t/"
				}
				fmt.Fprintf(&b, "  - {name: g%d, match: {claims: {iss: %q}}, role_arn: \"arn:aws:iam::123456789012:role/r%d\", tenant: {claim: org_id}, bucket: %q, region: ap-northeast-1, prefix: %q, access: [%s], duration: %dm, kms_key_arn: %q}\n",
					n, issuer, n, fmt.Sprintf(place.bucket, n), place.prefix, strings.Join(access, ", "), 15+n, key)
			}
		}
	}
	return b.String()
}

// shared has a role for several grants, some of which are in one place.
const shared = `
issuers: [{url: https://acme.eu.auth0.com/, audiences: [https://uploads.acme.example]}]
web_identity: {mode: minted, issuer: https://broker.acme.example/base, audience: other, signing_keys: [/run/secrets/web-identity.pem]}
sts: {region: ap-northeast-1}
grants:
  - {name: a, role_arn: "arn:aws:iam::123456789012:role/one", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "t/{tenant}/", access: [list]}
  - {name: b, role_arn: "arn:aws:iam::123456789012:role/two", tenant: {request: true}, bucket: acme-uploads, region: ap-northeast-1, prefix: "t/{tenant}/", access: [read, delete]}
  - {name: c, role_arn: "arn:aws:iam::123456789012:role/one", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "u/{tenant}/{user}/", access: [write], duration: 12h}
  - {name: d, role_arn: "arn:aws:iam::123456789012:role/one", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "t/{tenant}/", access: [write, list], duration: 1h30m}
  - {name: e, role_arn: "arn:aws:iam::123456789012:role/one", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "w/{tenant}/", access: [delete], bind_source_ip: true}
`

const (
	mintedHead = "issuers: [{url: https://acme.eu.auth0.com/, audiences: [https://uploads.acme.example]}]\n" +
		"web_identity: {mode: minted, issuer: https://broker.acme.example, signing_keys: [/run/secrets/web-identity.pem]}\nsts: {region: ap-northeast-1}\n"
	forwardedHead = "issuers:\n  - {url: https://acme.eu.auth0.com/, audiences: [https://uploads.acme.example], clients: [spa]}\n" +
		"  - {url: https://login.acme.example/t/, audiences: [a, b], clients: [spa, cli]}\nweb_identity: {mode: forwarded}\nsts: {region: ap-northeast-1}\n"
)

// What Terraform makes is what `credential-broker iam` prints, for every shape of
// a grant in both modes. Neither may change without the other.
func TestTerraformMakesWhatIsPrinted(t *testing.T) {
	china := strings.NewReplacer("arn:aws:", "arn:aws-cn:", "ap-northeast-1", "cn-north-1")
	for name, tc := range map[string]struct{ text, partition, region string }{
		"minted": {minted, "aws", "ap-northeast-1"}, "forwarded": {forwarded, "aws", "ap-northeast-1"},
		"china": {china.Replace(minted), "aws-cn", "cn-north-1"}, "shared roles": {shared, "aws", "ap-northeast-1"},
		"every grant, minted": {every(mintedHead), "aws", "ap-northeast-1"}, "every grant, forwarded": {every(forwardedHead), "aws", "ap-northeast-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tofu.New(t, "terraform/aws")
			w.Answer("data.aws_partition", "partition", tc.partition)
			w.Answer("data.aws_region", "region", tc.region)
			vars, err := tofu.Variables(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			vars["existing_buckets"] = buckets(vars) // of which there are many, and none is looked at
			state, err := w.Plan(t.Context(), vars)
			if err != nil {
				t.Fatal(err)
			}
			want, err := setup(t, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			got := planned(t, state, tc.partition)
			if diff := cmp.Diff(printed(t, want), got); diff != "" {
				t.Errorf("-iam +terraform\n%s", diff)
			}
			t.Logf("%d roles", len(got.Roles))

			// The module's own words for the broker lead to the same account again.
			again, err := setup(t, configuration(t, state))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(printed(t, want), printed(t, again)); diff != "" {
				t.Errorf("-iam +iam of the output\n%s", diff)
			}
		})
	}
}

func buckets(vars map[string]any) (names []string) {
	for _, g := range vars["grants"].([]map[string]any) {
		names = append(names, g["bucket"].(string))
	}
	return names
}

// configuration is the broker's, with what the module cannot know.
func configuration(t *testing.T, s tofu.State) string {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(s.Outputs["configuration"], &c); err != nil {
		t.Fatal(err)
	}
	if w := c["web_identity"].(map[string]any); w["mode"] == config.Minted {
		w["signing_keys"] = []string{"/run/secrets/web-identity.pem"}
	}
	text, err := json.Marshal(c) // which is YAML, too
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Where the one refuses, so does the other.
func TestTerraformRefusesWhatIsNotPrinted(t *testing.T) {
	clients := make([]string, 40)
	for i := range clients {
		clients[i] = fmt.Sprintf("client-with-a-long-name-%02d", i)
	}
	var many strings.Builder
	many.WriteString(mintedHead + "grants:\n")
	for i := range 30 {
		fmt.Fprintf(&many, "  - {name: g%d, role_arn: \"arn:aws:iam::123456789012:role/r\", tenant: {claim: org_id}, bucket: files-%d, region: ap-northeast-1, prefix: \"tenants/{tenant}/\", access: [list, read, write]}\n", i, i)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"a trust policy that is too long": {strings.Replace(forwarded, "[spa, cli]", "["+strings.Join(clients, ", ")+"]", 1), "at most 2048|IAM takes 2048"},
		"a policy that is too long":       {many.String(), "at most 10240|IAM takes 10240"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs, _ := strings.Cut(tc.want, "|")
			if _, err := setup(t, tc.text); err == nil || !strings.Contains(err.Error(), ours) {
				t.Errorf("iam: %v", err)
			}
			vars, err := tofu.Variables(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tofu.New(t, "terraform/aws").Plan(t.Context(), vars); err == nil || !strings.Contains(strings.Join(strings.Fields(err.Error()), " "), theirs) {
				t.Errorf("terraform: %v", err)
			}
		})
	}
}

// The comparison is to notice: each change of the module that would open a wall
// shows in it.
func TestTheComparisonNotices(t *testing.T) {
	for name, tc := range map[string]struct{ old, replaced string }{
		"no condition on the prefix":      {`, StringLike = { "s3:prefix" = p.pattern } }`, ` }`},
		"the whole bucket":                {`Resource  = "${p.bucket}/${p.pattern}"`, `Resource  = "${p.bucket}/*"`},
		"any account":                     {"Condition = { StringEquals = local.ours }\n", "Condition = {}\n"},
		"no tag is asked for":             {`: "aws:RequestTag/${tag}" => "false" }`, `: "aws:RequestTag/${tag}" => "true" }`},
		"any role":                        {`{ "sts:RoleAuthorizedByIdp" = "true" }`, `{ "sts:RoleAuthorizedByIdp" = "false" }`},
		"any audience":                    {`StringEquals = { "${t.host}:aud" = jsondecode(t.aud) }`, `StringLike = { "${t.host}:aud" = "*" }`},
		"the key for any object":          {`[p.bucket, "${p.bucket}/${p.pattern}"]`, `["*"]`},
		"the user's tag for the tenant's": {`"$${aws:PrincipalTag/tenant}"`, `"$${aws:PrincipalTag/user}"`},
		"every issuer":                    {`if local.minted || alltrue([for g in grants : lookup(g.match.claims, "iss", t.url) == t.url])`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := minted
			if name == "every issuer" {
				text = two
			}
			w := tofu.New(t, "terraform/aws")
			file := filepath.Join(w.Dir, "main.tf")
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(source), tc.old) {
				t.Fatalf("main.tf has no %s", tc.old)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(source), tc.old, tc.replaced, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			vars, err := tofu.Variables(text)
			if err != nil {
				t.Fatal(err)
			}
			state, err := w.Plan(t.Context(), vars)
			if err != nil {
				t.Fatal(err)
			}
			want, err := setup(t, text)
			if err != nil {
				t.Fatal(err)
			}
			if cmp.Equal(printed(t, want), planned(t, state, "aws")) {
				t.Error("it did not notice")
			}
		})
	}
}
