package agent_test

import (
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/agent"
)

const tokenHost = "acme.auth0.example"

func TestAClientAsksForATokenAsAuth0WantsIt(t *testing.T) {
	inWorld(t, func(_ *internet, o *agent.Options) { o.Organization = "org_acme" }, func(w *world) {
		w.has("ASIA1")
		form, err := url.ParseQuery(w.forms[0])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(url.Values{
			"grant_type": {"client_credentials"}, "client_id": {"reports"}, "client_secret": {canary}, "audience": {"https://api.example"}, "organization": {"org_acme"},
		}, form); diff != "" {
			t.Error(diff)
		}
		if w.shown[0] != "Bearer canary.token.1" {
			t.Errorf("the broker was shown %s", w.shown[0])
		}
	})
}

// Tokens of two hours, credentials of one: a token serves two or three times.
func TestATokenIsRenewedInTheMiddleOfItsLife(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		after(34 * time.Minute)
		if asked, tokens := w.count(host), w.count(tokenHost); asked != 2 || tokens != 1 {
			t.Errorf("%d and %d", asked, tokens)
		}
		after(67 * time.Minute)
		if tokens := w.count(tokenHost); tokens != 2 {
			t.Errorf("%d tokens", tokens)
		}
	})
}

func TestWhileNoTokenIsToBeHadTheOldOneServes(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.internet.mu.Lock()
		w.tokens = away
		w.internet.mu.Unlock()
		after(119*time.Minute - time.Second)
		if got := w.shown[len(w.shown)-1]; got != "Bearer canary.token.1" || w.count(host) < 3 {
			t.Errorf("shown %s, asked %d times", got, w.count(host))
		}
		asked := w.count(host)
		after(90 * time.Minute) // the token is over, and then the credentials
		if n := w.count(host); n != asked {
			t.Errorf("shown a token that is over: %s", w.shown[len(w.shown)-1])
		}
		if p := w.fails("token_unavailable"); p.Status != 503 || !strings.Contains(p.Message, "connection refused") || strings.Contains(p.Message, "canary") {
			t.Errorf("%+v", p)
		}
	})
}

func TestWhyThereIsNoToken(t *testing.T) {
	answer := func(status int, body string, headers ...string) func(*http.Request) *http.Response {
		return func(*http.Request) *http.Response { return reply(status, body, headers...) }
	}
	for what, tc := range map[string]struct {
		tokens func(*http.Request) *http.Response
		status int
		code   string
		says   string
	}{
		"a wrong secret":      {answer(401, `{"error":"access_denied","error_description":"Unauthorized"}`), 403, "token_refused", "acme.auth0.example refuses the client reports: access_denied: Unauthorized"},
		"a client without it": {answer(403, `{"error":"access_denied","error_description":"no client-grant"}`), 403, "token_refused", "no client-grant"},
		"a secret repeated":   {answer(401, `{"error":"access_denied","error_description":"not `+canary+`"}`), 403, "token_refused", "not [redacted]"},
		"a secret cut in two": {answer(401, `{"error":"access_denied","error_description":"`+strings.Repeat("x", 297)+canary+`"}`), 403, "token_refused", "xxx[re"},
		"an opaque token":     {answer(200, `{"access_token":"canary","token_type":"Bearer","expires_in":60}`), 403, "token_refused", "audience"},
		"another type":        {answer(200, `{"access_token":"canary.a.b","token_type":"DPoP","expires_in":60}`), 403, "token_refused", "bearer"},
		"no token":            {answer(200, `{}`), 503, "token_unavailable", "access_token"},
		"too many":            {answer(429, `{"error":"too_many_requests"}`, "Retry-After", "30"), 503, "token_unavailable", "429"},
		"a failure":           {answer(500, `{"error":"server_error"}`), 503, "token_unavailable", "500"},
		"something between":   {answer(403, `<html>canary`), 503, "token_unavailable", "403"},
		"a redirect":          {answer(307, ``, "Location", "https://evil.example/"), 503, "token_unavailable", "307"},
		"no JSON":             {answer(200, `canary`), 503, "token_unavailable", "cannot be asked"},
	} {
		t.Run(what, func(t *testing.T) {
			inWorld(t, func(i *internet, _ *agent.Options) { i.tokens = tc.tokens }, func(w *world) {
				p := w.fails(tc.code)
				if p.Status != tc.status || !strings.Contains(p.Message, tc.says) || strings.Contains(p.Error(), "canary") {
					t.Errorf("%+v", p)
				}
				if w.count("evil.example") != 0 || w.count(host) != 0 {
					t.Error("asked elsewhere")
				}
				if what == "too many" && p.RetryAfter < 29*time.Second {
					t.Errorf("told to come again after %s", p.RetryAfter)
				}
			})
		})
	}
}

// A client that has been shut out gets nothing more, though its credentials would be good.
func TestAClientThatIsRefusedKeepsNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.internet.mu.Lock()
		w.tokens = func(*http.Request) *http.Response { return reply(401, `{"error":"access_denied"}`) }
		w.internet.mu.Unlock()
		after(101 * time.Minute) // the token's half, and the next asking
		w.fails("token_refused")
	})
}

// A refused token is replaced once, unless it is new: then its age is not why.
func TestARefusedTokenIsReplaced(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(r *http.Request) *http.Response {
			if strings.HasSuffix(r.Header.Get("Authorization"), ".1") { // the keys have changed
				return refuse(401, "invalid_token")(r)
			}
			return w.credentials(r)
		})
		after(33 * time.Minute)
		if w.has("ASIA3"); w.count(tokenHost) != 2 || w.count(host) != 3 {
			t.Errorf("%d tokens, asked %d times", w.count(tokenHost), w.count(host))
		}
	})
	inWorld(t, func(i *internet, _ *agent.Options) { i.broker = refuse(401, "expired_token") }, func(w *world) {
		after(9 * time.Minute)
		if w.fails("expired_token"); w.count(tokenHost) != 1 {
			t.Errorf("%d tokens", w.count(tokenHost))
		}
		after(30 * time.Minute)
		if n := w.count(tokenHost); n < 2 || n > 4 {
			t.Errorf("%d tokens", n)
		}
	})
}

// Where no other token is to be had, the broker's words are the answer.
func TestARefusalStaysWhereNoOtherTokenIsToBeHad(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(refuse(401, "invalid_token"))
		w.internet.mu.Lock()
		w.tokens = away
		w.internet.mu.Unlock()
		after(33 * time.Minute)
		p := w.fails("invalid_token")
		synctest.Wait() // it may be asked again behind the answer
		if p.Message != "why" || len(w.shown) != w.count(host) || slices.Contains(w.shown, "Bearer ") {
			t.Errorf("%+v, shown %q", p, w.shown)
		}
	})
}

// Another token is asked for where the token is what was refused, and nowhere else.
func TestATokenIsNotReplacedForWhatItDoesNotAllow(t *testing.T) {
	for _, code := range []string{"no_grant", "missing_token"} {
		inWorld(t, nil, func(w *world) {
			w.set(refuse(403, code))
			after(33 * time.Minute) // the token is old enough
			if w.fails(code); w.count(tokenHost) != 1 || w.count(host) < 2 {
				t.Errorf("%s: %d tokens, asked %d times", code, w.count(tokenHost), w.count(host))
			}
		})
	}
}

func TestASecretCanBeRotated(t *testing.T) {
	path := file(t, "secret", canary+"-1\n", 0o400)
	inWorld(t, func(_ *internet, o *agent.Options) { o.ClientSecret, o.SecretFile = broker.Secret{}, path }, func(w *world) {
		w.has("ASIA1")
		replace(t, path, canary+"-2", 0o400)
		after(101 * time.Minute)
		if len(w.forms) != 2 || !strings.Contains(w.forms[0], canary+"-1&") || !strings.Contains(w.forms[1], canary+"-2&") {
			t.Errorf("sent %q", w.forms)
		}
	})
	for what, path := range map[string]string{"others": file(t, "secret", canary, 0o444), "none": filepath.Join(t.TempDir(), "none"), "long": file(t, "secret", strings.Repeat("a", 4097), 0o400)} {
		inWorld(t, func(_ *internet, o *agent.Options) { o.ClientSecret, o.SecretFile = broker.Secret{}, path }, func(w *world) {
			if p := w.fails("token_unavailable"); w.count(tokenHost) != 0 || !strings.Contains(p.Error(), path) {
				t.Errorf("%s: %v", what, p)
			}
		})
	}
}

// replace puts a file in the place of another, as whoever renews it does.
func replace(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.Rename(file(t, "new", text, mode), path); err != nil {
		t.Fatal(err)
	}
}

func TestATokenFileIsReadEachTime(t *testing.T) {
	path := file(t, "token", "canary.file.1\n", 0o644)
	withFile := func(path string) func(*internet, *agent.Options) {
		return func(_ *internet, o *agent.Options) {
			*o = agent.Options{BrokerURL: o.BrokerURL, Transport: o.Transport, Log: o.Log, TokenFile: path}
		}
	}
	inWorld(t, withFile(path), func(w *world) {
		w.has("ASIA1")
		replace(t, path, "canary.file.2", 0o644)
		after(33 * time.Minute)
		if diff := cmp.Diff([]string{"Bearer canary.file.1", "Bearer canary.file.2"}, w.shown); diff != "" {
			t.Error(diff)
		}
		// One that is refused is shown once.
		w.set(refuse(401, "expired_token"))
		after(33 * time.Minute)
		tries := len(w.shown)
		if w.fails("expired_token"); tries > 40 || w.count(tokenHost) != 0 {
			t.Errorf("shown %d times", tries)
		}
	})
	inWorld(t, func(i *internet, o *agent.Options) {
		withFile(path)(i, o)
		i.broker = refuse(401, "expired_token")
	}, func(w *world) {
		if w.fails("expired_token"); len(w.shown) != 1 {
			t.Errorf("shown %q", w.shown)
		}
	})
	for what, path := range map[string]string{
		"none": filepath.Join(t.TempDir(), "none"), "empty": file(t, "token", "", 0o600), "opaque": file(t, "token", "canary", 0o600),
		"two": file(t, "token", "canary.a.b\ncanary.a", 0o600), "long": file(t, "token", "a.b."+strings.Repeat("c", 8192), 0o600),
	} {
		inWorld(t, withFile(path), func(w *world) {
			if w.fails("token_unavailable"); w.count(host) != 0 {
				t.Errorf("%s: the broker was asked", what)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for what, tc := range map[string]struct {
		change func(*agent.Options)
		says   string // "" takes them
	}{
		"good":           {func(*agent.Options) {}, ""},
		"Auth0's domain": {func(o *agent.Options) { o.TokenURL, o.Auth0Domain = "", "acme.eu.auth0.com" }, ""},
		"on this machine": {func(o *agent.Options) {
			o.BrokerURL, o.TokenURL = "http://127.0.0.1:8080", "http://localhost:9400/oauth/token"
		}, ""},
		"on this machine, IPv6":   {func(o *agent.Options) { o.BrokerURL = "http://[::1]:8080" }, ""},
		"a file":                  {func(o *agent.Options) { *o = agent.Options{BrokerURL: brokerURL, TokenFile: "f"} }, ""},
		"a file and a client":     {func(o *agent.Options) { o.TokenFile = "f" }, "--token-file"},
		"no broker":               {func(o *agent.Options) { o.BrokerURL = "" }, "--broker-url"},
		"a broker without a host": {func(o *agent.Options) { o.BrokerURL = "https://:443" }, "--broker-url"},
		"a broker in clear":       {func(o *agent.Options) { o.BrokerURL = "http://broker.example" }, "--broker-url"},
		"a broker of no web":      {func(o *agent.Options) { o.BrokerURL = "ftp://127.0.0.1" }, "--broker-url"},
		"a broker with a query":   {func(o *agent.Options) { o.BrokerURL += "?grant=x" }, "--broker-url"},
		"a broker with a user":    {func(o *agent.Options) { o.BrokerURL = "https://u:p@broker.example" }, "--broker-url"},
		"a broker with a mark":    {func(o *agent.Options) { o.BrokerURL += "#x" }, "--broker-url"},
		"loopback in a name":      {func(o *agent.Options) { o.BrokerURL = "http://127.0.0.1.evil.example" }, "--broker-url"},
		"tokens in clear":         {func(o *agent.Options) { o.TokenURL = "http://acme.auth0.example/oauth/token" }, "--token-url"},
		"no endpoint":             {func(o *agent.Options) { o.TokenURL = "" }, "--auth0-domain"},
		"two endpoints":           {func(o *agent.Options) { o.Auth0Domain = "acme.eu.auth0.com" }, "--auth0-domain"},
		"a domain that is a URL":  {func(o *agent.Options) { o.TokenURL, o.Auth0Domain = "", "https://acme.eu.auth0.com/" }, "--auth0-domain"},
		"a domain with a user":    {func(o *agent.Options) { o.TokenURL, o.Auth0Domain = "", "acme.eu.auth0.com@evil.example" }, "--auth0-domain"},
		"no client":               {func(o *agent.Options) { o.ClientID = "" }, "--client-id"},
		"no secret":               {func(o *agent.Options) { o.ClientSecret = broker.Secret{} }, "--client-secret-file"},
		"two secrets":             {func(o *agent.Options) { o.SecretFile = "f" }, "--client-secret-file"},
		"no audience":             {func(o *agent.Options) { o.Audience = "" }, "--audience"},
		"all problems at once: 1": {func(o *agent.Options) { *o = agent.Options{} }, "--broker-url"},
		"all problems at once: 2": {func(o *agent.Options) { *o = agent.Options{} }, "--audience"},
	} {
		o := options(newInternet())
		tc.change(&o)
		_, err := agent.New(o)
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Go makes a mode up on Windows, 0666 or 0444: it would refuse every file.
func TestAModeTellsNothingOnWindows(t *testing.T) {
	for mode, others := range map[fs.FileMode]bool{0o600: false, 0o640: false, 0o604: true, 0o602: true, 0o601: true, 0o666: true, 0o444: true, 0o620: true, 0o660: true} {
		if agent.OthersMay(mode, "linux") != others || agent.OthersMay(mode, "darwin") != others || agent.OthersMay(mode, "windows") {
			t.Errorf("%o", mode)
		}
	}
}
