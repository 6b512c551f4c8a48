package idtoken_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

// room is a verifier in a bubble of time.
type room struct {
	t      *testing.T
	origin *origin
	v      *idtoken.Verifier

	mu       sync.Mutex
	outcomes map[string][]error // :: issuer → what came of each fetch
}

// inRoom runs a test with a verifier that has been started and has asked once.
// Issuer acme is alone, unless more are given.
func inRoom(t *testing.T, test func(*testing.T, *room), more ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, newOrigin(), more...)
		if err := r.v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		test(t, r)
	})
}

func newRoom(t *testing.T, o *origin, more ...string) *room {
	r := &room{t: t, origin: o, outcomes: map[string][]error{}}
	cfg := idtoken.Config{Transport: o, Remember: 100, Observe: func(issuer string, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcomes[issuer] = append(r.outcomes[issuer], err)
	}}
	for _, url := range append([]string{acme}, more...) {
		cfg.Issuers = append(cfg.Issuers, idtoken.Issuer{URL: url, Audiences: []string{audience}, Algorithms: []string{"RS256"}})
	}
	v, err := idtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.v = v
	return r
}

// fetches is how often an issuer was asked for its keys.
func (r *room) fetches(issuer string) int { return r.origin.count(issuer + "keys") }

// last is what came of the last fetch of acme's keys.
func (r *room) last() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.outcomes[acme]
	return all[len(all)-1]
}

// after lets time pass and everything that was to happen in it.
func (r *room) after(d time.Duration) {
	r.t.Helper()
	<-time.After(d)
	synctest.Wait()
}

// verify presents a token made now, after a change.
func (r *room) verify(change ...func(*draft)) error {
	return r.verifyIn(r.t.Context(), change...)
}

func (r *room) verifyIn(ctx context.Context, change ...func(*draft)) error {
	d := newDraft(time.Now())
	for _, c := range change {
		c(d)
	}
	_, err := r.v.Verify(ctx, broker.NewSecret(d.mint()))
	return err
}

func (r *room) accepts(change ...func(*draft)) {
	r.t.Helper()
	if err := r.verify(change...); err != nil {
		r.t.Fatalf("a good token is refused: %v", err)
	}
}

func (r *room) refuses(class broker.Class, reason string, change ...func(*draft)) {
	r.t.Helper()
	err := r.verify(change...)
	refused(r.t, err, class, reason)
	after, ok := broker.RetryAfter(err)
	if ok != (class == broker.ErrKeysUnavailable) {
		r.t.Errorf("%v: retry after %s, %t", err, after, ok)
	}
}

func kid(name string) func(*draft) { return inHeader("kid", name) }

// ofGlobex is a plain RS256 token of the second issuer.
func ofGlobex(d *draft) { d.ofGlobex("RS256") }
