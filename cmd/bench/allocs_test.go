//go:build !race

// Under the race detector a sync.Pool forgets on purpose.

package main

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
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

// hits returns the handler of the whole broker, and requests of so many subjects that it
// has answered.
func hits(t testing.TB, subjects int, off ...string) (http.Handler, []*http.Request) {
	t.Helper()
	w, err := newWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	cfg, err := config.Parse("bench.yaml", []byte(w.config(spec{Name: "0", Entries: 2 * subjects, STSPerSecond: 1_000_000})), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := newParts(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	what := spec{Off: off}
	var audit broker.Auditor = broker.NewAuditLog(io.Discard)
	if what.has(partAudit) {
		kept, err := auditlog.Open(auditlog.Config{Path: filepath.Join(t.TempDir(), "audit.jsonl")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = kept.Close() })
		audit = kept
	}
	var log *slog.Logger
	if what.has(partLog) {
		if log, err = eventLog(filepath.Join(t.TempDir(), "event.jsonl")); err != nil {
			t.Fatal(err)
		}
	}
	h, err := what.handler(cfg, parts, audit, log)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := w.tokens(subjects)
	if err != nil {
		t.Fatal(err)
	}
	requests := make([]*http.Request, len(tokens))
	for i, token := range tokens {
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
		requests[i] = r
	}
	return h, requests
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
	h, requests := hits(t, 1)
	r := requests[0]
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

// BenchmarkHit is hits of as many subjects as the command has, without the network.
func BenchmarkHit(b *testing.B) {
	for _, tc := range []struct {
		name string
		off  []string
	}{{"everything", nil}, {"safety", []string{partLog, partMetrics, partLimits, partAudit}}} {
		b.Run(tc.name, func(b *testing.B) {
			h, requests := hits(b, subjects, tc.off...)
			n := &nowhere{h: make(http.Header, 16)}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				clear(n.h)
				h.ServeHTTP(n, requests[i%len(requests)])
				i++
			}
		})
	}
}
