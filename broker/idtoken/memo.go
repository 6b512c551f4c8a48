package idtoken

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"credential-broker/broker"
)

// maxForgeries bounds the memory of forged tokens. It is for one client that shows
// one bad token again and again, not for who invents a new one each time, so that
// it needs few places: with 1,024 it takes some 300 kB.
const maxForgeries = 1024

// memo remembers tokens that were checked to the end, so that one which is shown
// again costs a hash and a look-up instead of two parses and a public-key
// operation. Every token is verified at every request all the same, since what is
// remembered can be the verdict only where the rules would give it again:
//
//   - What is found was said of these very bytes: the name of an entry is the
//     SHA-256 of the whole token, signature included.
//   - Only a token that has passed every rule is remembered as good. Of the refused,
//     only those are remembered whose signature is not their key's, which stays so;
//     they have places of their own, and can never come out as good.
//   - Of the rules, three ask something that changes: the time, whether the issuer
//     still publishes the key, and how old its keys are. These are asked again each
//     time. Where one does not hold, or the clock has been set back before the token
//     was made, the memory is silent and the rules speak; the leeway is theirs alone.
//   - The configuration does not change: a Verifier never does, and a new one begins
//     with nothing remembered.
//   - Who is shut out is not decided here. The exchange asks that after every
//     Verify.
//   - The token is not kept, and no more entries than there are places.
//
// It is safe for concurrent use.
type memo struct {
	good   *lru.Cache[digest, seen] // nil: nothing is remembered
	forged *lru.Cache[digest, seen] // likewise
}

// digest is the SHA-256 of a token.
type digest = broker.Digest

// seen is a token that was checked to the end.
type seen struct {
	identity   broker.Identity // of a good token
	from       *issuer
	kid, alg   string
	thumbprint string // of the key that it was checked with

	// The life that the token gives itself, without leeway: it is good at since, and
	// at until it is not.
	since, until time.Time
}

// newMemo makes a memo of so many good tokens; of none, one that is always silent.
func newMemo(tokens int) (memo, error) {
	if tokens == 0 {
		return memo{}, nil
	}
	good, err := lru.New[digest, seen](tokens)
	if err != nil {
		return memo{}, err
	}
	forged, err := lru.New[digest, seen](maxForgeries)
	if err != nil {
		return memo{}, err
	}
	return memo{good: good, forged: forged}, nil
}

// verdict is what is said of a token.
type verdict struct {
	identity broker.Identity
	err      error
}

// recall returns what the rules would say of a token. Where that is not certain it
// is silent, and known is false.
func (m memo) recall(name digest, now time.Time) (v verdict, known bool) {
	if m.good == nil {
		return verdict{}, false
	}
	if s, ok := m.good.Get(name); ok {
		if s.stands(now) {
			return verdict{identity: s.identity}, true
		}
		m.good.Remove(name)
		return verdict{}, false
	}
	if s, ok := m.forged.Get(name); ok {
		if s.stands(now) {
			return verdict{err: errForged}, true
		}
		m.forged.Remove(name)
	}
	return verdict{}, false
}

// stands reports whether the rules that ask something that changes hold.
func (s seen) stands(now time.Time) bool {
	if now.Before(s.since) || !now.Before(s.until) {
		return false
	}
	k, ok, _ := s.from.keys.held(s.kid)
	return ok && k.thumbprint == s.thumbprint && k.alg == s.alg
}

// accept remembers a token that has passed every rule.
func (m memo) accept(name digest, o opened, id broker.Identity) {
	if m.good == nil {
		return
	}
	m.good.Add(name, o.seen(id, id.KeyThumbprint))
}

// forgery remembers a token whose signature is not the key's.
func (m memo) forgery(name digest, o opened, k key) {
	if m.good == nil {
		return
	}
	m.forged.Add(name, o.seen(broker.Identity{}, k.thumbprint))
}

// seen describes a token whose claims have been checked.
func (o opened) seen(id broker.Identity, thumbprint string) seen {
	exp, _ := secondsOf(o.claims["exp"])
	iat, _ := secondsOf(o.claims["iat"])
	nbf, _ := secondsOf(o.claims["nbf"]) // 0 if there is none
	return seen{
		identity: id, from: o.from, kid: o.header.kid, alg: o.header.alg, thumbprint: thumbprint,
		since: time.Unix(max(iat, nbf), 0), until: time.Unix(exp, 0),
	}
}
