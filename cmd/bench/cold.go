package main

import (
	"fmt"
	"net/http"
	"time"
)

// stsTakes is how long STS takes here for an answer.
const stsTakes = 50 * time.Millisecond

// coldCmd is in the help of commands.
type coldCmd struct {
	Subjects int `help:"Of the storm." default:"10000"`
	Known    int `help:"Others who ask before, as many at a time, so that the limit of calls has learnt what STS takes." default:"0"`
}

// Run measures. The broker has all processors, which it shares with the load and STS.
func (c coldCmd) Run(b *bench) error {
	w, err := newWorld(b.ctx)
	if err != nil {
		return err
	}
	defer w.close()
	strangers, err := w.strangers(c.Subjects + c.Known)
	if err != nil {
		return err
	}
	w.stsTakes = stsTakes
	r := report{Title: fmt.Sprintf("Subjects that nobody has asked for yet, STS at %s; broker, load and STS share the processors", stsTakes)}
	for _, storm := range []struct{ subjects, conns int }{{min(1000, c.Subjects), 100}, {c.Subjects, 500}} {
		if err := c.storm(b, w, &r, strangers[c.Subjects:], strangers[:storm.subjects], storm.conns); err != nil {
			return err
		}
	}
	w.quota = newQuota(600)
	if err := c.throttled(b, w, &r, strangers[:min(3000, c.Subjects)]); err != nil {
		return err
	}
	return b.print(r)
}

// broker starts one. Of an address it takes so many failures a minute; 0 is any number.
func (w *world) broker(b *bench, name string, entries, failures int) (*child, error) {
	s := spec{Name: name, Kind: kindBroker, Entries: entries, STSPerSecond: 100_000, Failures: failures, Log: w.folder + "/event-" + name + ".jsonl"}
	s.Config = w.config(s)
	return startChild(b.ctx, s, b.stderr)
}

// storm lets each subject ask once, so many at a time, after those who ask before.
func (c coldCmd) storm(b *bench, w *world, r *report, before, all [][]byte, conns int) error {
	server, err := w.broker(b, fmt.Sprintf("cold-%d", len(all)), len(before)+len(all), 0)
	if err != nil {
		return err
	}
	defer server.stop()
	if len(before) > 0 {
		if _, err := (load{address: server.address, requests: before, conns: conns, each: true}).run(b.ctx); err != nil {
			return err
		}
	}
	opened, calls := w.conns.Load(), w.stsCalls.Load()
	var got result
	err = server.profiled(b.Profile, func() error {
		got, err = load{address: server.address, requests: all, conns: conns, each: true}.run(b.ctx)
		return err
	})
	if err != nil {
		return err
	}
	after, err := server.say("usage")
	if err != nil {
		return err
	}
	p99 := got.latency.quantile(0.99)
	r.Notes = append(r.Notes, fmt.Sprintf("%6d subjects, %3d at once: %.0f a second, p50 %s, p99 %s = %.2f × STS, %s, %d calls and %d connections to STS of 256 at a time, RSS %.0f MB",
		len(all), conns, float64(got.requests)/got.took.Seconds(), got.latency.quantile(0.5).Round(time.Millisecond), p99.Round(time.Millisecond), float64(p99)/float64(stsTakes),
		got.answers(), w.stsCalls.Load()-calls, w.conns.Load()-opened, float64(after.RSS)/1e6))
	return nil
}

// throttled lets all ask at once, and come again as they are told to for 15 s.
func (c coldCmd) throttled(b *bench, w *world, r *report, all [][]byte) error {
	server, err := w.broker(b, "throttled", len(all), 0)
	if err != nil {
		return err
	}
	defer server.stop()
	calls := w.stsCalls.Load()
	w.quota.left, w.quota.at = w.quota.perSecond, time.Now()
	got, err := (load{address: server.address, requests: all, conns: len(all), each: true, retry: 15 * time.Second}).run(b.ctx)
	if err != nil {
		return err
	}
	made := float64(w.stsCalls.Load() - calls)
	could := w.quota.perSecond * (1 + got.took.Seconds())
	r.Notes = append(r.Notes, fmt.Sprintf("%6d subjects at once, STS takes 600 a second: in %s, %s, %d refused in the end, %.1f %% of the calls wasted, %.2f of the quota used",
		len(all), got.took.Round(100*time.Millisecond), got.answers(), got.requests-got.statuses[http.StatusOK], 100*float64(w.throttled.Load())/made,
		float64(got.statuses[http.StatusOK])/could))
	return nil
}
