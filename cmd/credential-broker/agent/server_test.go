package agent_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"

	"credential-broker/cmd/credential-broker/agent"
)

// key is an authorization that programs show.
const key = "0123456789abcdef0123456789abcdef"

func handler(t testing.TB, a *agent.Agent) *agent.Handler {
	t.Helper()
	authorization, err := agent.ReadAuthorization(file(t, "key", key, 0o600), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h, err := agent.NewHandler(a, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9911}, authorization)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask makes a good request that change makes another.
func ask(h http.Handler, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, agent.Path, nil)
	r.Host = "127.0.0.1:9911"
	r.Header.Set("Authorization", key)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Each refusal differs from the good request in one thing.
func TestWhoIsAnswered(t *testing.T) {
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	name := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	inWorld(t, nil, func(w *world) {
		h := handler(t, w.agent)
		for what, tc := range map[string]struct {
			change func(*http.Request)
			status int
			code   string
		}{
			"a program":                 {nil, 200, ""},
			"by the name localhost":     {name("localhost:9911"), 200, ""},
			"by IPv6":                   {name("[::1]:9911"), 200, ""},
			"a name that was rebound":   {name("evil.example:9911"), 403, "agent_forbidden"},
			"one that looks like it":    {name("127.0.0.1.evil.example:9911"), 403, "agent_forbidden"},
			"another port":              {name("127.0.0.1:9912"), 403, "agent_forbidden"},
			"no port":                   {name("127.0.0.1"), 403, "agent_forbidden"},
			"no host":                   {name(""), 403, "agent_forbidden"},
			"this machine from outside": {name("192.0.2.1:9911"), 403, "agent_forbidden"},
			"a page":                    {header("Origin", "https://evil.example"), 403, "agent_forbidden"},
			"a page of no origin":       {header("Origin", "null"), 403, "agent_forbidden"},
			"a page of its own":         {header("Origin", "http://127.0.0.1:9911"), 403, "agent_forbidden"},
			"a page's image":            {header("Sec-Fetch-Site", "cross-site"), 403, "agent_forbidden"},
			"a link":                    {header("Referer", "https://evil.example/"), 403, "agent_forbidden"},
			"a proxy":                   {header("X-Forwarded-For", "192.0.2.1"), 403, "agent_forbidden"},
			"a proxy of RFC 7239":       {header("Forwarded", "for=192.0.2.1"), 403, "agent_forbidden"},
			"a proxy of RFC 9110":       {header("Via", "1.1 proxy"), 403, "agent_forbidden"},
			"no authorization":          {header("Authorization"), 401, "agent_unauthorized"},
			"an empty one":              {header("Authorization", ""), 401, "agent_unauthorized"},
			"another":                   {header("Authorization", key[1:]+"0"), 401, "agent_unauthorized"},
			"a part of it":              {header("Authorization", key[:31]), 401, "agent_unauthorized"},
			"more than it":              {header("Authorization", key+"0"), 401, "agent_unauthorized"},
			"twice":                     {header("Authorization", key, key), 401, "agent_unauthorized"},
			"a parameter":               {func(r *http.Request) { r.URL.RawQuery = "grant=admin" }, 400, "invalid_request"},
			"a question mark":           {func(r *http.Request) { r.URL.ForceQuery = true }, 400, "invalid_request"},
			"another method":            {func(r *http.Request) { r.Method = http.MethodPost }, 405, "method_not_allowed"},
			"a preflight": {func(r *http.Request) {
				r.Method = http.MethodOptions
				r.Header.Set("Origin", "https://evil.example")
			}, 403, "agent_forbidden"},
			"another path": {func(r *http.Request) { r.URL.Path = "/" }, 404, "not_found"},
			"a longer one": {func(r *http.Request) { r.URL.Path = agent.Path + "/" }, 404, "not_found"},
			"a detour":     {func(r *http.Request) { r.URL.Path = "//v1/credentials" }, 404, "not_found"},
		} {
			t.Run(what, func(t *testing.T) {
				got := ask(h, tc.change)
				var body struct{ AccessKeyId, Code, Message string }
				if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil {
					t.Fatal(err)
				}
				if got.Code != tc.status || body.Code != tc.code || (body.AccessKeyId == "ASIA1") != (tc.status == 200) {
					t.Errorf("%d %s", got.Code, got.Body)
				}
				if tc.status != 200 && (strings.Contains(got.Body.String(), "canary") || body.Message == "") {
					t.Errorf("answered %s", got.Body)
				}
				for name, want := range map[string]string{
					"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff",
					"Access-Control-Allow-Origin": "", "Location": "",
				} {
					if v := got.Header().Get(name); v != want {
						t.Errorf("%s is %q", name, v)
					}
				}
				if (got.Header().Get("Allow") == "GET") != (tc.status == 405) {
					t.Errorf("Allow is %q", got.Header().Get("Allow"))
				}
			})
		}
		if n := w.count(host); n != 1 {
			t.Errorf("the broker was asked %d times", n)
		}
	})
}

// Readiness tells nothing, so it needs no authorization; a page gets not even that.
func TestReadiness(t *testing.T) {
	ready := func(r *http.Request) { r.URL.Path = "/readyz"; r.Header.Del("Authorization") }
	inWorld(t, nil, func(w *world) {
		h := handler(t, w.agent)
		if got := ask(h, ready); got.Code != 200 || got.Body.String() != `{"Status":"ready"}` {
			t.Errorf("%d %s", got.Code, got.Body)
		}
		if got := ask(h, func(r *http.Request) { ready(r); r.Header.Set("Origin", "null") }); got.Code != 403 {
			t.Errorf("%d %s", got.Code, got.Body)
		}
		w.set(refuse(403, "revoked"))
		after(33 * time.Minute)
		if got := ask(h, ready); got.Code != 503 || got.Body.String() != `{"Status":"not ready"}` {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}

// What the broker says gets to the SDK, with its status and when to ask again.
func TestTheBrokersWordsArePassedOn(t *testing.T) {
	long := strings.Repeat("x", 1000)
	inWorld(t, func(i *internet, _ *agent.Options) { i.broker = refuse(429, "rate_limited", "Retry-After", "40") }, func(w *world) {
		got := ask(handler(t, w.agent), nil)
		if want := `{"Code":"rate_limited","Message":"why","RequestId":"id1"}`; got.Code != 429 || got.Body.String() != want || got.Header().Get("Retry-After") < "40" || len(got.Header().Get("Retry-After")) != 2 {
			t.Errorf("%d %s, Retry-After %s", got.Code, got.Body, got.Header().Get("Retry-After"))
		}
	})
	inWorld(t, func(i *internet, _ *agent.Options) { i.broker = refuse(400, "a\\u0000b"+long) }, func(w *world) {
		if got := ask(handler(t, w.agent), nil); got.Code != 400 || got.Body.Len() > 200 || !strings.Contains(got.Body.String(), `"a?b`) {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}

func TestWithoutAuthorizationEverybodyIsAnsweredButNoBrowser(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		h, err := agent.NewHandler(w.agent, &net.TCPAddr{IP: net.IPv6loopback, Port: 9911}, nil)
		if err != nil {
			t.Fatal(err)
		}
		bare := func(r *http.Request) { r.Header.Del("Authorization") }
		if got := ask(h, bare); got.Code != 200 {
			t.Errorf("%d %s", got.Code, got.Body)
		}
		if got := ask(h, func(r *http.Request) { bare(r); r.Header.Set("Origin", "null") }); got.Code != 403 {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for address, good := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "127.0.0.2:0": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false, "broker.example:0": false, "localhost.example:0": false, "127.0.0.1": false,
		"169.254.170.2:0": false,
	} {
		l, err := agent.Listen(t.Context(), address)
		if (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
				t.Errorf("%s: listens on %s", address, ip)
			}
			l.Close()
		}
	}
}

func TestTheAuthorizationIsMadeOnceForItsOwner(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o640} {
		path := filepath.Join(t.TempDir(), "key")
		for range 2 { // the second finds what the first has made
			if _, err := agent.ReadAuthorization(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != mode {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if err != nil || len(text) != 52 || strings.TrimSpace(string(text)) != string(text) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct{ path, says string }{
		"others can read it": {file(t, "key", key, 0o604), "chmod 600"}, "others can write it": {file(t, "key", key, 0o602), "chmod 600"},
		"its group can write it": {file(t, "key", key, 0o620), "chmod 600"}, "short": {file(t, "key", key[:31], 0o600), "31 bytes"},
		"empty": {file(t, "key", "", 0o600), "0 bytes"}, "a newline": {file(t, "key", key+"\n", 0o600), "a newline"}, "a space": {file(t, "key", key+" "+key, 0o600), "a space"},
		"no ASCII": {file(t, "key", key+"é", 0o600), "another character"}, "long": {file(t, "key", strings.Repeat("a", 4097), 0o600), "longer than 4096"},
		"a folder": {t.TempDir(), "must be a file"}, "a folder that is not there": {filepath.Join(t.TempDir(), "x", "key"), "make the authorization token"},
		"a link to nothing": {link, "no such file"},
	} {
		if a, err := agent.ReadAuthorization(tc.path, 0o600); err == nil || a != nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), key[:31]) {
			t.Errorf("%s: %v, want %q", what, err, tc.says)
		}
	}
	if _, err := agent.ReadAuthorization(file(t, "key", key, 0o440), 0o600); err != nil {
		t.Errorf("what Kubernetes mounts for a group: %v", err)
	}
}

// The whole, over the network of this machine, with the AWS SDK for Go's own provider.
func TestAnSDKIsServedUntilTheEnd(t *testing.T) {
	o := options(newInternet())
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := agent.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	authorization, err := agent.ReadAuthorization(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l, authorization) }()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	provider := endpointcreds.New("http://"+l.Addr().String()+agent.Path, func(o *endpointcreds.Options) { o.AuthorizationToken = string(text) })
	got, err := provider.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != "ASIA1" || got.SecretAccessKey != canary || got.SessionToken != canary || !got.CanExpire {
		t.Errorf("%v, %v", got.AccessKeyID, err)
	}
	stranger := endpointcreds.New("http://"+l.Addr().String()+agent.Path, func(o *endpointcreds.Options) { o.AuthorizationToken = "guess" })
	if _, err := stranger.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "agent_unauthorized") || !strings.Contains(err.Error(), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
	if err := a.Serve(t.Context(), l, authorization); err == nil {
		t.Error("a closed listener is served")
	}
}

// The end of the agent is not a failure of the broker's.
func TestAStopIsNotLoggedAsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, internet: newInternet()}
		w.set(hang)
		o := options(w.internet)
		o.Log = slog.New(slog.NewJSONHandler(w, nil))
		a, err := agent.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go a.Run(ctx)
		synctest.Wait()
		stop()
		synctest.Wait()
		if w.logged() != "" {
			t.Errorf("logged %s", w.logged())
		}
	})
}
