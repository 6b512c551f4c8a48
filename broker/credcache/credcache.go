// Package credcache remembers credentials until too little of their life is
// left, renews them ahead of that, and makes one call of however many ask for the
// same at once.
//
// It is an Issuer around another. Every request's token has been verified before
// it gets here, on a hit too; the cache decides only whether what it holds is an
// answer to the order in hand. Each process has its own; what replicas share is
// behind it.
//
// A plain LRU, whose entries carry their own deadline, and not the library's
// expirable one: that has a single life for all entries and a goroutine that
// cannot be stopped.
package credcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"credential-broker/broker"
)

// defaultRefreshes is a quarter of the STS client's places by default: three
// quarters stay free for those who wait.
const defaultRefreshes = 8

// busyRetryAfter is when to come again after other callers were in the way.
const busyRetryAfter = time.Second

// Config is what a Cache is made of.
type Config struct {
	Issuer    broker.Issuer    // asked on a miss, and ahead of one
	Entries   int              // how many credentials are kept; about 2.3 kB each
	Bytes     int64            // how many bytes they may have together; 0: no matter
	Refreshes int              // calls ahead of need at a time; 0: 8, a quarter of the STS client's places
	Now       func() time.Time // nil: time.Now
	Random    func() float64   // from 0 to 1, spreads refreshes; nil: math/rand

	// Observe, if set, is told how each call to Issuer ended: one that a caller
	// waited for is FromSTS, one ahead of need is FromRefresh. It is called from
	// many goroutines and must not block.
	Observe func(broker.Source, error)
	// Evicted, if set, is told of each entry that had to go for want of room, and
	// Repeated of each refusal that was given again without asking. They are called
	// with a lock held: they must be quick, and not ask the cache anything.
	Evicted, Repeated func()
}

// Cache is safe for concurrent use. A change of the configuration makes a new one;
// the old one is closed.
type Cache struct {
	issuer     broker.Issuer
	refreshes  int
	now        func() time.Time
	random     func() float64
	observe    func(broker.Source, error)
	evicted    func()
	repeated   func()
	background sync.WaitGroup // calls ahead of need

	mu         sync.Mutex // guards what follows
	held       *store
	refusals   *refusals
	flights    map[key]*flight // :: key → the call that is under way
	refreshing int             // how many calls ahead of need are
	closed     bool
}

var (
	_ broker.Issuer    = (*Cache)(nil)
	_ broker.Forgetter = (*Cache)(nil)
)

// New makes an empty cache. It refuses a missing issuer, a bound below one and a
// number of refreshes below zero.
func New(cfg Config) (*Cache, error) {
	if cfg.Issuer == nil || cfg.Entries < 1 || cfg.Bytes < 0 || cfg.Refreshes < 0 {
		return nil, errors.New("make credential cache: an issuer and at least one entry are needed, and neither bytes nor refreshes can be below zero")
	}
	c := &Cache{
		issuer: cfg.Issuer, refreshes: cfg.Refreshes, now: cfg.Now, random: cfg.Random, observe: cfg.Observe,
		evicted: cfg.Evicted, repeated: cfg.Repeated, flights: map[key]*flight{},
	}
	if c.refreshes == 0 {
		c.refreshes = defaultRefreshes
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.random == nil {
		c.random = rand.Float64
	}
	if c.observe == nil {
		c.observe = func(broker.Source, error) {}
	}
	for _, hook := range []*func(){&c.evicted, &c.repeated} {
		if *hook == nil {
			*hook = func() {}
		}
	}
	var errs [2]error
	c.held, errs[0] = newStore(cfg.Entries, cmp.Or(cfg.Bytes, math.MaxInt64), c.evicted)
	c.refusals, errs[1] = newRefusals()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("make credential cache: %w", err)
	}
	return c, nil
}

// rounds bounds how often one order looks, waits and looks again. Two are
// enough for a caller who waited for another's call and could not use what it
// brought; a third covers a call that was forgotten in between.
const rounds = 3

// Issue implements broker.Issuer. What is held is given at once; past its half-life
// that begins a call for new ones, which nobody waits for. Callers who miss the
// same key share one call; each waits no longer than its own context, and the call
// goes on without it. A shared result that is no answer to this order (it outlives
// this token, or the call was refused with the token of who began it) is asked for
// again, with this order. A refusal is given again for seconds to the same token.
func (c *Cache) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	k := order.Fingerprint()
	for range rounds {
		now := c.now()
		c.mu.Lock()
		if e, ok := c.held.get(k); ok && e.answers(order, now) {
			c.refresh(ctx, k, e, order, now)
			c.mu.Unlock()
			return release(e, order, broker.FromCache)
		}
		if err := c.refusals.find(k, order.Token, now); err != nil {
			c.repeated()
			c.mu.Unlock()
			return broker.Credentials{}, err
		}
		f, leads := c.join(ctx, k, order)
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return broker.Credentials{}, fmt.Errorf("%w: wait for credentials: %w", broker.ErrSTSUnavailable, ctx.Err())
		}
		switch {
		case leads && f.err == nil:
			return release(f.entry, order, f.from)
		case leads, f.err != nil && !refuses(f.err):
			return broker.Credentials{}, f.err
		case f.err == nil && f.entry.answers(order, c.now()):
			return release(f.entry, order, broker.FromCache) // it cost this caller no call
		}
	}
	err := fmt.Errorf("%w: other callers' results for the same key fitted in none of %d rounds", broker.ErrBusy, rounds)
	return broker.Credentials{}, broker.WithRetryAfter(err, busyRetryAfter)
}

// release is the way out: it compares once more and gives a copy.
func release(e *entry, order broker.Order, source broker.Source) (broker.Credentials, error) {
	creds := e.creds.Credentials(source)
	if err := compare(creds, order); err != nil {
		return broker.Credentials{}, err
	}
	return creds, nil
}

// compare refuses credentials that were made for another scope or session.
func compare(creds broker.Credentials, order broker.Order) error {
	if creds.Scope != order.Scope || creds.SessionName != order.SessionName {
		return fmt.Errorf("%w: shouldn't happen: credentials of tenant %q, session %q for an order of tenant %q, session %q",
			broker.ErrInternal, creds.Scope.Tenant, creds.SessionName, order.Scope.Tenant, order.SessionName)
	}
	return nil
}

// Forget implements broker.Forgetter: nothing that is held for the subject now,
// or that a call now under way brings, is given to anybody later.
func (c *Cache) Forget(issuer, subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := owner{issuer, subject}
	c.held.forget(who)
	c.refusals.forget(who)
	for k, f := range c.flights {
		if f.owner == who {
			c.abandon(k, f)
		}
	}
}

// Clear forgets everything that is held now, or that a call now under way brings.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

// clear does it. mu is held.
func (c *Cache) clear() {
	c.held.clear()
	c.refusals.clear()
	for k, f := range c.flights {
		c.abandon(k, f)
	}
}

// Settle returns when no call ahead of need is under way. Nothing may be asked
// meanwhile. It is for whoever has a clock of his own.
func (c *Cache) Settle() { c.background.Wait() }

// Close forgets everything, for good: what calls bring from now on goes to those
// who wait for it and is not kept. It ends the calls that nobody waits for and
// returns when they have ended. Orders that still come are passed on.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.clear()
	c.mu.Unlock()
	c.background.Wait()
}

// Len returns how many entries are held.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held.entries.Len()
}

// Stats is what a cache holds and does at the moment.
type Stats struct {
	Entries, Room int // credentials, and how many there can be
	Refusals      int // that are remembered; the latest may be past their time
	Calls         int // under way to the issuer, and
	Refreshes     int // how many of them are ahead of need
}

// Stats returns it.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Entries: c.held.entries.Len(), Room: c.held.most, Refusals: c.refusals.known.Len(), Calls: len(c.flights), Refreshes: c.refreshing,
	}
}
