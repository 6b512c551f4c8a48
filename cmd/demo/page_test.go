package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"credential-broker/broker/brokertest"
)

// withPage runs a demo with its page.
func withPage(t *testing.T, dist string, session time.Duration) *story {
	return startStory(t, func(o *options) {
		o.Headless, o.dist = false, dist
		o.change = func(c *brokertest.AWSConfig) { c.SessionLife = session }
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// emptyPage is a built page without anything in it.
func emptyPage(t *testing.T) string {
	t.Helper()
	dist := t.TempDir()
	if err := os.CopyFS(dist, fstest.MapFS{
		"index.html": {Data: []byte("<!doctype html><title>x</title>")}, "assets/app.js": {Data: []byte("1")}, "icon.svg": {Data: []byte("<svg/>")},
	}); err != nil {
		t.Fatal(err)
	}
	return dist
}

func TestThePageRunsNothingButItsOwn(t *testing.T) {
	page, err := newPage(emptyPage(t), pageConfig{
		Issuer: "https://acme.eu.auth0.com/", ClientID: "spa", Broker: "https://broker.test/below", STS: "https://sts.eu-west-1.amazonaws.com", Region: "eu-west-1",
		buckets: []string{"https://s3.eu-west-1.amazonaws.com", "https://*.s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	const policy = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob: data:; " +
		"connect-src 'self' https://acme.eu.auth0.com https://broker.test https://sts.eu-west-1.amazonaws.com https://s3.eu-west-1.amazonaws.com " +
		"https://*.s3.eu-west-1.amazonaws.com; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	for _, tc := range []struct {
		method, path string
		status       int
		cache, has   string
	}{
		{"GET", "/", 200, "no-cache", "<title>"},
		{"HEAD", "/", 200, "no-cache", ""},
		{"GET", "/config.json", 200, "no-cache", `"clientId":"spa"`},
		{"GET", "/assets/app.js", 200, "public, max-age=31536000, immutable", "1"},
		{"GET", "/icon.svg", 200, "no-cache", "<svg"},
		{"GET", "/assets/", 404, "no-cache", ""},
		{"GET", "/assets", 301, "", ""}, // to /assets/, which is not there
		{"GET", "/none", 404, "", ""},
		{"GET", "/../page.go", 404, "", ""},
		{"POST", "/", 405, "no-cache", ""},
	} {
		w := get(tc.method, tc.path)
		if w.Code != tc.status || tc.cache != "" && w.Header().Get("Cache-Control") != tc.cache || !strings.Contains(w.Body.String(), tc.has) {
			t.Errorf("%s %s: %d, %v, %q", tc.method, tc.path, w.Code, w.Header(), w.Body)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", tc.method, tc.path, name, got, want)
			}
		}
	}
}

func TestAPageThatCannotBeServedIsRefused(t *testing.T) {
	if _, err := newPage(t.TempDir(), pageConfig{}); err == nil {
		t.Error("a folder without a page is served")
	}
	for _, address := range []string{"no address", "https://evil.test; script-src *", "https://", "https://a.test,b.test/"} {
		if _, err := newPage(emptyPage(t), pageConfig{Broker: address}); err == nil {
			t.Errorf("the policy takes %q", address)
		}
	}
}

func TestTheDemoTellsItsPageWhereEverythingIs(t *testing.T) {
	s := withPage(t, emptyPage(t), 0)
	status, body := fetch(t, s.Page+"/config.json")
	var c pageConfig
	if err := json.Unmarshal([]byte(body), &c); err != nil || status != 200 {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	if c.Issuer != s.Issuer || c.Broker != s.Broker || c.S3 != s.S3 || c.STS != s.STS || c.Audience != s.Audience || c.ClientID != "demo-spa" || len(c.Demo.Users) != 4 {
		t.Errorf("%s", body)
	}
	// What it is told to reach for is there, and is its owner's.
	for _, key := range c.Demo.Files {
		user := map[bool]string{true: "alice@acme.test", false: "bob@globex.test"}[strings.HasPrefix(key, "tenants/org_acme/")]
		if text, err := get(t.Context(), s.userClient(t, user), key); err != nil || text == "" {
			t.Errorf("%s for %s: %q, %v", key, user, text, err)
		}
	}
}
