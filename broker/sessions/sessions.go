// Package sessions remembers what a log-out needs: whose sessions are, and which
// logout tokens have been shown. Both are bounded, and both outlive the
// configuration under which they were learnt.
package sessions

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"credential-broker/broker"
)

// maxEntries bounds each of the memories: as many sessions as the cache has
// credentials by default, and 300 log-outs a second for as long as a logout token
// is good. An entry has some 300 bytes, so full ones have 30 MB each.
const maxEntries = 100_000

// name is a session or a logout token of an issuer.
type name struct{ issuer, id string }

// Sessions knows whose sessions are. A session under which somebody asked more
// lately is remembered longer.
type Sessions struct{ subjects *lru.Cache[name, string] }

var _ broker.Sessions = (*Sessions)(nil)

// New returns a memory of no session.
func New() *Sessions {
	subjects, _ := lru.New[name, string](maxEntries) // fails of a size below one only
	return &Sessions{subjects}
}

// Learn implements broker.Sessions.
func (s *Sessions) Learn(issuer, session, subject string) {
	s.subjects.Add(name{issuer, session}, subject)
}

// Subject implements broker.Sessions.
func (s *Sessions) Subject(issuer, session string) (string, bool) {
	return s.subjects.Get(name{issuer, session})
}

// Replays knows which logout tokens have been shown. When there are more than it
// has room for, the one that was shown first is forgotten: shown again, it drops
// once more what is cached for whom it names, and that is all.
type Replays struct {
	now func() time.Time

	mu    sync.Mutex
	until *simplelru.LRU[name, time.Time] // when a token is refused for its age
}

var _ broker.Replays = (*Replays)(nil)

// NewReplays returns a memory of no token. A nil clock is time.Now.
func NewReplays(now func() time.Time) *Replays {
	if now == nil {
		now = time.Now
	}
	until, _ := simplelru.NewLRU[name, time.Time](maxEntries, nil) // fails of a size below one only
	return &Replays{now: now, until: until}
}

// Once implements broker.Replays.
func (r *Replays) Once(issuer, id string, until time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, _ := r.until.Peek(name{issuer, id}); r.now().Before(known) {
		return false
	}
	r.until.Add(name{issuer, id}, until)
	return true
}
