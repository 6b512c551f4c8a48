package serve_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/agent"
	"credential-broker/cmd/credential-broker/probe"
)

const observability = "../../../deploy/observability/"

// tool finds a program of Debian's package prometheus.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not there: apt-get install prometheus", name)
		}
		t.Skipf("needs %s, of Debian's package prometheus", name)
	}
	return path
}

type ruleFile struct {
	Groups []struct {
		Name, Interval string
		Rules          []rule
	}
}

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t testing.TB) (all []rule) {
	t.Helper()
	data, err := os.ReadFile(observability + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var f ruleFile
	if err := yaml.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

func TestTheRulesAreWhatPrometheusTakesAndDoWhatTheyAreFor(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args, err, out)
		}
	}
}

// Each alert is tested to fire and not to fire, and has its section in the runbook;
// and the other way round.
func TestEveryAlertIsTestedAndExplained(t *testing.T) {
	data, err := os.ReadFile(observability + "alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name string `yaml:"alertname"`
				Exp  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, tc := range tests.Tests {
		for _, a := range tc.Alerts {
			if len(a.Exp) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	text, err := os.ReadFile("../../../deploy/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{} // :: anchor → title
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(string(text), -1) {
		sections[anchor(m[1])] = m[1]
	}
	alerts := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts[r.Alert] = true
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: fires in a test: %t, does not in one: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
		if at, ok := strings.CutPrefix(r.Annotations["runbook"], "deploy/runbook.md#"); !ok || sections[at] != r.Alert {
			t.Errorf("%s: its runbook is %q", r.Alert, r.Annotations["runbook"])
		}
		if r.Annotations["summary"] == "" || r.Labels["severity"] != "page" && r.Labels["severity"] != "ticket" {
			t.Errorf("%s: summary %q, severity %q", r.Alert, r.Annotations["summary"], r.Labels["severity"])
		}
	}
	for _, title := range sections {
		if strings.HasPrefix(title, "CredentialBroker") && !alerts[title] {
			t.Errorf("the runbook explains %s, and there is no such alert", title)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(string(text), -1) {
		if sections[m[1]] == "" {
			t.Errorf("the runbook leads to #%s, which is not there", m[1])
		}
	}
}

// anchor is what GitHub makes of a heading.
func anchor(title string) string {
	return strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}

// queries are all that rules and dashboard ask, in a form in which there is always
// an answer where the metrics are there.
func queries(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range rules(t) {
		if r.Record != "" {
			all["rule "+r.Record] = r.Expr
			continue
		}
		// An alert that is well is empty: its comparison is made to say 0 or 1.
		expr := regexp.MustCompile(` (==|!=|>=|<=|>|<) `).ReplaceAllString(r.Expr, " $1 bool ")
		if of, ok := strings.CutPrefix(expr, "absent("); ok {
			expr = strings.TrimSuffix(of, ")")
		}
		all["alert "+r.Alert] = expr
	}
	data, err := os.ReadFile(observability + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
		Annotations struct{ List []struct{ Name, Expr string } }
		Panels      []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+")
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("panel %d: twice", p.ID)
		}
		ids[p.ID] = true
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			all["panel "+p.Title+" "+target.RefID] = variables.Replace(target.Expr)
		}
	}
	for _, a := range board.Annotations.List {
		all["annotation "+a.Name] = variables.Replace(strings.Replace(a.Expr, " > ", " > bool ", 1))
	}
	if len(all) < 50 {
		t.Fatalf("only %d queries", len(all))
	}
	for name, q := range all {
		if strings.Contains(q, "$") {
			t.Errorf("%s: a variable that is not known: %s", name, q)
		}
	}
	return all
}

// A real Prometheus scrapes a real broker; whatever a rule or a panel asks has an
// answer.
func TestEveryQueryHasAnAnswer(t *testing.T) {
	path := tool(t, "prometheus")
	w := newRealWorld(t, strings.NewReplacer("per_subject_per_minute: 100000", "per_subject_per_minute: 100000"), nil)
	api := prometheus(t, path, strings.TrimPrefix(w.admin, "http://"), w.probed())
	open := queries(t)
	answered(t, api, map[string]string{"the first scrape": "credential_broker_build_info"}, func() {})
	w.session()
	token := w.token(alice)
	answered(t, api, open, func() {
		w.asks("GET", "/v1/credentials", token, 200)
		w.asks("DELETE", "/v1/credentials", token, 204)
		w.asks("GET", "/v1/credentials", token, 200)
	})
	// What the session did, as Prometheus has it, once it has scraped that.
	answered(t, api, map[string]string{
		"alerts of STS":        `sum(credential_broker_sts_alerts_total) == 1`,
		"refusals given again": `sum(credential_broker_cache_refusals_repeated_total) == 1`,
		"reloads refused":      `credential_broker_config_reloads_total{result="refused"} == 1`,
		"an STS that is out":   `credential_broker_requests_total{route="/v1/credentials",code="sts_unavailable"} == 1`,
		"what is not there":    `credential_broker_requests_total{route="none",code="not_found"} == 1`,
		"a probe that is well": `count(credential_broker_probe_success == 1) == 4`,
	}, func() {})
	// A record that cannot be written, last: the replica is not ready from then on.
	w.full.Store(true)
	w.asks("GET", "/v1/credentials", token, 503)
	answered(t, api, map[string]string{
		"the failure": "credential_broker_audit_failures_total > 0", "the readiness": "credential_broker_audit_ready == 0", "the replica": "credential_broker_ready == 0",
	}, func() {})
}

// probed probes the broker, and serves what comes of it as a node exporter does.
func (w *realWorld) probed() (target string) {
	w.Helper()
	cfg, err := w.load()
	if err != nil {
		w.Fatal(err)
	}
	folder := w.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	for name, audience := range map[string]string{"good": brokertest.Audience, "foreign": "https://elsewhere.test"} {
		claims, err := w.auth0.UserClaims(alice)
		if err != nil {
			w.Fatal(err)
		}
		claims["aud"] = audience
		token, err := w.auth0.Mint(claims)
		if err == nil {
			err = os.WriteFile(file(name), []byte(token), 0o600)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	p, err := probe.New(probe.Options{
		Agent: agent.Options{BrokerURL: w.public, TokenFile: file("good")}, ForeignTokenFile: file("foreign"),
		ForeignBucket: brokertest.Bucket, ForeignKey: "tenants/org_globex/canary", S3Endpoint: cfg.STS.Endpoint,
	})
	if err != nil {
		w.Fatal(err)
	}
	report := p.Run(w.Context())
	if !report.OK {
		w.Fatalf("%+v", report)
	}
	if err := probe.WriteTextfile(file("probe.prom"), report); err != nil {
		w.Fatal(err)
	}
	exporter := serveReal(w, func(string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/plain; version=0.0.4")
			http.ServeFile(rw, r, file("probe.prom"))
		})
	})
	return strings.TrimPrefix(exporter, "http://")
}

// prometheus runs one until the test ends, and returns where it is asked.
func prometheus(t testing.TB, path string, targets ...string) string {
	t.Helper()
	folder := t.TempDir()
	data, err := os.ReadFile(observability + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	quick := strings.ReplaceAll(string(data), "interval: 30s", "interval: 500ms")
	config := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [alerts.yaml]\n"+
		"scrape_configs: [{job_name: credential-broker, static_configs: [{targets: [%s]}]}]\n", strings.Join(targets, ", "))
	for name, text := range map[string]string{"alerts.yaml": quick, "prometheus.yaml": config} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0", "--log.level=info")
	cmd.Dir = folder
	cmd.Cancel = nil
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
	var log strings.Builder
	for s := bufio.NewScanner(out); s.Scan(); {
		log.WriteString(s.Text() + "\n")
		if m := regexp.MustCompile(`msg="Listening on" address=(127\.0\.0\.1:[0-9]+)`).FindStringSubmatch(s.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return "http://" + m[1]
		}
	}
	t.Fatalf("prometheus does not listen:\n%s", &log)
	return ""
}

// answered asks again and again until each query has an answer. A minute and a half
// is many times what is needed.
func answered(t testing.TB, api string, open map[string]string, meanwhile func()) {
	t.Helper()
	left := map[string]string{}
	for name, q := range open {
		left[name] = q
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 180 {
		for name, q := range left {
			if len(promQuery(t, api, q)) > 0 {
				delete(left, name)
			}
		}
		if len(left) == 0 {
			return
		}
		meanwhile()
		<-tick.C
	}
	for name, q := range left {
		t.Errorf("%s has no answer: %s", name, q)
	}
}

// promQuery returns the values of a query's answer.
func promQuery(t testing.TB, api, query string) (values []string) {
	t.Helper()
	resp, err := http.Get(api + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status string
		Error  string
		Data   struct{ Result []struct{ Value [2]any } }
	}
	if resp.StatusCode == http.StatusServiceUnavailable { // it still starts
		return nil
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %s", query, body)
	}
	for _, r := range answer.Data.Result {
		value, _ := r.Value[1].(string)
		if value != "NaN" || strings.Contains(query, "histogram_quantile") { // a quantile of nothing, in a quiet route
			values = append(values, value)
		}
	}
	return values
}
