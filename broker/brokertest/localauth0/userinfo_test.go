package localauth0_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/localauth0"
)

func TestUserInfoTellsWhatTheScopesAllow(t *testing.T) {
	tn := start(t)
	get := func(authorization string) answer {
		r := tn.request(http.MethodGet, "userinfo", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return tn.do(r)
	}
	claims, err := tn.server.UserClaims("alice@acme.test")
	if err != nil {
		t.Fatal(err)
	}
	mint := func(edit func(map[string]any), opts ...localauth0.MintOption) string {
		c := maps.Clone(claims)
		edit(c)
		token, err := tn.server.Mint(c, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	same := func(map[string]any) {}
	set := func(name string, value any) func(map[string]any) { return func(c map[string]any) { c[name] = value } }
	opaque := granted(t, tn.post("oauth/token", passwordForm("audience", "", "scope", "openid email"))).Access

	for rule, c := range map[string]struct {
		token string
		want  []string
	}{
		"a token with profile and email": {mint(same), []string{"email", "email_verified", "name", "nickname", "sub"}},
		"a token with openid alone":      {mint(set("scope", "openid")), []string{"sub"}},
		"an opaque token":                {opaque, []string{"email", "email_verified", "sub"}},
	} {
		var got map[string]any
		a := get("Bearer " + c.token)
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || !cmp.Equal(c.want, names(got)) {
			t.Errorf("%s: %d %s (%v)", rule, a.status, a.body, err)
		}
	}
	bare := granted(t, tn.post("oauth/token", passwordForm("audience", "", "scope", "email"))).Access
	parts := strings.Split(mint(same), ".")
	for rule, token := range map[string]string{
		"a token of the API alone":      granted(t, tn.post("oauth/token", passwordForm())).Access,
		"an opaque token, no openid":    bare,
		"an expired token":              mint(set("exp", tn.clock.Now().Unix())),
		"another issuer's":              mint(set("iss", "https://other.example/")),
		"a stranger's":                  mint(set("sub", "auth0|eve")),
		"a forgery":                     mint(same, localauth0.WithKey(foreignKey(t))),
		"an unknown key":                mint(same, localauth0.WithHeader("kid", "x")),
		"another algorithm":             mint(same, localauth0.WithHeader("alg", "none")),
		"a foreign audience":            mint(set("aud", []string{audience})),
		"no audience":                   mint(func(c map[string]any) { delete(c, "aud") }),
		"two parts":                     parts[0] + "." + parts[1],
		"a header that is no base64":    "*." + parts[1] + "." + parts[2],
		"claims that are no JSON":       parts[0] + ".e30x." + parts[2],
		"a signature that is no base64": parts[0] + "." + parts[1] + ".*",
	} {
		if a := get("Bearer " + token); a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("%s: %d %q", rule, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
	if a := get(""); a.status != 401 || a.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("no token: %d %q", a.status, a.header.Get("WWW-Authenticate"))
	}
	tn.clock.advance(24 * time.Hour)
	if a := get("Bearer " + opaque); a.status != 401 {
		t.Errorf("an expired opaque token: %d", a.status)
	}
}

func TestWithoutAudienceTheTokenIsOpaque(t *testing.T) {
	tn := start(t)
	got := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test", "audience", ""))))
	if strings.Contains(got.Access, ".") || got.ID == "" {
		t.Errorf("got %+v", got)
	}
}
