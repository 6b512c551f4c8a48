package credcache

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"credential-broker/broker"
)

const (
	// refusalTime is for how long a refusal of STS is given again without asking.
	// A page that tries at once, and again, costs one call; who has put the role
	// right sees it work in a moment.
	refusalTime = 5 * time.Second
	// mostRefusals is more than STS can give in that time: 32 calls at once, the
	// default, of 50 ms each make 3,200. One costs about 0.8 kB.
	mostRefusals = 4096
	// refusalText is how much of a reason is kept. STS's own words have about 150
	// bytes; what it could send has a megabyte.
	refusalText = 512
)

// refuses reports whether err is a refusal that stands until somebody changes a
// token or a configuration. What may pass by itself is none.
func refuses(err error) bool {
	switch broker.ClassOf(err) {
	case broker.ErrSTSRejected, broker.ErrExpiredToken, broker.ErrInvalidToken:
		return true
	default:
		return false
	}
}

// refusals remembers them. Its methods are called with Cache.mu held.
type refusals struct {
	known *simplelru.LRU[refused, refusal]
	owned map[owner]map[refused]struct{} // :: subject → its keys in known
}

// refused is what was refused: an order, and the very token that came with it.
type refused struct {
	key   key
	token broker.Digest
}

type refusal struct {
	owner owner
	class broker.Class
	text  string
	at    time.Time
}

// remembered is a refusal that is given again, of the same class.
type remembered struct{ refusal }

func (r remembered) Error() string { return r.text + " (remembered)" }
func (r remembered) Unwrap() error { return r.class }

func newRefusals() (*refusals, error) {
	r := &refusals{owned: map[owner]map[refused]struct{}{}}
	var err error
	if r.known, err = simplelru.NewLRU(mostRefusals, r.disown); err != nil {
		return nil, fmt.Errorf("make room for refusals: %w", err)
	}
	return r, nil
}

// find returns the refusal that stands for the order, or nil.
func (r *refusals) find(k key, token broker.Secret, now time.Time) error {
	if r.known.Len() == 0 { // so nearly always, and then the token need not be hashed
		return nil
	}
	what := refused{k, token.Digest()}
	found, ok := r.known.Get(what)
	if !ok {
		return nil
	}
	if age := now.Sub(found.at); age < 0 || age >= refusalTime { // below zero: the clock was put back
		r.known.Remove(what)
		return nil
	}
	return remembered{found}
}

func (r *refusals) add(k key, who owner, token broker.Secret, err error, now time.Time) {
	what := refused{k, token.Digest()}
	text := err.Error() // and not err: it may hold the whole answer
	text = strings.ToValidUTF8(text[:min(len(text), refusalText)], "")
	r.known.Add(what, refusal{owner: who, class: broker.ClassOf(err), text: text, at: now})
	if r.owned[who] == nil {
		r.owned[who] = map[refused]struct{}{}
	}
	r.owned[who][what] = struct{}{}
}

// forget removes all that is the subject's.
func (r *refusals) forget(who owner) {
	for what := range r.owned[who] {
		r.known.Remove(what)
	}
}

func (r *refusals) clear() {
	for r.known.Len() > 0 {
		r.known.RemoveOldest()
	}
}

func (r *refusals) disown(what refused, of refusal) {
	who := of.owner
	delete(r.owned[who], what)
	if len(r.owned[who]) == 0 {
		delete(r.owned, who)
	}
}
