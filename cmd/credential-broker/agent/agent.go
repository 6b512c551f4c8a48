// Package agent gets credentials from a broker for the programs of one machine: it
// holds a client's secret, or a file with a token, and serves the
// container-credentials protocol of the AWS SDKs on a loopback address. What it asks
// for is fixed when it starts; a request cannot widen it.
//
//	token → broker → half-life → renew; while that fails, what is there to its end
package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"credential-broker/broker"
)

const (
	// attemptTimeout is for one attempt, token and broker together. It belongs to no
	// request, so it need not fit into an SDK's patience.
	attemptTimeout = 10 * time.Second
	// patience is how long a request waits for an attempt that is under way: botocore
	// reads for 2 s.
	patience = 1800 * time.Millisecond
	// floor is what credentials must still be good for to be handed out. S3 looks at
	// them when a request begins, so that a minute serves a request that is signed now.
	floor = time.Minute
	// ceiling is more than any session has: STS gives 12 h at most, and a clock that is
	// a quarter of an hour off signs nothing that S3 takes. What claims more would be
	// kept for as long as it says, and nobody would ask again.
	// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
	ceiling = 12*time.Hour + 15*time.Minute
	// The pauses after failures double from the first to the last. Who is refused has
	// to wait for somebody to change something, and asks less often.
	firstPause   = time.Second
	refusedPause = 10 * time.Second
	lastPause    = time.Minute
)

// Agent holds one set of credentials and keeps it fresh while Run runs. Get may be
// called concurrently.
type Agent struct {
	asker *asker
	log   *slog.Logger
	wake  chan struct{} // capacity 1: an attempt is wanted now

	mu       sync.Mutex // guards what follows
	good     *Credentials
	next     time.Time     // of the next attempt
	problem  *Problem      // of the last attempt; nil: it was good
	failures int           // one after the other
	busy     chan struct{} // closed when the attempt that is under way, or wanted, has ended
}

// New checks the options and reports everything that is wrong with them, joined.
func New(o Options) (*Agent, error) {
	asker, err := o.asker(Container)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{asker: asker, log: o.Log, wake: make(chan struct{}, 1), busy: make(chan struct{})}, nil
}

// Once gets credentials for a credential_process. Nothing is kept.
func Once(ctx context.Context, o Options) (*Credentials, error) {
	a, err := NewAsker(o, Process)
	if err != nil {
		return nil, err
	}
	return a.Ask(ctx)
}

// Asker asks the broker each time anew. It keeps its token and no credentials, and
// may be used concurrently.
type Asker struct{ asker *asker }

// NewAsker checks the options; what is wrong with them is an OptionsError.
func NewAsker(o Options, format Format) (*Asker, error) {
	asker, err := o.asker(format)
	if err != nil {
		return nil, OptionsError{err}
	}
	return &Asker{asker}, nil
}

// Token returns the token that Ask shows next. An error is a *Problem.
func (a *Asker) Token(ctx context.Context) (broker.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return a.asker.source.Token(ctx, false)
}

// Ask gets credentials. An error is a *Problem.
func (a *Asker) Ask(ctx context.Context) (*Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	creds, err := a.asker.ask(ctx)
	if err != nil {
		return nil, err
	}
	if p := unusable(creds); p != nil {
		return nil, p
	}
	return creds, nil
}

// OptionsError is a mistake in the options.
type OptionsError struct{ error }

func (e OptionsError) Unwrap() error { return e.error }

// Run gets credentials and renews them until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	for {
		a.attempt(ctx)
		a.mu.Lock()
		timer := time.NewTimer(time.Until(a.next))
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-a.wake:
			timer.Stop()
		}
	}
}

// attempt asks the broker once and notes what came of it.
func (a *Agent) attempt(ctx context.Context) {
	a.mu.Lock()
	if a.busy == nil {
		a.busy = make(chan struct{})
	}
	select {
	case <-a.wake: // this is the attempt that was wanted
	default:
	}
	a.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	creds, err := a.asker.ask(limited)
	if ctx.Err() != nil {
		return // the end of the agent is no failure of the broker's
	}
	var p *Problem
	if err == nil {
		p = unusable(creds)
	} else if !errors.As(err, &p) {
		p = unavailable(codeBrokerUnavailable, err, "The broker cannot be asked.")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.busy)
	a.busy = nil
	if p == nil {
		a.renewed(ctx, creds)
		return
	}
	a.failed(ctx, p)
}

// unusable refuses credentials that are over, or as good as over, when they come, and
// those that claim to last longer than a session can.
func unusable(creds *Credentials) *Problem {
	left := time.Until(creds.Expiration)
	why := "one of the clocks is wrong"
	switch {
	case left > ceiling:
		why = "no session lasts longer than 12 hours, so that the answer or one of the clocks is wrong"
	case left > floor:
		return nil
	}
	return unavailable(codeBrokerUnavailable, nil, "The broker's credentials end at %s, and here it is %s: %s.",
		creds.Expiration.Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339), why)
}

// renewed keeps new credentials until the middle of their life, give or take a tenth,
// so that agents that were started together do not come together. a.mu is held.
func (a *Agent) renewed(ctx context.Context, creds *Credentials) {
	wait := spread(time.Until(creds.Expiration)/2, 0.9, 1.1)
	a.good, a.problem, a.failures, a.next = creds, nil, 0, time.Now().Add(wait)
	a.log.LogAttrs(ctx, slog.LevelInfo, "credentials", slog.String("access_key_id", creds.AccessKeyID),
		slog.Time("expiration", creds.Expiration), slog.Time("renewed_at", a.next))
}

// failed notes a problem and when to ask again. a.mu is held.
func (a *Agent) failed(ctx context.Context, p *Problem) {
	if p.Final {
		a.good = nil
	}
	pause := firstPause
	if p.Final {
		pause = refusedPause
	}
	pause = min(pause<<min(a.failures, 6), lastPause)
	pause = max(spread(pause, 0.5, 1), spread(p.RetryAfter, 1, 1.1))
	a.failures++
	a.problem, a.next = p, time.Now().Add(pause)
	attrs := []slog.Attr{slog.String("code", p.Code), slog.Int("status", p.Status), slog.String("error", p.Error()), slog.Time("retried_at", a.next)}
	if a.good != nil {
		attrs = append(attrs, slog.Time("served_until", a.good.Expiration.Add(-floor)))
	}
	a.log.LogAttrs(ctx, slog.LevelWarn, "no new credentials", attrs...)
}

// spread is a part of d between the two bounds.
func spread(d time.Duration, from, to float64) time.Duration {
	return time.Duration(float64(d) * (from + (to-from)*rand.Float64())) //nolint:gosec // it spreads a crowd and keeps no secret
}

// Get returns the credentials that are there. It asks nobody by itself: it waits for
// an attempt that is under way, and otherwise says what came of the last one, so that
// an SDK's retries cost the broker nothing. An error is a *Problem.
func (a *Agent) Get(ctx context.Context) (*Credentials, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		a.mu.Lock()
		good, problem, next, busy := a.good, a.problem, a.next, a.busy
		now := time.Now()
		switch {
		case good != nil && now.Before(good.Expiration.Add(-floor)):
			a.mu.Unlock()
			return good, nil
		case problem != nil && now.Before(next): // while an attempt is under way it is not
			a.mu.Unlock()
			said := *problem
			said.RetryAfter = max(next.Sub(now), time.Second)
			return nil, &said
		case busy == nil: // it is due, or the machine has slept through it
			busy = make(chan struct{})
			a.busy = busy
			select {
			case a.wake <- struct{}{}:
			default:
			}
		}
		a.mu.Unlock()
		select {
		case <-busy:
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		said := unavailable(codeWaiting, nil, "The agent is waiting for the broker's answer. Ask again.")
		if problem != nil { // it says more
			*said = *problem
		}
		said.RetryAfter = time.Second
		return nil, said
	}
}
