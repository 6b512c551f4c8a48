package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// besideCmd is in the help of commands.
type besideCmd struct{}

// Run measures hits alone, and beside something else.
func (besideCmd) Run(b *bench) error {
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	tokens, err := w.tokens(subjects)
	if err != nil {
		return err
	}
	hits := requests(tokens)
	strangers, err := w.strangers(1000 * (b.Rounds + 1) * int(b.Time/time.Second+1))
	if err != nil {
		return err
	}
	forged, err := w.forged(firstSights)
	if err != nil {
		return err
	}
	few, err := w.forged(fewAddresses)
	if err != nil {
		return err
	}
	w.stsTakes = stsTakes
	server, err := w.warm(b, "beside", hits, len(strangers), 0)
	if err != nil {
		return err
	}
	defer server.stop()
	limited, err := w.warm(b, "limited", hits, 0, shippedFailures)
	if err != nil {
		return err
	}
	defer limited.stop()
	m := beside{server: server, limited: limited, hits: hits, strangers: strangers, forged: forged, few: few}
	for round := range b.Rounds {
		if err := m.round(b, round); err != nil {
			return err
		}
	}
	return b.print(report{
		Title: "Hits beside something else; broker, load and STS share the processors", Where: where(b.Rounds, b.Time, "the own generator"), Notes: m.notes(),
	})
}

// warm starts a broker that has credentials for those who ask, and room for so many more.
func (w *world) warm(b *bench, name string, hits [][]byte, more, failures int) (*child, error) {
	server, err := w.broker(b, name, 2*len(hits)+more, failures)
	if err != nil {
		return nil, err
	}
	if _, err := (load{address: server.address, requests: hits, conns: b.Conns, each: true}).run(b.ctx); err != nil {
		server.stop()
		return nil, err
	}
	return server, nil
}

// beside is what is measured, and of each round what came of it.
type beside struct {
	server, limited              *child
	hits, strangers, forged, few [][]byte

	p99, new99, alone, flooded, bounded, mixed99 []float64
}

// round measures each once.
func (m *beside) round(b *bench, round int) error {
	base, err := b.hits(m.server, m.hits, nil)
	if err != nil {
		return err
	}
	part := len(m.strangers) / (b.Rounds + 1)
	misses, err := b.hits(m.server, m.hits, &load{address: m.server.address, requests: m.strangers[round*part:], conns: 100, time: b.Time, pace: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	flood := func(at *child, forged [][]byte) (result, error) {
		return b.hits(at, m.hits, &load{address: at.address, requests: forged, conns: 32, time: b.Time, pace: 3200 * time.Microsecond})
	}
	open, err := flood(m.server, m.forged)
	if err != nil {
		return err
	}
	closed, err := flood(m.limited, m.few)
	if err != nil {
		return err
	}
	mixed, err := b.mixed(m.server, m.hits, m.strangers[b.Rounds*part:], round)
	if err != nil {
		return err
	}
	m.p99, m.new99 = append(m.p99, p99Of(base)), append(m.new99, p99Of(misses)/p99Of(base))
	m.alone, m.flooded = append(m.alone, perSecond(base)), append(m.flooded, perSecond(open)/perSecond(base))
	m.bounded, m.mixed99 = append(m.bounded, perSecond(closed)/perSecond(base)), append(m.mixed99, p99Of(mixed))
	return nil
}

func (m *beside) notes() []string {
	return []string{
		fmt.Sprintf("hits alone: %.0f a second, p99 %.2f ms", median(m.alone), median(m.p99)),
		fmt.Sprintf("beside 1,000 new subjects a second: p99 %.2f × that", median(m.new99)),
		fmt.Sprintf("beside 10,000 forged tokens a second, each from another address: throughput %.2f × that", median(m.flooded)),
		fmt.Sprintf("beside as many from %d addresses, with the limit that is shipped: %.2f × that", fewAddresses, median(m.bounded)),
		fmt.Sprintf("99 %% hits (Zipf), 1 %% misses: p99 %.2f ms of all", median(m.mixed99)),
	}
}

const (
	// fewAddresses is what a flood that is not spread over a botnet comes from.
	fewAddresses = 100
	// shippedFailures is what the limit of failures is unless it is configured.
	shippedFailures = 60
)

// forged are tokens whose signatures are bad, from so many addresses.
func (w *world) forged(addresses int) ([][]byte, error) {
	kinds, made := w.bad(), make([][]byte, firstSights)
	for i := range made {
		token, err := kinds[len(kinds)-1].make(i)
		if err != nil {
			return nil, err
		}
		made[i] = request(token, fmt.Sprintf("X-Forwarded-For: 10.1.%d.%d", i%addresses>>8&255, i%addresses&255))
	}
	return made, nil
}

// p99Of is in milliseconds.
func p99Of(r result) float64 { return float64(r.latency.quantile(0.99)) / float64(time.Millisecond) }

func perSecond(r result) float64 { return float64(r.requests) / r.took.Seconds() }

// hits measures them beside another load, which may be nil.
func (b *bench) hits(server *child, all [][]byte, beside *load) (result, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	other := make(chan error, 1)
	if beside == nil {
		other <- nil
	} else {
		go func() {
			_, err := beside.run(ctx)
			other <- err
		}()
	}
	got, err := (load{address: server.address, requests: all, conns: b.Conns, time: b.Time}).run(ctx)
	if err != nil {
		return got, err
	}
	if bad := got.requests - got.statuses[http.StatusOK]; bad > 0 {
		return got, fmt.Errorf("%d hits were not answered with 200: %v", bad, got.statuses)
	}
	return got, <-other
}

// mixed asks for a subject that is known, some much more than others, and once in a
// hundred for one that is not.
func (b *bench) mixed(server *child, hits, strangers [][]byte, round int) (result, error) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, uint64(round))), 1.1, 1, uint64(len(hits)-1)) //nolint:gosec // no secret
	all := append(append([][]byte{}, hits...), strangers[round*len(strangers)/b.Rounds:(round+1)*len(strangers)/b.Rounds]...)
	next, n := len(hits), 0
	return load{address: server.address, requests: all, conns: b.Conns, time: b.Time, pick: func() int { // one at a time, see run
		if n++; n%100 == 0 && next < len(all) {
			next++
			return next - 1
		}
		return int(zipf.Uint64()) //nolint:gosec // below len(hits)
	}}.run(b.ctx)
}
