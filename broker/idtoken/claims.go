package idtoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"credential-broker/broker"
)

// maxName bounds `sub`, `azp` and `client_id`, in bytes (OpenID Connect Core 1.0
// §2: at most 255 ASCII characters).
const maxName = 255

// checkClaims checks all that the claims of a token from the issuer must be, and
// returns whom they name. The times come last, so that only a token that is right
// in all else is called expired. Names are exact: `Sub` is not `sub`.
func (v *Verifier) checkClaims(from Issuer, claims broker.Claims) (broker.Identity, error) {
	var none broker.Identity
	if _, ok := claims["cnf"]; ok {
		// RFC 9449 §7.2, RFC 8705 §3: bound to a key whose proof is not asked for here.
		return none, invalid("a sender-constrained token (cnf) is no bearer token")
	}
	if _, ok := claims["events"]; ok {
		// RFC 8417 §2.2: it tells of something that happened, as a logout token does.
		return none, invalid("a security event token (events) is no access token")
	}
	audience, err := checkAudience(claims, from.Audiences)
	if err != nil {
		return none, err
	}
	subject, err := nameOf(claims["sub"])
	if err != nil {
		return none, invalid("sub: %w", err)
	}
	client, err := clientOf(claims)
	if err != nil {
		return none, invalid("%w", err)
	}
	if len(from.Clients) > 0 && !slices.Contains(from.Clients, client) {
		return none, invalid("client %s is not allowed", quote(client))
	}
	expiry, err := v.checkTimes(claims, v.now())
	if err != nil {
		return none, err
	}
	return broker.Identity{
		Issuer: from.URL, Subject: subject, Client: client, Audience: audience, Expiry: expiry, Claims: claims,
	}, nil
}

// checkAudience returns the audience, of which one must be configured (RFC 8725
// §3.9).
func checkAudience(claims broker.Claims, configured []string) ([]string, error) {
	audience, err := audienceOf(claims["aud"])
	if err != nil {
		return nil, invalid("aud: %w", err)
	}
	if !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(configured, a) }) {
		return nil, invalid("aud: no configured audience")
	}
	return audience, nil
}

// checkTimes checks exp, iat and nbf (RFC 7519 §4.1) against the clock and
// returns exp as it stands: the leeway is for judging a token, and adds nothing
// to the life of what is given for it.
func (v *Verifier) checkTimes(claims broker.Claims, now time.Time) (time.Time, error) {
	exp, err := secondsOf(claims["exp"])
	if err != nil {
		return time.Time{}, invalid("exp: %w", err)
	}
	iat, err := secondsOf(claims["iat"])
	if err != nil {
		return time.Time{}, invalid("iat: %w", err)
	}
	if iat <= 0 || iat >= exp {
		return time.Time{}, invalid("iat is not between zero and exp")
	}
	if exp-iat > int64(v.maxLifetime/time.Second) { // both are positive: no overflow
		return time.Time{}, invalid("made to live longer than %s", v.maxLifetime)
	}
	latest := now.Add(v.leeway).Unix()
	if iat > latest {
		return time.Time{}, invalid("iat is in the future")
	}
	if value, ok := claims["nbf"]; ok {
		nbf, err := secondsOf(value)
		if err != nil {
			return time.Time{}, invalid("nbf: %w", err)
		}
		if nbf > latest {
			return time.Time{}, invalid("nbf is in the future")
		}
	}
	if exp <= now.Add(-v.leeway).Unix() { // on exp itself it is over
		return time.Time{}, fmt.Errorf("%w: at %s", broker.ErrExpiredToken, time.Unix(exp, 0).UTC().Format(time.RFC3339))
	}
	return time.Unix(exp, 0).UTC(), nil
}

// secondsOf reads a whole number of seconds: no fraction, no exponent, no text,
// though RFC 7519 §2 would let them be; no issuer in use needs them, and STS does
// not take them all.
func secondsOf(claim any) (int64, error) {
	number, ok := claim.(json.Number)
	if !ok {
		return 0, errors.New("not a number")
	}
	seconds, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return 0, errors.New("not a whole number of seconds")
	}
	return seconds, nil
}

// audienceOf reads a string, or an array of strings that is not empty.
func audienceOf(claim any) ([]string, error) {
	if one, ok := claim.(string); ok {
		return []string{one}, nil
	}
	list, ok := claim.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("neither a string nor an array of strings")
	}
	audience := make([]string, len(list))
	for i, element := range list {
		if audience[i], ok = element.(string); !ok {
			return nil, errors.New("an array with an element that is no string")
		}
	}
	return audience, nil
}

// clientOf reads azp (Auth0's own profile) or client_id (RFC 9068). A token need
// not have either, but cannot have two clients.
func clientOf(claims broker.Claims) (string, error) {
	var client string
	for _, name := range []string{"client_id", "azp"} {
		value, ok := claims[name]
		if !ok {
			continue
		}
		text, err := nameOf(value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if client != "" && client != text {
			return "", errors.New("azp and client_id differ")
		}
		client = text
	}
	return client, nil
}

// nameOf reads a name that logs, hashes and people will tell from others.
func nameOf(claim any) (string, error) {
	text, ok := claim.(string)
	switch {
	case !ok:
		return "", errors.New("not a string")
	case text == "" || len(text) > maxName:
		return "", fmt.Errorf("empty or longer than %d bytes", maxName)
	case strings.ContainsFunc(text, unicode.IsControl):
		return "", errors.New("has a control character")
	case strings.TrimSpace(text) != text:
		return "", errors.New("begins or ends with a space")
	}
	return text, nil
}
