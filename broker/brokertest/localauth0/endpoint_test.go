package localauth0_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"credential-broker/broker/brokertest/localauth0"
)

func TestPasswordGrantGivesAScriptAUsersToken(t *testing.T) {
	tn := start(t)
	got := granted(t, tn.post("oauth/token", passwordForm()))
	_, claims := tn.verify(got.Access)
	if claims["azp"] != localauth0.DemoCLI || claims["gty"] != "password" || claims["aud"] != audience {
		t.Errorf("claims %v", claims)
	}
	if got.Scope != "upload:files" || got.ID != "" || got.Refresh != "" {
		t.Errorf("got %+v, want the user's permissions and an access token alone", got)
	}
	named := granted(t, tn.post("oauth/token", passwordForm("client_id", localauth0.DemoCLI, "scope", "openid offline_access")))
	if named.ID == "" || named.Refresh == "" {
		t.Errorf("got %+v, want an ID token and a refresh token", named)
	}
}

func TestClientCredentialsGiveAMachineToken(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.Clients[1].Organization = "org_acme" })
	r := tn.request(http.MethodPost, "oauth/token", strings.NewReader(form("grant_type", "client_credentials", "audience", audience).Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.SetBasicAuth("reports%2Dservice", localauth0.DemoMachineSecret) // form-encoded inside, RFC 6749 §2.3.1
	body := map[string]string{}
	for name, values := range machineForm("organization", "org_acme", "scope", "openid") {
		body[name] = values[0]
	}
	delete(body, "scope")
	for how, a := range map[string]answer{
		"form":  tn.post("oauth/token", machineForm()),
		"json":  tn.postJSON(body),
		"basic": tn.do(r),
	} {
		t.Run(how, func(t *testing.T) {
			got := granted(t, a)
			_, claims := tn.verify(got.Access)
			if claims["sub"] != "reports-service@clients" || claims["gty"] != "client-credentials" || claims["org_id"] != "org_acme" {
				t.Errorf("claims %v", claims)
			}
			if got.Scope != "broker:act-for-tenant" || got.ID != "" || got.Refresh != "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestTokenEndpointRefuses(t *testing.T) {
	for _, c := range []struct {
		rule string
		form map[string][]string
		code string
		want int
	}{
		{"no grant_type", passwordForm("grant_type", ""), "invalid_request", 400},
		{"an unknown grant_type", passwordForm("grant_type", "implicit"), "unsupported_grant_type", 400},
		{"a wrong password", passwordForm("password", "wrong"), "invalid_grant", 403},
		{"an unknown user", passwordForm("username", "eve@acme.test"), "invalid_grant", 403},
		{"an unknown user without password", passwordForm("username", "eve@acme.test", "password", ""), "invalid_grant", 403},
		{"an unknown audience for a user", passwordForm("audience", "https://other.example"), "access_denied", 403},
		{"an unknown audience for a machine", machineForm("audience", "https://other.example"), "access_denied", 403},
		{"no audience for a machine", machineForm("audience", ""), "access_denied", 403},
		{"a wrong secret", machineForm("client_secret", "wrong"), "access_denied", 401},
		{"a missing secret", machineForm("client_secret", ""), "access_denied", 401},
		{"a secret of a public client", passwordForm("client_id", localauth0.DemoCLI, "client_secret", "x"), "access_denied", 401},
		{"an unknown client", machineForm("client_id", "nobody"), "access_denied", 401},
		{"no client outside the password grant", machineForm("client_id", "", "client_secret", ""), "access_denied", 401},
		{"a grant that the client does not hold", passwordForm("client_id", localauth0.DemoSPA), "unauthorized_client", 403},
		{"a scope that the machine was not granted", machineForm("scope", "upload:files"), "access_denied", 403},
		{"an organization that the machine is not in", machineForm("organization", "org_globex"), "access_denied", 403},
		{"an organization that the user is not in", passwordForm("organization", "org_globex"), "access_denied", 403},
		{"an organization for a user of none", passwordForm("username", "mallory@nowhere.test", "organization", "org_acme"), "access_denied", 403},
		{"a parameter that stands twice", map[string][]string{"grant_type": {"password", "password"}}, "invalid_request", 400},
		{"a body beyond the limit", passwordForm("scope", strings.Repeat("x", 16<<10)), "invalid_request", 413},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a := start(t).post("oauth/token", c.form)
			refused(t, a, c.want, c.code)
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" {
				t.Errorf("headers %v: want no-store", a.header)
			}
			if (c.want == 401) != (a.header.Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate %q with %d", a.header.Get("WWW-Authenticate"), c.want)
			}
		})
	}
}

func TestUnknownAudienceIsNamedAsAuth0NamesIt(t *testing.T) {
	tn := start(t)
	if got := refused(t, tn.post("oauth/token", passwordForm("audience", "urn:x")), 403, "access_denied"); got != "Service not found: urn:x" {
		t.Errorf("description %q", got)
	}
}

func TestClientAuthenticatesInOneWay(t *testing.T) {
	for rule, c := range map[string]struct {
		pairs    []string
		id, pass string
		status   int
		code     string
	}{
		"Basic and the same id in the body": {[]string{"client_secret", ""}, "reports-service", "demo-secret", 200, ""},
		"Basic and another id in the body":  {[]string{"client_id", "demo-cli", "client_secret", ""}, "reports-service", "demo-secret", 400, "invalid_request"},
		"Basic and a secret in the body":    {nil, "reports-service", "demo-secret", 400, "invalid_request"},
		"Basic with a wrong secret":         {[]string{"client_secret", ""}, "reports-service", "wrong", 401, "access_denied"},
		"Basic that is not form-encoded":    {[]string{"client_id", "", "client_secret", ""}, "%zz", "demo-secret", 401, "access_denied"},
		"Basic secret not form-encoded":     {[]string{"client_secret", ""}, "reports-service", "%zz", 401, "access_denied"},
	} {
		t.Run(rule, func(t *testing.T) {
			tn := start(t)
			r := tn.request(http.MethodPost, "oauth/token", strings.NewReader(machineForm(c.pairs...).Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth(c.id, c.pass)
			if c.status == 200 {
				granted(t, tn.do(r))
				return
			}
			refused(t, tn.do(r), c.status, c.code)
		})
	}
	tn := start(t)
	r := tn.request(http.MethodPost, "oauth/token", strings.NewReader(machineForm().Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer x")
	refused(t, tn.do(r), 401, "access_denied")
}

func TestPasswordGrantWithoutAClientNeedsADefaultOne(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.DefaultClient = "" })
	refused(t, tn.post("oauth/token", passwordForm()), 401, "access_denied")
}

func TestTokenBodyIsAFormOrOneFlatObject(t *testing.T) {
	tn := start(t)
	for rule, body := range map[string]string{
		"an array":             `["grant_type","password"]`,
		"a nested value":       `{"grant_type":{"a":"b"}}`,
		"a number":             `{"grant_type":"password","scope":7}`,
		"a name twice":         `{"grant_type":"password","grant_type":"password"}`,
		"something behind it":  `{"grant_type":"password"} {}`,
		"an unfinished object": `{"grant_type":"password"`,
		"an unfinished value":  `{"grant_type":`,
		"an unfinished name":   `{"grant_type":"password","a`,
		"nothing":              ``,
	} {
		t.Run(rule, func(t *testing.T) {
			r := tn.request(http.MethodPost, "oauth/token", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			got := refused(t, tn.do(r), 400, "invalid_request")
			if !strings.Contains(got, "JSON object") {
				t.Errorf("refused for another reason: %s", got)
			}
		})
	}
	r := tn.request(http.MethodPost, "oauth/token", strings.NewReader(passwordForm().Encode()))
	r.Header.Set("Content-Type", "text/plain")
	refused(t, tn.do(r), 400, "invalid_request")
	r = tn.request(http.MethodPost, "oauth/token", strings.NewReader("grant_type=%zz"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if got := refused(t, tn.do(r), 400, "invalid_request"); got != "malformed parameters" {
		t.Errorf("refused for another reason: %s", got)
	}
}

func TestParametersInTheQueryOfTheTokenEndpointDoNotCount(t *testing.T) {
	tn := start(t)
	refused(t, tn.post("oauth/token?"+passwordForm().Encode(), nil), 400, "invalid_request")
}

func (tn *tenant) postJSON(body map[string]string) answer {
	tn.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		tn.t.Fatal(err)
	}
	r := tn.request(http.MethodPost, "oauth/token", strings.NewReader(string(raw)))
	r.Header.Set("Content-Type", "application/json")
	return tn.do(r)
}
