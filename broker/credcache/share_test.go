package credcache

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/policy"
)

var epoch = time.Unix(1_800_000_000, 0)

func tenant(t testing.TB, name string) policy.Tenant {
	t.Helper()
	parsed, err := policy.ParseTenant(name)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// held is an entry of a tenant's subject that serves until end less a third.
func held(t testing.TB, tenant policy.Tenant, subject string, end time.Time) *entry {
	t.Helper()
	return heldOf(t, tenant, subject, end, broker.Secret{})
}

func heldOf(t testing.TB, tenant policy.Tenant, subject string, end time.Time, session broker.Secret) *entry {
	t.Helper()
	scope := broker.Scope{Tenant: tenant}
	return newHeld(t, broker.Credentials{Scope: scope, SessionToken: session, IssuedAt: end.Add(-time.Hour), Expiration: end},
		broker.Order{Identity: broker.Identity{Subject: subject}, Scope: scope, NotAfter: end})
}

func newTestStore(t testing.TB, most int) *store {
	t.Helper()
	s, err := newStore(most, math.MaxInt64, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// CC20
func TestOneTenantsManyUsersDoNotCrowdOutAnothers(t *testing.T) {
	many, other, third := tenant(t, "many"), tenant(t, "other"), tenant(t, "third")
	s := newTestStore(t, 1000)
	end := epoch.Add(time.Hour)
	quiet, hot := held(t, other, "quiet", end), held(t, other, "hot", end)
	s.add(quiet, epoch)
	s.add(hot, epoch)
	for n := range 100_000 {
		s.add(held(t, many, fmt.Sprint(n), end), epoch)
		if n%100 == 0 {
			if _, ok := s.get(hot.key()); !ok {
				t.Fatalf("the hot entry is gone after %d others", n)
			}
		}
	}
	if _, ok := s.get(quiet.key()); !ok {
		t.Error("the quiet one is gone")
	}
	if n := s.tenants[many].entries; n != 998 {
		t.Errorf("%d of 1000 entries for the only tenant that needs them, want 998", n)
	}
	for n := range 700 { // another comes, and is given room until both have as much
		s.add(held(t, third, fmt.Sprint(n), end), epoch)
	}
	if a, b := s.tenants[many].entries, s.tenants[third].entries; a != 499 || b != 499 || s.tenants[other].entries != 2 {
		t.Errorf("%d and %d and %d entries", a, b, s.tenants[other].entries)
	}
	if _, ok := s.get(held(t, third, "699", end).key()); !ok {
		t.Error("the last one that came is gone")
	}
	if _, ok := s.get(held(t, third, "200", end).key()); ok {
		t.Error("a tenant's own oldest one is not the one that went")
	}
}

// CC20: room is short in bytes as it is in entries: a tenant whose sessions are large
// takes no more of it than its share, once another needs it.
func TestLargeSessionsDoNotCrowdOutOthers(t *testing.T) {
	large, other := tenant(t, "large"), tenant(t, "other")
	end := epoch.Add(time.Hour)
	small := held(t, other, "0", end)
	const room = 100
	s, err := newStore(1_000_000, room*small.size(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	big := func(n int) *entry {
		return heldOf(t, large, fmt.Sprint(n), end, broker.NewSecret(strings.Repeat("t", int(small.size()))))
	}
	for n := range 10 {
		s.add(held(t, other, fmt.Sprint(n), end), epoch)
	}
	for n := range 1000 {
		s.add(big(n), epoch)
		if s.bytes > s.mostBytes {
			t.Fatalf("%d bytes in the room of %d", s.bytes, s.mostBytes)
		}
	}
	if s.tenants[other].entries != 10 || s.tenants[large].entries != 45-1 && s.tenants[large].entries != 45 {
		t.Errorf("%d small ones, %d large ones", s.tenants[other].entries, s.tenants[large].entries)
	}
	for n := 10; n < 50; n++ { // two large ones go, or one, for each two that come
		s.add(held(t, other, fmt.Sprint(n), end), epoch)
	}
	if s.tenants[other].entries != 50 || s.bytes > s.mostBytes {
		t.Errorf("%d small ones, %d large ones", s.tenants[other].entries, s.tenants[large].entries)
	}
	// Larger than the room: it is kept alone, and goes first.
	whole := heldOf(t, large, "whole", end, broker.NewSecret(strings.Repeat("t", int(200*small.size()))))
	s.add(whole, epoch)
	if s.entries.Len() != 1 {
		t.Errorf("%d entries beside one that fills the room", s.entries.Len()-1)
	}
	s.add(small, epoch)
	if _, ok := s.get(small.key()); !ok || s.entries.Len() != 1 || s.bytes != small.size() {
		t.Errorf("%d entries, %d bytes", s.entries.Len(), s.bytes)
	}
}

// Who is within its share pays for a new entry with the oldest of all, whosever it
// is, and not with its own.
func TestWhereNobodyIsOverTheOldestOfAllGoes(t *testing.T) {
	s := newTestStore(t, 16) // a share is two
	end := epoch.Add(time.Hour)
	add := func(of int, subject string) *entry {
		e := held(t, tenant(t, fmt.Sprint("t", of)), subject, end)
		s.add(e, epoch)
		return e
	}
	for of := range 8 {
		add(of, "first")
		add(of, "second")
	}
	first := add(8, "first")
	add(8, "second")
	if _, ok := s.get(first.key()); !ok || s.entries.Len() != 16 {
		t.Error("its own went")
	}
	if n := len(s.tenants); n != 8 || s.tenants[tenant(t, "t0")] != nil {
		t.Errorf("%d tenants", n)
	}
}

// What nobody can be given any more goes before anything that somebody can.
func TestWhatIsPastServingGoesFirst(t *testing.T) {
	full, other := tenant(t, "full"), tenant(t, "other")
	for _, tc := range []struct {
		left time.Duration // of the other tenant's, of whose hour twenty minutes are the floor
		want int
	}{{20 * time.Minute, 1}, {20*time.Minute - time.Second, 0}} {
		s := newTestStore(t, 16)
		s.add(held(t, other, "a", epoch.Add(tc.left)), epoch.Add(-time.Hour))
		for n := range 16 {
			s.add(held(t, full, fmt.Sprint(n), epoch.Add(time.Hour)), epoch)
		}
		if _, ok := s.tenants[other]; ok != (tc.want == 1) || s.tenants[full].entries != 16-tc.want {
			t.Errorf("with %s left: %d entries of the full tenant", tc.left, s.tenants[full].entries)
		}
	}
}

// shelfModel is the store as it is to be, told by its rules and not by its means.
type shelfModel struct {
	most, share int
	used        []*entry // the one used last at the end
}

func (m *shelfModel) count(t policy.Tenant) (n int) {
	for _, e := range m.used {
		if e.creds.Tenant() == t {
			n++
		}
	}
	return n
}

// victims are those who may go for a new entry: more than one only where two
// tenants are equally far over their share.
func (m *shelfModel) victims(of policy.Tenant, now time.Time) []*entry {
	if !m.used[0].creds.Fresh(now) {
		return m.used[:1]
	}
	size := func(t policy.Tenant) int {
		if t == of {
			return m.count(t) + 1
		}
		return m.count(t)
	}
	var found []*entry
	largest := m.share
	seen := map[policy.Tenant]bool{}
	for _, e := range m.used {
		t := e.creds.Tenant()
		if seen[t] {
			continue
		}
		seen[t] = true // e is its least recently used
		switch n := size(t); {
		case n > largest:
			found, largest = []*entry{e}, n
		case n == largest && n > m.share:
			found = append(found, e)
		}
	}
	if found == nil {
		return m.used[:1]
	}
	return found
}

func (m *shelfModel) drop(e *entry) {
	m.used = slices.DeleteFunc(m.used, func(o *entry) bool { return o == e })
}

// CC20: whatever is added, used and forgotten, who has to go is who the rules say,
// there is never more than there is room for, and no index holds what is gone.
func TestWhoHasToGo(t *testing.T) {
	tenants := []policy.Tenant{tenant(t, "a"), tenant(t, "b"), tenant(t, "c")}
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 20).Draw(rt, "most")
		s := newTestStore(t, most)
		m := &shelfModel{most: most, share: max(1, most/8)}
		now := epoch
		pick := func(rt *rapid.T) (policy.Tenant, string) {
			// The first tenant asks most.
			which := max(0, rapid.IntRange(-3, 2).Draw(rt, "tenant"))
			return tenants[which], fmt.Sprint(rapid.IntRange(0, 12).Draw(rt, "subject"))
		}
		find := func(k key) *entry {
			for _, e := range m.used {
				if e.key() == k {
					return e
				}
			}
			return nil
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				of, subject := pick(rt)
				e := held(t, of, subject, now.Add(time.Hour))
				if old := find(e.key()); old != nil {
					m.drop(old)
				}
				var may []*entry
				if len(m.used) == most {
					may = m.victims(of, now)
				}
				s.add(e, now)
				gone := 0
				for _, old := range slices.Clone(m.used) {
					if s.entries.Contains(old.key()) {
						continue
					}
					gone++
					if !slices.Contains(may, old) {
						rt.Fatalf("%s of %s went for %s of %s", old.owner.subject, old.creds.Tenant(), subject, of)
					}
					m.drop(old)
				}
				if gone != min(1, len(may)) {
					rt.Fatalf("%d entries went", gone)
				}
				m.used = append(m.used, e)
			},
			"get": func(rt *rapid.T) {
				of, subject := pick(rt)
				want := find(held(t, of, subject, now).key())
				got, ok := s.get(held(t, of, subject, now).key())
				if got != want || ok != (want != nil) {
					rt.Fatalf("got %v", ok)
				}
				if ok {
					m.drop(want)
					m.used = append(m.used, want)
				}
			},
			"forget": func(rt *rapid.T) {
				_, subject := pick(rt)
				s.forget(owner{"", subject})
				m.used = slices.DeleteFunc(m.used, func(e *entry) bool { return e.owner.subject == subject })
			},
			"wait": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "minutes")) * time.Minute)
			},
			"clear": func(rt *rapid.T) {
				if rapid.IntRange(0, 20).Draw(rt, "really") == 0 {
					s.clear()
					m.used = nil
				}
			},
			"": func(rt *rapid.T) { checkStore(rt, s, m) },
		})
	})
}

func checkStore(rt *rapid.T, s *store, m *shelfModel) {
	if n := s.entries.Len(); n != len(m.used) || n > m.most {
		rt.Fatalf("%d entries, want %d", n, len(m.used))
	}
	onShelves, over := 0, 0
	var bytes int64
	for _, e := range m.used {
		bytes += e.size()
	}
	if bytes != s.bytes {
		rt.Fatalf("counted as %d bytes, want %d", s.bytes, bytes)
	}
	for tenant, shelf := range s.tenants {
		n := shelf.entries
		if n == 0 || n != m.count(tenant) || shelf.tenant != tenant {
			rt.Fatalf("%d entries for tenant %s", n, tenant)
		}
		if _, ok := s.over[shelf]; ok != (n > m.share) {
			rt.Fatalf("tenant %s with %d entries is over its share: %t", tenant, n, ok)
		}
		if n > m.share {
			over++
		}
		onShelves += n
	}
	if onShelves != len(m.used) || over != len(s.over) || over > shares-1 {
		rt.Fatalf("%d on shelves, %d over", onShelves, len(s.over))
	}
	owned := 0
	for who, first := range s.owned {
		if first == nil || first.prev != nil {
			rt.Fatalf("no beginning for %v", who)
		}
		for e := first; e != nil; e = e.next {
			if e.owner != who || e.next != nil && e.next.prev != e || !s.entries.Contains(e.key()) {
				rt.Fatalf("the chain of %v", who)
			}
			owned++
		}
	}
	for _, shelf := range s.tenants {
		n := 0
		for e := shelf.newest; e != nil; e = e.older {
			if e.shelf != shelf || e.older == nil && shelf.oldest != e || e.older != nil && e.older.newer != e {
				rt.Fatalf("the chain of %s", shelf.tenant)
			}
			n++
		}
		if n != shelf.entries || shelf.newest.newer != nil {
			rt.Fatalf("%d on the shelf of %s, counted as %d", n, shelf.tenant, shelf.entries)
		}
	}
	if owned != len(m.used) {
		rt.Fatalf("%d owned", owned)
	}
}

func ofSubject(name string) broker.Order {
	return broker.Order{Identity: broker.Identity{Subject: name}}
}

// The memory of refusals is bounded, and its index with it.
func TestRefusalsAreBounded(t *testing.T) {
	r, err := newRefusals()
	if err != nil {
		t.Fatal(err)
	}
	var long [1 << 20]byte
	for n := range mostRefusals + 100 {
		o := ofSubject(fmt.Sprint(n))
		text := "AccessDenied"
		if n == mostRefusals {
			text = string(long[:])
		}
		r.add(o.Fingerprint(), ownerOf(o), broker.NewSecret("t"), fmt.Errorf("%w: %s", broker.ErrSTSRejected, text), epoch)
		r.add(o.Fingerprint(), ownerOf(o), broker.NewSecret("t"), fmt.Errorf("%w: %s", broker.ErrSTSRejected, text), epoch) // again: as one
	}
	if n := r.known.Len(); n != mostRefusals || len(r.owned) != mostRefusals {
		t.Errorf("%d refusals of %d subjects", n, len(r.owned))
	}
	for n, want := range map[int]bool{0: false, 99: false, 100: true, mostRefusals + 99: true} {
		err := r.find(ofSubject(fmt.Sprint(n)).Fingerprint(), broker.NewSecret("t"), epoch)
		if (err != nil) != want {
			t.Errorf("number %d: %v", n, err)
		}
	}
	if err := r.find(ofSubject(fmt.Sprint(mostRefusals)).Fingerprint(), broker.NewSecret("t"), epoch); len(err.Error()) > 600 {
		t.Errorf("a text of %d bytes is kept", len(err.Error()))
	}
	r.find(ofSubject("500").Fingerprint(), broker.NewSecret("t"), epoch.Add(refusalTime))
	if len(r.owned) != mostRefusals-1 {
		t.Errorf("%d subjects after one refusal has passed", len(r.owned))
	}
	r.clear()
	if r.known.Len() != 0 || len(r.owned) != 0 {
		t.Error("not empty")
	}
}
