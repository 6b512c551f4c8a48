package idtoken

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"credential-broker/broker"
)

// Verify implements broker.Verifier. It waits for keys when the token names a key that
// is not known, and for its turn where many signatures are to be checked; both end with
// ctx.
//
// A token past its time is ErrExpiredToken by its own word: the times are read
// before the signature, because refusing floods of old tokens must be cheap. That
// tells whoever wrote the token only what he wrote.
func (v *Verifier) Verify(ctx context.Context, token broker.Secret) (broker.Identity, error) {
	raw, err := v.reveal(token)
	if err != nil {
		return broker.Identity{}, err
	}
	name := token.Digest()
	if said, known := v.memo.recall(name, v.now()); known {
		return said.identity, said.err
	}
	opened, err := v.open(raw, typeJWT, typeAccess)
	if err != nil {
		return broker.Identity{}, err
	}
	id, err := v.checkClaims(opened.from.Issuer, opened.claims)
	if err != nil {
		return broker.Identity{}, err
	}
	k, err := opened.prove(ctx, v.gate, gateWait)
	if err != nil {
		if errors.Is(err, errForged) {
			v.memo.forgery(name, opened, k)
		}
		return broker.Identity{}, err
	}
	id.KeyID, id.KeyThumbprint = opened.header.kid, k.thumbprint
	id.Claims = v.only(id.Claims)
	if v.memo.good != nil {
		id.Plans = &broker.Plans{} // of this token, and of no other
	}
	v.memo.accept(name, opened, id)
	return id, nil
}

// only returns the claims that an Identity has.
func (v *Verifier) only(claims broker.Claims) broker.Claims {
	if v.claims == nil {
		return claims
	}
	few := make(broker.Claims, len(v.claims))
	for _, name := range v.claims {
		if value, ok := claims[name]; ok {
			few[name] = value
		}
	}
	return few
}

// reveal returns the token's text, if it is not too long to be looked at.
func (v *Verifier) reveal(token broker.Secret) (string, error) {
	if token.IsZero() {
		return "", broker.ErrMissingToken
	}
	raw := token.Reveal()
	if len(raw) > v.tokenBytes { // before anything reads it
		return "", invalid("longer than %d bytes", v.tokenBytes)
	}
	return raw, nil
}

// opened is a token that has been read, and of which nothing is proved.
type opened struct {
	parts  compact
	header header
	claims broker.Claims
	from   *issuer
}

// open reads a token of one of the types, as far as its form, its issuer and its
// algorithm go.
func (v *Verifier) open(raw string, types ...string) (opened, error) {
	var none opened
	parts, err := parseCompact(raw)
	if err != nil {
		return none, invalid("%w", err)
	}
	h, err := parseHeader(parts.header, types...)
	if err != nil {
		return none, invalid("header: %w", err)
	}
	claims, err := parseObject(parts.payload) // the very bytes that the signature is checked over
	if err != nil {
		return none, invalid("claims: %w", err)
	}
	iss, _ := claims["iss"].(string)
	from, ok := v.issuers[iss] // byte for byte; RFC 8725 §3.8
	if !ok {
		return none, invalid("iss %s is not a configured issuer", quote(iss))
	}
	if !slices.Contains(from.Algorithms, h.alg) { // RFC 8725 §3.1
		return none, invalid("alg %s is not allowed for the issuer", quote(h.alg))
	}
	return opened{parts: parts, header: h, claims: claims, from: from}, nil
}

// errForged is the refusal of a token whose signature is not its key's.
var errForged = classed(broker.ErrInvalidToken, "the signature is not the key's")

// prove returns the key of the token's own issuer with which it is signed, and an
// error if there is none; with errForged, the key with which it is not. It waits so
// long at the gate.
func (o opened) prove(ctx context.Context, gate gate, patience time.Duration) (key, error) {
	k, err := o.from.keys.find(ctx, o.header.kid) // only the keys of this very issuer
	if err != nil {
		return key{}, err
	}
	if o.header.alg != k.alg { // the key decides, not the token
		return key{}, invalid("alg %s is not the key's %s", o.header.alg, k.alg)
	}
	if err := gate.enter(ctx, patience); err != nil {
		return key{}, err
	}
	defer gate.leave()
	if !k.signed(o.parts.signed, o.parts.signature) {
		return k, errForged
	}
	return k, nil
}

// invalid is an ErrInvalidToken with its reason. What the token says may be in a
// reason only through quote.
func invalid(reason string, args ...any) error {
	return classed(broker.ErrInvalidToken, reason, args...)
}

func classed(class broker.Class, reason string, args ...any) error {
	return fmt.Errorf("%w: %w", class, fmt.Errorf(reason, args...))
}

// quote makes text of unknown origin fit for an error: printable ASCII, short.
func quote(text string) string {
	const most = 48 // enough to recognise an issuer or a key by
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "…"
	}
	return strconv.QuoteToASCII(text)
}
