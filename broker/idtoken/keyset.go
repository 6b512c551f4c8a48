package idtoken

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"credential-broker/broker"
)

// The times of a key set. Each is lengthened by up to a tenth, so that replicas
// do not ask in step.
const (
	// refreshEvery is how long a key that the issuer has withdrawn goes on working.
	// At twelve small requests an hour and issuer, it costs next to nothing.
	refreshEvery = 5 * time.Minute
	// coolDown is the least time between two fetches for the sake of a key that is
	// not known, whatever tokens come and whether the fetch succeeds: who invents key
	// names gets the issuer asked twice a minute and no more. A refresh that was due
	// anyway does not count, so that a key which is used right after it is found too.
	coolDown = 30 * time.Second
	// firstRetry is the first pause while there are no keys; it doubles up to coolDown.
	firstRetry = time.Second
	// maxStaleness is how long keys serve without a good answer. An issuer that is
	// out for a night stops nothing; a key is not believed for ever.
	maxStaleness = 24 * time.Hour
)

// keySet holds the keys of one issuer. One goroutine, run, does all the fetching,
// so that there is never more than one fetch; any number of callers look up.
type keySet struct {
	issuer  string
	fetch   func(context.Context) (map[string]key, error)
	now     func() time.Time
	log     *slog.Logger
	observe func(issuer string, err error)
	wake    chan struct{} // capacity 1: a caller has claimed a fetch
	first   chan struct{} // closed when there are keys
	stopped chan struct{} // closed when run has ended

	good   *atomic.Pointer[answer] // the last good one; nil: none yet
	before *atomic.Pointer[answer] // that of the set that this one follows, which may still get one

	mu     sync.Mutex    // guards what follows
	flight chan struct{} // closed when the fetch under way has ended; nil: there is none
	began  time.Time     // when the last fetch was claimed
	asked  time.Time     // when the last fetch was claimed for the sake of an unknown key
	err    error         // what the last fetch came to
}

// answer is a good answer of the issuer.
type answer struct {
	keys  map[string]key // :: kid → key
	begun time.Time      // when it was asked for
	at    time.Time
}

func newKeySet(cfg Config, i Issuer, client *http.Client) *keySet {
	log := cfg.Log.With(slog.String("issuer", i.URL))
	s := &keySet{
		issuer: i.URL, good: &atomic.Pointer[answer]{}, before: &atomic.Pointer[answer]{},
		fetch:   source{client: client, issuer: i.URL, jwksURL: i.JWKSURL, log: log}.fetch,
		now:     cfg.Now,
		log:     log,
		observe: cfg.Observe,
		wake:    make(chan struct{}, 1),
		first:   make(chan struct{}),
		stopped: make(chan struct{}),
	}
	s.inherit(cfg.Previous.keysOf(i))
	return s
}

// inherit begins with the keys of another set of the same source, as old as they
// are, and with its cool-down. What that one still gets counts here too: a key that
// it knows to be withdrawn is not good again.
func (s *keySet) inherit(from *keySet) {
	if from == nil {
		return
	}
	s.before = from.good
	if good := from.newest(); good != nil {
		s.good.Store(good)
		close(s.first)
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	s.asked = from.asked
}

// newest is the good answer that was asked for last, here or by the set before.
func (s *keySet) newest() *answer {
	own, theirs := s.good.Load(), s.before.Load()
	if own == nil || theirs != nil && theirs.begun.After(own.begun) {
		return theirs
	}
	return own
}

// find returns the key of that name. A known one never waits. An unknown one
// waits for the fetch under way, or has one made if the last is long enough ago.
// Errors are ErrInvalidToken if the issuer has no such key, and
// ErrKeysUnavailable if that cannot be known.
func (s *keySet) find(ctx context.Context, kid string) (key, error) {
	k, ok, err := s.held(kid)
	if ok || err != nil {
		return k, err
	}
	if flight := s.claim(); flight != nil {
		select {
		case <-flight:
		case <-s.stopped:
		case <-ctx.Done():
			return key{}, unavailable("key %s: wait for a fetch: %w", quote(kid), ctx.Err())
		}
	}
	if k, ok, err = s.held(kid); ok || err != nil {
		return k, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil { // the key may be a new one
		return key{}, unavailable("key %s is not known, and the last fetch failed", quote(kid))
	}
	return key{}, invalid("key %s is not known", quote(kid))
}

// held looks among the keys that are there, which must not be too old.
func (s *keySet) held(kid string) (key, bool, error) {
	good := s.newest()
	if good == nil {
		return key{}, false, unavailable("no keys yet")
	}
	if age := s.now().Sub(good.at); age > maxStaleness {
		return key{}, false, unavailable("the keys are %s old", age)
	}
	k, ok := good.keys[kid]
	return k, ok, nil
}

// claim returns the fetch to wait for, the one under way or a new one, or nil if
// the last of its kind was begun too short a time ago. The claim is made before
// the fetch and stands whatever comes of it.
func (s *keySet) claim() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight == nil {
		if s.now().Sub(s.asked) < coolDown {
			return nil
		}
		s.flight, s.began = make(chan struct{}), s.now()
		s.wake <- struct{}{} // has room: only a claim fills it, only refresh ends one
	}
	s.asked = s.began
	return s.flight
}

// run fetches the keys again and again until ctx ends.
func (s *keySet) run(ctx context.Context) {
	defer close(s.stopped)
	failures := 0
	for ctx.Err() == nil {
		if s.refresh(ctx) == nil {
			failures = 0
		} else {
			failures++
		}
		timer := time.NewTimer(s.pause(failures))
		select {
		case <-timer.C:
		case <-s.wake:
			s.wake <- struct{}{} // refresh takes it, under the lock
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// refresh makes one fetch, a claimed one or its own. Only a good answer replaces
// the keys, and it replaces all of them: what is withdrawn is gone.
func (s *keySet) refresh(ctx context.Context) error {
	s.mu.Lock()
	if s.flight == nil {
		s.flight, s.began = make(chan struct{}), s.now()
	} else {
		<-s.wake
	}
	s.mu.Unlock()

	begun := s.now()
	keys, err := s.fetch(ctx)
	if err == nil && s.good.Swap(&answer{keys: keys, begun: begun, at: s.now()}) == nil {
		close(s.first)
	}

	s.mu.Lock()
	close(s.flight)
	s.flight, s.err = nil, err
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelError, "fetch signing keys", slog.String("error", err.Error()))
	}
	s.observe(s.issuer, err)
	return err
}

// pause is the time until the next fetch that nobody asks for.
func (s *keySet) pause(failures int) time.Duration {
	base := refreshEvery
	switch {
	case failures > 0 && s.good.Load() == nil:
		base = min(firstRetry<<min(failures-1, 5), coolDown)
	case failures > 0:
		base = coolDown
	}
	return base + rand.N(base/10) //nolint:gosec // spreads load, keeps no secret
}

// unavailable is an ErrKeysUnavailable with its reason. Nothing will be different
// before the next fetch.
func unavailable(reason string, args ...any) error {
	return broker.WithRetryAfter(classed(broker.ErrKeysUnavailable, reason, args...), coolDown)
}
