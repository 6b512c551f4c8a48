package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"
)

// hitCmd is in the help of commands.
type hitCmd struct {
	Only []int `help:"The numbers of the rows to run, from 1; without it, all." placeholder:"N"`
}

const (
	subjects = 1000
	// firstSights is how many tokens are shown in turn where each is to be forgotten
	// before it comes again: four times as many as are remembered.
	firstSights = 4 * subjects
)

// contest is one row to be measured.
type contest struct {
	name   string
	spec   spec
	load   [][]byte
	expect int
	warm   [][]byte // sent before, so that credentials are there; nil: load
}

// Run measures.
func (h hitCmd) Run(b *bench) error {
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	tokens, err := w.tokens(subjects)
	if err != nil {
		return err
	}
	plain, cors := requests(tokens), requests(tokens, "Origin: "+origin)
	all := func(s spec) spec { s.Entries, s.STSPerSecond = 2*subjects, 1_000_000; return s }
	off := func(parts ...string) spec { return all(spec{Kind: kindParts, Off: parts}) }
	contests := []contest{
		{name: "Echo, bare", spec: spec{Kind: kindEcho}, load: plain},
		{name: "net/http, bare", spec: spec{Kind: kindHTTP}, load: plain},
		{name: "Echo behind the broker's timeouts", spec: spec{Kind: kindLimited}, load: plain},
		{name: "broker, everything on", spec: all(spec{Kind: kindBroker}), load: cors},
		{name: "… without an Origin (CORS)", spec: all(spec{Kind: kindBroker}), load: plain},
		{name: "… without " + partLog, spec: off(partLog), load: cors},
		{name: "… without " + partMetrics, spec: off(partMetrics), load: cors},
		{name: "… without " + partLimits, spec: off(partLimits), load: cors},
		{name: "… without " + partAudit, spec: off(partAudit), load: cors},
		{name: "… only what safety needs, record to nowhere", spec: off(partLog, partMetrics, partLimits, partAudit), load: plain},
		{name: "… everything, and traces sampled at 1 %", spec: all(spec{Kind: kindBroker, Traces: w.base}), load: cors},
	}
	first := contest{
		name: "broker, everything on, each token seen for the first time", spec: spec{Kind: kindBroker, Entries: subjects, STSPerSecond: 1_000_000}, warm: cors,
	}
	contests = append(contests, first)
	if len(h.Only) > 0 {
		var some []contest
		for _, n := range h.Only {
			if n < 1 || n > len(contests) {
				return fmt.Errorf("no row %d of %d", n, len(contests))
			}
			some = append(some, contests[n-1])
		}
		contests = some
	}
	for i := range contests {
		if contests[i].load == nil { // signing takes a millisecond each
			many, err := w.tokens(firstSights)
			if err != nil {
				return err
			}
			contests[i].load = requests(many, "Origin: "+origin)
		}
	}
	rows, err := b.compete(w, contests)
	if err != nil {
		return err
	}
	return b.print(report{Title: "Hits: 1,000 subjects, tokens of 1,150 bytes", Where: where(b.Rounds, b.Time, b.tool()), Rows: rows})
}

func (b *bench) tool() string {
	if b.hasWrk() {
		return "wrk"
	}
	return "the own generator"
}

// compete starts a server for each contest and loads them in turn, round by round.
func (b *bench) compete(w *world, contests []contest) ([]row, error) {
	rows := make([]*row, len(contests))
	for i, c := range contests {
		rows[i] = &row{Name: c.name}
		s := c.spec
		s.Name, s.Processors = fmt.Sprintf("%02d %s", i+1, c.name), 1
		s.Log = filepath.Join(w.folder, fmt.Sprintf("event-%d.jsonl", i))
		if s.Kind == kindBroker || s.Kind == kindParts {
			named := s
			named.Name = fmt.Sprint(i)
			s.Config = w.config(named)
		}
		server, err := startChild(b.ctx, s, b.stderr)
		if err != nil {
			return nil, err
		}
		defer server.stop()
		contests[i].spec = server.spec
		warm := c.warm
		if warm == nil {
			warm = c.load
		}
		if _, err := (load{address: server.address, requests: warm, conns: b.Conns, each: true}).run(b.ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		rows[i].server, rows[i].load, rows[i].expect = server, c.load, c.expect
		if c.expect == 0 {
			rows[i].expect = http.StatusOK
		}
	}
	for range b.Rounds {
		for _, r := range rows {
			if err := r.server.profiled(b.Profile, func() error { return b.round(b.ctx, w, r) }); err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
		}
	}
	return settle(rows), nil
}

// round loads one server once.
func (b *bench) round(ctx context.Context, w *world, r *row) error {
	before, err := r.server.say("usage")
	if err != nil {
		return err
	}
	l := load{address: r.server.address, requests: r.load, conns: b.Conns, time: b.Time, from: r.sent}
	send := l.run
	if b.hasWrk() && r.expect == http.StatusOK {
		send = func(ctx context.Context) (result, error) { return l.wrk(ctx, w.folder) }
	}
	got, err := send(ctx)
	if err != nil {
		return err
	}
	after, err := r.server.say("usage")
	if err != nil {
		return err
	}
	r.sent += got.requests
	r.Bad += got.requests - got.statuses[r.expect]
	n := float64(got.requests)
	ms := func(q float64) float64 { return float64(got.latency.quantile(q)) / float64(time.Millisecond) }
	r.rounds = append(r.rounds, sample{
		perSecond: n / got.took.Seconds(), cpu: float64(after.CPU-before.CPU) / float64(time.Microsecond) / n,
		p50: ms(0.5), p99: ms(0.99), p999: ms(0.999), rss: float64(after.RSS) / 1e6, allocs: float64(after.Mallocs-before.Mallocs) / n,
	})
	return nil
}
