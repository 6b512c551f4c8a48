package credcache_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
)

func TestAnEvictionIsToldAndNothingElseIs(t *testing.T) {
	evicted := 0
	c := made(t, credcache.Config{Issuer: &issuer{}, Entries: 2, Evicted: func() { evicted++ }})
	for n := range 3 {
		mustIssue(t, c, order(t, fmt.Sprint(n), nil))
	}
	if evicted != 1 {
		t.Errorf("told of %d, want 1", evicted)
	}
	c.Forget("https://i/", "2")
	c.Close()
	if evicted != 1 {
		t.Error("what was forgotten is told as evicted")
	}
}

func TestARepeatedRefusalIsTold(t *testing.T) {
	repeated := 0
	i := &issuer{before: func(context.Context, broker.Order) error { return broker.ErrSTSRejected }}
	c := made(t, credcache.Config{Issuer: i, Repeated: func() { repeated++ }})
	for range 3 {
		if _, err := c.Issue(t.Context(), order(t, "s", token("t"))); err == nil {
			t.Fatal("not refused")
		}
	}
	if got := i.calls.Load(); got != 1 || repeated != 2 {
		t.Errorf("asked %d times, told of %d repetitions", got, repeated)
	}
}

func TestTheStatsAreWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		i := &issuer{before: func(_ context.Context, o broker.Order) error {
			switch o.Identity.Subject {
			case "refused":
				return broker.ErrSTSRejected
			case "waits":
				<-block
			}
			return nil
		}}
		c := made(t, credcache.Config{Issuer: i, Entries: 7})
		mustIssue(t, c, order(t, "held", nil))
		_, _ = c.Issue(t.Context(), order(t, "refused", nil))
		go func() { _, _ = c.Issue(t.Context(), order(t, "waits", nil)) }()
		synctest.Wait()
		if got, want := c.Stats(), (credcache.Stats{Entries: 1, Room: 7, Refusals: 1, Calls: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		close(block)
		i.before = func(context.Context, broker.Order) error { <-time.After(time.Second); return nil }
		<-time.After(35 * time.Minute) // past half of its life
		mustIssue(t, c, order(t, "held", nil))
		if got, want := c.Stats(), (credcache.Stats{Entries: 2, Room: 7, Refusals: 1, Calls: 1, Refreshes: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}
