package credcache

import (
	"context"
	"testing"
	"time"

	"credential-broker/broker"
)

// The index of subjects holds no more than the entries do.
func TestTheIndexShrinksWithTheEntries(t *testing.T) {
	c, err := New(Config{Issuer: never{}, Entries: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"a", "b", "c", "d"} {
		k := key{subject: subject}
		c.entries.Add(k, entry{})
		c.own(k)
	}
	if len(c.owned) != 2 {
		t.Errorf("%d subjects for 2 entries", len(c.owned))
	}
}

type never struct{}

func (never) Issue(context.Context, broker.Order) (broker.Credentials, error) {
	panic("not to be asked")
}

// Only a fault of the cache itself can put another's credentials under a key,
// so this case reaches inside.
func TestCredentialsOfAnotherScopeAreRefusedOnTheWayOut(t *testing.T) {
	c, err := New(Config{Issuer: never{}, Entries: 1})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	order := broker.Order{SessionName: "cb-alice", NotAfter: now.Add(time.Hour)}
	c.entries.Add(keyOf(order), entry{
		creds:    broker.Credentials{SessionName: "cb-bob", IssuedAt: now, Expiration: now.Add(time.Hour)},
		notAfter: now,
	})
	if got, err := c.Issue(t.Context(), order); broker.ClassOf(err) != broker.ErrInternal || got.SessionName != "" {
		t.Errorf("got %q, %v", got.SessionName, err)
	}
}
