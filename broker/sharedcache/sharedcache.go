// Package sharedcache lets replicas of the broker share what STS gave one of them,
// through Redis or Valkey, and tells all of them of a log-out that one has heard.
//
// It stands between each replica's own cache and STS. For one key, one replica asks
// STS; those that miss the same key meanwhile wait for it, and no longer than half
// of a caller's patience. Whatever Redis does, a caller is answered: one that is
// slow, down, full, read-only or failing over is gone round, and a circuit breaker
// keeps one that is dead from costing time.
//
// Redis is not trusted. Entries are sealed, with everything that shapes an answer
// bound into the seal, and their names are keyed hashes: who reads Redis learns
// nothing that can be used, and who writes to it can make the replicas ask STS, or
// refuse by the shared limits, and nothing else. What was sealed before a log-out is
// no answer after it: see journal.
package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/sony/gobreaker/v2"

	"credential-broker/broker"
)

const (
	// failuresToOpen opens the breaker, in a row, and openFor is for how long Redis is
	// then left alone: one in a thousand requests waits for the timeout at ten a second.
	failuresToOpen = 5
	openFor        = 5 * time.Second
	// dialTimeout is what a connection may take, TLS included. No request waits for it.
	dialTimeout = 2 * time.Second
	// retryEvery is how long to wait before Redis is looked for again. No request waits
	// for that either, and ten replicas that look twice a second are no load.
	retryEvery = 500 * time.Millisecond
	// trackedBytes bounds what a connection remembers of the locks that are waited for;
	// a lock has some 200 bytes.
	trackedBytes = 4 << 20
	// bufferBytes are for a connection's pipeline each way. An entry has 2 kB.
	bufferBytes = 64 << 10
)

// Config is what a Store is made of.
type Config struct {
	URL     broker.Secret   // see ParseURL; it may hold a password
	Keys    []broker.Secret // 32 bytes each: the first seals, all open
	Timeout time.Duration   // for what a request asks of Redis, each time
	// Forget drops what this replica holds of a subject, and Clear all of it; Session
	// tells whose session is, if that is known here. They must be quick.
	Forget  func(issuer, subject string)
	Clear   func()
	Session func(issuer, session string) (subject string, known bool)

	Observe func(Event)      // nil, or told of each event; must be quick and safe for concurrent use
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: nowhere
}

// Store is a replica's part in what is shared. It is safe for concurrent use and
// outlives the configuration under which it is asked.
type Store struct {
	cfg     Config
	keys    keyring
	client  atomic.Pointer[rueidis.Client] // nil until Redis was reached once
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	journal *journal
	wakes   wakes
	stop    context.CancelFunc
	parts   sync.WaitGroup
}

// Open begins to look for Redis and returns at once: a replica starts without it.
func Open(cfg Config) (*Store, error) {
	s := &Store{cfg: cfg}
	var errs [2]error
	var o rueidis.ClientOption
	o, errs[0] = option(cfg.URL)
	s.keys, errs[1] = newKeyring(cfg.Keys)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("open shared cache: %w", err)
	}
	if cfg.Timeout <= 0 || cfg.Forget == nil || cfg.Clear == nil || cfg.Session == nil {
		return nil, errors.New("open shared cache: a timeout and whom to tell are needed")
	}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	if s.cfg.Observe == nil {
		s.cfg.Observe = func(Event) {}
	}
	if s.cfg.Log == nil {
		s.cfg.Log = slog.New(slog.DiscardHandler)
	}
	o.OnInvalidations = s.wakes.invalidated
	s.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "shared cache", MaxRequests: 1, Timeout: openFor,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= failuresToOpen },
		IsSuccessful: answered,
		OnStateChange: func(_ string, from, to gobreaker.State) {
			s.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "circuit breaker of the shared cache",
				slog.String("from", from.String()), slog.String("to", to.String()))
		},
	})
	s.journal = newJournal(s)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.parts.Go(func() { s.connect(ctx, o) })
	return s, nil
}

// Close ends what works in the background and the connections. Orders that still
// come are passed on.
func (s *Store) Close() {
	s.stop()
	s.parts.Wait()
	if c := s.client.Load(); c != nil {
		(*c).Close()
	}
}

// Live reports whether this replica hears what the others do: entries are taken and
// given only then.
func (s *Store) Live() bool { return s.journal.live.Load() }

// Untold is how many log-outs the other replicas have not been told of, or are not
// known to: those are told again until they were read back.
func (s *Store) Untold() int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return len(s.journal.untold)
}

// LeftAlone reports whether the breaker keeps requests from Redis, or lets one try.
func (s *Store) LeftAlone() bool { return s.breaker.State() != gobreaker.StateClosed }

// connect reaches Redis for the first time, which the library does not try again,
// and follows the journal from then on.
func (s *Store) connect(ctx context.Context, o rueidis.ClientOption) {
	var said string
	for ctx.Err() == nil {
		client, err := rueidis.NewClient(o)
		if err == nil {
			s.client.Store(&client)
			s.journal.follow(ctx, client)
			return
		}
		s.warn(ctx, &said, "the shared cache cannot be reached: each replica asks STS for itself", err)
		pause(ctx, retryEvery)
	}
}

// warn logs what went wrong, unless that was the last that was said of it: what is
// tried twice a second fails for hours.
func (s *Store) warn(ctx context.Context, said *string, what string, err error) {
	if text := err.Error(); text != *said {
		*said = text
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, what, slog.String("error", text))
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// errClosed is what is asked of Redis while it is left alone.
var errClosed = errors.New("the shared cache is left alone")

// do asks something of Redis within the timeout, if it may be asked.
func (s *Store) do(ctx context.Context, ask func(context.Context, rueidis.Client) error) error {
	if !s.Live() { // until when there is no client either
		s.cfg.Observe(Skipped)
		return errClosed
	}
	done, err := s.breaker.Allow()
	if err != nil {
		s.cfg.Observe(Skipped)
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	err = ask(within, *s.client.Load())
	if ctx.Err() != nil { // the caller's end says nothing of Redis
		done(nil)
		return err
	}
	done(err)
	if err != nil {
		s.cfg.Observe(Failed)
	}
	return err
}

// answered reports whether Redis said something, whatever it was: one that is full,
// read-only or loading costs no time.
func answered(err error) bool {
	if err == nil {
		return true
	}
	_, said := rueidis.IsRedisErr(err)
	return said
}
