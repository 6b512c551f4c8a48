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
	server, err := w.broker(b, "beside", 2*subjects+len(strangers), 0)
	if err != nil {
		return err
	}
	defer server.stop()
	limited, err := w.broker(b, "limited", 2*subjects, shippedFailures)
	if err != nil {
		return err
	}
	defer limited.stop()
	for _, s := range []*child{server, limited} {
		if _, err := (load{address: s.address, requests: hits, conns: b.Conns, each: true}).run(b.ctx); err != nil {
			return err
		}
	}
	flood := func(at *child, requests [][]byte) *load {
		return &load{address: at.address, requests: requests, conns: 32, time: b.Time, pace: 3200 * time.Microsecond}
	}
	var p99, new99, alone, flooded, bounded, mixed99 []float64
	for round := range b.Rounds {
		base, err := b.hits(server, hits, nil)
		if err != nil {
			return err
		}
		some := strangers[round*len(strangers)/(b.Rounds+1):]
		misses, err := b.hits(server, hits, &load{address: server.address, requests: some, conns: 100, time: b.Time, pace: 100 * time.Millisecond})
		if err != nil {
			return err
		}
		open, err := b.hits(server, hits, flood(server, forged))
		if err != nil {
			return err
		}
		closed, err := b.hits(limited, hits, flood(limited, few))
		if err != nil {
			return err
		}
		mixed, err := b.mixed(server, hits, strangers[b.Rounds*len(strangers)/(b.Rounds+1):], round)
		if err != nil {
			return err
		}
		p99, new99 = append(p99, p99Of(base)), append(new99, p99Of(misses)/p99Of(base))
		alone, flooded = append(alone, perSecond(base)), append(flooded, perSecond(open)/perSecond(base))
		bounded = append(bounded, perSecond(closed)/perSecond(base))
		mixed99 = append(mixed99, p99Of(mixed))
	}
	return b.print(report{
		Title: "Hits beside something else; broker, load and STS share the processors", Where: where(b.Rounds, b.Time, "the own generator"),
		Notes: []string{
			fmt.Sprintf("hits alone: %.0f a second, p99 %.2f ms", median(alone), median(p99)),
			fmt.Sprintf("beside 1,000 new subjects a second: p99 %.2f × that", median(new99)),
			fmt.Sprintf("beside 10,000 forged tokens a second, each from another address: throughput %.2f × that", median(flooded)),
			fmt.Sprintf("beside as many from %d addresses, with the limit that is shipped: %.2f × that", fewAddresses, median(bounded)),
			fmt.Sprintf("99 %% hits (Zipf), 1 %% misses: p99 %.2f ms of all", median(mixed99)),
		},
	})
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
