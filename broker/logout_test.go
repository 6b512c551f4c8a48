package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
)

// heard is what hears of log-outs: it says what a test has it say.
type heard struct {
	out      broker.Logout
	refuse   error
	sessions map[string]string // :: issuer, a space, session → subject
	shown    map[string]bool
	until    time.Time
}

func (h *heard) VerifyLogout(context.Context, broker.Secret) (broker.Logout, error) {
	return h.out, h.refuse
}

func (h *heard) Learn(issuer, session, subject string) { h.sessions[issuer+" "+session] = subject }

func (h *heard) Subject(issuer, session string) (string, bool) {
	s, ok := h.sessions[issuer+" "+session]
	return s, ok
}

func (h *heard) Once(issuer, id string, until time.Time) bool {
	first := !h.shown[issuer+" "+id]
	h.shown[issuer+" "+id], h.until = true, until
	return first
}

func listening(w *world) (*heard, *forgetter) {
	h, f := &heard{sessions: map[string]string{}, shown: map[string]bool{}}, &forgetter{}
	w.cfg.Forgetter, w.cfg.Logouts = f, broker.Logouts{Verifier: h, Sessions: h, Replays: h}
	return h, f
}

const acme = "https://acme.eu.auth0.com/"

func TestALogOutDropsWhatIsRememberedOfItsSubject(t *testing.T) {
	for name, tc := range map[string]struct {
		out  broker.Logout
		want []string
	}{
		"by subject":                        {broker.Logout{Issuer: acme, Subject: "auth0|bob", ID: "1"}, []string{acme + " auth0|bob"}},
		"by session":                        {broker.Logout{Issuer: acme, Session: "s1", ID: "1"}, []string{acme + " auth0|alice"}},
		"by both: the subject":              {broker.Logout{Issuer: acme, Subject: "auth0|bob", Session: "s1", ID: "1"}, []string{acme + " auth0|bob"}},
		"of a session of nobody":            {broker.Logout{Issuer: acme, Session: "s2", ID: "1"}, nil},
		"of another issuer's session":       {broker.Logout{Issuer: "https://globex.example/", Session: "s1", ID: "1"}, nil},
		"of a subject that was never there": {broker.Logout{Issuer: acme, Subject: "x", ID: "1"}, []string{acme + " x"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h, f := listening(w)
			w.identity.Claims["sid"] = "s1"
			if _, err := w.exchange(t, broker.Request{}); err != nil {
				t.Fatal(err)
			}
			h.out = tc.out
			h.out.Until = noon.Add(time.Minute)
			b := mustNew(t, w)
			if err := b.Logout(t.Context(), broker.Request{Token: broker.NewSecret("t")}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, f.got); diff != "" {
				t.Error(diff)
			}
			if !h.until.Equal(noon.Add(time.Minute)) {
				t.Errorf("remembered until %s", h.until)
			}
			// The same token again, and another of the same issuer.
			err := b.Logout(t.Context(), broker.Request{Token: broker.NewSecret("t")})
			if broker.ClassOf(err) != broker.ErrInvalidToken || !strings.Contains(err.Error(), "shown before") || len(f.got) != len(tc.want) {
				t.Errorf("again: %v, %v", err, f.got)
			}
			h.out.ID = "2"
			if err := b.Logout(t.Context(), broker.Request{Token: broker.NewSecret("t")}); err != nil || len(f.got) != 2*len(tc.want) {
				t.Errorf("another: %v, %v", err, f.got)
			}
		})
	}
}

func TestALogOutThatIsNotProvedDropsNothing(t *testing.T) {
	w := newWorld(t)
	h, f := listening(w)
	h.out, h.refuse = broker.Logout{Issuer: acme, Subject: "auth0|alice", ID: "1"}, fmt.Errorf("%w: broken", broker.ErrInvalidToken)
	b := mustNew(t, w)
	if err := b.Logout(t.Context(), broker.Request{Token: broker.NewSecret("t")}); err == nil || len(f.got)+len(h.shown) != 0 {
		t.Errorf("%v, %v", err, f.got)
	}
	h.refuse = nil
	if err := b.Logout(t.Context(), broker.Request{}); broker.ClassOf(err) != broker.ErrMissingToken || len(f.got) != 0 {
		t.Errorf("without a token: %v, %v", err, f.got)
	}
	w.cfg.Logouts = broker.Logouts{}
	if err := mustNew(t, w).Logout(t.Context(), broker.Request{Token: broker.NewSecret("t")}); broker.ClassOf(err) != broker.ErrInvalidRequest || len(f.got) != 0 {
		t.Errorf("unheard: %v, %v", err, f.got)
	}
}

func TestOnlyASessionWithANameIsLearnt(t *testing.T) {
	for name, tc := range map[string]struct {
		sid    any
		learnt bool
	}{
		"a name": {"s", true}, "a long name": {strings.Repeat("s", 255), true}, "too long a name": {strings.Repeat("s", 256), false},
		"nothing": {nil, false}, "empty": {"", false}, "a number": {7, false}, "a list": {[]any{"s"}, false},
	} {
		w := newWorld(t)
		h, _ := listening(w)
		w.identity.Claims["sid"] = tc.sid
		if _, err := w.exchange(t, broker.Request{}); err != nil || len(h.sessions) == 1 != tc.learnt {
			t.Errorf("%s: %v, %v", name, err, h.sessions)
		}
	}
	w := newWorld(t) // who is refused has nothing cached
	h, _ := listening(w)
	w.identity.Claims["sid"] = "s"
	if _, err := w.exchange(t, broker.Request{Grant: "other"}); err == nil || len(h.sessions) != 0 {
		t.Errorf("%v, %v", err, h.sessions)
	}
	w = newWorld(t) // and where log-outs are not heard, nobody asks
	w.identity.Claims["sid"] = "s"
	if _, err := w.exchange(t, broker.Request{}); err != nil {
		t.Error(err)
	}
	w = newWorld(t) // nor need there be anything to forget
	h, _ = listening(w)
	w.cfg.Forgetter, h.out = nil, broker.Logout{Issuer: acme, Subject: "s", ID: "1"}
	if err := mustNew(t, w).Logout(t.Context(), broker.Request{Token: broker.NewSecret("t")}); err != nil {
		t.Error(err)
	}
}

func TestLogOutsAreHeardAsAWholeOrNotAtAll(t *testing.T) {
	for name, change := range map[string]func(*broker.Logouts){
		"no verifier": func(l *broker.Logouts) { l.Verifier = nil },
		"no sessions": func(l *broker.Logouts) { l.Sessions = nil },
		"no replays":  func(l *broker.Logouts) { l.Replays = nil },
	} {
		w := newWorld(t)
		listening(w)
		change(&w.cfg.Logouts)
		if _, err := broker.New(w.cfg); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}
