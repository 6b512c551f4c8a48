package sessions_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"credential-broker/broker/sessions"
)

func TestASessionIsOfItsIssuerAndItsLastSubject(t *testing.T) {
	s := sessions.New()
	s.Learn("a", "bc", "alice")
	s.Learn("ab", "c", "bob")
	s.Learn("a", "d", "carol")
	s.Learn("a", "d", "dave")
	for who, want := range map[[2]string]string{{"a", "bc"}: "alice", {"ab", "c"}: "bob", {"a", "d"}: "dave", {"a", "c"}: "", {"", ""}: ""} {
		if got, known := s.Subject(who[0], who[1]); got != want || known != (want != "") {
			t.Errorf("%q: %q, %t", who, got, known)
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s := sessions.New()
	s.Learn("i", "early", "alice")
	s.Learn("i", "busy", "bob")
	for n := range 100_000 {
		s.Learn("i", fmt.Sprint(n), "x")
		if n == 50_000 {
			s.Learn("i", "busy", "bob")
		}
	}
	if _, known := s.Subject("i", "early"); known {
		t.Error("there is no bound")
	}
	if _, known := s.Subject("i", "busy"); !known {
		t.Error("a session that goes on asking is forgotten")
	}
	if _, known := s.Subject("i", "99999"); !known {
		t.Error("the last session is forgotten")
	}
}

func TestATokenIsTakenOnce(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	r := sessions.NewReplays(func() time.Time { return now })
	end := now.Add(time.Minute)
	if !r.Once("a", "bc", end) || !r.Once("ab", "c", end) {
		t.Error("a first time is refused")
	}
	for _, step := range []struct {
		pass  time.Duration
		first bool
	}{{0, false}, {time.Minute - 1, false}, {1, true}, {0, true}} { // the end is the token's, which is refused from there on
		now = now.Add(step.pass)
		if first := r.Once("a", "bc", end); first != step.first {
			t.Errorf("%s before the end: %t", end.Sub(now), first)
		}
	}
}

func TestReplaysAreBounded(t *testing.T) {
	r, end := sessions.NewReplays(nil), time.Now().Add(time.Hour)
	for n := range 100_001 {
		r.Once("i", fmt.Sprint(n), end)
	}
	if r.Once("i", "100000", end) || r.Once("i", "1", end) {
		t.Error("one for which there is room is forgotten")
	}
	if !r.Once("i", "0", end) {
		t.Error("there is no bound")
	}
}

func TestOfManyAtOnceOneIsTheFirst(t *testing.T) {
	r, end := sessions.NewReplays(nil), time.Now().Add(time.Hour)
	var firsts atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if r.Once("i", "1", end) {
				firsts.Add(1)
			}
		})
	}
	wg.Wait()
	if firsts.Load() != 1 {
		t.Errorf("%d", firsts.Load())
	}
}
