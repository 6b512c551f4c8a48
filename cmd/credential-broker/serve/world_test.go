package serve_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/broker/brokertest/localsts"
	"credential-broker/cmd/credential-broker/account"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
)

// Where everything is in the bubble. There is no network: see internet.
const (
	issuerURL = "http://127.0.0.1:9400/"
	otherURL  = "http://127.0.0.1:9401/"
	brokerURL = "http://127.0.0.1:8080"
	adminURL  = "http://127.0.0.1:9090"
	stsURL    = "http://127.0.0.1:9000"
)

// keysOf are two signing keys for each issuer, made once.
var keysOf = map[string]func() []*rsa.PrivateKey{issuerURL: sync.OnceValue(newKeys), otherURL: sync.OnceValue(newKeys)}

func newKeys() []*rsa.PrivateKey {
	keys := make([]*rsa.PrivateKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
}

// pipes is a listener whose connections are pipes, so that it can be in a bubble.
type pipes struct {
	wrap   func(net.Conn) net.Conn // nil, or what becomes of the server's end
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	if p.wrap != nil {
		server = p.wrap(server)
	}
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// internet answers in place of the hosts.
type internet struct {
	mu    sync.Mutex
	hosts map[string]http.Handler // :: host → who answers; nil: nobody
	asked map[string]int          // :: URL without query → how often
	// sending, if set, is called by whoever sends a request, before it is.
	sending func(*http.Request)
}

func (i *internet) set(url string, h http.Handler) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hosts[strings.Trim(strings.TrimPrefix(url, "http://"), "/")] = h
}

func (i *internet) count(url string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[url]
}

// RoundTrip implements http.RoundTripper.
func (i *internet) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	h, sending := i.hosts[r.URL.Host], i.sending
	i.asked["http://"+r.URL.Host+r.URL.Path]++
	i.mu.Unlock()
	if sending != nil {
		sending(r)
	}
	if h == nil {
		return nil, errors.New("connection refused")
	}
	asked := r.Clone(r.Context())
	asked.Host, asked.RequestURI = r.URL.Host, r.URL.RequestURI()
	if asked.Body == nil {
		asked.Body = http.NoBody
	}
	answer := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, asked)
		answer <- w.Result()
	}()
	select {
	case response := <-answer:
		return response, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// world is a service in a bubble of time, before a local Auth0 and a local STS.
type world struct {
	*testing.T
	internet      *internet
	auth0         map[string]*localauth0.Server // :: issuer → it
	sts           *localsts.Server
	public, admin *pipes
	audit, log    buffer
	hangup        chan os.Signal
	reloaded      chan serve.Reload
	stop          context.CancelFunc
	done          chan error
	folder        string
	notice        time.Duration
	auditTo       io.Writer
	logTo         io.Writer
	audited       func(error)

	mu   sync.Mutex
	text string            // of the configuration
	edit *strings.Replacer // of what is read next
}

const (
	usual = `
listen: ":8080"
issuers: [{url: "` + issuerURL + `", audiences: ["` + brokertest.Audience + `"]}]
web_identity: {mode: minted, issuer: "` + brokerURL + `", signing_keys: ["FOLDER/a.pem"]}
sts: {region: eu-west-1, endpoint: "` + stsURL + `"}
limits: {per_subject_per_minute: 30}
revoked: {subjects: [], tenants: []}
grants:
  - name: uploads
    match: {permissions: ["upload:files"]}
    role_arn: arn:aws:iam::123456789012:role/tenant-uploads
    tenant: {claim: org_id}
    bucket: acme-uploads
    region: eu-west-1
    prefix: tenants/{tenant}/
    access: [list, read]
    duration: 1h
`
	alice, bob = "alice@acme.test", "bob@globex.test"
)

// inWorld runs a test with a service that is ready. prepare may change the world
// before it starts.
func inWorld(t *testing.T, prepare, test func(*world)) {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"a.pem", "b.pem", "c.pem"} {
		signingKey(t, filepath.Join(folder, name))
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, internet: &internet{hosts: map[string]http.Handler{}, asked: map[string]int{}}, auth0: map[string]*localauth0.Server{},
			public: newPipes(), admin: newPipes(), hangup: make(chan os.Signal, 1), reloaded: make(chan serve.Reload, 100),
			done: make(chan error, 1), folder: folder, text: strings.ReplaceAll(usual, "FOLDER", folder), edit: strings.NewReplacer(),
		}
		w.auditTo, w.logTo = &w.audit, &w.log
		for url, keys := range keysOf {
			cfg := localauth0.Demo(url, brokertest.Audience, "")
			cfg.Keys = keys()
			server, err := localauth0.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			w.auth0[url] = server
		}
		w.internet.set(issuerURL, w.auth0[issuerURL])
		w.internet.set(brokerURL, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			status, body := w.ask(http.MethodGet, brokerURL+r.URL.Path, "")
			if status == 0 {
				status = http.StatusBadGateway
			}
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, body)
		}))
		if prepare != nil {
			prepare(w)
		}
		w.start()
		defer w.end()
		test(w)
	})
}

func signingKey(t testing.TB, path string) {
	t.Helper()
	if err := brokertest.WriteSigningKey(path); err != nil {
		t.Fatal(err)
	}
}

// load reads the configuration as the test has it now.
func (w *world) load() (config.Config, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return config.Parse("test.yaml", []byte(w.edit.Replace(w.text)), func(string) (string, bool) { return "", false })
}

// account makes the STS of the roles in the configuration, and of one more.
func (w *world) account(cfg config.Config) {
	w.Helper()
	more, err := config.Parse("more.yaml", []byte(strings.ReplaceAll(w.text, "role/tenant-uploads", "role/other")), os.LookupEnv)
	if err != nil {
		w.Fatal(err)
	}
	local := localsts.Config{Region: "eu-west-1", AccountID: "123456789012", HTTP: &http.Client{Transport: w.internet}}
	for _, cfg := range []config.Config{cfg, more} {
		setup, err := account.Of(cfg)
		if err != nil {
			w.Fatal(err)
		}
		local.Providers = nil
		for _, p := range setup.Providers {
			local.Providers = append(local.Providers, localsts.Provider{URL: p.URL, ClientIDs: p.ClientIDs})
		}
		for _, r := range setup.Roles {
			_, name, _ := strings.Cut(r.ARN, ":role/")
			local.Roles = append(local.Roles, localsts.Role{Name: name, TrustPolicy: r.TrustPolicy, Policy: r.Policy, MaxSession: 12 * time.Hour})
		}
	}
	if w.sts, err = localsts.New(local); err != nil {
		w.Fatal(err)
	}
	w.internet.set(stsURL, w.sts)
}

// calls is how often STS was asked.
func (w *world) calls() int { return w.sts.Calls("AssumeRoleWithWebIdentity") }

// start runs the service until end, and waits until it is ready.
func (w *world) start() {
	w.Helper()
	cfg, err := w.load()
	if err != nil {
		w.Fatal(err)
	}
	w.account(cfg)
	ready := make(chan struct{})
	service, err := serve.New(cfg, serve.Options{
		Stdout: w.auditTo, Log: slog.New(slog.NewJSONHandler(w.logTo, nil)), Audited: w.audited, Listener: w.public, AdminListener: w.admin, Transport: w.internet,
		Ready: func() { close(ready) }, Notice: w.notice,
		Load: w.load, Hangup: w.hangup, Reloaded: func(r serve.Reload) { w.reloaded <- r },
	})
	if err != nil {
		w.Fatal(err)
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(w.Context())
	go func() { w.done <- service.Run(ctx) }()
	select {
	case <-ready:
	case <-time.After(5 * time.Minute):
		w.Fatalf("not ready: %s", &w.log)
	}
}

// end stops the service, unless a test has.
func (w *world) end() {
	w.Helper()
	w.stop()
	if err, ok := <-w.done; ok && err != nil {
		w.Errorf("stopped with %v", err)
	}
	if strings.Contains(w.audit.String()+w.log.String(), "eyJ") {
		w.Error("a token is in the log or in the audit records")
	}
}

// after lets time pass, and everything that was to happen in it.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// change replaces parts of the configuration that was there at the start.
func (w *world) change(oldnew ...string) {
	w.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(w.text, oldnew[i]) {
			w.Fatalf("%q is not in the configuration", oldnew[i])
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.edit = strings.NewReplacer(oldnew...)
}

// reload sends the signal and returns what came of it.
func (w *world) reload() serve.Reload {
	w.hangup <- os.Interrupt // which signal it is does not matter
	return <-w.reloaded
}

// loads changes the configuration and fails unless it is then in use.
func (w *world) loads(oldnew ...string) {
	w.Helper()
	w.change(oldnew...)
	if r := w.reload(); r.Result != serve.Loaded || r.Problem != nil {
		w.Fatalf("reload: %+v", r)
	}
}

// ask makes a request and returns the answer; no status is no answer.
func (w *world) ask(method, url, token string) (int, string) {
	r, err := http.NewRequestWithContext(w.Context(), method, url, nil)
	if err != nil {
		w.Error(err)
		return 0, ""
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) (int, string) {
	status, _, body := w.sendFor(r)
	return status, body
}

// sendFor is send, with the head of the answer.
func (w *world) sendFor(r *http.Request) (status int, header http.Header, body string) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return map[string]*pipes{"127.0.0.1:8080": w.public, "127.0.0.1:9090": w.admin}[address].dial(ctx)
		},
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return response.StatusCode, response.Header, string(data)
}

// token is a fresh access token of a demo user.
func (w *world) token(email string) string {
	w.Helper()
	token, err := w.auth0[issuerURL].UserToken(email)
	if err != nil {
		w.Fatal(err)
	}
	return token
}

// credentials are what alice is answered, of which the tests look at these.
type credentials struct{ Code, AccessKeyID, Bucket, Prefix, Expiration string }

// fetches asks for credentials and fails unless the answer has the status.
func (w *world) fetches(token string, status int) credentials {
	w.Helper()
	got, body := w.ask(http.MethodGet, brokerURL+"/v1/credentials", token)
	if got != status {
		w.Fatalf("%d %s, want %d; log:\n%s\naudit:\n%s", got, body, status, &w.log, &w.audit)
	}
	var c credentials
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		w.Fatal(err)
	}
	return c
}

// readiness is what the admin port tells.
type readiness struct {
	Status, Reason, Revision, Since string
	Reload                          *struct{ At, Result, Problem string }
	Issuers                         []struct {
		Issuer     string
		Keys       int
		AgeSeconds *int
		Problem    string
	}
}

func (w *world) ready() (int, readiness) {
	w.Helper()
	status, body := w.ask(http.MethodGet, adminURL+"/readyz", "")
	var r readiness
	if err := json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&r); err != nil {
		w.Fatalf("%d %q: %v", status, body, err)
	}
	return status, r
}

// hang answers when the request's time is up, and not before.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
