package broker

import (
	"fmt"
	"sync"
	"time"
)

const (
	// maxRepeats is how many records a second tell of one subject to whom nothing is
	// released. A page has not ten of them a second, and an SDK asks thrice; of a loop
	// the eleventh says what the tenth did.
	maxRepeats = 10
	// maxRepeating bounds who is counted. An entry has some 200 bytes, so that it is
	// under 1 MB; of more subjects than that within a second every record is written.
	maxRepeating = 4096
)

// repeats keeps one caller in a loop, who is known and gets nothing, from filling the
// disk, without which nobody gets anything. It is safe for concurrent use.
type repeats struct {
	mu    sync.Mutex // guards what follows
	of    map[whose]*repeated
	swept time.Time
}

type whose struct{ issuer, subject string }

// repeated is one second of a subject's.
type repeated struct {
	since time.Time
	told  int
	more  int // refused without a record, until a record says so
}

// count counts a record that releases nothing, and says whether it is to be written.
func (r *repeats) count(who whose, now time.Time) (*repeated, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of[who]
	if c == nil {
		if len(r.of) >= maxRepeating && !r.sweep(now) {
			return nil, true
		}
		if r.of == nil {
			r.of = map[whose]*repeated{}
		}
		c = &repeated{since: now}
		r.of[who] = c
	}
	if c.over(now) {
		c.since, c.told = now, 0
	}
	if c.told >= maxRepeats {
		c.more++
		return c, false
	}
	c.told++
	return c, true
}

// takeMore returns how many were refused without a record since the last call.
func (r *repeats) takeMore(c *repeated) int {
	if c == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	more := c.more
	c.more = 0
	return more
}

func (c *repeated) over(now time.Time) bool {
	since := now.Sub(c.since)
	return since < 0 || since >= time.Second
}

// sweep makes room, once a second at most, and reports whether there is any.
func (r *repeats) sweep(now time.Time) bool {
	if since := now.Sub(r.swept); since >= 0 && since < time.Second {
		return false
	}
	r.swept = now
	for who, c := range r.of {
		if c.over(now) {
			delete(r.of, who)
		}
	}
	return len(r.of) < maxRepeating
}

// repeat says of a record that releases nothing whether it is one too many, and what
// the request is refused with then: what it was refused with anyway, or as one that
// comes too often. Into the record of a refusal goes how many had none before it. What
// is nobody's fault but ours always has its record: somebody will look for it.
func (b *Broker) repeat(record *Record, err error) (refused error, tooMany bool) {
	if record.Subject == "" || record.AccessKeyID != "" || ours(err) {
		return err, false
	}
	c, tell := b.repeats.count(whose{record.Issuer, record.Subject}, record.Time)
	if !tell {
		if err == nil {
			err = WithRetryAfter(fmt.Errorf("%w: the subject asks more than %d times a second", ErrRateLimited, maxRepeats), time.Second)
		}
		return err, true
	}
	if err != nil {
		if more := b.repeats.takeMore(c); more > 0 {
			record.Reason += fmt.Sprintf("; so were %d more requests of the subject, without a record of their own", more)
		}
	}
	return err, false
}

// ours reports whether a request was refused for what its caller could not help. Such a
// request has been counted by the limit of its subject before, or waits for something,
// and so is not one of many.
func ours(err error) bool {
	switch ClassOf(err) {
	case ErrInternal, ErrSTSRejected, ErrSTSUnavailable, ErrKeysUnavailable, ErrBusy:
		return true
	default:
		return false
	}
}
