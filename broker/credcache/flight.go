package credcache

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"credential-broker/broker"
)

const (
	// flightTimeout bounds a shared call. It belongs to no caller, so nothing else
	// ends it; twice the longest time that the STS client takes (1.8 s) means that
	// it is only reached when that client fails to keep its own bound.
	flightTimeout = 4 * time.Second
	// backOff is how long the next refresh of an entry waits after one that failed.
	// The shortest session has 105 s between the latest half-life and the floor:
	// room for five.
	backOff = 20 * time.Second
)

// flight is one call for one key, and who waits for it.
type flight struct {
	source broker.Source // FromRefresh: nobody waited when it began
	owner  owner         // whose order began it, and is everybody's who waits
	cancel context.CancelFunc

	done  chan struct{} // closed when entry or err is set
	entry *entry
	from  broker.Source // of the entry: whence it came
	err   error

	// What follows is guarded by Cache.mu.
	waited    bool // somebody does: it may not be broken off
	forgotten bool // the result is not to be kept
}

// join returns the flight for the key, and whether this order began it. mu is held.
func (c *Cache) join(ctx context.Context, k key, order broker.Order) (f *flight, leads bool) {
	f, ok := c.flights[k]
	if !ok {
		f = c.start(ctx, k, order, broker.FromSTS)
	}
	f.waited = true
	return f, !ok
}

// refresh has new credentials fetched for an entry that was hit past its half-life,
// with the order and the token of who hit it, unless that is under way or there are
// enough of such calls. mu is held.
func (c *Cache) refresh(ctx context.Context, k key, e *entry, order broker.Order, now time.Time) {
	if !e.refreshes(now) || c.refreshing == c.refreshes {
		return
	}
	if _, ok := c.flights[k]; ok {
		return
	}
	order.After = e.creds.IssuedAt() // or a cache behind this one would give the same again
	c.refreshing++
	c.background.Add(1) // before Close, after which nothing can be hit
	c.start(ctx, k, order, broker.FromRefresh)
}

// start begins a call. mu is held.
func (c *Cache) start(ctx context.Context, k key, order broker.Order, source broker.Source) *flight {
	// The values of the context (a trace) go along, its end does not: whoever
	// began the call may hang up while others wait.
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	f := &flight{source: source, owner: ownerOf(order), cancel: cancel, done: make(chan struct{})}
	c.flights[k] = f
	go c.fly(detached, k, f, order)
	return f
}

// fly makes the call, keeps the result and tells who waits.
func (c *Cache) fly(ctx context.Context, k key, f *flight, order broker.Order) {
	defer f.cancel()
	defer func() {
		c.land(k, f, order)
		close(f.done)
		c.observe(f.source, f.err)
		if f.source == broker.FromRefresh {
			c.background.Done()
		}
	}()
	f.err = fmt.Errorf("%w: the issuer ended the goroutine", broker.ErrInternal) // stands where it did
	f.entry, f.from, f.err = c.call(ctx, order)
}

// call asks the issuer. What comes with an error is nobody's.
func (c *Cache) call(ctx context.Context, order broker.Order) (e *entry, from broker.Source, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, from, err = nil, "", panicked(r)
		}
	}()
	creds, err := c.issuer.Issue(ctx, order)
	if err != nil {
		return nil, "", err
	}
	if e, err = newEntry(creds, order); err != nil { // among others, what was made for another scope or session
		return nil, "", fmt.Errorf("%w: %w", broker.ErrInternal, err)
	}
	return e, creds.Source, nil
}

// panicked makes an error of a panic: of what type it was and where, and not what
// it said, which may be a token. An error of the runtime says no more than numbers
// and types.
func panicked(r any) error {
	what := fmt.Sprintf("%T", r)
	if e, ok := r.(runtime.Error); ok {
		what = e.Error()
	}
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])]) // above: the deferred function
	frame, more := frames.Next()
	for more && strings.HasPrefix(frame.Function, "runtime.") {
		frame, more = frames.Next()
	}
	return fmt.Errorf("%w: the issuer panicked: %s at %s:%d", broker.ErrInternal, what, frame.File, frame.Line)
}

// land keeps what a flight brought. A refusal says that what is held under the key
// is not to be given any longer either; any other failure, that what is held has to
// last, and that STS is not to be asked for it again at every hit.
func (c *Cache) land(k key, f *flight, order broker.Order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.flights[k] == f {
		delete(c.flights, k)
	}
	if f.source == broker.FromRefresh {
		c.refreshing--
	}
	switch {
	case f.forgotten || c.closed:
	case f.err == nil && f.entry.creds.Fresh(now):
		f.entry.waits(halfLife(&f.entry.creds, c.random()))
		c.held.add(f.entry, now)
	case refuses(f.err):
		c.held.entries.Remove(k)
		c.refusals.add(k, f.owner, order.Token, f.err, now)
	default:
		if e, ok := c.held.entries.Peek(k); ok {
			after, _ := broker.RetryAfter(f.err)
			e.waits(now.Add(max(backOff, after)))
		}
	}
}

// abandon lets go of a flight: its result is for those who wait for it already, and
// where nobody does, it is broken off. mu is held.
func (c *Cache) abandon(k key, f *flight) {
	f.forgotten = true
	delete(c.flights, k) // who comes now begins a call of his own
	if !f.waited {
		f.cancel()
	}
}
