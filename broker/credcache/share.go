package credcache

import (
	"container/list"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"credential-broker/policy"
)

// shares is into how many parts the room is divided where it is short. A tenant may
// fill all of it; but as soon as it is full, who holds more than one part gives way
// to who does not. With eight, it takes eight tenants that fill their parts before
// anybody's entry can be crowded out by others, and then it is the one that was
// used least recently; and never more than seven can be over, so that the fullest
// is found by a look at seven.
const shares = 8

// store holds the entries. Its methods are called with Cache.mu held.
type store struct {
	most    int                      // entries
	share   int                      // of a tenant, while there is no room
	entries *lru.Cache[key, *entry]  // :: key → entry, in the order of use
	tenants map[policy.Tenant]*shelf // :: tenant → its entries
	over    map[*shelf]struct{}      // those with more than their share
	owned   map[owner][]*entry       // :: subject → its entries
	evicted func()                   // told of each that goes for want of room
}

// shelf has the entries of one tenant, the one used last in front.
type shelf struct {
	list.List
	tenant policy.Tenant
}

func newStore(most int, evicted func()) (*store, error) {
	s := &store{
		most: most, share: max(1, most/shares), evicted: evicted,
		tenants: map[policy.Tenant]*shelf{}, over: map[*shelf]struct{}{}, owned: map[owner][]*entry{},
	}
	var err error
	// The library calls back on the goroutine that removes, which holds Cache.mu.
	if s.entries, err = lru.NewWithEvict(most, func(_ key, e *entry) { s.unlink(e) }); err != nil {
		return nil, fmt.Errorf("make room for credentials: %w", err)
	}
	return s, nil
}

// get returns the entry and marks it as used.
func (s *store) get(k key) (*entry, bool) {
	e, ok := s.entries.Get(k)
	if ok {
		e.shelf.MoveToFront(e.place)
	}
	return e, ok
}

// add puts the entry in the place of what its key holds, or of a victim where there
// is no room.
func (s *store) add(e *entry, now time.Time) {
	k := e.key()
	s.entries.Remove(k)
	if s.entries.Len() == s.most {
		s.entries.Remove(s.victim(k.scope.Tenant, now).key())
		s.evicted()
	}
	s.link(e)
	s.entries.Add(k, e)
}

// victim finds who has to go for a new entry of the tenant: the least recently used
// of all where it is past serving anyway; else the least recently used of the
// tenant that is furthest over its share, with the new entry counted; else, where
// nobody is over, the least recently used of all.
func (s *store) victim(tenant policy.Tenant, now time.Time) *entry {
	_, oldest, _ := s.entries.GetOldest()
	if !oldest.creds.Fresh(now) {
		return oldest
	}
	var fullest *shelf
	most := s.share
	if own, ok := s.tenants[tenant]; ok && own.Len()+1 > most {
		fullest, most = own, own.Len()+1
	}
	for other := range s.over {
		if other.Len() > most {
			fullest, most = other, other.Len()
		}
	}
	if fullest == nil {
		return oldest
	}
	return fullest.Back().Value.(*entry)
}

// forget removes all that is the subject's.
func (s *store) forget(who owner) {
	for len(s.owned[who]) > 0 {
		s.entries.Remove(s.owned[who][0].key())
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
	tenant := e.creds.Scope.Tenant
	if e.shelf = s.tenants[tenant]; e.shelf == nil {
		e.shelf = &shelf{tenant: tenant}
		s.tenants[tenant] = e.shelf
	}
	e.place = e.shelf.PushFront(e)
	if e.shelf.Len() > s.share {
		s.over[e.shelf] = struct{}{}
	}
	who := e.origin.owner()
	e.index = len(s.owned[who])
	s.owned[who] = append(s.owned[who], e)
}

func (s *store) unlink(e *entry) {
	e.shelf.Remove(e.place)
	if e.shelf.Len() <= s.share {
		delete(s.over, e.shelf)
	}
	if e.shelf.Len() == 0 {
		delete(s.tenants, e.shelf.tenant)
	}
	who := e.origin.owner()
	mine := s.owned[who]
	last := len(mine) - 1
	mine[e.index] = mine[last] // the order among them says nothing
	mine[e.index].index = e.index
	mine[last] = nil
	if s.owned[who] = mine[:last]; last == 0 {
		delete(s.owned, who)
	}
}
