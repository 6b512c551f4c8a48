package localauth0_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/localauth0"
)

func rfc9068(c *localauth0.Config) { c.RFC9068 = true }

func TestAccessTokenHasTheShapeOfItsProfile(t *testing.T) {
	user := []string{"aud", "exp", "iat", "iss", "org_id", "permissions", "scope", "sub"}
	machine := []string{"aud", "exp", "iat", "iss", "permissions", "scope", "sub"}
	for _, c := range []struct {
		profile string
		edit    func(*localauth0.Config)
		typ     string
		form    map[string][]string
		want    []string
	}{
		{"Auth0, user by password", func(*localauth0.Config) {}, "JWT", passwordForm(), append([]string{"azp", "gty"}, user...)},
		{"Auth0, machine", func(*localauth0.Config) {}, "JWT", machineForm(), append([]string{"azp", "gty"}, machine...)},
		{"RFC 9068, user by password", rfc9068, "at+jwt", passwordForm(), append([]string{"client_id", "jti"}, user...)},
		{"RFC 9068, machine", rfc9068, "at+jwt", machineForm(), append([]string{"client_id", "jti"}, machine...)},
	} {
		t.Run(c.profile, func(t *testing.T) {
			tn := start(t, c.edit)
			header, claims := tn.verify(granted(t, tn.post("oauth/token", c.form)).Access)
			want := map[string]any{"alg": "RS256", "typ": c.typ, "kid": tn.server.KeyID()}
			if diff := cmp.Diff(want, header); diff != "" {
				t.Errorf("header: -want +got\n%s", diff)
			}
			slices.Sort(c.want)
			if diff := cmp.Diff(c.want, names(claims)); diff != "" {
				t.Errorf("claims: -want +got\n%s", diff)
			}
		})
	}
}

func TestAudienceIsAnArrayOnlyWithOpenID(t *testing.T) {
	tn := start(t)
	_, plain := tn.verify(granted(t, tn.post("oauth/token", passwordForm("scope", "upload:files"))).Access)
	_, openid := tn.verify(granted(t, tn.post("oauth/token", passwordForm("scope", "openid upload:files"))).Access)
	if plain["aud"] != audience {
		t.Errorf("aud %v", plain["aud"])
	}
	if diff := cmp.Diff([]any{audience, tn.issuer + "userinfo"}, openid["aud"]); diff != "" {
		t.Errorf("aud: -want +got\n%s", diff)
	}
}

func TestPermissionsAreTheUsersWhateverWasAsked(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.Users[1].Permissions = nil })
	_, alice := tn.verify(granted(t, tn.post("oauth/token", passwordForm("scope", "openid"))).Access)
	if diff := cmp.Diff([]any{"upload:files"}, alice["permissions"]); diff != "" || alice["scope"] != "openid" {
		t.Errorf("scope %v, permissions: -want +got\n%s", alice["scope"], diff)
	}
	_, amy := tn.verify(granted(t, tn.post("oauth/token", passwordForm("username", "amy@acme.test"))).Access)
	if diff := cmp.Diff([]any{}, amy["permissions"]); diff != "" || amy["scope"] != nil {
		t.Errorf("scope %v, permissions: -want +got\n%s", amy["scope"], diff)
	}
}

func TestTokenLivesAsConfigured(t *testing.T) {
	for life, want := range map[time.Duration]time.Duration{0: 24 * time.Hour, 10 * time.Minute: 10 * time.Minute} {
		tn := start(t, func(c *localauth0.Config) { c.TokenLife = life })
		got := granted(t, tn.post("oauth/token", passwordForm()))
		claims, err := tn.server.UserClaims("alice@acme.test")
		if err != nil {
			t.Fatal(err)
		}
		if got.ExpiresIn != int64(want/time.Second) || claims["exp"] != tn.clock.Now().Add(want).Unix() || claims["iat"] != tn.clock.Now().Unix() {
			t.Errorf("life %s: expires_in %d, claims %v", life, got.ExpiresIn, claims)
		}
	}
}

func TestActionAddsClaimsButNoReservedOnes(t *testing.T) {
	var seen localauth0.Claims
	tn := start(t, func(c *localauth0.Config) {
		c.Action = func(in localauth0.Claims) map[string]any {
			seen = in
			out := localauth0.TenantTags(in)
			maps.Copy(out, map[string]any{
				"sub": "auth0|eve", "aud": "x", "org_id": "org_globex", "permissions": []string{"all"}, "gty": "x", "client_id": "x",
				"groups": "x", "cnf": "x", "https://acme.example/plan": "gold",
			})
			return out
		}
	})
	header, claims := tn.verify(granted(t, tn.post("oauth/token", passwordForm())).Access)
	want := map[string]any{
		"principal_tags": map[string]any{"tenant": []any{"org_acme"}}, "transitive_tag_keys": []any{"tenant"},
	}
	if diff := cmp.Diff(want, claims["https://aws.amazon.com/tags"]); diff != "" {
		t.Errorf("tags: -want +got\n%s", diff)
	}
	if claims["https://acme.example/plan"] != "gold" || header["typ"] != "JWT" {
		t.Errorf("claims %v", claims)
	}
	if claims["org_id"] != "org_acme" || claims["aud"] != audience || claims["gty"] != "password" || claims["client_id"] != nil ||
		claims["groups"] != nil || claims["cnf"] != nil || !strings.HasPrefix(claims["sub"].(string), "auth0|65f") {
		t.Errorf("a reserved claim was set: %v", claims)
	}
	wantSeen := localauth0.Claims{
		Subject: claims["sub"].(string), Email: "alice@acme.test", Name: "Alice Ardent", Organization: "org_acme",
		Client: localauth0.DemoCLI, Permissions: []string{"upload:files"}, Scopes: []string{"upload:files"},
	}
	if diff := cmp.Diff(wantSeen, seen); diff != "" {
		t.Errorf("what the Action saw: -want +got\n%s", diff)
	}
	form := passwordForm()
	form.Set("scope", "openid")
	_, id := tn.verify(granted(t, tn.post("oauth/token", form)).ID)
	if diff := cmp.Diff(want, id["https://aws.amazon.com/tags"]); diff != "" || id["aud"] != localauth0.DemoCLI || id["sub"] != claims["sub"] {
		t.Errorf("the ID token %v: -want +got\n%s", id, diff)
	}
}

func TestTenantTagsGiveNobodyATenantByDefault(t *testing.T) {
	if got := localauth0.TenantTags(localauth0.Claims{Subject: "auth0|m"}); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestDiscoveryHasWhatAWSDemands(t *testing.T) {
	tn := start(t)
	a := tn.get(".well-known/openid-configuration")
	var doc map[string]any
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"issuer", ""}, {"authorization_endpoint", "authorize"}, {"token_endpoint", "oauth/token"}, {"userinfo_endpoint", "userinfo"},
		{"jwks_uri", ".well-known/jwks.json"}, {"end_session_endpoint", "oidc/logout"},
	} {
		if doc[c[0]] != tn.issuer+c[1] {
			t.Errorf("%s is %v", c[0], doc[c[0]])
		}
	}
	for name, want := range map[string][]any{
		"response_types_supported": {"code"}, "subject_types_supported": {"public"}, "code_challenge_methods_supported": {"S256"},
		"id_token_signing_alg_values_supported": {"RS256"}, "response_modes_supported": {"query"},
		"grant_types_supported":                 {"authorization_code", "refresh_token", "password", "client_credentials"},
		"scopes_supported":                      {"openid", "profile", "email", "offline_access"},
		"token_endpoint_auth_methods_supported": {"client_secret_basic", "client_secret_post", "none"},
	} {
		if diff := cmp.Diff(want, doc[name]); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	if claims, _ := doc["claims_supported"].([]any); !slices.Contains(claims, "sub") || !slices.Contains(claims, "org_id") {
		t.Errorf("claims_supported %v", doc["claims_supported"])
	}
	if got := a.header.Get("Cache-Control"); got != "public, max-age=15" || a.header.Get("Pragma") != "" {
		t.Errorf("Cache-Control %q, Pragma %q", got, a.header.Get("Pragma"))
	}
}

func TestShortcutsGiveTheTokensOfTheFlows(t *testing.T) {
	tn := start(t)
	short, err := tn.server.UserToken("alice@acme.test")
	if err != nil {
		t.Fatal(err)
	}
	code := tn.code("alice@acme.test", "scope", "openid profile email upload:files")
	_, want := tn.verify(granted(t, tn.post("oauth/token", redemption(code))).Access)
	_, got := tn.verify(short)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("user: -want +got\n%s", diff)
	}
	short, err = tn.server.ClientToken(localauth0.DemoMachine)
	if err != nil {
		t.Fatal(err)
	}
	_, want = tn.verify(granted(t, tn.post("oauth/token", machineForm())).Access)
	if _, got = tn.verify(short); !cmp.Equal(want, got) {
		t.Errorf("machine: -want +got\n%s", cmp.Diff(want, got))
	}
	if _, err := tn.server.UserToken("eve@acme.test"); err == nil {
		t.Error("a stranger got a token")
	}
	if _, err := tn.server.UserClaims("eve@acme.test"); err == nil {
		t.Error("a stranger got claims")
	}
	for _, id := range []string{"nobody", localauth0.DemoSPA} {
		if _, err := tn.server.ClientToken(id); err == nil {
			t.Errorf("%s got a machine token", id)
		}
	}
	alone := start(t, func(c *localauth0.Config) { c.Clients = c.Clients[1:] })
	if _, err := alone.server.UserToken("alice@acme.test"); err == nil {
		t.Error("a token through no client")
	}
	walled := start(t, func(c *localauth0.Config) { c.Clients[0].Organization = "org_acme" })
	if _, err := walled.server.UserToken("bob@globex.test"); err == nil {
		t.Error("a token past the client's organization")
	}
}
