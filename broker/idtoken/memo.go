package idtoken

import (
	"crypto/sha256"
	"encoding/json"
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
	good   *lru.Cache[digest, seen]    // nil: nothing is remembered
	forged *lru.Cache[digest, seen]    // likewise
	common *lru.Cache[digest, *common] // likewise; see share
}

// digest is the SHA-256 of a token.
type digest = broker.Digest

// seen is a token that was checked to the end.
type seen struct {
	*common
	subject string // of a good token, as plans is
	plans   *broker.Plans

	// The life that the token gives itself, without leeway, in seconds since 1970: it is
	// good at since, and at until it is not.
	since, until int64
}

// identity is that of a good token, as it was verified.
func (s seen) identity() broker.Identity {
	return broker.Identity{
		Issuer: s.from.URL, Subject: s.subject, Client: s.client, Audience: s.audience, Expiry: time.Unix(s.until, 0).UTC(), Claims: s.claims,
		KeyID: s.kid, KeyThumbprint: s.thumbprint, Plans: s.plans,
	}
}

// common is what tokens have in common where one client has several users of a kind. It
// is shared, and nobody changes it.
type common struct {
	from       *issuer
	kid, alg   string
	thumbprint string // of the key that they were checked with
	client     string
	audience   []string
	claims     broker.Claims
}

// maxCommon bounds how many kinds of tokens are looked for among those that are to
// come: tenants, with the rights that each gives. Whatever is forgotten here is held
// by those who have it, and new ones have one of their own. A kind has some 1.2 kB.
const maxCommon = 4096

// share returns what tokens have in common as it is known already, or as it is. It is
// known by a SHA-256 over its JSON, in which two that differ differ: the claims were
// JSON of valid Unicode, and of a number it has the digits as they stood.
func (m memo) share(c *common) *common {
	text, err := json.Marshal([]any{c.from.URL, c.kid, c.alg, c.thumbprint, c.client, c.audience, c.claims})
	if err != nil {
		return c
	}
	name := digest(sha256.Sum256(text))
	if known, ok := m.common.Get(name); ok {
		return known
	}
	m.common.Add(name, c)
	return c
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
	kinds, err := lru.New[digest, *common](maxCommon)
	if err != nil {
		return memo{}, err
	}
	return memo{good: good, forged: forged, common: kinds}, nil
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
			return verdict{identity: s.identity()}, true
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
	if now.Before(time.Unix(s.since, 0)) || !now.Before(time.Unix(s.until, 0)) {
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
	s := o.seen(id.KeyThumbprint)
	s.client, s.audience, s.claims = id.Client, id.Audience, id.Claims
	s.common, s.subject, s.plans = m.share(s.common), id.Subject, id.Plans
	m.good.Add(name, s)
}

// forgery remembers a token whose signature is not the key's.
func (m memo) forgery(name digest, o opened, k key) {
	if m.good == nil {
		return
	}
	m.forged.Add(name, o.seen(k.thumbprint))
}

// seen describes a token whose claims have been checked.
func (o opened) seen(thumbprint string) seen {
	exp, _ := secondsOf(o.claims["exp"])
	iat, _ := secondsOf(o.claims["iat"])
	nbf, _ := secondsOf(o.claims["nbf"]) // 0 if there is none
	return seen{
		common: &common{from: o.from, kid: o.header.kid, alg: o.header.alg, thumbprint: thumbprint},
		since:  max(iat, nbf), until: exp,
	}
}
