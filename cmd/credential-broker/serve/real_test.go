package serve_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
)

// realWorld is a service on real ports, before a local Auth0 and a local AWS, for
// what has to be asked by a process of its own.
type realWorld struct {
	testing.TB
	auth0         *localauth0.Server
	public, admin string
	log           buffer
	hangup        chan os.Signal
	reloaded      chan serve.Reload
	text          string
	edit          atomic.Pointer[strings.Replacer]
	broken        atomic.Bool // STS, and
	full          atomic.Bool // what the audit records go to
	stop          func()      // ends the service and waits for it
}

const realText = `
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
issuers: [{url: "ISSUER", audiences: ["` + brokertest.Audience + `"], clients: [demo-spa]}]
web_identity: {mode: forwarded}
sts: {region: ` + brokertest.Region + `, endpoint: "STS"}
cache: {entries: 1}
limits: {per_subject_per_minute: 100000, per_tenant_per_minute: 100000, sts_per_second: 1000}
telemetry: {trace_tenant: false}
grants:
  - {name: uploads, match: {permissions: ["upload:files"]}, role_arn: "ROLE", tenant: {claim: org_id}, bucket: acme-uploads, region: ` + brokertest.Region + `, prefix: "tenants/{tenant}/", access: [list, read]}
  - {name: broken, match: {permissions: ["upload:files"]}, role_arn: "arn:aws:iam::123456789012:role/nobody", tenant: {claim: org_id}, bucket: acme-uploads, region: ` + brokertest.Region + `, prefix: "tenants/{tenant}/", access: [list, read]}
`

// serveReal listens on a port until the test ends.
func serveReal(t testing.TB, of func(address string) http.Handler) string {
	t.Helper()
	l, address := servetest.Listen(t)
	servetest.Handle(t, l, of(address))
	return address
}

// newRealWorld starts one, with changes to the configuration and to the options.
func newRealWorld(t testing.TB, text *strings.Replacer, change func(*serve.Options)) *realWorld {
	t.Helper()
	w := &realWorld{TB: t, hangup: make(chan os.Signal, 1), reloaded: make(chan serve.Reload, 100)}
	issuer := serveReal(t, func(address string) http.Handler {
		var err error
		if w.auth0, err = brokertest.NewAuth0(address+"/", "", true); err != nil {
			t.Fatal(err)
		}
		return w.auth0
	}) + "/"
	var aws atomic.Pointer[brokertest.AWS]
	sts := serveReal(t, func(string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if w.broken.Load() {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if r.Header.Get("Traceparent") != "" || r.Header.Get("Tracestate") != "" {
				t.Error("STS is told of the trace")
			}
			aws.Load().ServeHTTP(rw, r)
		})
	})
	if text == nil {
		text = strings.NewReplacer()
	}
	w.text = strings.NewReplacer("ISSUER", issuer, "STS", sts, "ROLE", brokertest.RoleARN).Replace(text.Replace(realText))
	w.edit.Store(strings.NewReplacer())
	cfg, err := w.load()
	if err != nil {
		t.Fatal(err)
	}
	aws.Store(servetest.AWS(t, cfg, func(c *brokertest.AWSConfig) {
		c.Roles = slices.DeleteFunc(c.Roles, func(r brokertest.Role) bool { return !strings.HasSuffix(brokertest.RoleARN, ":role/"+r.Name) }) // the other is not there
	}))
	w.start(cfg, change)
	return w
}

func (w *realWorld) start(cfg config.Config, change func(*serve.Options)) {
	w.Helper()
	o := serve.Options{
		Stdout: w, Log: slog.New(slog.NewJSONHandler(&w.log, nil)), Build: serve.Build{Version: "v0", Revision: "r", Go: "go"},
		Load: w.load, Hangup: w.hangup, Reloaded: func(r serve.Reload) { w.reloaded <- r },
	}
	if change != nil {
		change(&o)
	}
	var s *serve.Service
	s, w.stop = servetest.Start(w, cfg, o)
	w.public, w.admin = "http://"+s.Addr().String(), "http://"+s.AdminAddr().String()
}

// Write takes the audit records.
func (w *realWorld) Write(p []byte) (int, error) {
	if w.full.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

func (w *realWorld) load() (config.Config, error) {
	return config.Parse("real.yaml", []byte(w.edit.Load().Replace(w.text)), os.LookupEnv)
}

func (w *realWorld) token(email string) string {
	w.Helper()
	token, err := w.auth0.UserToken(email)
	if err != nil {
		w.Fatal(err)
	}
	return token
}

// asks makes a request and fails unless its answer has the status.
func (w *realWorld) asks(method, path, token string, status int, headers ...string) string {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.public+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	if resp.StatusCode != status && status != 0 {
		w.Fatalf("%s %s: %d %s, want %d; log:\n%s", method, path, resp.StatusCode, body, status, &w.log)
	}
	return string(body)
}

// session is traffic with everything in it that is counted and that a minute can hold.
func (w *realWorld) session() {
	w.Helper()
	token, bob := w.token(alice), w.token(bob)
	w.asks("GET", "/v1/credentials", token, 200)
	w.asks("GET", "/v1/credentials", token, 200)
	w.asks("GET", "/s3/sts", bob, 200) // there is room for one: alice's has to go
	w.asks("GET", "/v1/grants", bob, 200)
	w.asks("GET", "/v1/credentials?grant=broken", token, 502)
	w.asks("GET", "/v1/credentials?grant=broken", token, 502)
	w.asks("GET", "/v1/credentials", w.token("mallory@nowhere.test"), 403)
	w.asks("GET", "/v1/credentials", "", 401)
	w.asks("GET", "/nothing", "", 404)
	w.asks("DELETE", "/v1/credentials", bob, 204)
	w.broken.Store(true)
	w.asks("GET", "/v1/credentials", token, 503)
	w.broken.Store(false)
	w.edit.Store(strings.NewReplacer("prefix:", "prefux:"))
	w.hangup <- os.Interrupt
	if r := <-w.reloaded; r.Result != serve.Refused {
		w.Fatalf("%+v", r)
	}
	w.edit.Store(strings.NewReplacer("per_subject_per_minute: 100000", "per_subject_per_minute: 50000"))
	w.hangup <- os.Interrupt
	if r := <-w.reloaded; r.Result != serve.Loaded {
		w.Fatalf("%+v", r)
	}
	w.asks("GET", "/v1/credentials", token, 200)
}

func (w *realWorld) metrics() string {
	w.Helper()
	resp, err := http.Get(w.admin + "/metrics")
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.Fatal(fmt.Sprint(resp.StatusCode, " ", err))
	}
	return string(body)
}
