package idtoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"credential-broker/broker"
)

// Ready returns nil once the first keys of every issuer are there, and until then
// an error that names the issuers without. Keys that grow old later do not undo
// it: the tokens of that issuer are refused, those of the others are not.
func (v *Verifier) Ready() error {
	var errs []error
	for url, i := range v.issuers {
		if i.keys.newest() == nil {
			errs = append(errs, fmt.Errorf("%w: issuer %s: no keys yet", broker.ErrKeysUnavailable, url))
		}
	}
	return errors.Join(errs...)
}

// Await returns nil when Ready does, and what Ready says if ctx or the verifier's
// work ends before.
func (v *Verifier) Await(ctx context.Context) error {
	for _, i := range v.issuers {
		select {
		case <-i.keys.first:
		case <-i.keys.stopped:
		case <-ctx.Done():
		}
	}
	return v.Ready()
}

// KeyStatus is how the keys of one issuer stand.
type KeyStatus struct {
	Issuer  string
	Keys    int       // how many there are
	Fetched time.Time // when the issuer last gave good ones; zero: not yet
	Problem error     // of the last attempt; nil: there was none
}

// Status returns how every issuer's keys stand, in the order of the issuers' URLs.
func (v *Verifier) Status() []KeyStatus {
	all := make([]KeyStatus, 0, len(v.issuers))
	for url, i := range v.issuers {
		s := KeyStatus{Issuer: url, Problem: i.keys.problem()}
		if good := i.keys.newest(); good != nil {
			s.Keys, s.Fetched = len(good.keys), good.at
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b KeyStatus) int { return cmp.Compare(a.Issuer, b.Issuer) })
	return all
}

// problem is what the last fetch came to.
func (s *keySet) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
