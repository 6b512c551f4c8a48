package localauth0

import (
	"errors"
	"strconv"
	"testing"
	"time"
)

// Inside the package: filling a shelf over HTTP would take a minute.
func TestShelfIsBoundedAndMakesRoomFromWhatExpired(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := shelf[int]{}
	for i := range maxEntries {
		if err := s.put(now, strconv.Itoa(i), i, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	var full *oauthError
	if err := s.put(now, "more", 1, now.Add(time.Minute)); !errors.As(err, &full) || full.code != "temporarily_unavailable" {
		t.Errorf("a full shelf: %v", err)
	}
	if err := s.put(now.Add(time.Minute), "later", 1, now.Add(time.Hour)); err != nil || len(s) != 1 {
		t.Errorf("after a minute: %v, %d entries", err, len(s))
	}
}
