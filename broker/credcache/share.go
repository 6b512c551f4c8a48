package credcache

import (
	"fmt"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"credential-broker/policy"
)

// shares is into how many parts the room is divided where it is short. A tenant may
// fill all of it; but as soon as it is full, who holds more than one part gives way
// to who does not. With eight, it takes eight tenants that fill their parts before
// anybody's entry can be crowded out by others, and then it is the one that was
// used least recently; and never more than seven can be over in entries, and seven in
// bytes, so that the fullest is found by a look at fourteen.
const shares = 8

// store holds the entries. Its methods are called with Cache.mu held.
type store struct {
	most, share           int   // entries; of a tenant, while there is no room
	mostBytes, shareBytes int64 // the same in bytes
	bytes                 int64 // of all entries

	entries *simplelru.LRU[key, *entry] // :: key → entry, in the order of use
	tenants map[policy.Tenant]*shelf    // :: tenant → its entries
	over    map[*shelf]struct{}         // those with more than their share
	owned   map[owner]*entry            // :: subject → the first of its entries
	evicted func()                      // told of each that goes for want of room
}

// shelf has the entries of one tenant. They are linked through themselves, as those of
// a subject are, which have an end on both sides: a list of its own for each would
// double what an entry costs.
type shelf struct {
	newest, oldest *entry // by their last use
	entries        int
	tenant         policy.Tenant
	bytes          int64
}

// push puts an entry in front.
func (s *shelf) push(e *entry) {
	e.newer, e.older = nil, s.newest
	if s.newest != nil {
		s.newest.newer = e
	} else {
		s.oldest = e
	}
	s.newest = e
	s.entries++
}

// take takes an entry out.
func (s *shelf) take(e *entry) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		s.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		s.oldest = e.newer
	}
	e.newer, e.older = nil, nil
	s.entries--
}

func newStore(most int, mostBytes int64, evicted func()) (*store, error) {
	s := &store{
		most: most, share: max(1, most/shares), mostBytes: mostBytes, shareBytes: max(1, mostBytes/shares), evicted: evicted,
		tenants: map[policy.Tenant]*shelf{}, over: map[*shelf]struct{}{}, owned: map[owner]*entry{},
	}
	var err error
	// The library calls back on the goroutine that removes, which holds Cache.mu.
	if s.entries, err = simplelru.NewLRU(most, func(_ key, e *entry) { s.unlink(e) }); err != nil {
		return nil, fmt.Errorf("make room for credentials: %w", err)
	}
	return s, nil
}

// get returns the entry and marks it as used.
func (s *store) get(k key) (*entry, bool) {
	e, ok := s.entries.Get(k)
	if ok {
		e.shelf.take(e)
		e.shelf.push(e)
	}
	return e, ok
}

// add puts the entry in the place of what its key holds, or of victims where there is
// no room.
func (s *store) add(e *entry, now time.Time) {
	k := e.key()
	s.entries.Remove(k)
	for s.entries.Len() > 0 && (s.entries.Len() == s.most || s.bytes+e.size() > s.mostBytes) {
		s.entries.Remove(s.victim(e, now).key())
		s.evicted()
	}
	s.link(e)
	s.entries.Add(k, e)
}

// victim finds who has to go for a new entry: the least recently used of all where it
// is past serving anyway; else the least recently used of the tenant that is furthest
// over its share, with the new entry counted; else, where nobody is over, the least
// recently used of all.
func (s *store) victim(e *entry, now time.Time) *entry {
	_, oldest, _ := s.entries.GetOldest()
	if !oldest.creds.Fresh(now) {
		return oldest
	}
	var fullest *shelf
	most := 1.0
	if own, ok := s.tenants[e.creds.Tenant()]; ok {
		if n := s.parts(own.entries+1, own.bytes+e.size()); n > most {
			fullest, most = own, n
		}
	}
	for other := range s.over {
		if n := s.parts(other.entries, other.bytes); n > most {
			fullest, most = other, n
		}
	}
	if fullest == nil {
		return oldest
	}
	return fullest.oldest
}

// parts is how many shares so many entries and bytes are.
func (s *store) parts(entries int, bytes int64) float64 {
	return max(float64(entries)/float64(s.share), float64(bytes)/float64(s.shareBytes))
}

// sort keeps who is over its share.
func (s *store) sort(shelf *shelf) {
	if s.parts(shelf.entries, shelf.bytes) > 1 {
		s.over[shelf] = struct{}{}
	} else {
		delete(s.over, shelf)
	}
}

// forget removes all that is the subject's.
func (s *store) forget(who owner) {
	for e := s.owned[who]; e != nil; e = s.owned[who] {
		s.entries.Remove(e.key())
	}
}

// clear removes all: one by one, since the library's Purge copies every key.
func (s *store) clear() {
	for s.entries.Len() > 0 {
		s.entries.RemoveOldest()
	}
}

// link and unlink keep the orders beside that of entries.
func (s *store) link(e *entry) {
	tenant := e.creds.Tenant()
	if e.shelf = s.tenants[tenant]; e.shelf == nil {
		e.shelf = &shelf{tenant: tenant}
		s.tenants[tenant] = e.shelf
	}
	e.shelf.push(e)
	e.shelf.bytes += e.size()
	s.bytes += e.size()
	s.sort(e.shelf)
	if e.next = s.owned[e.owner]; e.next != nil {
		e.next.prev = e
	}
	s.owned[e.owner] = e // the order among them says nothing
}

func (s *store) unlink(e *entry) {
	e.shelf.take(e)
	e.shelf.bytes -= e.size()
	s.bytes -= e.size()
	s.sort(e.shelf)
	if e.shelf.entries == 0 {
		delete(s.tenants, e.shelf.tenant)
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	switch {
	case e.prev != nil:
		e.prev.next = e.next
	case e.next != nil:
		s.owned[e.owner] = e.next
	default:
		delete(s.owned, e.owner)
	}
	e.next, e.prev = nil, nil
}
