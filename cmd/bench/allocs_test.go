//go:build !race

// Under the race detector a sync.Pool forgets on purpose.

package main

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/labstack/echo/v4"

	"credential-broker/broker/auditlog"
	"credential-broker/broker/telemetry"
	"credential-broker/cmd/credential-broker/config"
)

// most is what a hit may allocate beyond what Echo does: the token as a secret, and
// the route's share of what is made many at a time.
const most = 2

// nowhere takes an answer, and has room for its headers, as net/http has.
type nowhere struct {
	h      http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.h }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(status int)      { n.status = status }

// hits returns the handler of the whole broker, and a request that it has answered.
func hits(t testing.TB) (http.Handler, *http.Request) {
	t.Helper()
	w, err := newWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	cfg, err := config.Parse("bench.yaml", []byte(w.config(spec{Name: "0", Entries: 10, STSPerSecond: 1000})), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := newParts(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	audit, err := auditlog.Open(auditlog.Config{Path: filepath.Join(t.TempDir(), "audit.jsonl")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	f, err := os.Create(filepath.Join(t.TempDir(), "event.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(f, nil)))
	h, err := spec{}.handler(cfg, parts, audit, log)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.token(w.claims(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/credentials", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:1234"
	r.Header = http.Header{"Authorization": {"Bearer " + token}, "Origin": {origin}, "User-Agent": {"aws-sdk-go-v2/1.48.0"}}
	n := &nowhere{h: http.Header{}}
	h.ServeHTTP(n, r)
	if n.status != http.StatusOK {
		t.Fatalf("status %d", n.status)
	}
	return h, r
}

func allocs(h http.Handler, r *http.Request) float64 {
	n := &nowhere{h: make(http.Header, 16)}
	return testing.AllocsPerRun(2000, func() {
		clear(n.h)
		h.ServeHTTP(n, r)
	})
}

// Everything on: request id, CORS, security headers, limits, metrics, event log, audit
// record.
func TestAHitAllocatesHardlyMoreThanEcho(t *testing.T) {
	h, r := hits(t)
	e := echo.New()
	body := make([]byte, answerBytes)
	e.GET("/v1/credentials", func(c echo.Context) error { return c.Blob(http.StatusOK, "application/json", body) })
	bare := allocs(e, r)
	if got := allocs(h, r); got > bare+most {
		t.Errorf("a hit allocates %v times, Echo alone %v", got, bare)
	} else {
		t.Logf("a hit allocates %v times, Echo alone %v", got, bare)
	}
}

// BenchmarkHit is a hit without the network, everything on.
func BenchmarkHit(b *testing.B) {
	h, r := hits(b)
	n := &nowhere{h: make(http.Header, 16)}
	b.ReportAllocs()
	for b.Loop() {
		clear(n.h)
		h.ServeHTTP(n, r)
	}
}
