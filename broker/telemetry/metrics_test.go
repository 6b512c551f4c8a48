package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"credential-broker/broker"
	"credential-broker/broker/telemetry"
	"credential-broker/policy"
)

func metrics(state func() telemetry.State) *telemetry.Metrics {
	return telemetry.New(telemetry.Config{
		Version: "v1", Revision: "abc", Go: "go1",
		Routes: []string{"/a", "none"}, Codes: []string{"ok", "busy"}, STSCodes: []string{"OK", "AccessDenied"}, NotAsked: []string{"Busy"},
		STSStates: []string{"closed", "open"}, Alerts: []string{"sts_rejected"}, Limits: []string{"tenant"},
		Reloads: []string{"loaded", "refused"}, ReloadGood: []string{"loaded"}, State: state,
	})
}

// scrape returns the series, each with its value.
func scrape(t testing.TB, m *telemetry.Metrics) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	series := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			series[strings.TrimPrefix(name, "credential_broker_")] = value
		}
	}
	return series
}

func TestWhatHappensIsCountedOnceAndInItsPlace(t *testing.T) {
	failed := fmt.Errorf("%w: no", broker.ErrBusy)
	for name, tc := range map[string]struct {
		do   func(*telemetry.Metrics)
		want []string // all the counters that are not 0
	}{
		"a refusal":          {func(m *telemetry.Metrics) { m.Request("/a", "busy", "", time.Second) }, []string{`requests_total{code="busy",route="/a"}`}},
		"a hit":              {func(m *telemetry.Metrics) { m.Request("/a", "ok", broker.FromCache, time.Second) }, []string{`credentials_total{source="cache"}`, `requests_total{code="ok",route="/a"}`}},
		"a miss":             {func(m *telemetry.Metrics) { m.Request("/a", "ok", broker.FromSTS, time.Second) }, []string{`credentials_total{source="sts"}`, `requests_total{code="ok",route="/a"}`}},
		"a fetch":            {func(m *telemetry.Metrics) { m.Fetched(broker.FromSTS, nil) }, []string{`cache_fetches_total{code="ok",source="sts"}`}},
		"a refresh":          {func(m *telemetry.Metrics) { m.Fetched(broker.FromRefresh, nil) }, []string{`cache_fetches_total{code="ok",source="refresh"}`, `credentials_total{source="refresh"}`}},
		"a refresh that did": {func(m *telemetry.Metrics) { m.Fetched(broker.FromRefresh, failed) }, []string{`cache_fetches_total{code="busy",source="refresh"}`}},
		"an eviction":        {(*telemetry.Metrics).Evicted, []string{`cache_evictions_total`}},
		"a repetition":       {(*telemetry.Metrics).Repeated, []string{`cache_refusals_repeated_total`}},
		"a call":             {func(m *telemetry.Metrics) { m.STSCall("OK", time.Second) }, []string{`sts_requests_total{code="OK"}`}},
		"no call":            {func(m *telemetry.Metrics) { m.STSNotAsked("Busy") }, []string{`sts_not_asked_total{reason="Busy"}`}},
		"an alert":           {func(m *telemetry.Metrics) { m.Alert("sts_rejected") }, []string{`sts_alerts_total{alert="sts_rejected"}`}},
		"keys":               {func(m *telemetry.Metrics) { m.Keys(nil) }, []string{`jwks_refreshes_total{result="ok"}`}},
		"no keys":            {func(m *telemetry.Metrics) { m.Keys(failed) }, []string{`jwks_refreshes_total{result="error"}`}},
		"a limit":            {func(m *telemetry.Metrics) { m.Limited("tenant") }, []string{`rate_limited_total{limit="tenant"}`}},
		"a reload":           {func(m *telemetry.Metrics) { m.Reloaded("loaded", time.Now()) }, []string{`config_reloads_total{result="loaded"}`}},
		"an export":          {func(m *telemetry.Metrics) { m.Exported(nil) }, []string{`trace_exports_total{result="ok"}`}},
		"a record": {func(m *telemetry.Metrics) {
			_ = m.Auditor(recorder(nil)).Record(t.Context(), broker.Record{Decision: "allow"})
		}, []string{`audit_records_total{decision="allow"}`}},
		"no record": {func(m *telemetry.Metrics) {
			if err := m.Auditor(recorder(failed)).Record(t.Context(), broker.Record{Decision: "allow"}); !errors.Is(err, failed) {
				t.Errorf("the failure came out as %v", err)
			}
		}, []string{`audit_failures_total`}},
		// What no set has. Each stands for whatever somebody may send.
		"another route":    {func(m *telemetry.Metrics) { m.Request("/canary", "ok", "", 0) }, []string{`requests_total{code="other",route="other"}`}},
		"another code":     {func(m *telemetry.Metrics) { m.Request("/a", "canary", "", 0) }, []string{`requests_total{code="other",route="/a"}`}},
		"another source":   {func(m *telemetry.Metrics) { m.Request("/a", "ok", "canary", 0) }, []string{`credentials_total{source="other"}`, `requests_total{code="ok",route="/a"}`}},
		"another STS code": {func(m *telemetry.Metrics) { m.STSCall("canary", 0) }, []string{`sts_requests_total{code="other"}`}},
		"another alert":    {func(m *telemetry.Metrics) { m.Alert("canary") }, []string{`sts_alerts_total{alert="other"}`}},
		"another class":    {func(m *telemetry.Metrics) { m.Fetched(broker.FromSTS, broker.Class("canary")) }, []string{`cache_fetches_total{code="other",source="sts"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			m := metrics(nil)
			before := scrape(t, m)
			tc.do(m)
			after := scrape(t, m)
			var got []string
			for s, v := range after {
				if _, was := before[s]; !was && !strings.HasPrefix(s, "go_") { // a runtime counts a class of its own
					t.Errorf("series %s is new", s)
				}
				if name, _, _ := strings.Cut(s, "{"); strings.HasSuffix(name, "_total") && !strings.HasPrefix(s, "go_") && !strings.HasPrefix(s, "process_") && v != "0" {
					got = append(got, s)
					if v != "1" {
						t.Errorf("%s is %s", s, v)
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("counted %q, want %q", got, tc.want)
			}
		})
	}
}

// recorder is an auditor with one answer.
func recorder(err error) broker.Auditor { return answer{err} }

type answer struct{ err error }

func (a answer) Record(context.Context, broker.Record) error { return a.err }

func (answer) Issue(context.Context, broker.Order) (broker.Credentials, error) {
	return broker.Credentials{}, broker.ErrBusy
}

func TestTimesAndSizesGoIntoTheirHistograms(t *testing.T) {
	m := metrics(nil)
	m.Request("/a", "ok", broker.FromCache, 300*time.Microsecond)
	m.Request("/a", "ok", broker.FromSTS, 300*time.Millisecond)
	m.STSCall("OK", 80*time.Millisecond)
	order := broker.Order{Document: document(t)}
	if _, err := m.Issuer(answer{}).Issue(t.Context(), order); !errors.Is(err, broker.ErrBusy) {
		t.Errorf("the issuer's answer came out as %v", err)
	}
	got := scrape(t, m)
	for series, want := range map[string]string{
		`request_seconds_bucket{route="/a",le="0.0005"}`: "1", `request_seconds_bucket{route="/a",le="0.25"}`: "1", `request_seconds_bucket{route="/a",le="0.5"}`: "2",
		`exchange_seconds_bucket{source="cache",le="0.00025"}`: "0", `exchange_seconds_count{source="cache"}`: "1", `exchange_seconds_bucket{source="sts",le="0.25"}`: "0",
		`exchange_seconds_count{source="sts"}`: "1", `sts_request_seconds_bucket{le="0.1"}`: "1", `sts_request_seconds_bucket{le="0.075"}`: "0",
		`policy_bytes_count`: "1", `policy_bytes_sum`: fmt.Sprint(len(order.Document.String())),
	} {
		if got[series] != want {
			t.Errorf("%s is %q, want %q", series, got[series], want)
		}
	}
}

func TestTheStateIsAskedAtEachScrape(t *testing.T) {
	var state telemetry.State
	m := metrics(func() telemetry.State { return state })
	state = telemetry.State{
		Ready: true, AuditReady: true, Revision: "r1", CacheEntries: 1, CacheRoom: 2, CacheRefusals: 3, CacheCalls: 4, CacheRefreshes: 5, STSCalls: 6, STSPlaces: 7, Waiting: 8,
		Regions: []telemetry.Region{{Name: "eu-west-1", State: "open"}},
		Issuers: []telemetry.Issuer{{URL: "https://a.example/", Keys: 9, Fetched: time.Unix(1700000000, 0)}, {URL: "https://b.example/"}},
	}
	got := scrape(t, m)
	for series, want := range map[string]string{
		`ready`: "1", `audit_ready`: "1", `config_info{revision="r1"}`: "1", `cache_entries`: "1", `cache_entries_max`: "2", `cache_refusals`: "3", `cache_calls_in_flight`: "4",
		`cache_refreshes_in_flight`: "5", `sts_in_flight`: "6", `sts_places`: "7", `sts_waiting`: "8",
		`sts_region_state{region="eu-west-1",state="open"}`: "1", `sts_region_state{region="eu-west-1",state="closed"}`: "0",
		`jwks_keys{issuer="https://a.example/"}`: "9", `jwks_last_success_timestamp_seconds{issuer="https://a.example/"}`: "1.7e+09",
		`jwks_last_success_timestamp_seconds{issuer="https://b.example/"}`: "0", `build_info{goversion="go1",revision="abc",version="v1"}`: "1",
	} {
		if got[series] != want {
			t.Errorf("%s is %q, want %q", series, got[series], want)
		}
	}
	state = telemetry.State{Revision: "r2"}
	got = scrape(t, m)
	if _, old := got[`config_info{revision="r1"}`]; old || got[`config_info{revision="r2"}`] != "1" || got["ready"] != "0" || got["audit_ready"] != "0" {
		t.Error("the state before is still told")
	}
}

func TestTheLastReloadIsTold(t *testing.T) {
	m := metrics(nil)
	if got := scrape(t, m); got["config_last_reload_successful"] != "1" || got["config_last_reload_success_timestamp_seconds"] == "0" {
		t.Error("what was read at the start does not count")
	}
	m.Reloaded("loaded", time.Unix(1700000000, 0))
	m.Reloaded("refused", time.Unix(1700000001, 0))
	if got := scrape(t, m); got["config_last_reload_successful"] != "0" || got["config_last_reload_success_timestamp_seconds"] != "1.7e+09" {
		t.Errorf("refused: %s at %s", got["config_last_reload_successful"], got["config_last_reload_success_timestamp_seconds"])
	}
	m.Reloaded("loaded", time.Unix(1800000000, 0))
	if got := scrape(t, m); got["config_last_reload_successful"] != "1" || got["config_last_reload_success_timestamp_seconds"] != "1.8e+09" {
		t.Error("a good one does not put it right")
	}
}

// A Prometheus that asks for them gets native histograms, beside the classic ones.
func TestHistogramsAreNativeToo(t *testing.T) {
	m := metrics(nil)
	m.STSCall("OK", 80*time.Millisecond)
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	dec := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	for {
		var f dto.MetricFamily
		if err := dec.Decode(&f); err != nil {
			t.Fatalf("not found: %v", err)
		}
		if f.GetName() == "credential_broker_sts_request_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			if len(h.GetPositiveDelta()) != 1 || len(h.GetBucket()) == 0 {
				t.Errorf("native %v, classic %v", h.GetPositiveDelta(), h.GetBucket())
			}
			return
		}
	}
}

func document(t testing.TB) policy.Document {
	t.Helper()
	bucket, err := policy.ParseBucket("acme-uploads")
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := policy.ParseTenant("org_acme")
	if err != nil {
		t.Fatal(err)
	}
	template, err := policy.ParseTemplate("tenants/{tenant}/")
	if err != nil {
		t.Fatal(err)
	}
	prefix, err := template.Render(tenant, policy.User{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.Generate(policy.Scope{Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.Read})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
