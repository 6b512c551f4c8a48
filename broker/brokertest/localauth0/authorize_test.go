package localauth0_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/brokertest/localauth0"
)

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// What is wrong before client and callback are proven is shown, never redirected: the target is not to be trusted.
func TestUnprovenRequestsAreNeverRedirected(t *testing.T) {
	for _, c := range []struct {
		rule  string
		pairs []string
		want  int
	}{
		{"an unknown client", []string{"client_id", "nobody"}, 403},
		{"no client", []string{"client_id", ""}, 403},
		{"a client without the code grant", []string{"client_id", "no-code"}, 403},
		{"a foreign callback", []string{"redirect_uri", "https://evil.example/"}, 403},
		{"a callback with something behind it", []string{"redirect_uri", callback + "/../evil"}, 403},
		{"a callback in other letters", []string{"redirect_uri", strings.ToUpper(callback)}, 403},
		{"no callback", []string{"redirect_uri", ""}, 403},
		{"a query beyond the limit", []string{"login_hint", strings.Repeat("x", 16<<10)}, 414},
	} {
		t.Run(c.rule, func(t *testing.T) {
			tn := start(t, func(cfg *localauth0.Config) {
				noCode := cfg.Clients[0]
				noCode.ID, noCode.Grants = "no-code", []string{localauth0.GrantPassword}
				cfg.Clients = append(cfg.Clients, noCode)
			})
			a := tn.get("authorize?" + authorization(c.pairs...).Encode())
			if a.status != c.want || a.header.Get("Location") != "" || !strings.Contains(a.body, "Sign-in refused") {
				t.Errorf("status %d, location %q, want %d and a page\n%s", a.status, a.header.Get("Location"), c.want, a.body)
			}
			if strings.Contains(c.rule, "client") && !strings.Contains(c.rule, "code grant") && !strings.Contains(a.body, "Unknown client") {
				t.Errorf("refused for another reason\n%s", a.body)
			}
			if c.want == 403 {
				if b := tn.choose("alice@acme.test", c.pairs...); b.status != 403 || b.header.Get("Location") != "" {
					t.Errorf("the form: status %d, location %q", b.status, b.header.Get("Location"))
				}
			}
		})
	}
	twice := authorization()
	twice.Add("client_id", localauth0.DemoSPA)
	if a := start(t).get("authorize?" + twice.Encode()); a.status != 400 {
		t.Errorf("client_id twice: status %d", a.status)
	}
}

func TestProvenRequestsAreRefusedToTheClient(t *testing.T) {
	for _, c := range []struct {
		rule  string
		pairs []string
		code  string
	}{
		{"an implicit flow", []string{"response_type", "token"}, "unsupported_response_type"},
		{"no response_type", []string{"response_type", ""}, "unsupported_response_type"},
		{"another response_mode", []string{"response_mode", "form_post"}, "invalid_request"},
		{"a request object", []string{"request", "e30.e30."}, "request_not_supported"},
		{"a request object by reference", []string{"request_uri", "https://evil.example/"}, "request_not_supported"},
		{"no PKCE at all", []string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
		{"plain PKCE", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"PKCE without a method", []string{"code_challenge_method", ""}, "invalid_request"},
		{"PKCE without a challenge", []string{"code_challenge", ""}, "invalid_request"},
		{"a challenge that is no digest", []string{"code_challenge", s256 + "="}, "invalid_request"},
		{"an unknown prompt", []string{"prompt", "none login"}, "invalid_request"},
		{"an unknown audience", []string{"audience", "https://other.example"}, "access_denied"},
		{"nobody signed in", []string{"prompt", "none"}, "login_required"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			tn := start(t)
			back := redirected(t, tn.get("authorize?"+authorization(c.pairs...).Encode()))
			if back.Get("error") != c.code || back.Get("error_description") == "" || back.Get("state") != "s-1" || back.Has("code") {
				t.Errorf("got %v, want %s", back, c.code)
			}
			if c.code == "login_required" {
				return
			}
			back = redirected(t, tn.choose("alice@acme.test", c.pairs...))
			if back.Get("error") != c.code || back.Has("code") {
				t.Errorf("the form: got %v, want %s", back, c.code)
			}
		})
	}
}

func TestChoosingNobodyOrAStrangerDeniesAccess(t *testing.T) {
	tn := start(t)
	for rule, pairs := range map[string][]string{
		"cancel":                      {""},
		"a stranger":                  {"eve@acme.test"},
		"a user of another":           {"bob@globex.test", "organization", "org_acme"},
		"a user of no organization":   {"mallory@nowhere.test", "organization", "org_acme"},
		"an organization of nobody's": {"alice@acme.test", "organization", "org_nil"},
	} {
		t.Run(rule, func(t *testing.T) {
			a := tn.choose(pairs[0], pairs[1:]...)
			if back := redirected(t, a); back.Get("error") != "access_denied" || back.Has("code") {
				t.Errorf("got %v", back)
			}
			if a.header.Get("Set-Cookie") != "" {
				t.Error("a session for a refused sign-in")
			}
		})
	}
}

func TestUserWithoutOrganizationGetsATokenWithoutOrgID(t *testing.T) {
	tn := start(t)
	got := granted(t, tn.post("oauth/token", redemption(tn.code("mallory@nowhere.test"))))
	if _, claims := tn.verify(got.Access); claims["org_id"] != nil {
		t.Errorf("org_id %v", claims["org_id"])
	}
}

func TestClientsOrganizationIsTheDefaultForPeople(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) { c.Clients[0].Organization = "org_acme" })
	if back := redirected(t, tn.choose("bob@globex.test")); back.Get("error") != "access_denied" {
		t.Errorf("got %v", back)
	}
	if back := redirected(t, tn.choose("alice@acme.test")); !back.Has("code") {
		t.Errorf("got %v", back)
	}
}

func TestSessionSignsInSilently(t *testing.T) {
	tn := start(t)
	first := granted(t, tn.post("oauth/token", redemption(tn.code("alice@acme.test"))))
	_, firstID := tn.verify(first.ID)
	silent := func(pairs ...string) url.Values {
		t.Helper()
		return redirected(t, tn.get("authorize?"+authorization(append(pairs, "prompt", "none")...).Encode()))
	}
	again := granted(t, tn.post("oauth/token", redemption(silent().Get("code"))))
	_, id := tn.verify(again.ID)
	if id["email"] != "alice@acme.test" || id["sid"] == "" || id["sid"] != firstID["sid"] {
		t.Errorf("ID token %v after %v: want alice in the same session", id, firstID)
	}
	if back := redirected(t, tn.get("authorize?"+authorization().Encode())); !back.Has("code") {
		t.Errorf("without prompt: got %v", back)
	}
	if !silent("login_hint", "alice@acme.test").Has("code") {
		t.Error("the session's own user was not taken as hint")
	}
	for rule, pairs := range map[string][]string{
		"a hint of somebody else": {"login_hint", "bob@globex.test"},
		"another organization":    {"organization", "org_globex"},
	} {
		if got := silent(pairs...); got.Get("error") != "login_required" {
			t.Errorf("%s: got %v", rule, got)
		}
	}
	for _, prompt := range []string{"login", "select_account"} {
		if a := tn.get("authorize?" + authorization("prompt", prompt).Encode()); a.status != http.StatusOK {
			t.Errorf("prompt %s: status %d, want the page", prompt, a.status)
		}
	}
	tn.clock.advance(3 * 24 * time.Hour)
	if got := silent(); got.Get("error") != "login_required" {
		t.Errorf("after three days: got %v", got)
	}
}

func TestSigningInAgainReplacesTheSession(t *testing.T) {
	tn := start(t)
	old := cookieOf(t, tn.choose("alice@acme.test"))
	tn.choose("bob@globex.test")
	r := tn.request(http.MethodGet, "authorize?"+authorization("prompt", "none").Encode(), nil)
	r.AddCookie(old)
	tn.browser = newBrowser(t)
	if back := redirected(t, tn.do(r)); back.Get("error") != "login_required" {
		t.Errorf("the old session still works: %v", back)
	}
}

func TestSessionCookieIsForThisServerOnly(t *testing.T) {
	c := cookieOf(t, start(t).choose("alice@acme.test"))
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Secure || c.MaxAge != 3*24*3600 {
		t.Errorf("cookie %+v", c)
	}
	secure := start(t, func(cfg *localauth0.Config) { cfg.Issuer = "https://auth.localhost/" })
	if !cookieOf(t, secure.choose("alice@acme.test")).Secure {
		t.Error("the cookie of an https issuer is not Secure")
	}
}

func cookieOf(t *testing.T, a answer) *http.Cookie {
	t.Helper()
	c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForeignPageCannotChooseTheUser(t *testing.T) {
	tn := start(t)
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		v := authorization()
		v.Set("user", "bob@globex.test")
		r := tn.request(http.MethodPost, "u/login", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(name, value)
		if a := tn.do(r); a.status != 403 || a.header.Get("Set-Cookie") != "" || a.header.Get("Location") != "" {
			t.Errorf("%s: status %d, headers %v", name, a.status, a.header)
		}
	}
	if a := tn.do(tn.request(http.MethodPost, "u/login", strings.NewReader("x"))); a.status != 400 {
		t.Errorf("no form: status %d", a.status)
	}
}

func TestLogoutEndsTheSessionAndReturnsOnlyWhereAllowed(t *testing.T) {
	for _, c := range []struct {
		rule, path, location string
		status               int
	}{
		{"no target", "v2/logout", "", 200},
		{"an allowed target", "v2/logout?client_id=demo-spa&returnTo=" + url.QueryEscape(page), page, 303},
		{"an allowed target, no client named", "v2/logout?returnTo=" + url.QueryEscape(page), page, 303},
		{"a target of another client", "v2/logout?client_id=demo-cli&returnTo=" + url.QueryEscape(page), "", 400},
		{"a foreign target", "v2/logout?client_id=demo-spa&returnTo=https://evil.example", "", 400},
		{"a target that only begins well", "v2/logout?client_id=demo-spa&returnTo=" + url.QueryEscape(page+".evil.example"), "", 400},
		{"OpenID Connect", "oidc/logout?state=a%26b&post_logout_redirect_uri=" + url.QueryEscape(page), page + "?state=a%26b", 303},
		{"OpenID Connect, no state", "oidc/logout?post_logout_redirect_uri=" + url.QueryEscape(page), page, 303},
		{"OpenID Connect, target with a query", "oidc/logout?state=s&post_logout_redirect_uri=" + url.QueryEscape(page+"/?a=b"), page + "/?a=b&state=s", 303},
		{"OpenID Connect, foreign target", "oidc/logout?post_logout_redirect_uri=https://evil.example", "", 400},
		{"malformed", "v2/logout?returnTo=a&returnTo=b", "", 400},
	} {
		t.Run(c.rule, func(t *testing.T) {
			tn := start(t, func(cfg *localauth0.Config) {
				cfg.Clients[0].LogoutURLs = append(cfg.Clients[0].LogoutURLs, page+"/?a=b")
			})
			key := cookieOf(t, tn.choose("alice@acme.test"))
			a := tn.get(c.path)
			if a.status != c.status || a.header.Get("Location") != c.location {
				t.Errorf("status %d, location %q; want %d, %q", a.status, a.header.Get("Location"), c.status, c.location)
			}
			if cookieOf(t, a).MaxAge >= 0 {
				t.Error("the cookie stays")
			}
			r := tn.request(http.MethodGet, "authorize?"+authorization("prompt", "none").Encode(), nil)
			r.AddCookie(key)
			if back := redirected(t, tn.do(r)); back.Get("error") != "login_required" {
				t.Errorf("the session stays: %v", back)
			}
		})
	}
}

func TestCallbackKeepsItsOwnQuery(t *testing.T) {
	target := callback + "?tab=1"
	tn := start(t, func(c *localauth0.Config) { c.Clients[0].Callbacks = []string{target} })
	back := redirected(t, tn.choose("alice@acme.test", "redirect_uri", target))
	if back.Get("tab") != "1" || back.Get("code") == "" {
		t.Errorf("got %v", back)
	}
}
