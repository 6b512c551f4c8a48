package credcache

import (
	"container/list"
	"strconv"
	"strings"
	"time"

	"credential-broker/broker"
)

// key is everything that shapes an answer, and whose it is. It is compared field
// by field, so that no two callers can be taken for one; what a caller learns from
// the time that an answer takes is only whether its own was there.
type key struct {
	origin
	scope broker.Scope // tenant, grant, role, bucket, prefix, path, access, duration
}

// origin is what a key says beyond the scope. The token itself is not in it: it
// proved the identity, which is. The key that proved the token is, so that what was
// given for it cannot be found once that key is withdrawn.
type origin struct {
	revision, issuer, subject, client string

	audience             audience
	keyID, keyThumbprint string
	policy               string // digest
}

func keyOf(o broker.Order) key {
	id := o.Identity
	return key{
		origin: origin{
			revision: o.Revision, issuer: id.Issuer, subject: id.Subject, client: id.Client, audience: audienceOf(id.Audience),
			keyID: id.KeyID, keyThumbprint: id.KeyThumbprint, policy: o.Document.Digest(),
		},
		scope: o.Scope,
	}
}

// audience is a list, to be compared. Two are usual, an API and /userinfo, and stand as
// they are.
type audience struct {
	n             int
	first, second string
	others        string
}

func audienceOf(list []string) audience {
	a := audience{n: len(list)}
	if len(list) > 0 {
		a.first = list[0]
	}
	if len(list) > 1 {
		a.second = list[1]
	}
	if len(list) > 2 {
		a.others = joined(list[2:])
	}
	return a
}

// joined makes one text of a list. Each length is told, so that no two lists make
// the same.
func joined(list []string) string {
	size := 0
	for _, s := range list {
		size += len(s) + len("1234:")
	}
	var b strings.Builder
	b.Grow(size)
	for _, s := range list {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	return b.String()
}

// owner is whose an entry is.
type owner struct{ issuer, subject string }

func (o origin) owner() owner { return owner{o.issuer, o.subject} }

// entry is what is remembered: the credentials, and the latest end that a session
// may have under the order that they were made for.
type entry struct {
	origin   origin
	creds    broker.Credentials
	notAfter time.Time

	// What follows is guarded by Cache.mu.
	refreshAt time.Time // from here on, a hit has new ones fetched
	shelf     *shelf
	place     *list.Element // on the shelf
	index     int           // among the subject's
}

// key is the key that it is held under: the credentials were compared with the
// order, and their scope is the order's.
func (e *entry) key() key { return key{e.origin, e.creds.Scope} }

// entryBytes is what an entry costs beside its texts: the entry, its key twice, its
// places in the lists and the maps. Measured, see BenchmarkEntry.
const entryBytes = 1950

// size is about how many bytes the entry holds that nobody else does. It never changes.
func (e *entry) size() int64 {
	o := e.origin
	texts := len(o.subject) + len(o.client) + len(o.audience.first) + len(o.audience.second) + len(o.audience.others) + len(o.policy)
	return int64(entryBytes + texts + e.creds.TextBytes())
}

// answers reports whether the entry may be given for the order.
func (e *entry) answers(o broker.Order, now time.Time) bool {
	return e.creds.Fresh(now) && o.Allows(e.creds, e.notAfter)
}

// halfLife is when new credentials are looked for while the old ones serve: after
// half of their life, a tenth of that sooner or later (random is from 0 to 1), so
// that what began together, as after a start, is not renewed together. The latest
// is before the floor for every life: 0.55 of it, of 0.66. It is a time of the wall
// clock, as the end of a session is.
func halfLife(c broker.Credentials, random float64) time.Time {
	half := float64(c.Expiration.Sub(c.IssuedAt) / 2)
	return c.IssuedAt.Round(0).Add(time.Duration(half * (0.9 + 0.2*random)))
}
