package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"credential-broker/broker"
	"credential-broker/broker/telemetry"
)

// sink is a collector that keeps what it is sent.
type sink struct {
	mu       sync.Mutex
	statuses []int // of the first answers; then 200
	requests []*http.Request
	spans    []*tracepb.Span
	resource map[string]string
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if len(s.statuses) > 0 {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(s.statuses[0])
		s.statuses = s.statuses[1:]
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		body = z
	}
	data, err := io.ReadAll(body)
	var traces tracepb.TracesData
	if err != nil || proto.Unmarshal(data, &traces) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.resource = map[string]string{}
	for _, rs := range traces.GetResourceSpans() {
		for _, a := range rs.GetResource().GetAttributes() {
			s.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			s.spans = append(s.spans, ss.GetSpans()...)
		}
	}
}

// lookup is an environment of these variables.
func lookup(all ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(all); i += 2 {
			if all[i] == name {
				return all[i+1], true
			}
		}
		return "", false
	}
}

const endpoint, forTraces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

func TestTracesAreOnWhenTheEnvironmentSaysWhereTheyGo(t *testing.T) {
	for name, tc := range map[string]struct {
		env []string
		on  bool
		err string
	}{
		"nothing":             {nil, false, ""},
		"an empty endpoint":   {[]string{endpoint, ""}, false, ""},
		"an endpoint":         {[]string{endpoint, "http://127.0.0.1:1"}, true, ""},
		"one for traces":      {[]string{forTraces, "http://127.0.0.1:1/x"}, true, ""},
		"switched off":        {[]string{endpoint, "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "true"}, false, ""},
		"no exporter":         {[]string{endpoint, "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "none"}, false, ""},
		"another exporter":    {[]string{endpoint, "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "zipkin"}, false, "OTEL_TRACES_EXPORTER"},
		"the right protocol":  {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"}, true, ""},
		"another protocol":    {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, false, "only http/protobuf"},
		"another compression": {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"}, false, "COMPRESSION"},
		"no time":             {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT", "0"}, false, "TIMEOUT"},
		"no URL":              {[]string{endpoint, "canary@127.0.0.1:1"}, false, "not an http or https URL"},
		"another scheme":      {[]string{endpoint, "ftp://canary@127.0.0.1"}, false, "not an http or https URL"},
		"bad headers":         {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS", "canary"}, false, "HEADERS"},
		"no certificate":      {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE", "sender_test.go"}, false, "no certificate"},
		"no such file":        {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE", "nowhere"}, false, "CERTIFICATE"},
		"no key":              {[]string{endpoint, "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "nowhere"}, false, "CLIENT_CERTIFICATE"},
	} {
		t.Run(name, func(t *testing.T) {
			traces, err := telemetry.NewTraces(t.Context(), telemetry.TraceConfig{Lookup: lookup(tc.env...)})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || (traces != nil) != tc.on {
				t.Errorf("%v, %v", traces != nil, err)
			}
			if err := traces.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// verifies makes one span.
func verifies(ctx context.Context, t *telemetry.Traces) {
	_, _ = t.Verifier(verifier{}).Verify(ctx, broker.NewSecret("canary"))
}

type verifier struct{}

func (verifier) Verify(context.Context, broker.Secret) (broker.Identity, error) {
	return broker.Identity{}, nil
}

func TestABatchIsSentAsTheEnvironmentSays(t *testing.T) {
	s := &sink{}
	server := httptest.NewServer(s)
	defer server.Close()
	for name, tc := range map[string]struct {
		env      []string
		path     string
		gzip     bool
		statuses []int
		requests int
		spans    int
		errors   int
	}{
		"as it comes":          {[]string{endpoint, server.URL}, "/v1/traces", false, nil, 1, 1, 0},
		"below a path":         {[]string{endpoint, server.URL + "/otlp/"}, "/otlp/v1/traces", false, nil, 1, 1, 0},
		"for traces":           {[]string{endpoint, "http://127.0.0.1:1", forTraces, server.URL + "/here"}, "/here", false, nil, 1, 1, 0},
		"compressed":           {[]string{endpoint, server.URL, "OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"}, "/v1/traces", true, nil, 1, 1, 0},
		"at the third attempt": {[]string{endpoint, server.URL}, "/v1/traces", false, []int{503, 429}, 3, 1, 0},
		"refused":              {[]string{endpoint, server.URL}, "/v1/traces", false, []int{400}, 1, 0, 1},
		"led elsewhere":        {[]string{endpoint, server.URL}, "/v1/traces", false, []int{307}, 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s.requests, s.spans, s.statuses = nil, nil, tc.statuses
			errors := 0
			var log bytes.Buffer
			traces, err := telemetry.NewTraces(t.Context(), telemetry.TraceConfig{
				Version: "v1", Lookup: lookup(append(tc.env, "OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=y")...), Log: slog.New(slog.NewTextHandler(&log, nil)),
				Exported: func(err error) {
					if err != nil {
						errors++
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			verifies(t.Context(), traces)
			if err := traces.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(s.requests) != tc.requests || len(s.spans) != tc.spans || errors != tc.errors || (tc.errors > 0) != (log.Len() > 0) {
				t.Fatalf("%d requests, %d spans, %d errors: %s", len(s.requests), len(s.spans), errors, &log)
			}
			r := s.requests[0]
			if r.URL.Path != tc.path || r.Header.Get("Api-Key") != "a b" || r.Header.Get("X") != "y" || r.Header.Get("Content-Type") != "application/x-protobuf" ||
				(r.Header.Get("Content-Encoding") == "gzip") != tc.gzip {
				t.Errorf("%s %v", r.URL.Path, r.Header)
			}
			if tc.spans > 0 && (s.resource["service.name"] != "credential-broker" || s.resource["service.version"] != "v1") {
				t.Errorf("from %v", s.resource)
			}
		})
	}
}

// What cannot be sent is said once, and nobody waits for it.
func TestACollectorThatIsOutIsSaidOnce(t *testing.T) {
	s := &sink{statuses: slices.Repeat([]int{500}, 3)}
	server := httptest.NewServer(s)
	defer server.Close()
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	var log bytes.Buffer
	traces, err := telemetry.NewTraces(t.Context(), telemetry.TraceConfig{Lookup: lookup(endpoint, server.URL), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		verifies(t.Context(), traces)
	}
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "500") != 1 || strings.Count(got, "sent again") != 1 || len(s.spans) != 2 {
		t.Errorf("%d spans: %s", len(s.spans), got)
	}
}

func TestTheSamplerIsTheEnvironments(t *testing.T) {
	s := &sink{}
	server := httptest.NewServer(s)
	defer server.Close()
	const sampled, not = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for name, tc := range map[string]struct {
		sampler, parent string
		spans           int
	}{
		"as it comes":                       {"", "", 1},
		"as it comes, a parent that is":     {"", sampled, 1},
		"as it comes, a parent that is not": {"", not, 0},
		"never":                             {"always_off", sampled, 0},
		"never by itself":                   {"parentbased_always_off", "", 0},
		"never by itself, with a parent":    {"parentbased_always_off", sampled, 1},
		"whatever the parent, always":       {"always_on", not, 1},
		"a parent that is none":             {"parentbased_always_off", "canary", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s.spans = nil
			if tc.sampler != "" {
				t.Setenv("OTEL_TRACES_SAMPLER", tc.sampler)
			}
			traces, err := telemetry.NewTraces(t.Context(), telemetry.TraceConfig{Lookup: lookup(endpoint, server.URL)})
			if err != nil {
				t.Fatal(err)
			}
			h := traces.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				traces.Answered(r.Context(), "GET", "/a", 503, "busy", "id")
			}))
			for _, path := range []string{"/a", "/healthz", "/readyz"} {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Header.Set("Traceparent", tc.parent)
				r.Header.Set("Tracestate", "canary=1")
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
			if err := traces.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(s.spans) != tc.spans {
				t.Fatalf("%d spans, want %d", len(s.spans), tc.spans)
			}
			if tc.spans > 0 && (s.spans[0].GetName() != "GET /a" || s.spans[0].GetStatus().GetMessage() != "busy" || s.spans[0].GetTraceState() != "") {
				t.Errorf("%v", s.spans[0])
			}
		})
	}
}

func TestALineNamesItsTrace(t *testing.T) {
	s := &sink{}
	server := httptest.NewServer(s)
	defer server.Close()
	traces, err := telemetry.NewTraces(t.Context(), telemetry.TraceConfig{Lookup: lookup(endpoint, server.URL)})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	log := slog.New(telemetry.TraceHandler(slog.NewTextHandler(&text, nil))).With(slog.String("a", "b")).WithGroup("g")
	traces.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		log.InfoContext(r.Context(), "line")
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	log.Info("line")
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	if !strings.Contains(lines[0], "a=b g.trace_id=") || !strings.Contains(lines[0], "span_id=") || strings.Contains(lines[1], "trace_id") {
		t.Errorf("%s", &text)
	}
}

// Traces that nobody asked for are not in the way.
func TestNoTracesAreNothing(t *testing.T) {
	var none *telemetry.Traces
	v, i, h := verifier{}, answer{}, http.NewServeMux()
	if none.Verifier(v) != broker.Verifier(v) || none.Cache(i) != broker.Issuer(i) || none.STS(i) != broker.Issuer(i) || none.Handler(h) != http.Handler(h) || none.Deciding(true) != nil {
		t.Error("something is put around")
	}
	none.Answered(t.Context(), "", "", 0, "", "")
	if err := none.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A collector that takes nothing, or that asks to come again, holds up the end no
// longer than it is given, and nothing goes on after it.
func TestTheEndWaitsAsLongAsItIsGiven(t *testing.T) {
	for name, status := range map[string]int{"takes nothing": 0, "asks to come again": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the other is gone
				asked <- struct{}{}
				if status == 0 {
					<-r.Context().Done()
					return
				}
				w.WriteHeader(status)
			}))
			defer server.Close()
			before := goleak.IgnoreCurrent()
			traces, err := telemetry.NewTraces(t.Context(), telemetry.TraceConfig{Lookup: lookup(endpoint, server.URL)})
			if err != nil {
				t.Fatal(err)
			}
			verifies(t.Context(), traces)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-asked
				cancel()
			}()
			if err := traces.Shutdown(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			server.Close()
			goleak.VerifyNone(t, before)
		})
	}
}
