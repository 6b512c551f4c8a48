package awssts

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// firstPlaces is how many calls may be under way before anything is known of
	// STS: few, and twice as many with each round of answers.
	firstPlaces = 4
	// steepUntil ends the doubling, so that the last step in the dark is no longer
	// than this. At 50 ms a call it is 2,500 a second, four times the largest quota
	// that AWS names.
	steepUntil = 128
	// afterThrottle is what the first throttle of a round leaves of the places. Each
	// further one takes a place, so that what is left is what STS took; less than
	// that would leave it idle.
	afterThrottle = 0.9
	// shortestGap and longestGap bound the time between two calls where one call at
	// a time is too many still: some report 4 a second for this action.
	shortestGap = 50 * time.Millisecond
	longestGap  = time.Second
	// waitersPerPlace bounds the queue. Who stands behind 32 others for each place
	// is not reached within MaxTimeout: a call takes 50 ms and more.
	waitersPerPlace = 32
)

// outcome is what a call says of how many STS takes.
type outcome int

const (
	unknown outcome = iota // nothing: it was not made, or failed
	taken
	refused // too many
)

// limit is how many calls may be under way: few at first, more with each answer
// until STS throttles, then fewer, and slowly more again (additive increase,
// multiplicative decrease, as in TCP). The quota of this unsigned action is not
// published, cannot be raised, and is shared with all that the account does, so
// that no fixed number is right. Who waits is served in the order of arrival;
// who asks again arrived before all who ask for the first time.
type limit struct {
	most int

	mu     sync.Mutex // guards what follows
	places float64    // from 1 to most
	steep  bool       // a place more for each answer, not for each round
	cut    time.Time  // of the last decrease
	gap    time.Duration
	next   time.Time   // with a gap: no call begins before
	wake   *time.Timer // serves then
	used   int
	fresh  list.List // of chan struct{}: who asks for the first time, and
	again  list.List // who asks again; closed when it has a place
}

func newLimit(most int) *limit {
	return &limit{most: most, places: float64(min(firstPlaces, most)), steep: true}
}

// enter waits for a place until ctx ends. Who has got one gives it back by leave.
func (l *limit) enter(ctx context.Context, again bool) error {
	ready := make(chan struct{})
	queue, place, err := l.line(ready, again)
	if err != nil {
		return err
	}
	select {
	case <-ready:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-ready: // in the last moment: it is for somebody else
		l.used--
		l.serve()
	default:
		queue.Remove(place)
	}
	return fmt.Errorf("%d calls are under way: %w", l.used, ctx.Err())
}

// line puts who asks into a queue, out of which serve calls.
func (l *limit) line(ready chan struct{}, again bool) (*list.List, *list.Element, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := &l.fresh
	if again {
		queue = &l.again // bounded by who has had a place
	} else if queue.Len() >= l.most*waitersPerPlace {
		return nil, nil, errors.New("the queue is full")
	}
	place := queue.PushBack(ready)
	l.serve()
	return queue, place, nil
}

// serve gives free places to who waits; mu is held.
func (l *limit) serve() {
	for l.used < int(l.places) {
		queue := &l.fresh
		if l.again.Len() > 0 {
			queue = &l.again
		}
		first := queue.Front()
		if first == nil {
			return
		}
		if l.gap > 0 {
			now := time.Now()
			if wait := l.next.Sub(now); wait > 0 {
				l.serveIn(wait)
				return
			}
			l.next = now.Add(l.gap)
		}
		l.used++
		close(queue.Remove(first).(chan struct{}))
	}
}

func (l *limit) serveIn(wait time.Duration) {
	if l.wake != nil {
		l.wake.Stop()
	}
	l.wake = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.serve()
	})
}

// leave gives back the place of a call that began then, and learns from what
// became of it.
func (l *limit) leave(began time.Time, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	switch o {
	case taken:
		l.more()
	case refused:
		l.fewer(began)
	case unknown:
	}
	l.serve()
}

// more is for an answer. While nobody waits, there is no need to try.
func (l *limit) more() {
	switch {
	case l.gap > 0:
		if l.gap -= l.gap / 10; l.gap < shortestGap {
			l.gap = 0
		}
	case l.fresh.Len()+l.again.Len() == 0:
	case l.steep && l.places < steepUntil:
		l.places = min(l.places+1, float64(l.most))
	default:
		l.places = min(l.places+1/l.places, float64(l.most))
	}
}

// fewer is for a throttle.
func (l *limit) fewer(began time.Time) {
	l.steep = false
	switch now := time.Now(); {
	case began.Before(l.cut): // of the same round: it was under way at the last decrease
		l.places = max(1, l.places-1)
	case l.places >= 2:
		l.places, l.cut = max(1, l.places*afterThrottle), now
	default: // one at a time, and a part of a place that no call can use
		l.places = 1
		l.gap = min(max(2*l.gap, shortestGap), longestGap)
		l.cut, l.next = now, now.Add(l.gap)
	}
}
