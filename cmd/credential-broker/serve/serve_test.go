package serve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/client"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
)

// buffer is a bytes.Buffer for more than one goroutine.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// issuer runs a local Auth0 until the test ends.
func issuer(t testing.TB) (address, token string) {
	t.Helper()
	l, err := brokertest.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = "http://" + l.Addr().String() + "/"
	auth0, err := brokertest.NewAuth0(address, "", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	go func() { _ = brokertest.Serve(ctx, l, auth0) }()
	if token, err = auth0.UserToken("alice@acme.test"); err != nil {
		t.Fatal(err)
	}
	return address, token
}

func configuration(t testing.TB, issuer string, change func(*config.Config)) config.Config {
	t.Helper()
	cfg, err := config.Parse("c.yaml", []byte(`
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
issuers: [{url: "`+issuer+`", audiences: ["https://uploads.acme.test"]}]
web_identity: {mode: forwarded}
sts: {region: eu-west-1, endpoint: "http://127.0.0.1:1"}
grants: [{name: g, role_arn: "arn:aws:iam::123456789012:role/r", tenant: {claim: org_id}, bucket: acme-uploads, region: eu-west-1, prefix: "{tenant}/", access: [read]}]
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func get(t testing.TB, address, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestAServiceIsReadyWithItsKeysAndStopsInOrder(t *testing.T) {
	address, token := issuer(t)
	var audit, log buffer
	ready := make(chan struct{})
	s, err := serve.New(configuration(t, address, nil), serve.Options{
		Stdout: &audit, Log: slog.New(slog.NewJSONHandler(&log, nil)), Ready: func() { close(ready) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-ready
	if status, body := get(t, "http://"+s.Addr().String()+"/v1/grants", token); status != 200 || !strings.Contains(body, `"org_acme/"`) {
		t.Errorf("grants: %d %s", status, body)
	}
	if status, body := get(t, "http://"+s.Addr().String()+"/v1/client.js", ""); status != 200 || body != string(client.JS()) {
		t.Errorf("the browser helper: %d, %d bytes", status, len(body))
	}
	if status, body := get(t, "http://"+s.AdminAddr().String()+"/readyz", ""); status != 200 {
		t.Errorf("ready: %d %s", status, body)
	}
	if status, _ := get(t, "http://"+s.Addr().String()+"/v1/credentials", token); status != 503 {
		t.Errorf("with STS down: %d", status)
	}
	if !strings.Contains(audit.String(), `"code":"sts_unavailable"`) {
		t.Errorf("audit: %s", &audit)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("still listening")
	}
	if strings.Contains(audit.String()+log.String(), "eyJ") {
		t.Error("a token is in the log or in the audit records")
	}
}

func TestAServiceWithoutKeysIsNotReady(t *testing.T) {
	s, err := serve.New(configuration(t, "http://127.0.0.1:1/", nil), serve.Options{Stdout: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if status, body := get(t, "http://"+s.AdminAddr().String()+"/readyz", ""); status != 503 || !strings.Contains(body, "no keys yet") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := get(t, "http://"+s.Addr().String()+"/readyz", ""); status != 503 || strings.Contains(body, "127.0.0.1:1") {
		t.Errorf("%d %s", status, body)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeOpenedIsSaidAndNothingStaysOpen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte("canary-key"), 0o600); err != nil {
		t.Fatal(err)
	}
	minted := func(path string) func(*config.Config) {
		return func(c *config.Config) {
			c.WebIdentity = config.WebIdentity{Mode: config.Minted, Issuer: "https://b.example", Audience: "a", SigningKeys: []string{path}}
		}
	}
	for name, tc := range map[string]struct {
		change func(*config.Config)
		prep   func()
		want   string
	}{
		"public port":    {func(c *config.Config) { c.Listen = taken.Addr().String() }, nil, "listen: "},
		"admin port":     {func(c *config.Config) { c.AdminListen = taken.Addr().String() }, nil, "admin port"},
		"audit file":     {func(c *config.Config) { c.Audit.Output = "/nonexistent/x" }, nil, "open audit log"},
		"no key":         {minted("/nonexistent/x"), nil, "read signing key"},
		"a folder":       {minted(filepath.Dir(key)), nil, "must be a file"},
		"not a key":      {minted(key), nil, "no PEM block"},
		"a readable key": {minted(key), func() { _ = os.Chmod(key, 0o644) }, "chmod 600"},
		"a long key":     {minted(key), func() { _ = os.WriteFile(key, make([]byte, 65<<10), 0o600); _ = os.Chmod(key, 0o600) }, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.prep != nil {
				tc.prep()
			} else if err := errors.Join(os.WriteFile(key, []byte("canary-key"), 0o600), os.Chmod(key, 0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := serve.New(configuration(t, "http://127.0.0.1:1/", tc.change), serve.Options{Stdout: io.Discard})
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := serve.New(configuration(t, "http://127.0.0.1:1/", nil), serve.Options{}); err == nil {
		t.Error("records go nowhere")
	}
}

// From nothing to ready, with the issuer on loopback.
func BenchmarkStartToReady(b *testing.B) {
	address, _ := issuer(b)
	cfg := configuration(b, address, nil)
	for b.Loop() {
		ready := make(chan struct{})
		s, err := serve.New(cfg, serve.Options{Stdout: io.Discard, Ready: func() { close(ready) }})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		<-ready
		b.StopTimer()
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
