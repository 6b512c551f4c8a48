package main

import (
	"sync"
	"time"
)

// quota is how many calls an STS takes a second, as many at once at most.
type quota struct {
	mu        sync.Mutex // guards what follows
	perSecond float64
	left      float64
	at        time.Time
}

func newQuota(perSecond int) *quota {
	return &quota{perSecond: float64(perSecond), left: float64(perSecond), at: time.Now()}
}

// take takes one, if there is one.
func (q *quota) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.left, q.at = min(q.perSecond, q.left+q.perSecond*now.Sub(q.at).Seconds()), now
	if q.left < 1 {
		return false
	}
	q.left--
	return true
}
