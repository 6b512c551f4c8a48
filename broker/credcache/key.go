package credcache

import (
	"time"

	"credential-broker/broker"
)

// key is everything that shapes an answer, and whose it is, as one SHA-256: no two
// callers can be taken for one. What a caller learns from the time that an answer
// takes is only whether its own was there.
type key = broker.Fingerprint

// owner is whose an entry is.
type owner struct{ issuer, subject string }

func ownerOf(o broker.Order) owner { return owner{o.Identity.Issuer, o.Identity.Subject} }

// entry is what is remembered: the credentials, and whose they are.
type entry struct {
	creds broker.Kept
	owner owner

	// What follows is guarded by Cache.mu.
	refreshAt    int64 // nanoseconds since 1970: from here on, a hit has new ones fetched
	shelf        *shelf
	newer, older *entry // on the shelf
	next, prev   *entry // of the subject's
}

// newEntry remembers what an order was answered with.
func newEntry(creds broker.Credentials, order broker.Order) (*entry, error) {
	kept, err := creds.Keep(order)
	if err != nil {
		return nil, err
	}
	return &entry{creds: kept, owner: ownerOf(order)}, nil
}

// key is the key that it is held under.
func (e *entry) key() key { return e.creds.Fingerprint() }

// entryBytes is what an entry costs beside its texts: the entry, the decision that it
// answers, and its places in the list and the maps. Measured, see BenchmarkEntry.
const entryBytes = 600

// size is about how many bytes the entry holds that nobody else does. It never changes.
func (e *entry) size() int64 {
	return int64(entryBytes + len(e.owner.subject) + e.creds.TextBytes())
}

// answers reports whether the entry may be given for the order.
func (e *entry) answers(o broker.Order, now time.Time) bool {
	return e.creds.Fresh(now) && o.Allows(e.creds.Expiration(), e.creds.NotAfter())
}

// refreshes reports whether it is time for new ones.
func (e *entry) refreshes(now time.Time) bool { return !now.Before(time.Unix(0, e.refreshAt)) }

// waits puts that off to a later time, or leaves it.
func (e *entry) waits(until time.Time) { e.refreshAt = max(e.refreshAt, until.UnixNano()) }

// halfLife is when new credentials are looked for while the old ones serve: after
// half of their life, a tenth of that sooner or later (random is from 0 to 1), so
// that what began together, as after a start, is not renewed together. The latest
// is before the floor for every life: 0.55 of it, of 0.66. It is a time of the wall
// clock, as the end of a session is.
func halfLife(k *broker.Kept, random float64) time.Time {
	half := float64(k.Expiration().Sub(k.IssuedAt()) / 2)
	return k.IssuedAt().Add(time.Duration(half * (0.9 + 0.2*random)))
}
