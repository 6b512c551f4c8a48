package serve_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/cmd/credential-broker/serve"
)

// series are those of the broker, each with its value.
func (w *world) series() map[string]string {
	w.Helper()
	status, body := w.ask(http.MethodGet, adminURL+"/metrics", "")
	if status != http.StatusOK {
		w.Fatalf("metrics: %d %s", status, body)
	}
	all := map[string]string{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name, ok := strings.CutPrefix(name, "credential_broker_"); ok {
			all[name] = value
		}
	}
	return all
}

// counts fails unless these series have these values.
func (w *world) counts(want map[string]string) {
	w.Helper()
	got := w.series()
	for name, value := range want {
		if got[name] != value {
			w.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
}

func TestTheMetricsTellWhatHappened(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		if status, _ := w.ask(http.MethodGet, brokerURL+"/metrics", ""); status != http.StatusNotFound {
			w.Errorf("on the public port: %d", status)
		}
		token := w.token(alice)
		w.fetches(token, http.StatusOK)
		w.fetches(token, http.StatusOK)
		w.fetches("canary", http.StatusUnauthorized)
		w.fetches(w.token("mallory@nowhere.test"), http.StatusForbidden)
		w.counts(map[string]string{
			`requests_total{code="ok",route="/v1/credentials"}`: "2", `requests_total{code="invalid_token",route="/v1/credentials"}`: "1", `requests_total{code="invalid_tenant",route="/v1/credentials"}`: "1",
			`requests_total{code="not_found",route="none"}`: "1", `credentials_total{source="sts"}`: "1", `credentials_total{source="cache"}`: "1",
			`exchange_seconds_count{source="cache"}`: "1", `exchange_seconds_count{source="sts"}`: "1",
			`sts_requests_total{code="OK"}`: "1", `sts_request_seconds_count`: "1", `policy_bytes_count`: "1", `cache_entries`: "1", `cache_entries_max`: "100000",
			`cache_fetches_total{code="ok",source="sts"}`: "1", `jwks_refreshes_total{result="ok"}`: "1", `jwks_keys{issuer="` + issuerURL + `"}`: "2",
			`audit_records_total{decision="allow"}`: "2", `audit_records_total{decision="deny"}`: "2", `audit_failures_total`: "0", `ready`: "1",
			`sts_region_state{region="eu-west-1",state="closed"}`: "1", `sts_region_state{region="eu-west-1",state="open"}`: "0",
			`config_last_reload_successful`: "1", `sts_in_flight`: "0", `build_info{goversion="",revision="",version=""}`: "1",
		})
		<-time.After(35 * time.Minute) // past half of its life
		synctest.Wait()
		w.fetches(w.token(alice), http.StatusOK)
		synctest.Wait()
		w.counts(map[string]string{`credentials_total{source="refresh"}`: "1", `cache_fetches_total{code="ok",source="refresh"}`: "1", `sts_requests_total{code="OK"}`: "2"})
	})
}

func TestTheMetricsTellOfARoleThatIsNotRight(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.loads("role/tenant-uploads", "role/nobody")
		token := w.token(alice)
		w.fetches(token, http.StatusBadGateway)
		w.fetches(token, http.StatusBadGateway)
		w.counts(map[string]string{
			`sts_alerts_total{alert="sts_rejected"}`: "1", `sts_requests_total{code="AccessDenied"}`: "1", `cache_refusals`: "1", `cache_refusals_repeated_total`: "1",
			`requests_total{code="sts_rejected",route="/v1/credentials"}`: "2", `config_reloads_total{result="loaded"}`: "1",
		})
	})
}

func TestTheMetricsTellOfAReloadThatWasRefused(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.counts(map[string]string{`config_last_reload_successful`: "1"})
		revision := func() (r []string) {
			for s := range w.series() {
				if strings.HasPrefix(s, "config_info{") {
					r = append(r, s)
				}
			}
			return r
		}
		old := revision()
		w.change("prefix: tenants/{tenant}/", "prefix: tenants")
		if r := w.reload(); r.Result != serve.Refused {
			w.Fatalf("%+v", r)
		}
		w.counts(map[string]string{`config_reloads_total{result="refused"}`: "1", `config_last_reload_successful`: "0"})
		if got := revision(); len(got) != 1 || got[0] != old[0] {
			w.Errorf("runs %q, and ran %q", got, old)
		}
		w.loads("per_subject_per_minute: 30", "per_subject_per_minute: 2")
		w.counts(map[string]string{`config_reloads_total{result="loaded"}`: "1", `config_last_reload_successful`: "1"})
		if got := revision(); len(got) != 1 || got[0] == old[0] {
			w.Errorf("runs %q, and ran %q", got, old)
		}
		token := w.token(alice)
		for range 3 {
			w.ask(http.MethodGet, brokerURL+"/v1/credentials", token)
		}
		w.counts(map[string]string{`rate_limited_total{limit="subject"}`: "1"})
	})
}

// A record that cannot be written, and nothing is released.
func TestTheMetricsTellOfARecordThatWasNotWritten(t *testing.T) {
	inWorld(t, func(w *world) { w.auditTo = full{} }, func(w *world) {
		w.fetches(w.token(alice), http.StatusServiceUnavailable)
		w.counts(map[string]string{`audit_failures_total`: "1", `audit_records_total{decision="allow"}`: "0", `requests_total{code="busy",route="/v1/credentials"}`: "1", `credentials_total{source="sts"}`: "0"})
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// CC23, DS17: whatever callers send, there are as many series as before.
func TestTenThousandInventionsMakeNoSeries(t *testing.T) {
	inWorld(t, func(w *world) {
		w.text = strings.ReplaceAll(w.text, "limits: {", "limits: {per_address_failures_per_minute: 1000000, ")
	}, func(w *world) {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.public.dial(ctx) }}
		defer transport.CloseIdleConnections()
		names := func() []string { return slices.Sorted(maps.Keys(w.series())) }
		w.fetches(w.token(alice), http.StatusOK)
		before := names()
		encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		r := rand.New(rand.NewPCG(1, 2))
		word := func() string { return fmt.Sprintf("%x", r.Uint64()) }
		for n := range 10_000 {
			req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, brokerURL+"/v1/credentials", nil)
			if err != nil {
				w.Fatal(err)
			}
			switch n % 4 {
			case 0: // a token of somebody, by a key and an issuer that there are not
				header := encode(`{"alg":"RS256","typ":"at+jwt","kid":"` + word() + `"}`)
				claims := encode(`{"iss":"https://` + word() + `.example/","sub":"` + word() + `","org_id":"` + word() + `","aud":"` + word() + `"}`)
				req.Header.Set("Authorization", "Bearer "+header+"."+claims+"."+encode(word()))
			case 1:
				req.Header.Set("Origin", "https://"+word()+".example")
			case 2:
				req.URL.Path = "/" + word() + "/" + word()
			case 3:
				req.Method = "M" + strings.ToUpper(word())
				req.URL.RawQuery = "grant=" + word()
				req.Header.Set("User-Agent", word())
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				w.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				w.Fatalf("%s %s: %d", req.Method, req.URL, resp.StatusCode)
			}
		}
		if after := names(); !slices.Equal(before, after) {
			w.Errorf("%d series became %d", len(before), len(after))
		}
		for name, value := range w.series() {
			if strings.Contains(name, `"other"`) && value != "0" {
				w.Errorf("%s is %s: what counts there is of no set", name, value)
			}
		}
	})
}

// documented are the rows of the table: the name, the type and the labels.
var documented = regexp.MustCompile("(?m)^\\| `(credential_broker_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*)\\|")

func TestEveryMetricIsDocumentedAndTheOtherWayRound(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/observability/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, row := range documented.FindAllStringSubmatch(string(text), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		want[row[1]] = row[2] + " " + strings.Join(labels, ",")
	}
	inWorld(t, nil, func(w *world) {
		w.fetches(w.token(alice), http.StatusOK)
		_, body := w.ask(http.MethodGet, adminURL+"/metrics", "")
		types, got := map[string]string{}, map[string]string{}
		for line := range strings.Lines(body) {
			if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
				types[fields[2]] = fields[3]
			}
		}
		for series := range w.series() {
			name, labels, _ := strings.Cut("credential_broker_"+series, "{")
			if kind := types[name]; kind == "" { // of a histogram
				name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			}
			var keys []string
			for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(labels, -1) {
				if m[1] != "le" {
					keys = append(keys, m[1])
				}
			}
			slices.Sort(keys)
			got[name] = types[name] + " " + strings.Join(keys, ",")
		}
		for name := range types {
			if strings.HasPrefix(name, "credential_broker_") && got[name] == "" {
				t.Errorf("%s has no series", name)
			}
		}
		for name, what := range got {
			if want[name] != what {
				t.Errorf("%s is %q, and documented as %q", name, what, want[name])
			}
		}
		for name := range want {
			if got[name] == "" {
				t.Errorf("%s is documented, and there is none", name)
			}
		}
	})
}
