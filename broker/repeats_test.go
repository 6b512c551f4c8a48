package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
)

var shown = broker.NewSecret("canary-token")

// forgets counts.
type forgets int

func (f *forgets) Forget(string, string) { *f++ }

// One caller in a loop, who is known and gets nothing, does not fill the disk.
func TestALoopHasTenRecordsASecond(t *testing.T) {
	for name, ask := range map[string]func(*broker.Broker) error{
		"refused": func(b *broker.Broker) error {
			_, err := b.Exchange(t.Context(), broker.Request{Token: shown, Grant: "none"})
			return err
		},
		"grants": func(b *broker.Broker) error {
			_, err := b.Grants(t.Context(), broker.Request{Token: shown})
			return err
		},
		"forget":       func(b *broker.Broker) error { return b.Forget(t.Context(), broker.Request{Token: shown}) },
		"rate limited": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w, now, forgotten := newWorld(t), noon, forgets(0)
			w.cfg.Now, w.cfg.Forgetter = func() time.Time { return now }, &forgotten
			var first broker.Class
			switch name {
			case "refused":
				first = broker.ErrNoGrant
			case "rate limited":
				first = broker.ErrRateLimited
				w.answer = func(broker.Order) (broker.Credentials, error) { return broker.Credentials{}, broker.ErrRateLimited }
				ask = func(b *broker.Broker) error {
					_, err := b.Exchange(t.Context(), broker.Request{Token: shown})
					return err
				}
			}
			b := mustNew(t, w)
			for i := range 1000 {
				want := first
				if i >= 10 && first == "" {
					want = broker.ErrRateLimited // nothing is told without a record
				}
				err := ask(b)
				if broker.ClassOf(err) != want {
					t.Fatalf("request %d: %v, want %s", i, err, want)
				}
				if after, ok := broker.RetryAfter(err); first == "" && i >= 10 && (!ok || after != time.Second) {
					t.Fatalf("request %d: come again after %s", i, after)
				}
			}
			if n := strings.Count(w.records.String(), "\n"); n != 10 {
				t.Fatalf("%d records of a thousand requests", n)
			}
			if name == "forget" && forgotten != 1000 {
				t.Errorf("forgotten %d times: what ends access waits for nothing", forgotten)
			}
			now = now.Add(time.Second)
			_, err := b.Exchange(t.Context(), broker.Request{Token: shown, Grant: "none"})
			if r := w.lastRecord(t); broker.ClassOf(err) != broker.ErrNoGrant || !strings.HasSuffix(r.Reason, "; so were 990 more requests of the subject, without a record of their own") {
				t.Errorf("%v: %s", err, r.Reason)
			}
			_, _ = b.Exchange(t.Context(), broker.Request{Token: shown, Grant: "none"})
			if r := w.lastRecord(t); strings.Contains(r.Reason, "more requests") {
				t.Errorf("told twice: %s", r.Reason)
			}
		})
	}
}

// What went wrong here is always told, whoever is in a loop.
func TestOurOwnFailuresHaveTheirRecords(t *testing.T) {
	for _, class := range []broker.Class{broker.ErrInternal, broker.ErrSTSRejected, broker.ErrSTSUnavailable, broker.ErrKeysUnavailable, broker.ErrBusy} {
		w := newWorld(t)
		w.answer = func(broker.Order) (broker.Credentials, error) { return broker.Credentials{}, class }
		b := mustNew(t, w)
		for range 50 {
			_, _ = b.Exchange(t.Context(), broker.Request{Token: shown, Grant: "none"})
			if _, err := b.Exchange(t.Context(), broker.Request{Token: shown}); broker.ClassOf(err) != class {
				t.Fatal(err)
			}
		}
		if n := strings.Count(w.records.String(), `"code":"`+string(class)); n != 50 {
			t.Errorf("%d records of 50 refusals with %s", n, class)
		}
	}
}

// Each credential has its record, and so has whoever else asks meanwhile.
func TestALoopTakesNobodysRecord(t *testing.T) {
	w, now := newWorld(t), noon
	w.cfg.Now = func() time.Time { return now }
	b := mustNew(t, w)
	for range 100 {
		_, _ = b.Exchange(t.Context(), broker.Request{Token: shown, Grant: "none"})
	}
	before := strings.Count(w.records.String(), "\n")
	for range 50 {
		if _, err := b.Exchange(t.Context(), broker.Request{Token: shown}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(w.records.String(), "\n") - before; n != 50 {
		t.Errorf("%d records of 50 credentials", n)
	}
	w.identity.Subject = "auth0|bob"
	_, _ = b.Exchange(t.Context(), broker.Request{Token: shown, Grant: "none"})
	if r := w.lastRecord(t); r.Subject != "auth0|bob" {
		t.Errorf("the last record is %s's", r.Subject)
	}
	for i := range 20_000 { // more than are counted: each has a record then
		w.identity.Subject = fmt.Sprint("auth0|", i)
		w.records.Reset()
		if _, err := b.Grants(t.Context(), broker.Request{Token: shown}); err != nil || w.records.Len() == 0 {
			t.Fatalf("subject %d: %v", i, err)
		}
	}
	now = now.Add(time.Second) // and when the second is over, there is room again
	for range 100 {
		_, _ = b.Grants(t.Context(), broker.Request{Token: shown})
	}
	w.records.Reset()
	if _, err := b.Grants(t.Context(), broker.Request{Token: shown}); broker.ClassOf(err) != broker.ErrRateLimited || w.records.Len() != 0 {
		t.Errorf("%v, %q", err, &w.records)
	}
}

// Who is not known is counted by his address, and not here: each has his record.
func TestWhoIsNotKnownHasHisRecord(t *testing.T) {
	w := newWorld(t)
	b := mustNew(t, w)
	for range 100 {
		_, _ = b.Exchange(t.Context(), broker.Request{})
	}
	if n := strings.Count(w.records.String(), "\n"); n != 100 {
		t.Errorf("%d records of 100 requests without a token", n)
	}
}
