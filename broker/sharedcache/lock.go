package sharedcache

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"credential-broker/broker"
)

const (
	// lockSlack is what a lock lasts beyond the longest that its holder may take, so
	// that who is done can still let go of it. Nobody is hurt when two ask STS for one
	// key after all: the later entry stands, and both are good.
	lockSlack = 200 * time.Millisecond
	// lookEvery is how often a waiter looks although nothing woke it: a holder that died
	// lets go of nothing, and Redis tells of a lock that ran out when it gets to it.
	lookEvery = 250 * time.Millisecond
)

// unlockIfOwn deletes a lock that is still its holder's.
const unlockIfOwn = `if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0`

// take takes the lock and looks once more: who held it may have written an entry
// between the last look and now. It reports whether the search is over: with an
// entry, or with the lock.
func (r *request) take(ctx context.Context, creds *broker.Credentials, found *bool) bool {
	own := rand.Text()
	var all []rueidis.RedisResult
	err := r.do(ctx, func(ctx context.Context, c rueidis.Client) error {
		all = c.DoMulti(ctx,
			c.B().Set().Key(r.key.lock).Value(own).Nx().Px(r.patience+lockSlack).Build(),
			c.B().Get().Key(r.key.names[0]).Build())
		return firstError(all...)
	})
	if r.down = err != nil; r.down {
		return false
	}
	if rueidis.IsRedisNil(all[0].Error()) { // another has it
		return false
	}
	r.lock = own
	if *creds, *found = r.read(all[1]); *found {
		r.release(ctx)
	}
	return true
}

func (r *request) unlock(c rueidis.Client) rueidis.Completed {
	return c.B().Eval().Script(unlockIfOwn).Numkeys(1).Key(r.key.lock).Arg(r.lock).Build()
}

// wait waits until the lock is let go of, or it is time to look. False says that
// this has lasted long enough, or that Redis is of no use.
func (r *request) wait(ctx context.Context, until time.Time) bool {
	woken, forget := r.wakes.add(r.key.lock)
	defer forget()
	var held rueidis.RedisResult
	err := r.do(ctx, func(ctx context.Context, c rueidis.Client) error {
		// Redis tells who has read a key in this way when it changes.
		held = c.DoCache(ctx, c.B().Get().Key(r.key.lock).Cache(), lookEvery)
		return firstError(held)
	})
	if r.down = err != nil; r.down {
		return false
	}
	if held.Error() == nil { // it is not free by now
		timer := time.NewTimer(min(lookEvery, time.Until(until)))
		defer timer.Stop()
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return time.Now().Before(until)
}

// wakes are those that wait. The zero value has none.
type wakes struct {
	mu      sync.Mutex
	waiting map[string]map[chan struct{}]struct{} // :: lock → who waits for it
}

func (w *wakes) add(lock string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[string]map[chan struct{}]struct{}{}
	}
	if w.waiting[lock] == nil {
		w.waiting[lock] = map[chan struct{}]struct{}{}
	}
	w.waiting[lock][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.waiting[lock], ch); len(w.waiting[lock]) == 0 {
			delete(w.waiting, lock)
		}
	}
}

// invalidated is told which keys have changed; nil: all may have.
func (w *wakes) invalidated(keys []rueidis.RedisMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wake := func(all map[chan struct{}]struct{}) {
		for ch := range all {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
	if keys == nil {
		for _, all := range w.waiting {
			wake(all)
		}
	}
	for i := range keys {
		if name, err := keys[i].ToString(); err == nil {
			wake(w.waiting[name])
		}
	}
}
