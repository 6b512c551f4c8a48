package clients_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/versitygw"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

// The clients run in a network of their own: they reach nothing but what is here,
// no metadata service and no AWS.
func TestMain(m *testing.M) { os.Exit(versitygw.Isolate(m)) }

// Limits are out of the way: many clients share an address, and those of short
// sessions ask before each request to S3.
const configuration = `
listen: "127.0.0.1:0"
cors: {allowed_origins: ["PAGE"]}
issuers: [{url: "ISSUER", audiences: ["` + brokertest.Audience + `"]}]
web_identity: {mode: minted, issuer: "BROKER", signing_keys: ["KEY"]}
sts: {region: ` + brokertest.Region + `, endpoint: "STS"}
limits: {per_subject_per_minute: 100000, per_tenant_per_minute: 100000, per_address_failures_per_minute: 100000, sts_per_second: 1000}
grants:
  - name: uploads
    match: {permissions: ["upload:files"]}
    role_arn: "` + brokertest.RoleARN + `"
    tenant: {claim: org_id}
    bucket: ` + brokertest.Bucket + `
    region: ` + brokertest.Region + `
    prefix: tenants/{tenant}/
    access: [list, read, write, delete]
    duration: 1h
`

const (
	inside  = "tenants/" + localauth0.DemoOrgAcme + "/"
	outside = "tenants/" + localauth0.DemoOrgOther + "/"
)

// world is a broker with its Auth0 and its account.
type world struct {
	auth0  *localauth0.Server
	broker string // the service itself; clients are given a front's address
	s3     string
	secure string // host and port of the same S3 under TLS, as a browser asks for it

	browser func(*testing.T) *browser // skips, or in CI fails, where there is none

	mu       sync.Mutex
	seen     []event
	ended    map[string]bool     // access keys whose session has run out
	renewals map[string]*renewal // by what a key begins with
}

// event is one request to S3 that was answered.
type event struct {
	accessKey, method, target string
	status                    int
}

// renewal ends a session after its first object.
type renewal struct {
	token string
	once  sync.Once
}

// newWorld starts everything; sessions last for life, or as the grant says. The page
// is the origin of pages that may call. More replaces parts of the configuration.
func newWorld(t *testing.T, page string, life time.Duration, more ...string) *world {
	t.Helper()
	w := &world{ended: map[string]bool{}, renewals: map[string]*renewal{}}
	issuer, issuerURL := servetest.Listen(t)
	local, s3 := servetest.Listen(t)
	broker, brokerURL := servetest.Listen(t)
	w.broker, w.s3 = brokerURL, s3
	var err error
	if w.auth0, err = brokertest.NewAuth0(issuerURL+"/", page, false); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(more...).Replace(configuration)
	text = strings.NewReplacer("PAGE", page, "ISSUER", issuerURL+"/", "BROKER", w.broker, "STS", w.s3, "KEY", servetest.SigningKey(t)).Replace(text)
	cfg, err := config.Parse("clients.yaml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	aws := servetest.AWS(t, cfg, func(c *brokertest.AWSConfig) {
		c.SessionLife, c.Buckets[0].AllowedOrigins = life, []string{page}
	})
	servetest.Handle(t, issuer, w.auth0)
	servetest.Handle(t, local, w.watch(aws))
	secure := httptest.NewTLSServer(w.watch(aws.S3))
	t.Cleanup(secure.Close)
	w.secure = secure.Listener.Addr().String()
	servetest.Start(t, cfg, serve.Options{Listener: broker})
	return w
}

// token is that of somebody of org_acme who is nobody else: what is cached is for
// one client. The claims in change are set, or taken away where they are nil.
func (w *world) token(t *testing.T, name string, change map[string]any) string {
	t.Helper()
	claims, err := w.auth0.UserClaims("alice@acme.test")
	if err != nil {
		t.Fatal(err)
	}
	claims["sub"] = "auth0|" + name
	for k, v := range change {
		claims[k] = v
		if v == nil {
			delete(claims, k)
		}
	}
	token, err := w.auth0.Mint(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// watch notes what is asked of S3. A session that has ended is refused in the words
// of S3, and is ended where a renewal was asked for.
func (w *world) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		key, target := accessKey(r), strings.TrimPrefix(r.URL.RequestURI(), "/"+brokertest.Bucket+"/")
		w.mu.Lock()
		ended := w.ended[key]
		w.mu.Unlock()
		if ended && r.Method != http.MethodOptions {
			rw.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			rw.Header().Set("Content-Type", "application/xml")
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>`)
			return
		}
		out := &status{ResponseWriter: rw}
		next.ServeHTTP(out, r)
		if r.Method == http.MethodOptions || key == "" {
			return
		}
		w.mu.Lock()
		w.seen = append(w.seen, event{key, r.Method, strings.TrimPrefix(target, "/"), out.code})
		var due *renewal
		for prefix, r2 := range w.renewals {
			if out.code == http.StatusOK && (r.Method == http.MethodPut || r.Method == http.MethodGet) && strings.Contains(target, prefix) {
				due = r2
			}
		}
		w.mu.Unlock()
		if due != nil {
			due.once.Do(func() { w.end(due.token, key) })
		}
	})
}

// end makes a session run out: S3 takes it no more, and the broker has forgotten it.
func (w *world) end(token, accessKey string) {
	req, err := http.NewRequest(http.MethodDelete, w.broker+"/v1/credentials", nil)
	if err != nil {
		panic(err) // a constant
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	if err != nil || resp.StatusCode != http.StatusNoContent {
		return // then nothing is renewed, and the test says so
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[accessKey] = true
}

// renew ends the session of the token after the first object below prefix.
func (w *world) renew(prefix, token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.renewals[prefix] = &renewal{token: token}
}

// events are the requests for what is below a prefix.
func (w *world) events(prefix string) []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []event
	for _, e := range w.seen {
		if strings.Contains(e.target, prefix) || strings.Contains(e.target, url.QueryEscape(prefix)) {
			found = append(found, e)
		}
	}
	return found
}

// keys are the access keys that signed what succeeded.
func keys(events []event) []string {
	var found []string
	for _, e := range events {
		if e.status < 300 && !slices.Contains(found, e.accessKey) {
			found = append(found, e.accessKey)
		}
	}
	return found
}

func accessKey(r *http.Request) string {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		credential = rest
	}
	key, _, _ := strings.Cut(credential, "/")
	return key
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if s.code == 0 && code >= 200 { // before it, 100 Continue may come
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Write(p []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	return s.ResponseWriter.Write(p)
}

// fault is what a front answers instead of the broker.
type fault struct {
	name   string
	status int               // 0: the connection is reset
	body   string            // %s: the request's id
	header map[string]string // in addition
	token  map[string]any    // claims with which the broker itself refuses; status and body are then its own
}

// The broker makes the first two itself, out of the token. The others are its own
// words, held against the real ones by TestTheFaultsAreTheBrokersOwn.
func faults() []fault {
	return []fault{
		{name: "401", token: map[string]any{"iat": time.Now().Add(-2 * time.Hour).Unix(), "exp": time.Now().Add(-time.Hour).Unix()}},
		{name: "403", token: map[string]any{"org_id": nil}},
		{name: "429", status: 429, body: `{"Code":"rate_limited","Message":"Too many requests. Wait as Retry-After says.","RequestId":"%s"}`, header: map[string]string{"Retry-After": "5"}},
		{name: "503", status: 503, body: `{"Code":"sts_unavailable","Message":"AWS cannot be asked now. Try again as Retry-After says.","RequestId":"%s"}`, header: map[string]string{"Retry-After": "5"}},
		{name: "dead"},
	}
}

// What a front says is what the broker says: each refusal is provoked, and compared
// but for the request's id.
func TestTheFaultsAreTheBrokersOwn(t *testing.T) {
	for status, change := range map[int][]string{
		429: {"per_subject_per_minute: 100000", "per_subject_per_minute: 1"},
		503: {`endpoint: "STS"`, `endpoint: "http://127.0.0.1:1"`}, // nobody listens there
	} {
		w := newWorld(t, "http://127.0.0.1:1", 0, change...)
		token := w.token(t, "refused", nil)
		for _, path := range []string{"/v1/credentials", "/s3/sts"} {
			var resp *http.Response
			var body []byte
			for range 2 { // the first may still be allowed
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.broker+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+token)
				if resp, err = http.DefaultClient.Do(req); err != nil {
					t.Fatal(err)
				}
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
			}
			i := slices.IndexFunc(faults(), func(f fault) bool { return f.status == status })
			want := faults()[i].text(path, resp.Header.Get("X-Request-Id"))
			if resp.StatusCode != status || string(body) != want || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %v\n%s, want %d\n%s", path, resp.StatusCode, resp.Header, body, status, want)
			}
		}
	}
}

// front stands before the broker: it counts, and answers instead of it.
type front struct {
	url   string
	only  string // the path that is answered and counted; empty: all
	times int    // so often, and then the broker answers; 0: always
	mu    sync.Mutex
	asked []string
}

func (f *front) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// note counts a request and returns how many there were.
func (f *front) note(r *http.Request) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.URL.Path)
	return len(f.asked)
}

// front opens a front; nil lets everything through.
func (w *world) front(t *testing.T, instead *fault) *front {
	t.Helper()
	to, err := url.Parse(w.broker)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	proxy := &httputil.ReverseProxy{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // a client that has gone
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
	}
	refuses := *proxy
	if instead != nil && instead.status != 0 {
		refuses.ModifyResponse = instead.replace
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		dead := instead != nil && instead.dead()
		switch preflight := r.Method == http.MethodOptions; {
		case f.only != "" && r.URL.Path != f.only:
			proxy.ServeHTTP(rw, r)
		case preflight && !dead: // a page asks for leave first; the question is not counted
			proxy.ServeHTTP(rw, r)
		case f.note(r) > f.times && f.times > 0:
			proxy.ServeHTTP(rw, r)
		case dead:
			reset(rw)
		default:
			refuses.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f fault) dead() bool { return f.status == 0 && f.token == nil }

// replace puts the refusal into the place of an answer; what CORS needs stays.
func (f fault) replace(resp *http.Response) error {
	_ = resp.Body.Close()
	body := f.text(resp.Request.URL.Path, resp.Header.Get("X-Request-Id"))
	resp.StatusCode, resp.Status = f.status, ""
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
	resp.Header.Set("Content-Type", "application/json")
	for name, value := range f.header {
		resp.Header.Set(name, value)
	}
	return nil
}

// text is the body; at /s3/sts the message is there once more, for Uppy.
func (f fault) text(path, id string) string {
	body := fmt.Sprintf(f.body, id)
	if path == "/s3/sts" {
		_, rest, _ := strings.Cut(body, `"Message":`)
		message, _, _ := strings.Cut(rest, `,"RequestId"`)
		body = strings.TrimSuffix(body, "}") + `,"message":` + message + "}"
	}
	return body
}

// reset ends a connection as a machine does on which nobody listens any more.
func reset(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// noise is a file of its own bytes.
func noise(t *testing.T, path string, size int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Error(err)
		return false
	}
	return bytes.Equal(x, y)
}
