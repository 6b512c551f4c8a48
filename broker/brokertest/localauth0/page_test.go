package localauth0_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"credential-broker/broker/brokertest/localauth0"
)

const markup = `"><script>alert(1)</script>`

func TestEverythingEchoedIsEscaped(t *testing.T) {
	tn := start(t, func(c *localauth0.Config) {
		c.Clients[0].Name = markup
		c.Users[0].Name, c.Users[0].Organization = markup, markup
	})
	for rule, a := range map[string]answer{
		"chooser":          tn.get("authorize?" + authorization("state", markup, "nonce", markup, "login_hint", markup, markup, markup).Encode()),
		"unknown client":   tn.get("authorize?" + authorization("client_id", markup).Encode()),
		"foreign callback": tn.get("authorize?" + authorization("redirect_uri", markup).Encode()),
		"log-out":          tn.get("v2/logout?returnTo=" + strings.ReplaceAll(markup, " ", "+")),
	} {
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: content type %q", rule, a.header.Get("Content-Type"))
		}
		if strings.Contains(a.body, "<script") || !strings.Contains(a.body, "&lt;script") {
			t.Errorf("%s: not escaped\n%s", rule, a.body)
		}
	}
}

func TestPagesRunNothingAndCannotBeFramed(t *testing.T) {
	tn := start(t)
	nonce := regexp.MustCompile(`<style nonce="([A-Za-z0-9_-]{43})">`)
	seen := map[string]bool{}
	for rule, c := range map[string]struct {
		path, formAction string
	}{
		"chooser": {"authorize?" + authorization().Encode(), "form-action 'self' " + page},
		"refusal": {"authorize", "form-action 'none'"},
	} {
		a := tn.get(c.path)
		found := nonce.FindStringSubmatch(a.body)
		if found == nil || seen[found[1]] {
			t.Fatalf("%s: no fresh nonce\n%s", rule, a.body)
		}
		seen[found[1]] = true
		want := "default-src 'none'; style-src 'nonce-" + found[1] + "'; base-uri 'none'; frame-ancestors 'none'; " + c.formAction
		if got := a.header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: policy %q, want %q", rule, got, want)
		}
		for name, value := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if a.header.Get(name) != value {
				t.Errorf("%s: %s is %q, want %q", rule, name, a.header.Get(name), value)
			}
		}
	}
}

func TestPageCanBeUsedWithoutSeeingIt(t *testing.T) {
	body := start(t).get("authorize?" + authorization("login_hint", "bob@globex.test", "user", "x").Encode()).body
	for _, want := range []string{
		`<html lang="en">`, `<title>Choose a demo user`, `<h1>Choose a demo user</h1>`, `name="viewport"`, `<main>`,
		`value="bob@globex.test" autofocus`, `No organization`, `Organization org_acme`, `value="">Cancel`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q\n%s", want, body)
		}
	}
	if strings.Count(body, "autofocus") != 1 || strings.Contains(body, `type="hidden" name="user"`) {
		t.Errorf("hint or hidden user is wrong\n%s", body)
	}
}

// What the page sends is what the form handler takes: the hidden fields carry the whole request.
func TestPageFormCarriesTheRequest(t *testing.T) {
	tn := start(t)
	body := tn.get("authorize?" + authorization("state", "a&b=c <d>").Encode()).body
	v := form("user", "alice@acme.test")
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(body, -1) {
		v.Set(m[1], strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&#43;", "+").Replace(m[2]))
	}
	back := redirected(t, tn.post("u/login", v))
	if back.Get("state") != "a&b=c <d>" {
		t.Errorf("state %q", back.Get("state"))
	}
	granted(t, tn.post("oauth/token", redemption(back.Get("code"))))
}

func TestOnlyItsOwnNamesAreAnswered(t *testing.T) {
	tn := start(t)
	for host, want := range map[string]int{
		strings.TrimSuffix(strings.TrimPrefix(tn.issuer, "http://"), "/"): 200,
		"localhost:1": 200, "LOCALHOST": 200, "[::1]:9400": 200, "127.9.9.9": 200,
		"evil.example": 403, "127.0.0.1.evil.example:9400": 403, "localhost.evil.example": 403, "10.0.0.1": 403, "0.0.0.0": 403,
	} {
		r := tn.request(http.MethodGet, ".well-known/jwks.json", nil)
		r.Host = host
		if a := tn.do(r); a.status != want {
			t.Errorf("host %q: status %d, want %d", host, a.status, want)
		}
	}
	named := start(t, func(c *localauth0.Config) { c.Issuer = "http://auth.test:9400/" })
	r := named.request(http.MethodGet, ".well-known/jwks.json", nil)
	r.Host = "auth.test:9400"
	if a := named.do(r); a.status != 200 {
		t.Errorf("the issuer's own host: status %d", a.status)
	}
}

func TestCrossOriginCallsAreForAllowedPages(t *testing.T) {
	tn := start(t)
	call := func(method, path, origin string) answer {
		r := tn.request(method, path, strings.NewReader(passwordForm().Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		return tn.do(r)
	}
	for _, path := range []string{"oauth/token", "userinfo", ".well-known/openid-configuration", ".well-known/jwks.json"} {
		a := call(http.MethodOptions, path, page)
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != page || a.header.Get("Vary") != "Origin" ||
			!strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Auth0-Client") || a.header.Get("Access-Control-Allow-Methods") == "" {
			t.Errorf("%s: preflight %d %v", path, a.status, a.header)
		}
		if a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: credentials mode", path)
		}
		for _, foreign := range []string{"https://evil.example", "null", page + ".evil.example", "http://127.0.0.1:3001"} {
			if a := call(http.MethodOptions, path, foreign); a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s from %s: preflight %d %v", path, foreign, a.status, a.header)
			}
		}
	}
	a := call(http.MethodPost, "oauth/token", page)
	granted(t, a)
	if a.header.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("headers %v", a.header)
	}
	refused(t, call(http.MethodPost, "oauth/token", "https://evil.example"), 403, "access_denied")
	granted(t, call(http.MethodPost, "oauth/token", strings.TrimSuffix(tn.issuer, "/")))
	if a := call(http.MethodOptions, "authorize", page); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("CORS on a page that is navigated to")
	}
}
