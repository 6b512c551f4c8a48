package serve

import (
	"context"

	"credential-broker/broker/awssts"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/limits"
	"credential-broker/broker/sharedcache"
	"credential-broker/broker/telemetry"
)

// newMetrics makes metrics of the words that the parts use.
func (s *Service) newMetrics() *telemetry.Metrics {
	cfg := telemetry.Config{
		Version: s.o.Build.Version, Revision: s.o.Build.Revision, Go: s.o.Build.Go,
		Routes: httpapi.Routes(), Codes: httpapi.Codes(), STSStates: awssts.States(), Alerts: texts(awssts.Alerts()), Limits: texts(limits.Limits()), Shared: texts(sharedcache.Events()),
		Reloads: []string{Loaded, Unchanged, Refused}, ReloadGood: []string{Loaded, Unchanged}, State: s.state,
	}
	for _, code := range awssts.Codes() {
		if code.Asked() {
			cfg.STSCodes = append(cfg.STSCodes, string(code))
		} else {
			cfg.NotAsked = append(cfg.NotAsked, string(code))
		}
	}
	return telemetry.New(cfg)
}

func texts[T ~string](all []T) []string {
	made := make([]string, len(all))
	for i, t := range all {
		made[i] = string(t)
	}
	return made
}

// state is how things stand, for a scrape.
func (s *Service) state() telemetry.State {
	g := s.current.Load()
	held, load := g.cache.Stats(), g.sts.Load()
	state := telemetry.State{
		Ready: s.readiness() == nil, AuditReady: s.audit.Ready() == nil, Revision: g.cfg.Revision,
		CacheEntries: held.Entries, CacheRoom: held.Room, CacheRefusals: held.Refusals, CacheCalls: held.Calls, CacheRefreshes: held.Refreshes,
		STSCalls: load.Calls, STSPlaces: load.Places, Waiting: load.Waiting,
	}
	if s.shared != nil {
		state.Shared = telemetry.Shared{Configured: true, Live: s.shared.Live(), LeftAlone: s.shared.LeftAlone(), Untold: s.shared.Untold()}
	}
	for _, r := range load.Regions {
		state.Regions = append(state.Regions, telemetry.Region{Name: r.Region, State: r.State})
	}
	for _, i := range g.verifier.Status() {
		state.Issuers = append(state.Issuers, telemetry.Issuer{URL: i.Issuer, Keys: i.Keys, Fetched: i.Fetched})
	}
	return state
}

// newTraces makes traces, if the environment asks for them.
func (s *Service) newTraces() (*telemetry.Traces, error) {
	if s.o.Lookup == nil {
		return nil, nil //nolint:nilnil // nil traces do nothing
	}
	return telemetry.NewTraces(context.Background(), telemetry.TraceConfig{
		Version: s.o.Build.Version, Lookup: s.o.Lookup, Exported: s.metrics.Exported, Log: s.log,
	})
}

func (s *Service) answered(ctx context.Context, a httpapi.Answer) {
	s.traces.Answered(ctx, a.Method, a.Route, a.Status, a.Code, a.ID)
	s.metrics.Request(a.Route, a.Code, a.Source, a.Took)
}

func (s *Service) observeSTS(e awssts.Event) {
	switch {
	case e.Alert != "":
		s.metrics.Alert(string(e.Alert))
	case e.Code.Asked():
		s.metrics.STSCall(string(e.Code), e.Duration)
	default:
		s.metrics.STSNotAsked(string(e.Code))
	}
}

func (s *Service) fetchedKeys(_ string, err error) { s.metrics.Keys(err) }

func (s *Service) sharing(e sharedcache.Event) { s.metrics.Shared(string(e)) }

func (s *Service) overLimit(l limits.Limit) { s.metrics.Limited(string(l)) }
