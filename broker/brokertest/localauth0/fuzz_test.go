package localauth0_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/broker/brokertest/localauth0"
)

// demoServer answers without a listener: fuzzing has no use for sockets.
func demoServer(t testing.TB) *localauth0.Server {
	t.Helper()
	cfg := localauth0.Demo("http://127.0.0.1:9400/", audience, page)
	cfg.Keys = keyPair(t)
	s, err := localauth0.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Invariant: whatever the body, the answer is either tokens, and then the body held a secret of the demo world, or an
// OAuth error of the caller's fault.
func FuzzTokenBody(f *testing.F) {
	f.Add(false, passwordForm().Encode())
	f.Add(false, machineForm().Encode())
	f.Add(false, redemption("x").Encode())
	f.Add(true, `{"grant_type":"password","username":"alice@acme.test","password":"demo","audience":"`+audience+`"}`)
	f.Add(true, `{"grant_type":"refresh_token","client_id":"demo-spa","refresh_token":"x"}`)
	f.Add(true, `{"grant_type":["password"]}`)
	s := demoServer(f)
	f.Fuzz(func(t *testing.T, asJSON bool, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:9400/oauth/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if asJSON {
			r.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var got struct {
			Error  string `json:"error"`
			Access string `json:"access_token"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
		}
		switch {
		case w.Code == http.StatusOK && got.Access != "":
			// Escaped forms of the secret are left aside: they cannot be told from here.
			if !strings.Contains(body, "demo") && !strings.ContainsAny(body, `%\`) {
				t.Fatalf("tokens for %q", body)
			}
		case w.Code < 400 || w.Code >= 500 || got.Error == "":
			t.Fatalf("status %d, body %q", w.Code, w.Body)
		}
	})
}

// Invariant: without a session no query yields a code; a redirect goes to a registered callback; no page echoes markup.
func FuzzAuthorizeQuery(f *testing.F) {
	f.Add(authorization().Encode())
	f.Add(authorization("prompt", "none").Encode())
	f.Add(authorization("redirect_uri", callback+"#@evil.example").Encode())
	f.Add(authorization("state", markup, "client_id", markup).Encode())
	s := demoServer(f)
	callbacks := localauth0.DemoClients(page)[0].Callbacks
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9400/authorize", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 || strings.Contains(strings.ToLower(w.Body.String()), "<script") {
			t.Fatalf("status %d, body %q", w.Code, w.Body)
		}
		location := w.Header().Get("Location")
		if location == "" {
			return
		}
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		if q := u.Query(); q.Has("code") || !q.Has("error") {
			t.Fatalf("redirected to %q", location)
		}
		u.RawQuery = ""
		if !slices.Contains(callbacks, u.String()) {
			t.Fatalf("redirected to %q", location)
		}
	})
}

// Whatever order tokens of one family come back in, only the newest works, and one that comes back after its use ends
// all of them.
func TestRefreshFamilyHasOneLivingTokenUntilAReuse(t *testing.T) {
	s := demoServer(t)
	post := func(v url.Values) (int, tokens) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:9400/oauth/token", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var out tokens
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return w.Code, out
	}
	rapid.Check(t, func(rt *rapid.T) {
		_, first := post(passwordForm("scope", "offline_access"))
		family, dead := []string{first.Refresh}, false
		for range rapid.IntRange(1, 8).Draw(rt, "uses") {
			i := rapid.IntRange(0, len(family)-1).Draw(rt, "token")
			status, next := post(refreshForm(family[i], "client_id", localauth0.DemoCLI))
			newest := i == len(family)-1
			if want := newest && !dead; (status == http.StatusOK) != want {
				rt.Fatalf("token %d of %d, dead %v: status %d", i, len(family), dead, status)
			}
			if status == http.StatusOK {
				family = append(family, next.Refresh)
			}
			dead = dead || !newest
		}
	})
}
