// Package credcache remembers credentials until too little of their life is
// left, and makes one call of however many ask for the same at once.
//
// It is an Issuer around another. Every request's token has been verified before
// it gets here, on a hit too; the cache decides only whether what it holds is an
// answer to the order in hand.
//
// A plain LRU, whose entries carry their own deadline, and not the library's
// expirable one: that has a single life for all entries and a goroutine that
// cannot be stopped.
package credcache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"credential-broker/broker"
)

// flightTimeout bounds a shared call. It belongs to no caller, so nothing else
// ends it; twice the longest time that the STS client takes (1.8 s) means that
// it is only reached when that client fails to keep its own bound.
const flightTimeout = 4 * time.Second

// key is everything that shapes an answer. The token itself is not in it: it
// proved the identity, which is.
type key struct {
	revision string
	issuer   string
	subject  string
	client   string
	scope    broker.Scope // tenant, grant, role, bucket, prefix, access, duration
	policy   string       // digest
}

func keyOf(o broker.Order) key {
	return key{
		revision: o.Revision, issuer: o.Identity.Issuer, subject: o.Identity.Subject, client: o.Identity.Client,
		scope: o.Scope, policy: o.Document.Digest(),
	}
}

// owner is whose an entry is.
type owner struct{ issuer, subject string }

func (k key) owner() owner { return owner{k.issuer, k.subject} }

// entry is what is remembered: the credentials, and the latest end that a
// session may have under the order that they were made for.
type entry struct {
	creds    broker.Credentials
	notAfter time.Time
}

// answers reports whether the entry may be given for the order. A token that is
// about to end gets no session that outlives it because another token of the
// same subject was good for longer.
func (e entry) answers(o broker.Order, now time.Time) bool {
	return e.creds.Fresh(now) && !e.notAfter.After(o.NotAfter)
}

// flight is one call for one key, and who waits for it.
type flight struct {
	done      chan struct{} // closed when entry and err are set
	entry     entry
	err       error
	forgotten bool // guarded by Cache.mu: the result is not to be kept
}

// Config is what a Cache is made of.
type Config struct {
	Issuer  broker.Issuer    // asked on a miss
	Entries int              // how many credentials are kept; about 3 kB each
	Now     func() time.Time // nil: time.Now
}

// Cache is safe for concurrent use.
type Cache struct {
	issuer  broker.Issuer
	now     func() time.Time
	entries *lru.Cache[key, entry] // has its own lock

	mu      sync.Mutex                 // guards what follows, and additions to entries
	flights map[key]*flight            // :: key → the call that is under way
	owned   map[owner]map[key]struct{} // :: subject → its keys in entries
}

var (
	_ broker.Issuer    = (*Cache)(nil)
	_ broker.Forgetter = (*Cache)(nil)
)

// New makes an empty cache. It refuses a missing issuer and a bound below one.
func New(cfg Config) (*Cache, error) {
	if cfg.Issuer == nil || cfg.Entries < 1 {
		return nil, errors.New("make credential cache: an issuer and at least one entry are needed")
	}
	c := &Cache{
		issuer: cfg.Issuer, now: cfg.Now,
		flights: map[key]*flight{}, owned: map[owner]map[key]struct{}{},
	}
	if c.now == nil {
		c.now = time.Now
	}
	var err error
	// The library calls back on the goroutine that added or removed, which holds mu.
	if c.entries, err = lru.NewWithEvict(cfg.Entries, func(k key, _ entry) { c.disown(k) }); err != nil {
		return nil, fmt.Errorf("make credential cache: %w", err)
	}
	return c, nil
}

// rounds bounds how often one order looks, waits and looks again. Two are
// enough for a caller who waited for another's call and could not use what it
// brought; a third covers a call that was forgotten in between.
const rounds = 3

// Issue implements broker.Issuer. Callers who miss the same key share one call;
// each waits no longer than its own context, and the call goes on without it. A
// shared result that is no answer to this order (it outlives this token, or the
// call failed because the token of who began it had ended) is asked for again,
// with this order.
func (c *Cache) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	k := keyOf(order)
	for range rounds {
		if e, ok := c.entries.Get(k); ok && e.answers(order, c.now()) {
			return release(e.creds, order, broker.FromCache)
		}
		f, leads := c.board(ctx, k, order)
		select {
		case <-f.done:
		case <-ctx.Done():
			return broker.Credentials{}, fmt.Errorf("%w: wait for credentials: %w", broker.ErrSTSUnavailable, ctx.Err())
		}
		switch {
		case leads && f.err == nil:
			return release(f.entry.creds, order, broker.FromSTS)
		case leads, f.err != nil && broker.ClassOf(f.err) != broker.ErrExpiredToken:
			return broker.Credentials{}, f.err
		case f.err == nil && f.entry.answers(order, c.now()):
			return release(f.entry.creds, order, broker.FromCache) // it cost this caller no call
		}
	}
	return broker.Credentials{}, fmt.Errorf("%w: other callers' results for the same key fitted in none of %d rounds", broker.ErrBusy, rounds)
}

// release is the way out: it compares once more and gives a copy.
func release(creds broker.Credentials, order broker.Order, source broker.Source) (broker.Credentials, error) {
	if err := compare(creds, order); err != nil {
		return broker.Credentials{}, err
	}
	creds.Source = source
	return creds, nil
}

// board returns the flight for the key, and whether this order began it.
func (c *Cache) board(ctx context.Context, k key, order broker.Order) (f *flight, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[k]; ok {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	c.flights[k] = f
	// The values of the context (a trace) go along, its end does not: whoever
	// began the call may hang up while others wait.
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	go func() {
		defer cancel()
		c.fly(detached, k, f, order)
	}()
	return f, true
}

// fly makes the call, keeps the result and tells who waits.
func (c *Cache) fly(ctx context.Context, k key, f *flight, order broker.Order) {
	defer close(f.done)
	defer func() {
		if r := recover(); r != nil {
			f.err = fmt.Errorf("%w: issuer panicked: %v", broker.ErrInternal, r)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.flights[k] == f {
			delete(c.flights, k)
		}
		if f.err == nil && !f.forgotten && f.entry.creds.Fresh(c.now()) {
			c.entries.Add(k, f.entry)
			c.own(k)
		}
	}()
	creds, err := c.issuer.Issue(ctx, order)
	if err == nil {
		err = compare(creds, order)
	}
	f.entry, f.err = entry{creds: creds, notAfter: order.NotAfter}, err
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
	for k := range c.owned[who] {
		c.entries.Remove(k)
	}
	for k, f := range c.flights {
		if k.owner() == who {
			f.forgotten = true
			delete(c.flights, k) // who comes now begins a call of his own
		}
	}
}

// Len returns how many entries are held.
func (c *Cache) Len() int { return c.entries.Len() }

// own and disown keep the index of subjects; mu is held.
func (c *Cache) own(k key) {
	keys, ok := c.owned[k.owner()]
	if !ok {
		keys = map[key]struct{}{}
		c.owned[k.owner()] = keys
	}
	keys[k] = struct{}{}
}

func (c *Cache) disown(k key) {
	keys := c.owned[k.owner()]
	delete(keys, k)
	if len(keys) == 0 {
		delete(c.owned, k.owner())
	}
}
