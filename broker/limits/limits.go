// Package limits bounds how often a subject and a tenant may ask for credentials,
// and how often an address may fail to show who it is.
//
// Each limit is so many a minute, all of them at once at most; what was spent
// comes back evenly. That is the generic cell rate algorithm (ITU-T I.371), which
// needs one instant for a key: the one at which its allowance is whole again.
// Whatever the limit, that instant is at most a minute away, so counters go on
// under another limit as if it had always been so.
//
// A subject and a tenant are looked at after the token has been verified and the
// scope decided, so that nobody can spend what is another's, and before the cache
// and STS. A hit counts like a miss: the limit is there for a client in a loop,
// and an SDK asks once in half a session's life.
package limits

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"credential-broker/broker"
	"credential-broker/policy"
)

// maxKeys bounds each kind of counter. An entry has some 300 bytes at most, so the
// three kinds have 90 MB when all are full, and less than 1 MB for a thousand
// users. Of more keys than that within one minute, those that asked least lately
// begin anew; none that goes on asking is forgotten.
const maxKeys = 100_000

// subject is whose requests are counted.
type subject struct{ issuer, name string }

// Counters know who has asked how often. They are safe for concurrent use, and
// outlive the configuration whose limits they are held against.
type Counters struct {
	mu        sync.Mutex // guards all of them: a request is looked at as a whole
	subjects  counter[subject]
	tenants   counter[policy.Tenant]
	addresses counter[netip.Prefix]
}

// NewCounters returns counters that have seen nobody.
func NewCounters() *Counters {
	return &Counters{subjects: newCounter[subject](), tenants: newCounter[policy.Tenant](), addresses: newCounter[netip.Prefix]()}
}

// counter holds when each key's allowance is whole again. :: key → instant
type counter[K comparable] struct{ whole *simplelru.LRU[K, time.Time] }

func newCounter[K comparable]() counter[K] {
	whole, _ := simplelru.NewLRU[K, time.Time](maxKeys, nil) // fails of a size below one only
	return counter[K]{whole}
}

// rate is so many events a minute.
type rate int

// interval is in what time one event comes back.
func (r rate) interval() time.Duration { return time.Minute / time.Duration(r) }

// all is in what time the whole allowance comes back: a minute, but for what does
// not divide it.
func (r rate) all() time.Duration { return r.interval() * time.Duration(r) }

// owed is how long it takes until the key's allowance is whole. A clock that was
// set back makes nobody wait for longer than if all had been spent.
func (c counter[K]) owed(k K, r rate, now time.Time) time.Duration {
	at, _ := c.whole.Get(k)
	return min(max(at.Sub(now), 0), r.all())
}

// wait is how long the key has to wait for one event; 0 is not at all.
func (c counter[K]) wait(k K, r rate, now time.Time) time.Duration {
	return max(c.owed(k, r, now)+r.interval()-r.all(), 0)
}

// spend takes one event, if there is one.
func (c counter[K]) spend(k K, r rate, now time.Time) {
	c.whole.Add(k, now.Add(min(c.owed(k, r, now)+r.interval(), r.all())))
}

// Config is what an Issuer is made of. All of it is needed but Now and Observe.
type Config struct {
	Issuer     broker.Issuer // asked within the limits
	Counters   *Counters
	PerSubject int // requests a minute
	PerTenant  int
	// Shared, if set, counts what is within the limits here over all replicas: an event of
	// each, in this order, up to the first who is over his limit. It returns which that is
	// and how long he has to wait, or 0; where it cannot tell, the counters here are all
	// there is. A request waits for it: one patience is for all of them.
	Shared  func(ctx context.Context, of ...Allowance) (over int, wait time.Duration, err error)
	Now     func() time.Time // nil: time.Now
	Observe func(Limit)      // nil, or told of each refusal; must be quick and safe for concurrent use
}

// Limit is one of the limits that somebody can be over.
type Limit string

// The limits.
const (
	OfSubject Limit = "subject"
	OfTenant  Limit = "tenant"
	OfAddress Limit = "address"
)

// Limits returns all of them, for who counts.
func Limits() []Limit { return []Limit{OfSubject, OfTenant, OfAddress} }

// Allowance is what somebody has.
type Allowance struct {
	Of        Limit
	PerMinute int
	Whose     []string
}

// Issuer passes on what is within the limits of its subject and its tenant.
type Issuer struct{ cfg Config }

var _ broker.Issuer = (*Issuer)(nil)

// New checks the configuration: a limit of nothing is a mistake, and no limit
// cannot be said.
func New(cfg Config) (*Issuer, error) {
	if cfg.Issuer == nil || cfg.Counters == nil || cfg.PerSubject < 1 || cfg.PerTenant < 1 {
		return nil, errors.New("make limits: an issuer, counters and limits of at least one a minute are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Limit) {}
	}
	return &Issuer{cfg: cfg}, nil
}

// Issue implements broker.Issuer. What is over a limit is ErrRateLimited, with
// the time to wait, and counts against neither: one client in a loop does not use
// up what its tenant has.
func (i *Issuer) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	if limit, err := i.cfg.Counters.order(order, rate(i.cfg.PerSubject), rate(i.cfg.PerTenant), i.cfg.Now()); err != nil {
		i.cfg.Observe(limit)
		return broker.Credentials{}, err
	}
	if limit, err := i.shared(ctx, order); err != nil {
		i.cfg.Observe(limit)
		return broker.Credentials{}, err
	}
	return i.cfg.Issuer.Issue(ctx, order)
}

// shared holds an order against the limits over all replicas, the subject's first:
// who is over it takes nothing of what his tenant has.
func (i *Issuer) shared(ctx context.Context, o broker.Order) (Limit, error) {
	if i.cfg.Shared == nil {
		return "", nil
	}
	of := []Allowance{
		{OfSubject, i.cfg.PerSubject, []string{o.Identity.Issuer, o.Identity.Subject}},
		{OfTenant, i.cfg.PerTenant, []string{o.Scope.Tenant.String()}},
	}
	over, wait, err := i.cfg.Shared(ctx, of...)
	if err != nil || wait <= 0 {
		return "", nil
	}
	return of[over].Of, limited(wait, "the %s asks all replicas more than %d times a minute", of[over].Of, of[over].PerMinute)
}

func (c *Counters) order(o broker.Order, perSubject, perTenant rate, now time.Time) (Limit, error) {
	who := subject{o.Identity.Issuer, o.Identity.Subject}
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.subjects.wait(who, perSubject, now); wait > 0 {
		return OfSubject, limited(wait, "the subject asks more than %d times a minute", perSubject)
	}
	if wait := c.tenants.wait(o.Scope.Tenant, perTenant, now); wait > 0 {
		return OfTenant, limited(wait, "the tenant asks more than %d times a minute", perTenant)
	}
	c.subjects.spend(who, perSubject, now)
	c.tenants.spend(o.Scope.Tenant, perTenant, now)
	return "", nil
}

func limited(wait time.Duration, reason string, args ...any) error {
	return broker.WithRetryAfter(fmt.Errorf("%w: %w", broker.ErrRateLimited, fmt.Errorf(reason, args...)), wait)
}
