package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what is asked at a scrape: how things stand, and not what happened.
type State struct {
	Ready      bool   // requests are served
	AuditReady bool   // audit records can be written
	Revision   string // of the configuration in use

	CacheEntries, CacheRoom      int
	CacheRefusals                int // that are remembered
	CacheCalls, CacheRefreshes   int // under way, and how many of them are ahead of need
	STSCalls, STSPlaces, Waiting int // under way, how many may be, and who has to wait
	Shared                       Shared
	Regions                      []Region
	Issuers                      []Issuer
}

// Shared is how this replica stands with what the replicas share. The zero value says
// that nothing is shared.
type Shared struct {
	Configured bool // something is to be
	Live       bool // the replicas hear each other
	LeftAlone  bool // requests go round it
	Untold     int  // log-outs that the others have yet to be told
}

// Region is the STS of one region of the configuration.
type Region struct{ Name, State string }

// Issuer is how the keys of one issuer of the configuration stand.
type Issuer struct {
	URL     string
	Keys    int
	Fetched time.Time // zero: never
}

// stateCollector tells Prometheus the state.
type stateCollector struct {
	state  func() State
	states []string // of a region

	plain                       []plain
	revision, region, keys, age *prometheus.Desc
}

// plain is a number without labels.
type plain struct {
	desc  *prometheus.Desc
	value func(State) float64
}

func newStateCollector(state func() State, states []string) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	number := func(value func(State) int) func(State) float64 {
		return func(s State) float64 { return float64(value(s)) }
	}
	return &stateCollector{
		state: state, states: states,
		plain: []plain{
			{desc("ready", "1 while requests are served, as /readyz says."), func(s State) float64 { return yes(s.Ready) }},
			{desc("audit_ready", "1 while audit records can be written; without them nothing is released."), func(s State) float64 { return yes(s.AuditReady) }},
			{desc("cache_entries", "Credentials in the cache."), number(func(s State) int { return s.CacheEntries })},
			{desc("cache_entries_max", "Credentials for which the cache has room."), number(func(s State) int { return s.CacheRoom })},
			{desc("cache_refusals", "Refusals of STS that are remembered."), number(func(s State) int { return s.CacheRefusals })},
			{desc("cache_calls_in_flight", "Fetches of credentials that the cache has under way, waiting for a place included."), number(func(s State) int { return s.CacheCalls })},
			{desc("cache_refreshes_in_flight", "Those of them that are ahead of need."), number(func(s State) int { return s.CacheRefreshes })},
			{desc("sts_in_flight", "Calls to STS that are under way."), number(func(s State) int { return s.STSCalls })},
			{desc("sts_places", "Calls to STS that may be under way: what the limiter has found STS to take."), number(func(s State) int { return s.STSPlaces })},
			{desc("shared_cache_configured", "1 where there is to be a cache that replicas share."), func(s State) float64 { return yes(s.Shared.Configured) }},
			{desc("shared_cache_up", "1 while this replica and the others hear each other through the shared cache; 0 too where there is none."), func(s State) float64 { return yes(s.Shared.Live) }},
			{desc("shared_cache_breaker_open", "1 while requests go round the shared cache, after failures in a row."), func(s State) float64 { return yes(s.Shared.LeftAlone) }},
			{desc("shared_cache_untold", "Log-outs of which the other replicas have yet to be told."), number(func(s State) int { return s.Shared.Untold })},
			{desc("sts_waiting", "Orders that wait for a place."), number(func(s State) int { return s.Waiting })},
		},
		revision: desc("config_info", "1; the label names the configuration in use.", "revision"),
		region:   desc("sts_region_state", "1 for the state that the STS of a region is in: its circuit breaker's, or disabled.", "region", "state"),
		keys:     desc("jwks_keys", "Signing keys that are held of an issuer.", "issuer"),
		age:      desc("jwks_last_success_timestamp_seconds", "When an issuer last gave good keys; 0: never.", "issuer"),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, p := range c.plain {
		to <- p.desc
	}
	for _, d := range []*prometheus.Desc{c.revision, c.region, c.keys, c.age} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	s := c.state()
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, p := range c.plain {
		send(p.desc, p.value(s))
	}
	send(c.revision, 1, s.Revision)
	for _, r := range s.Regions {
		for _, state := range c.states {
			send(c.region, yes(r.State == state), r.Name, state)
		}
	}
	for _, i := range s.Issuers {
		send(c.keys, float64(i.Keys), i.URL)
		at := 0.0
		if !i.Fetched.IsZero() {
			at = float64(i.Fetched.UnixNano()) / 1e9
		}
		send(c.age, at, i.URL)
	}
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
