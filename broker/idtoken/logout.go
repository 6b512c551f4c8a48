package idtoken

import (
	"context"
	"time"

	"credential-broker/broker"
)

// logoutEvent is the member of `events` that makes a token a logout token (OpenID
// Connect Back-Channel Logout 1.0 §2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// maxLogoutAge is how long after its making a logout token is taken, whatever its
// exp says. The specification recommends two minutes (§2.4); an issuer that tries
// again after a failure needs some more, and so long is every one remembered.
const maxLogoutAge = 5 * time.Minute

var _ broker.LogoutVerifier = (*Verifier)(nil)

// VerifyLogout implements broker.LogoutVerifier by the rules of §2.6: form, issuer,
// algorithm, key and signature as for access tokens, and claims of its own.
func (v *Verifier) VerifyLogout(ctx context.Context, token broker.Secret) (broker.Logout, error) {
	raw, err := v.reveal(token)
	if err != nil {
		return broker.Logout{}, err
	}
	opened, err := v.open(raw, typeJWT, typeLogout)
	if err != nil {
		return broker.Logout{}, err
	}
	out, err := v.checkLogout(opened.from.Issuer, opened.claims)
	if err != nil {
		return broker.Logout{}, err
	}
	// Nobody asks again for a log-out that was not heard: it waits as long as need be.
	if _, err := opened.prove(ctx, v.gate, 0); err != nil {
		return broker.Logout{}, err
	}
	return out, nil
}

func (v *Verifier) checkLogout(from Issuer, claims broker.Claims) (broker.Logout, error) {
	out := broker.Logout{Issuer: from.URL}
	events, _ := claims["events"].(map[string]any)
	// §2.4: an object, and it should be the empty one. Nothing is known that could
	// be in it, so that what is in it is not known.
	if event, ok := events[logoutEvent].(map[string]any); !ok || len(event) > 0 {
		return broker.Logout{}, invalid("events does not tell of a log-out")
	}
	if _, ok := claims["nonce"]; ok { // which makes it an ID token
		return broker.Logout{}, invalid("a logout token has no nonce")
	}
	if _, err := checkAudience(claims, from.LogoutAudiences); err != nil {
		return broker.Logout{}, err
	}
	var err error
	if out.ID, err = nameOf(claims["jti"]); err != nil {
		return broker.Logout{}, invalid("jti: %w", err)
	}
	_, hasSubject := claims["sub"]
	_, hasSession := claims["sid"]
	if !hasSubject && !hasSession {
		return broker.Logout{}, invalid("neither sub nor sid")
	}
	if hasSubject {
		if out.Subject, err = nameOf(claims["sub"]); err != nil {
			return broker.Logout{}, invalid("sub: %w", err)
		}
	}
	if hasSession {
		if out.Session, err = nameOf(claims["sid"]); err != nil {
			return broker.Logout{}, invalid("sid: %w", err)
		}
	}
	out.Until, err = v.checkLogoutTimes(claims, v.now())
	return out, err
}

// checkLogoutTimes checks what checkTimes does and that the token is recent, and
// returns from when on it will not be.
func (v *Verifier) checkLogoutTimes(claims broker.Claims, now time.Time) (time.Time, error) {
	exp, err := v.checkTimes(claims, now)
	if err != nil {
		return time.Time{}, err
	}
	iat, _ := secondsOf(claims["iat"]) // is one: checkTimes has read it
	end := time.Unix(iat, 0).UTC().Add(maxLogoutAge)
	if exp.Before(end) {
		end = exp
	}
	end = end.Add(v.leeway)
	if !now.Before(end) {
		return time.Time{}, invalid("made more than %s ago", maxLogoutAge)
	}
	return end, nil
}
