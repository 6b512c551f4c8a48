package doctor_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/tofu"
	"credential-broker/broker/escape"
	"credential-broker/policy"
)

// deployed makes the account of what deploy/terraform makes for the
// configuration. IAM takes only https for an issuer, and here it is http on
// loopback: of an issuer the documents have the host alone.
func deployed(mode, grants string, edits ...string) func(*world, *brokertest.AWSConfig) {
	return func(w *world, c *brokertest.AWSConfig) {
		w.t.Helper()
		ws := tofu.New(w.t, "terraform/aws")
		edit(w.t, filepath.Join(ws.Dir, "main.tf"), edits...)
		text := w.configuration(mode, w.cfg.Issuers[0].URL, grants, local(nil))
		vars, err := tofu.Variables(strings.ReplaceAll(text, "http://127.", "https://127."))
		if err != nil {
			w.t.Fatal(err)
		}
		state, err := ws.Plan(w.t.Context(), vars)
		if err != nil {
			w.t.Fatal(err)
		}
		c.Providers, c.Roles = nil, nil
		for _, p := range state.Of("aws_iam_openid_connect_provider") {
			var clients []string
			for _, id := range p.Values["client_id_list"].([]any) {
				clients = append(clients, id.(string))
			}
			c.Providers = append(c.Providers, brokertest.Provider{URL: strings.Replace(p.Text("url"), "https://127.", "http://127.", 1), ClientIDs: clients})
		}
		own := map[any]string{}
		for _, p := range state.Of("aws_iam_role_policy") {
			own[p.Index] = p.Text("policy")
		}
		for _, r := range state.Of("aws_iam_role") {
			c.Roles = append(c.Roles, brokertest.Role{
				Name: r.Text("name"), TrustPolicy: []byte(r.Text("assume_role_policy")), Policy: []byte(own[r.Index]),
			})
		}
	}
}

// edit replaces, two by two.
func edit(t testing.TB, file string, edits ...string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("%s has no %s", file, edits[i])
		}
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The whole suite on the account that deploy/terraform makes: nothing gets out.
func TestNobodyGetsOutOfWhatTerraformMakes(t *testing.T) {
	w := newWorld(t, minted, shapes+actFor, local(deployed(minted, shapes+actFor)))
	all, open := w.prove()
	for _, id := range sorted(open) {
		t.Errorf("%s: %s: %s", open[id].Verdict, id, open[id].Detail)
	}
	t.Logf("%d checks", len(all))
}

// direct are grants as mode forwarded can have them: a role for each.
const direct = `
grants:
  - {name: uploads, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-uploads, region: ap-northeast-1, prefix: "tenants/{tenant}/", access: [list, read, write, delete]}
  - {name: mine, role_arn: "ROLE-mine", tenant: {claim: org_id}, bucket: acme-files, region: ap-northeast-1, prefix: "{tenant}/{user}/", access: [list, read, write, delete]}
`

// In mode forwarded whoever has a token goes round the broker: what the Action
// has written into the token, and the roles that Terraform makes, are all that
// bounds him.
func TestNobodyGetsOutOfWhatTerraformMakesForHisOwnToken(t *testing.T) {
	w := newWorld(t, forwarded, direct, local(deployed(forwarded, direct)))
	for _, c := range w.roundTheBroker() {
		if c.Verdict != escape.Held {
			t.Errorf("%s: %s: %s", c.Verdict, c.ID(), c.Detail)
		}
	}
}

// The proof is to notice what a slip in the module would open.
func TestTheProofNoticesWhatTerraformLeavesOpen(t *testing.T) {
	for name, edits := range map[string][]string{
		"the whole bucket":           {`Resource  = "${p.bucket}/${p.pattern}"`, `Resource  = "${p.bucket}/*"`},
		"no condition on the prefix": {`, StringLike = { "s3:prefix" = p.pattern } }`, ` }`},
		"no slash after the tenant":  {`"$${aws:PrincipalTag/user}")}*"`, `"$${aws:PrincipalTag/user}")}"`, `      pattern = "${replace(`, `      pattern = "${trimsuffix(replace(`, `"$${aws:PrincipalTag/user}")}"`, `"$${aws:PrincipalTag/user}"), "/")}*"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, forwarded, direct, local(deployed(forwarded, direct, edits...)))
			w.lenient = true
			out := 0
			for _, c := range w.roundTheBroker() {
				if c.Verdict == escape.Failed {
					out++
				}
			}
			if out == 0 {
				t.Error("nothing got out")
			}
			t.Logf("%d ways out", out)
		})
	}
}

// roundTheBroker tries everything with the sessions that alice gets from STS by
// her own token, one for each role.
func (w *world) roundTheBroker() []escape.Check {
	w.t.Helper()
	alice, bob := w.forwardedToken("alice@acme.test"), w.forwardedToken("bob@globex.test")
	var all []escape.Check
	for _, g := range w.cfg.Grants {
		at := escape.Target{S3: w.s3, STS: w.sts, Region: brokertest.Region, Role: g.RoleARN.String()}
		his := at
		his.Session = w.assume(at, "bob", bob)
		victim := escape.Victim{Bucket: g.Layout().Bucket.String(), Key: w.prefix(g, "bob@globex.test", "org_globex") + "secret.txt", Text: "bob's own words"}
		if err := escape.Put(w.t.Context(), his, victim); err != nil {
			w.t.Fatal(err)
		}
		at.Session = w.assume(at, "alice", alice)
		at.Scope = w.scope(ask{grant: g.Name})
		at.Victims, at.Other = []escape.Victim{victim}, &his.Session
		for _, suite := range []func() ([]escape.Check, error){
			func() ([]escape.Check, error) { return escape.Inside(w.t.Context(), at) },
			func() ([]escape.Check, error) { return escape.Outside(w.t.Context(), at) },
		} {
			checks, err := suite()
			if err != nil || len(checks) == 0 {
				w.t.Fatal(len(checks), err)
			}
			all = append(all, checks...)
		}
	}
	return all
}

func (w *world) assume(at escape.Target, name, token string) escape.Session {
	w.t.Helper()
	session, answer, err := escape.Assume(w.t.Context(), at, at.Role, name, broker.NewSecret(token))
	if err != nil || session.AccessKeyID == "" {
		w.t.Fatal(answer, err)
	}
	return session
}

func (w *world) prefix(g broker.Grant, email, tenant string) string {
	w.t.Helper()
	who, err := policy.ParseTenant(tenant)
	if err != nil {
		w.t.Fatal(err)
	}
	claims, err := w.auth0.UserClaims(email)
	if err != nil {
		w.t.Fatal(err)
	}
	_, prefix, err := g.Layout().Place(who, policy.UserOf(w.cfg.Issuers[0].URL, claims["sub"].(string)))
	if err != nil {
		w.t.Fatal(err)
	}
	return prefix.String()
}

// forwardedToken is a user's token with what deploy/auth0's Action writes.
func (w *world) forwardedToken(email string) string {
	w.t.Helper()
	claims, err := w.auth0.UserClaims(email)
	if err != nil {
		w.t.Fatal(err)
	}
	issuer, subject := w.cfg.Issuers[0].URL, claims["sub"].(string)
	host := strings.Trim(strings.TrimPrefix(issuer, "http:"), "/")
	written := action(w.t, map[string]any{
		"secrets":         map[string]any{"AUDIENCE": brokertest.Audience, "TENANT_FROM": "organization", "TAGS": "true"},
		"resource_server": map[string]any{"identifier": brokertest.Audience}, "request": map[string]any{"hostname": host},
		"organization": map[string]any{"id": claims["org_id"]}, "user": map[string]any{"user_id": subject},
	})
	tags, _ := written["https://aws.amazon.com/tags"].(map[string]any)
	principal, _ := tags["principal_tags"].(map[string]any)
	user, _ := principal["user"].([]any)
	if len(user) != 1 || user[0] != policy.UserOf("https://"+host+"/", subject).String() {
		w.t.Fatalf("the Action's name of %s is %v", subject, principal["user"])
	}
	user[0] = policy.UserOf(issuer, subject).String() // the issuer is http here
	for name, value := range written {
		claims[name] = value
	}
	token, err := w.auth0.Mint(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// action runs deploy/auth0's Action for a log-in, and returns the claims that it
// writes.
func action(t testing.TB, event map[string]any) map[string]any {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not here, which the Action of deploy/auth0 needs")
		}
		t.Skip("node is not here: the Action of deploy/auth0 is not tried")
	}
	in, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	const program = `const claims = {}
const api = {accessToken: {setCustomClaim: (name, value) => { claims[name] = value }}, access: {deny: (reason) => { throw new Error(reason) }}}
require(process.argv[1]).onExecutePostLogin(JSON.parse(process.argv[2]), api).then(() => console.log(JSON.stringify(claims)))`
	file, err := filepath.Abs("../../../deploy/auth0/tenant.js")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), node, "-e", program, file, string(in)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(out, &claims); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return claims
}
