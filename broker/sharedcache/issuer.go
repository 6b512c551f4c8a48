package sharedcache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"credential-broker/broker"
)

// YoungUntil is the part of its life up to which an entry is an answer; it is fresh
// then, with more than half of its life left and a third being enough. A replica's
// own cache renews from 0.45 of a life on, at the earliest: what it finds here must
// be younger, or nobody would ever renew. An older entry is what is fallen back on.
const YoungUntil = 0.45

// Issuer is one around another, the one that asks STS.
type Issuer struct {
	store    *Store
	next     broker.Issuer
	patience time.Duration
}

var _ broker.Issuer = (*Issuer)(nil)

// Issuer returns one that shares what next gives. Patience is how long an order may
// take, waiting for others and STS included: with none, none is answered.
func (s *Store) Issuer(next broker.Issuer, patience time.Duration) *Issuer {
	return &Issuer{s, next, patience}
}

// Issue implements broker.Issuer. It takes no longer than its patience, waiting
// for others included.
func (i *Issuer) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, i.patience)
	defer cancel()
	r := &request{Store: i.store, patience: i.patience, order: order, key: keyOf(i.store.keys, order), seen: i.store.journal.position()}
	creds, found := r.find(ctx)
	if found {
		return creds, nil
	}
	creds, err := i.next.Issue(ctx, order)
	switch {
	case err == nil:
		r.share(ctx, creds)
	case r.older != nil && (errors.Is(err, broker.ErrSTSUnavailable) || errors.Is(err, broker.ErrBusy)) && r.older.Fresh(r.cfg.Now()):
		r.release(ctx)
		r.cfg.Observe(FellBack)
		return *r.older, nil
	default:
		r.release(ctx)
	}
	return creds, err
}

// request is one order on its way.
type request struct {
	*Store
	patience time.Duration
	order    broker.Order
	key      entryKey
	seen     position            // of the journal, before STS is asked
	lock     string              // what is in the lock, if this replica holds it
	older    *broker.Credentials // an answer for when STS gives none
	down     bool                // Redis is of no use for this order
}

// find looks for an entry, takes the lock if there is none, or waits for who holds
// it. Without an entry, STS is to be asked.
func (r *request) find(ctx context.Context) (broker.Credentials, bool) {
	until := time.Now().Add(r.patience / 2)
	creds, found := r.look(ctx)
	result := Hit
	for !found && !r.down && !r.take(ctx, &creds, &found) && !r.down {
		if result = Waited; !r.wait(ctx, until) {
			if !r.down {
				r.cfg.Observe(Overdue)
			}
			return broker.Credentials{}, false
		}
		creds, found = r.look(ctx)
	}
	switch {
	case found:
		r.cfg.Observe(result)
	case !r.down:
		r.cfg.Observe(Missed)
	}
	return creds, found
}

// look reads the entry, under whichever name it has. In a cluster, where one of them
// cannot be read another may be.
func (r *request) look(ctx context.Context) (broker.Credentials, bool) {
	var all []rueidis.RedisResult
	err := r.do(ctx, func(ctx context.Context, c rueidis.Client) error {
		var gets rueidis.Commands
		for _, name := range r.key.names {
			gets = append(gets, c.B().Get().Key(name).Build())
		}
		all = c.DoMulti(ctx, gets...)
		return firstError(all...)
	})
	r.down = err != nil
	for _, result := range all {
		if creds, ok := r.read(result); ok {
			return creds, true
		}
	}
	return broker.Credentials{}, false
}

// firstError returns what went wrong; that there is nothing is not wrong.
func firstError(all ...rueidis.RedisResult) error {
	for _, result := range all {
		if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return err
		}
	}
	return nil
}

// read makes an answer of what Redis gave, if it is one.
func (r *request) read(result rueidis.RedisResult) (broker.Credentials, bool) {
	sealed, err := result.AsBytes()
	if err != nil { // there is nothing
		return broker.Credentials{}, false
	}
	creds, b, err := openEntry(r.keys, r.key, r.order, sealed)
	now := r.cfg.Now()
	switch {
	case err != nil:
		r.cfg.Observe(Tampered)
	case !r.journal.after(b.Seen, r.order.Identity):
		r.cfg.Observe(LoggedOut)
	case creds.IssuedAt.After(now.Add(maxSkew)) || !r.order.Allows(creds.Expiration, b.NotAfter):
	case !creds.IssuedAt.After(r.order.After):
	case now.Sub(creds.IssuedAt) >= time.Duration(YoungUntil*float64(creds.Expiration.Sub(creds.IssuedAt))):
		r.older = &creds
	default:
		return creds, true
	}
	return broker.Credentials{}, false
}

// maxSkew is how far the clocks of two replicas may be apart.
const maxSkew = time.Minute

// share writes what STS gave for the others, and lets go of the lock. A log-out that
// was heard meanwhile is in no entry: it was not seen before STS was asked.
func (r *request) share(ctx context.Context, creds broker.Credentials) {
	life := creds.FreshFor(r.cfg.Now())
	if r.down || life < time.Millisecond || creds.Scope != r.order.Scope || creds.SessionName != r.order.SessionName {
		r.release(ctx)
		return
	}
	sealed, err := sealEntry(r.keys, r.key, r.order, creds, r.seen)
	if err != nil {
		r.release(ctx)
		return
	}
	err = r.do(context.WithoutCancel(ctx), func(ctx context.Context, c rueidis.Client) error {
		set := c.B().Set().Key(r.key.names[0]).Value(rueidis.BinaryString(sealed)).Px(life).Build()
		all := c.DoMulti(ctx, set, r.unlock(c)) // of no effect, where it is not held
		return firstError(all...)
	})
	if err == nil {
		r.cfg.Observe(Written)
	}
}

// release lets go of the lock, if it is held.
func (r *request) release(ctx context.Context) {
	if r.lock == "" {
		return
	}
	_ = r.do(context.WithoutCancel(ctx), func(ctx context.Context, c rueidis.Client) error { return firstError(c.Do(ctx, r.unlock(c))) })
}
