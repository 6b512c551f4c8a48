package explain_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/explain"
)

// small is the configuration of the examples below.
const small = `
issuers: [{url: "ISSUER", audiences: ["https://uploads.acme.test"]}]
web_identity: {mode: minted, issuer: "https://broker.example", signing_keys: [none.pem]}
sts: {region: eu-west-1}
revoked: {subjects: ["auth0|gone"]}
grants:
  - {name: admin, match: {permissions: [admin]}, role_arn: "arn:aws:iam::123456789012:role/r", tenant: {claim: org_id}, bucket: acme-admin, region: eu-west-1, prefix: "{tenant}/", access: [read]}
  - {name: uploads, match: {permissions: ["upload:files"]}, role_arn: "arn:aws:iam::123456789012:role/r", tenant: {claim: org_id}, bucket: acme-uploads, region: eu-west-1, prefix: "tenants/{tenant}/", access: [list, read]}
  - {name: later, match: {}, role_arn: "arn:aws:iam::123456789012:role/r", tenant: {claim: org_id}, bucket: acme-later, region: eu-west-1, prefix: "{tenant}/", access: [read]}
`

// The words are what a support engineer passes on: they name the first rule that
// failed.
func TestADenialNamesTheFirstRuleThatFailed(t *testing.T) {
	auth0, issuer := newAuth0(t)
	cfg, err := config.Parse("small.yaml", []byte(strings.ReplaceAll(small, "ISSUER", issuer)), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	jwks := get(t, issuer+".well-known/jwks.json")
	now := time.Now()
	for _, tc := range []struct {
		name   string
		claims map[string]any
		ask    explain.Request
		words  []string
	}{
		{"allowed", nil, explain.Request{Access: "read", Duration: "20m"}, []string{
			"✔ verified; good until", "✘ admin: the token lacks the permission \"admin\"", "✔ uploads: matches", "– later: not looked at: uploads matches, and stands before it",
			"org_acme", "prefix    tenants/org_acme/", "access    read (the grant gives list, read)", "duration  20m0s (the grant gives 1h0m0s at most)",
			"✔ proved to stay inside the scope; ", " of 2048 bytes", `"Action": [`, "✔ STS is asked",
		}},
		{"another audience", map[string]any{"aud": "https://other.test"}, explain.Request{}, []string{
			"✘ not verified", "401 invalid_token: aud: no configured audience", `→ let the app ask Auth0 for the audience "https://uploads.acme.test", or add "https://other.test"`,
		}},
		{"the slash", map[string]any{"iss": strings.TrimSuffix(issuer, "/")}, explain.Request{}, []string{"401 invalid_token: iss", "the last slash counts"}},
		{"expired", map[string]any{"exp": now.Unix() - 30}, explain.Request{}, []string{"401 expired_token: at ", "→ take a fresh token, or ask about an instant at which it was good, with --at"}},
		{"no permission", map[string]any{"permissions": []string{}, "org_id": nil}, explain.Request{Grant: "uploads"}, []string{
			`– admin: not looked at: the request names another: "uploads"`, "✘ uploads: the token lacks the permission \"upload:files\"", "403 no_grant: grant \"uploads\"", "RBAC",
		}},
		{"no tenant", map[string]any{"org_id": nil}, explain.Request{}, []string{"✔ uploads: matches", "403 invalid_tenant", `the token has no claim "org_id"`, "log in with an organisation"}},
		{"wider", nil, explain.Request{Access: "write"}, []string{"Scope that the grant gives", "403 scope_not_allowed: access write is not within list,read", "a request can only narrow it"}},
		{"malformed", nil, explain.Request{Duration: "soon"}, []string{"400 invalid_request: parameter \"duration\"", "→ write the parameter"}},
		{"shut out", map[string]any{"sub": "auth0|gone"}, explain.Request{}, []string{"✔ verified", "403 revoked", "listed under revoked"}},
		{"what a terminal would obey", map[string]any{"sub": "a\u009b2Jb", "x": "\u202e"}, explain.Request{}, []string{`\u009b`, `\u202e`, "has a control character"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims := map[string]any{
				"iss": issuer, "aud": "https://uploads.acme.test", "sub": "auth0|alice", "iat": now.Unix() - 60, "exp": now.Unix() + 7200,
				"org_id": "org_acme", "permissions": []string{"upload:files"},
			}
			for name, value := range tc.claims {
				if claims[name] = value; value == nil {
					delete(claims, name)
				}
			}
			token, err := auth0.Mint(claims)
			if err != nil {
				t.Fatal(err)
			}
			engine, err := explain.New(t.Context(), cfg, explain.Options{JWKS: jwks})
			if err != nil {
				t.Fatal(err)
			}
			defer engine.Close()
			tc.ask.Token = broker.NewSecret(token)
			v, err := engine.Explain(t.Context(), tc.ask)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			explain.Print(&text, v, false)
			for _, words := range tc.words {
				if !strings.Contains(text.String(), words) {
					t.Errorf("%q is not in\n%s", words, &text)
				}
			}
			if strings.ContainsAny(text.String(), "\x1b\u009b\u202e") {
				t.Errorf("%q", &text)
			}
			holdsNoToken(t, token, v)
		})
	}
}

func TestAnInstantCanBeAskedAbout(t *testing.T) {
	auth0, issuer := newAuth0(t)
	cfg, err := config.Parse("small.yaml", []byte(strings.ReplaceAll(small, "ISSUER", issuer)), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	token, err := auth0.Mint(map[string]any{
		"iss": issuer, "aud": "https://uploads.acme.test", "sub": "auth0|alice", "iat": then.Unix(), "exp": then.Unix() + 3600, "org_id": "org_acme", "permissions": []string{"upload:files"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Duration]broker.Class{0: "", time.Hour - time.Second: "", 2 * time.Hour: broker.ErrExpiredToken, -time.Hour: broker.ErrInvalidToken} {
		engine, err := explain.New(t.Context(), cfg, explain.Options{Now: func() time.Time { return then.Add(at) }}) // the issuer is asked for its keys
		if err != nil {
			t.Fatal(err)
		}
		v, err := engine.Explain(t.Context(), explain.Request{Token: broker.NewSecret(token)})
		engine.Close()
		if err != nil || v.Code != want || v.Allowed != (want == "") {
			t.Errorf("%s: %+v, %v", at, v, err)
		}
		if want == "" && v.Scope.Duration != max(900, int((time.Hour-at)/time.Second)) {
			t.Errorf("%s: for %d s", at, v.Scope.Duration)
		}
	}
}

func TestKeysThatAreNoneAreNamed(t *testing.T) {
	for text, want := range map[string]bool{`{"keys":[{}]}`: true, `{"keys":[]}`: false, `{}`: false, `x`: false, `[{"kid":"a"}]`: false} {
		if explain.IsKeySet([]byte(text)) != want {
			t.Errorf("%s: %t", text, !want)
		}
	}
	cfg, err := config.Parse("small.yaml", []byte(strings.ReplaceAll(small, "ISSUER", "https://a.example/")), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := explain.New(t.Context(), cfg, explain.Options{JWKS: []byte(`{"keys":[{"kty":"oct","k":"x","kid":"a"}]}`)}); err == nil || !slices.Contains(strings.Fields(err.Error()), "key") {
		t.Errorf("%v", err)
	}
}
