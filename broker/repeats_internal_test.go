package broker

import (
	"fmt"
	"testing"
	"time"
)

// Who is counted is bounded; whoever finds no place has every record. Room is made of
// seconds that are over, and looked for once a second.
func TestWhoIsCountedIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	var r repeats
	for i := range maxRepeating {
		if c, tell := r.count(whose{"i", fmt.Sprint(i)}, now); c == nil || !tell {
			t.Fatalf("subject %d finds no place", i)
		}
	}
	late := whose{"i", "late"}
	for range 3 * maxRepeats {
		if c, tell := r.count(late, now.Add(time.Second/2)); c != nil || !tell {
			t.Fatal("there is a place, or no record")
		}
	}
	if r.takeMore(nil) != 0 {
		t.Error("nobody was refused without a record")
	}
	// All seconds are over, and it was looked for room a moment ago.
	if c, _ := r.count(late, now.Add(1200*time.Millisecond)); c != nil || len(r.of) != maxRepeating {
		t.Errorf("%d are counted; room was looked for twice in a second", len(r.of))
	}
	if c, _ := r.count(late, now.Add(1500*time.Millisecond)); c == nil || len(r.of) != 1 {
		t.Errorf("%d are counted", len(r.of))
	}
	// Where nobody's second is over there is no room.
	later := now.Add(10 * time.Second)
	for i := len(r.of); i < maxRepeating; i++ {
		r.count(whose{"j", fmt.Sprint(i)}, later)
	}
	r.count(late, later)
	if c, _ := r.count(whose{"i", "more"}, later.Add(time.Millisecond)); c != nil || len(r.of) != maxRepeating {
		t.Errorf("%d are counted, of %d", len(r.of), maxRepeating)
	}
}

// A clock that was set back silences nobody.
func TestACountOutlivesNoClock(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	var r repeats
	who := whose{"i", "s"}
	for range 2 * maxRepeats {
		r.count(who, now)
	}
	if _, tell := r.count(who, now); tell {
		t.Fatal("no bound")
	}
	if _, tell := r.count(who, now.Add(-time.Hour)); !tell {
		t.Error("silent until the clock has come back")
	}
	for i := range 2 * maxRepeating { // room is looked for, too
		r.count(whose{"k", fmt.Sprint(i)}, now)
	}
	if r.count(whose{"k", "back"}, now.Add(-2*time.Hour)); len(r.of) != 1 {
		t.Errorf("%d are counted after the clock was set back", len(r.of))
	}
}
