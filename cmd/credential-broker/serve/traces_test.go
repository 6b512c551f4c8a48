package serve_test

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/telemetry"
	"credential-broker/cmd/credential-broker/serve"
)

// collector keeps the spans that it is sent, and the bytes.
type collector struct {
	mu    sync.Mutex
	spans []*tracepb.Span
	bytes []byte
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	var traces tracepb.TracesData
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(data, &traces) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes = append(c.bytes, data...)
	for _, rs := range traces.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
}

func attributes(s *tracepb.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.GetAttributes() {
		all[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return all
}

// traced runs some traffic with traces on, and returns what the collector got.
func traced(t *testing.T, text *strings.Replacer) (*collector, *realWorld, []string) {
	t.Helper()
	c := &collector{}
	endpoint := serveReal(t, func(string) http.Handler { return c })
	w := newRealWorld(t, text, func(o *serve.Options) {
		log := o.Log.Handler()
		o.Log = slog.New(telemetry.TraceHandler(log))
		o.Lookup = func(name string) (string, bool) {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}[name], name == "OTEL_EXPORTER_OTLP_ENDPOINT"
		}
	})
	token, secrets := w.token(alice), []string{"eyJ"}
	for range 2 {
		w.asks("GET", "/v1/credentials?canary=1", token, 400, "Traceparent", parent("1"))
		body := w.asks("GET", "/v1/credentials?format=js", token, 200, "Traceparent", parent("2"), "User-Agent", "canary-agent", "Baggage", "canary=1")
		for _, name := range []string{`"secretAccessKey":"`, `"sessionToken":"`} {
			_, rest, _ := strings.Cut(body, name)
			value, _, ok := strings.Cut(rest, `"`)
			if !ok || len(value) < 10 {
				t.Fatal("no secrets to look for")
			}
			secrets = append(secrets, value)
		}
	}
	w.asks("GET", "/v1/credentials", w.token("mallory@nowhere.test"), 403, "Traceparent", parent("3"))
	w.asks("GET", "/canary", "", 404, "Traceparent", parent("4"))
	w.asks("GET", "/v1/credentials?grant=canary", token, 403, "Traceparent", parent("5")) // the error's text has the name
	w.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, w, append(secrets, "alice", "mallory", "canary", "127.0.0.1")
}

// parent is a trace of that digit, which is sampled.
func parent(digit string) string {
	return "00-" + strings.Repeat(digit, 32) + "-" + strings.Repeat(digit, 16) + "-01"
}

func TestTheCollectorGetsEachStepOfAnExchange(t *testing.T) {
	c, w, secrets := traced(t, nil)
	names := map[string]string{} // :: span → its name
	for _, s := range c.spans {
		names[hex.EncodeToString(s.GetSpanId())] = s.GetName()
	}
	got := map[string]int{} // :: trace, parent, name, code and source → how many
	for _, s := range c.spans {
		a := attributes(s)
		under := names[hex.EncodeToString(s.GetParentSpanId())]
		if under == "" {
			under = "caller"
			if want := parent(hex.EncodeToString(s.GetTraceId())[:1]); hex.EncodeToString(s.GetParentSpanId()) != want[36:52] {
				t.Errorf("%s is a child of %x", s.GetName(), s.GetParentSpanId())
			}
		}
		got[strings.Join([]string{hex.EncodeToString(s.GetTraceId())[:1], under, s.GetName(), a["credential_broker.code"], a["credential_broker.source"]}, "|")]++
		for key := range a {
			if !slices.Contains([]string{"http.request.method", "http.route", "http.response.status_code", "credential_broker.code", "credential_broker.request_id",
				"credential_broker.grant", "credential_broker.source", "rpc.system", "rpc.service", "rpc.method"}, key) {
				t.Errorf("%s has the attribute %s", s.GetName(), key)
			}
		}
	}
	want := map[string]int{
		"1|caller|GET /v1/credentials|invalid_request|": 2,
		"2|caller|GET /v1/credentials|ok|":              2,
		"2|GET /v1/credentials|verify||":                2,
		"2|GET /v1/credentials|decide||":                2,
		"2|GET /v1/credentials|cache||sts":              1,
		"2|cache|sts||sts":                              1,
		"2|GET /v1/credentials|cache||cache":            1,
		"3|caller|GET /v1/credentials|invalid_tenant|":  1,
		"3|GET /v1/credentials|verify||":                1,
		"3|GET /v1/credentials|decide|invalid_tenant|":  1,
		"4|caller|GET none|not_found|":                  1,
		"5|caller|GET /v1/credentials|no_grant|":        1,
		"5|GET /v1/credentials|verify||":                1,
		"5|GET /v1/credentials|decide|no_grant|":        1,
	}
	for what, n := range want {
		if got[what] != n {
			t.Errorf("%d times %s, want %d", got[what], what, n)
		}
	}
	for what := range got {
		if want[what] == 0 {
			t.Errorf("a span too many: %s", what)
		}
	}
	for _, secret := range append(secrets, "org_acme") {
		if strings.Contains(string(c.bytes), secret) {
			t.Errorf("%q was sent to the collector", secret)
		}
	}
	if !strings.Contains(w.log.String(), `"trace_id":"`+strings.Repeat("2", 32)) {
		t.Error("no line of the log names its trace")
	}
}

// The tenant is in a span where the configuration says so, and nothing else is.
func TestTheTenantIsInASpanByAnOption(t *testing.T) {
	c, _, secrets := traced(t, strings.NewReplacer("trace_tenant: false", "trace_tenant: true"))
	n := 0
	for _, s := range c.spans {
		if v, ok := attributes(s)["credential_broker.tenant"]; ok {
			n++
			if s.GetName() != "decide" || v != "org_acme" {
				t.Errorf("%s has %s", s.GetName(), v)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d spans name a tenant", n)
	}
	for _, secret := range secrets {
		if strings.Contains(string(c.bytes), secret) {
			t.Errorf("%q was sent to the collector", secret)
		}
	}
}

// CC24: what is secret is in no metric, whatever happens.
func TestNoMetricHoldsASecret(t *testing.T) {
	w := newRealWorld(t, nil, nil)
	w.session()
	text := w.metrics() + w.log.String()
	for _, secret := range []string{"eyJ", "alice", "bob", "mallory", "org_acme", "org_globex", "ASIA", brokertest.RoleARN} {
		if strings.Contains(w.metrics(), secret) {
			t.Errorf("%q is in the metrics", secret)
		}
	}
	if strings.Contains(text, "eyJ") {
		t.Error("a token is in the log")
	}
}

// A collector that is not there holds up the end for seconds and makes no failure of it.
func TestAStopWithoutACollectorIsInOrder(t *testing.T) {
	w := newRealWorld(t, nil, func(o *serve.Options) {
		o.Lookup = func(name string) (string, bool) {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}[name], name == "OTEL_EXPORTER_OTLP_ENDPOINT"
		}
	})
	w.asks("GET", "/v1/credentials", w.token(alice), 200)
	w.stop() // fails the test if Run does not return nil
	if !strings.Contains(w.log.String(), "send the last spans") {
		t.Errorf("the loss is not said: %s", &w.log)
	}
}
