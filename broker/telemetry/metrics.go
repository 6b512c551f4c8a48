// Package telemetry counts what the broker does, for Prometheus, and follows a
// request through it, for OpenTelemetry.
//
// The parts of the broker know nothing of it: they have hooks, and ports around
// which something can be put, and what they tell here comes in the types of the
// domain and in words of closed sets. No label's value is a caller's choice: what
// is not of its set is counted as "other". So the number of series depends on the
// configuration and not on the traffic, and everything that can be counted is there,
// with 0, from the beginning.
package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"credential-broker/broker"
)

const (
	namespace = "credential_broker"
	// other is what is counted of a set that does not have it. There should be none.
	other = "other"
	// ok is the code of what went well.
	ok = "ok"
	// scrapes is how many are answered at a time: two servers that are each other's
	// stand-in, and somebody who looks.
	scrapes = 3
)

// Config is what Metrics are made of: what was built, and the sets of words that
// the parts use.
type Config struct {
	Version, Revision, Go string // of the program

	Routes     []string // of requests
	Codes      []string // of answers to them
	STSCodes   []string // of calls to STS
	NotAsked   []string // of calls to STS that were not made
	STSStates  []string // of a region
	Alerts     []string // that something is misconfigured
	Limits     []string // that a caller can be over
	Shared     []string // of what happens with the shared cache
	Reloads    []string // results of reading the configuration again
	ReloadGood []string // of those: the results after which the file is what is in use

	// State is asked at each scrape; nil: there is nothing to ask. It must not block.
	State func() State
}

// Metrics counts. Its methods are quick and safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	good     map[string]bool // :: result of a reload → the file is what is in use

	routes     map[string]*route
	exchanges  map[broker.Source]prometheus.Observer
	released   counters
	fetches    map[broker.Source]counters
	evictions  prometheus.Counter
	repeated   prometheus.Counter
	stsCalls   counters
	stsSeconds prometheus.Observer
	notAsked   counters
	alerts     counters
	policy     prometheus.Observer
	keys       counters
	limited    counters
	shared     counters
	reloads    counters
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
	records    counters
	unrecorded prometheus.Counter
	exports    counters
}

// route is what is counted of one route.
type route struct {
	seconds prometheus.Observer
	codes   counters
}

// counters has a counter for each word of a closed set. :: word → counter
type counters map[string]prometheus.Counter

func (c counters) of(word string) prometheus.Counter {
	if counter, found := c[word]; found {
		return counter
	}
	return c[other]
}

// The buckets. Each histogram is a native one too, for a Prometheus that takes it.
var (
	// requestBuckets are from a hit to what botocore waits for, with STS's time between.
	requestBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.8, 2, 5} //nolint:gochecknoglobals // a constant
	// stsBuckets are from a near region to the longest that an order may take.
	stsBuckets = []float64{.025, .05, .075, .1, .15, .2, .3, .5, .75, 1, 1.4, 1.8} //nolint:gochecknoglobals // a constant
	// policyBuckets end with what STS takes.
	policyBuckets = []float64{256, 512, 768, 1024, 1280, 1536, 1792, 2048} //nolint:gochecknoglobals // a constant
)

// New makes metrics, in a registry of their own.
func New(cfg Config) *Metrics {
	r := prometheus.NewRegistry()
	m := &Metrics{
		registry: r, good: map[string]bool{}, routes: map[string]*route{}, exchanges: map[broker.Source]prometheus.Observer{}, fetches: map[broker.Source]counters{},
		released:   words(r, "credentials_total", "Credentials given out, by where they came from; refresh: fetched ahead of need, and not given out by that.", "source", sources()),
		evictions:  counter(r, "cache_evictions_total", "Credentials that were dropped from the cache for want of room."),
		repeated:   counter(r, "cache_refusals_repeated_total", "Refusals of STS that were given again from memory, without asking."),
		stsCalls:   words(r, "sts_requests_total", "Calls to STS, by what became of them.", "code", cfg.STSCodes),
		stsSeconds: histogram(r, "sts_request_seconds", "Time of a call to STS.", stsBuckets),
		notAsked:   words(r, "sts_not_asked_total", "Calls to STS that were not made.", "reason", cfg.NotAsked),
		alerts:     words(r, "sts_alerts_total", "Signs that something between the broker and STS is misconfigured.", "alert", cfg.Alerts),
		policy:     histogram(r, "policy_bytes", "Size of a session policy that STS was sent, of the 2048 that it takes.", policyBuckets),
		keys:       words(r, "jwks_refreshes_total", "Attempts to fetch an issuer's signing keys.", "result", []string{ok, "error"}),
		limited:    words(r, "rate_limited_total", "Requests over a limit, by whose limit it is.", "limit", cfg.Limits),
		shared:     words(r, "shared_cache_events_total", "What happened with the cache that replicas share.", "event", cfg.Shared),
		reloads:    words(r, "config_reloads_total", "Attempts to read the configuration again.", "result", cfg.Reloads),
		reloadOK:   gauge(r, "config_last_reload_successful", "1 if the configuration that was read last is in use, 0 if it was refused."),
		reloadTime: gauge(r, "config_last_reload_success_timestamp_seconds", "When the configuration was last read and found good."),
		records:    words(r, "audit_records_total", "Audit records written.", "decision", []string{"allow", "deny"}),
		unrecorded: counter(r, "audit_failures_total", "Decisions whose audit record could not be written: they were refused."),
		exports:    words(r, "trace_exports_total", "Batches of spans sent to the collector.", "result", []string{ok, "error"}),
	}
	m.perRoute(cfg)
	m.perSource()
	for _, result := range cfg.ReloadGood {
		m.good[result] = true
	}
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1; the labels say what was built.",
	}, []string{"version", "revision", "goversion"})
	build.WithLabelValues(cfg.Version, cfg.Revision, cfg.Go).Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.State != nil {
		r.MustRegister(newStateCollector(cfg.State, cfg.STSStates))
	}
	return m
}

func sources() []string {
	var all []string
	for _, s := range broker.Sources() {
		all = append(all, string(s))
	}
	return all
}

func (m *Metrics) perRoute(cfg Config) {
	requests := counterVec(m.registry, "requests_total", "Requests on the public port, by route and by the code of the answer.", "route", "code")
	seconds := histogramVec(m.registry, "request_seconds", "Time to answer a request on the public port.", requestBuckets, "route")
	for _, name := range append([]string{other}, cfg.Routes...) {
		codes := counters{}
		for _, code := range append([]string{other}, cfg.Codes...) {
			if name != other || code == other {
				codes[code] = requests.WithLabelValues(name, code)
			}
		}
		m.routes[name] = &route{seconds.WithLabelValues(name), codes}
	}
}

func (m *Metrics) perSource() {
	exchanges := histogramVec(m.registry, "exchange_seconds", "Time to answer a request with credentials, by where they came from.", requestBuckets, "source")
	for _, s := range []broker.Source{broker.FromCache, broker.FromSTS, broker.FromShared} {
		m.exchanges[s] = exchanges.WithLabelValues(string(s))
	}
	fetches := counterVec(m.registry, "cache_fetches_total", "Fetches of credentials that the cache made, because somebody waited (sts) or ahead of need (refresh).", "source", "code")
	for _, s := range []broker.Source{broker.FromSTS, broker.FromRefresh} {
		m.fetches[s] = counters{}
		for _, code := range append([]broker.Class{other, ok}, broker.Classes()...) {
			m.fetches[s][string(code)] = fetches.WithLabelValues(string(s), string(code))
		}
	}
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes})
}

// Request counts a request that was answered. The source is of credentials that
// were given, or empty.
func (m *Metrics) Request(name, code string, source broker.Source, took time.Duration) {
	r, found := m.routes[name]
	if !found {
		r = m.routes[other]
	}
	r.codes.of(code).Inc()
	seconds := took.Seconds()
	r.seconds.Observe(seconds)
	if source == "" {
		return
	}
	m.released.of(string(source)).Inc()
	if e, found := m.exchanges[source]; found {
		e.Observe(seconds)
	}
}

// Fetched counts a fetch that the cache made.
func (m *Metrics) Fetched(source broker.Source, err error) {
	code := ok
	if err != nil {
		code = string(broker.ClassOf(err))
	} else if source == broker.FromRefresh {
		m.released.of(string(source)).Inc()
	}
	m.fetches[source].of(code).Inc()
}

// Evicted counts credentials that were dropped for want of room.
func (m *Metrics) Evicted() { m.evictions.Inc() }

// Repeated counts a refusal that was given again from memory.
func (m *Metrics) Repeated() { m.repeated.Inc() }

// STSCall counts a call to STS.
func (m *Metrics) STSCall(code string, took time.Duration) {
	m.stsCalls.of(code).Inc()
	m.stsSeconds.Observe(took.Seconds())
}

// STSNotAsked counts a call to STS that was not made.
func (m *Metrics) STSNotAsked(reason string) { m.notAsked.of(reason).Inc() }

// Alert counts a sign that something is misconfigured.
func (m *Metrics) Alert(name string) { m.alerts.of(name).Inc() }

// Keys counts an attempt to fetch an issuer's keys.
func (m *Metrics) Keys(err error) { m.keys.of(result(err)).Inc() }

// Limited counts a request that was over a limit.
func (m *Metrics) Limited(limit string) { m.limited.of(limit).Inc() }

// Shared counts something that happened with the shared cache.
func (m *Metrics) Shared(event string) { m.shared.of(event).Inc() }

// Reloaded counts an attempt to read the configuration again.
func (m *Metrics) Reloaded(result string, at time.Time) {
	m.reloads.of(result).Inc()
	if !m.good[result] {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(at.UnixNano()) / 1e9)
}

// Exported counts a batch of spans that was sent, or not.
func (m *Metrics) Exported(err error) { m.exports.of(result(err)).Inc() }

func result(err error) string {
	if err != nil {
		return "error"
	}
	return ok
}
