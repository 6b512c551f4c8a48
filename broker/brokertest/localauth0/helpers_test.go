package localauth0_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker/brokertest/localauth0"
)

const (
	audience = "https://uploads.acme.example"
	page     = "http://127.0.0.1:3000"
	callback = page + "/callback"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B, with its challenge below
	s256     = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// testKeys are made once: a key costs tens of milliseconds, and no test depends on having its own.
var testKeys = sync.OnceValues(func() ([]*rsa.PrivateKey, error) {
	var keys []*rsa.PrivateKey
	for range 3 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
})

func keyPair(t testing.TB) []*rsa.PrivateKey {
	t.Helper()
	keys, err := testKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys[:2]
}

func foreignKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	keyPair(t)
	keys, _ := testKeys()
	return keys[2]
}

// clock is a time that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// tenant is a running local Auth0 and one browser.
type tenant struct {
	t       testing.TB
	server  *localauth0.Server
	issuer  string
	clock   *clock
	browser *http.Client
}

// start serves the demo world, changed by the edits.
func start(t testing.TB, edits ...func(*localauth0.Config)) *tenant {
	t.Helper()
	var handler http.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	ticks := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	cfg := localauth0.Demo(front.URL+"/", audience, page)
	cfg.Now, cfg.Keys = ticks.Now, keyPair(t)
	for _, edit := range edits {
		edit(&cfg)
	}
	server, err := localauth0.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	handler = server
	return &tenant{t: t, server: server, issuer: front.URL + "/", clock: ticks, browser: newBrowser(t)}
}

// newBrowser keeps cookies and stops at redirects, so that a test sees each.
func newBrowser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (tn *tenant) do(r *http.Request) answer {
	tn.t.Helper()
	resp, err := tn.browser.Do(r)
	if err != nil {
		tn.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		tn.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (tn *tenant) request(method, path string, body io.Reader) *http.Request {
	tn.t.Helper()
	r, err := http.NewRequestWithContext(tn.t.Context(), method, tn.issuer+path, body)
	if err != nil {
		tn.t.Fatal(err)
	}
	return r
}

func (tn *tenant) get(path string) answer {
	tn.t.Helper()
	return tn.do(tn.request(http.MethodGet, path, nil))
}

func (tn *tenant) post(path string, form url.Values) answer {
	tn.t.Helper()
	r := tn.request(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return tn.do(r)
}

// form makes values from pairs; a later pair replaces an earlier one, an empty value removes it.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			v.Del(pairs[i])
			continue
		}
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

// authorization is a good request of the page, changed by the pairs.
func authorization(pairs ...string) url.Values {
	return form(append([]string{
		"response_type", "code", "client_id", localauth0.DemoSPA, "redirect_uri", callback, "audience", audience,
		"scope", "openid profile email upload:files offline_access", "state", "s-1", "nonce", "n-1",
		"code_challenge", s256, "code_challenge_method", "S256",
	}, pairs...)...)
}

// redemption is a good exchange of the code, changed by the pairs.
func redemption(code string, pairs ...string) url.Values {
	return form(append([]string{
		"grant_type", "authorization_code", "client_id", localauth0.DemoSPA, "redirect_uri", callback,
		"code", code, "code_verifier", verifier,
	}, pairs...)...)
}

func passwordForm(pairs ...string) url.Values {
	return form(append([]string{
		"grant_type", "password", "username", "alice@acme.test", "password", "demo", "audience", audience,
	}, pairs...)...)
}

func machineForm(pairs ...string) url.Values {
	return form(append([]string{
		"grant_type", "client_credentials", "client_id", localauth0.DemoMachine,
		"client_secret", localauth0.DemoMachineSecret, "audience", audience,
	}, pairs...)...)
}

// choose submits the page's form for the user.
func (tn *tenant) choose(email string, pairs ...string) answer {
	tn.t.Helper()
	v := authorization(pairs...)
	v.Set("user", email)
	return tn.post("u/login", v)
}

// code signs the user in by the page and yields the code.
func (tn *tenant) code(email string, pairs ...string) string {
	tn.t.Helper()
	code := redirected(tn.t, tn.choose(email, pairs...)).Get("code")
	if code == "" {
		tn.t.Fatal("no code")
	}
	return code
}

// redirected checks that the answer goes to the callback and yields the query that it adds.
func redirected(t testing.TB, a answer) url.Values {
	t.Helper()
	location, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther {
		t.Fatalf("status %d, location %q: want 303 (%v)\n%s", a.status, a.header.Get("Location"), err, a.body)
	}
	query := location.Query()
	location.RawQuery = ""
	if location.String() != callback {
		t.Fatalf("redirected to %q, want %q", location, callback)
	}
	return query
}
