package broker

import (
	"context"
	"fmt"
	"time"
)

// Logout is what a verified logout token says: whose log-in has ended at the
// issuer. Of Subject and Session one can be empty.
type Logout struct {
	Issuer  string
	Subject string    // `sub`
	Session string    // `sid`
	ID      string    // `jti`
	Until   time.Time // from here on the token is refused for its age
}

// LogoutVerifier proves a logout token (OpenID Connect Back-Channel Logout 1.0).
type LogoutVerifier interface {
	// VerifyLogout returns what the token says only if every rule holds but that it
	// must not have been shown before. Its errors are those of Verifier.
	VerifyLogout(ctx context.Context, token Secret) (Logout, error)
}

// Sessions remembers whose sessions are: what is cached is known by its subject,
// and a logout token may name the session alone. It must be safe for concurrent
// use.
type Sessions interface {
	Learn(issuer, session, subject string)
	Subject(issuer, session string) (subject string, known bool)
}

// Replays remembers which logout tokens have been shown. Once reports whether this
// is the first time; it need not be remembered for longer than until. It must be
// safe for concurrent use.
type Replays interface {
	Once(issuer, id string, until time.Time) bool
}

// Logouts are what it takes to hear of log-outs: all of it, or nothing.
type Logouts struct {
	Verifier LogoutVerifier
	Sessions Sessions
	Replays  Replays
}

func (l Logouts) whole() bool { return l.Verifier != nil && l.Sessions != nil && l.Replays != nil }
func (l Logouts) none() bool  { return l.Verifier == nil && l.Sessions == nil && l.Replays == nil }

// Logout drops what is remembered for the subject, or for the subject of the
// session, that the logout token names. Of a session under which nobody asked
// there is nothing to drop. It shuts nobody out: an access token that is still
// good gets new credentials. As with Forget, the record comes after.
func (b *Broker) Logout(ctx context.Context, req Request) error {
	record := b.newRecord(ActionLogout, req)
	return b.conclude(ctx, &record, req.Token, b.logout(ctx, req.Token, &record))
}

func (b *Broker) logout(ctx context.Context, token Secret, record *Record) error {
	if b.cfg.Logouts.none() {
		return fmt.Errorf("%w: log-outs are not heard", ErrInvalidRequest)
	}
	if token.IsZero() {
		return fmt.Errorf("%w: no logout token", ErrMissingToken)
	}
	out, err := b.cfg.Logouts.Verifier.VerifyLogout(ctx, token)
	if err != nil {
		return err
	}
	record.Issuer, record.Subject = out.Issuer, out.Subject
	if !b.cfg.Logouts.Replays.Once(out.Issuer, out.ID, out.Until) {
		return fmt.Errorf("%w: the logout token was shown before", ErrInvalidToken)
	}
	if out.Subject == "" {
		var known bool
		if out.Subject, known = b.cfg.Logouts.Sessions.Subject(out.Issuer, out.Session); !known {
			return nil
		}
		record.Subject = out.Subject
	}
	if b.cfg.Forgetter != nil {
		b.cfg.Forgetter.Forget(out.Issuer, out.Subject)
	}
	return nil
}

// maxSession bounds the name of a session, in bytes, as the other names are.
const maxSession = 255

// learn remembers whose session it is, before anything is cached under it.
func (b *Broker) learn(id Identity) {
	session, _ := id.Claims["sid"].(string)
	if b.cfg.Logouts.none() || session == "" || len(session) > maxSession {
		return
	}
	b.cfg.Logouts.Sessions.Learn(id.Issuer, session, id.Subject)
}
