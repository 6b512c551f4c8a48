package broker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"credential-broker/policy"
)

// Kept is credentials as a cache holds them, in half the room. It is not changed; the
// zero value is none, and never fresh.
type Kept struct {
	decided         *decided // about their order: it has the scope and the session's name
	accessKeyID     string
	secretAccessKey Secret
	sessionToken    Secret

	issuedAt, expiration, notAfter int64 // nanoseconds since 1970, of the wall clock
}

// Keep returns the credentials as the answer to the order that they are, and fails
// where they are none. All their texts are copied into one.
func (c Credentials) Keep(o Order) (Kept, error) {
	if c.Scope != o.Scope || c.SessionName != o.SessionName {
		return Kept{}, fmt.Errorf("shouldn't happen: credentials of tenant %q, session %q for an order of tenant %q, session %q",
			c.Scope.Tenant, c.SessionName, o.Scope.Tenant, o.SessionName)
	}
	d := o.decided
	if d == nil || d.scope() != o.Scope || d.sessionName() != o.SessionName {
		anew, err := newDecided(o, "")
		if err != nil {
			return Kept{}, err
		}
		d = &anew
	}
	k := Kept{decided: d, issuedAt: c.IssuedAt.UnixNano(), expiration: c.Expiration.UnixNano(), notAfter: o.NotAfter.UnixNano()}
	if !k.IssuedAt().Equal(c.IssuedAt) || !k.Expiration().Equal(c.Expiration) || !k.NotAfter().Equal(o.NotAfter) {
		return Kept{}, errors.New("shouldn't happen: credentials with a time before 1678 or after 2262")
	}
	k.accessKeyID, k.secretAccessKey, k.sessionToken = together(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	return k, nil
}

// together copies texts into one.
func together(open string, a, b Secret) (string, Secret, Secret) {
	var all strings.Builder
	all.Grow(len(open) + a.size() + b.size())
	all.WriteString(open)
	for _, s := range []Secret{a, b} {
		if s.plain != nil {
			all.WriteString(*s.plain)
		}
	}
	text, first := all.String(), len(open)+a.size()
	both := &struct{ a, b string }{text[len(open):first], text[first:]}
	as := func(s Secret, plain *string) Secret {
		if s.plain == nil {
			return Secret{}
		}
		return Secret{plain: plain, simple: s.simple}
	}
	return text[:len(open)], as(a, &both.a), as(b, &both.b)
}

// Credentials returns them, as those that came from the source.
func (k *Kept) Credentials(from Source) Credentials {
	if k.decided == nil {
		return Credentials{}
	}
	return Credentials{
		AccessKeyID: k.accessKeyID, SecretAccessKey: k.secretAccessKey, SessionToken: k.sessionToken,
		IssuedAt: k.IssuedAt(), Expiration: k.Expiration().UTC(),
		SessionName: k.decided.sessionName(), Scope: k.decided.scope(), Source: from,
	}
}

// Fingerprint is that of the order that they answer.
func (k *Kept) Fingerprint() Fingerprint { return k.decided.fingerprint }

// Tenant is whose they are.
func (k *Kept) Tenant() policy.Tenant {
	_, t, _ := k.decided.names.Of(policy.Scope{})
	return t
}

// IssuedAt is as in Credentials.
func (k *Kept) IssuedAt() time.Time { return time.Unix(0, k.issuedAt) }

// Expiration is as in Credentials.
func (k *Kept) Expiration() time.Time { return time.Unix(0, k.expiration) }

// NotAfter is when a session for their order has ended.
func (k *Kept) NotAfter() time.Time { return time.Unix(0, k.notAfter) }

// Fresh is as in Credentials.
func (k *Kept) Fresh(now time.Time) bool { return fresh(k.IssuedAt(), k.Expiration(), now) }

// TextBytes is how many bytes the texts have that are theirs alone.
func (k *Kept) TextBytes() int {
	return len(k.accessKeyID) + k.secretAccessKey.size() + k.sessionToken.size() + k.decided.names.Bytes()
}
