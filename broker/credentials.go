package broker

import (
	"errors"
	"fmt"
	"time"

	"credential-broker/policy"
)

// Source says where credentials came from.
type Source string

// The sources, as the audit record and the metrics name them.
const (
	FromSTS   Source = "sts"
	FromCache Source = "cache"
	// FromRefresh counts what STS gave ahead of need. Whoever gets it later gets
	// it from the cache.
	FromRefresh Source = "refresh"
	// FromShared: another replica had got them from STS.
	FromShared Source = "shared"
)

// Sources returns all of them, for who counts.
func Sources() []Source { return []Source{FromSTS, FromCache, FromRefresh, FromShared} }

// Credentials are temporary AWS credentials and the scope they were made for.
// They hold no reference that a holder could change for another.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    Secret
	IssuedAt        time.Time // by the broker's clock, when the answer came
	Expiration      time.Time // as STS says
	SessionName     string
	Scope           Scope
	Source          Source
}

// maxFloor is the longest time for which credentials are held back before they
// end. It is more than the 15 minutes at which botocore begins to ask for new
// ones, which would otherwise ask before every call.
const maxFloor = 20 * time.Minute

// Fresh reports whether enough of the credentials' life is left to hand them
// out: at least twenty minutes, or a third of the life where that is less.
func (c Credentials) Fresh(now time.Time) bool {
	return fresh(c.IssuedAt, c.Expiration, now)
}

func fresh(issued, end, now time.Time) bool {
	held := floor(issued, end)
	return held > 0 && end.Sub(now) >= held
}

// FreshFor returns for how long they will be.
func (c Credentials) FreshFor(now time.Time) time.Duration {
	if !c.Fresh(now) {
		return 0
	}
	return c.Expiration.Sub(now) - floor(c.IssuedAt, c.Expiration)
}

// floor is how much of their life is to be left.
func floor(issued, end time.Time) time.Duration { return min(maxFloor, end.Sub(issued)/3) }

// validate reports what keeps c from being an answer to an order.
func (c Credentials) validate(order Order, now time.Time) error {
	switch {
	case c.AccessKeyID == "" || c.SecretAccessKey.IsZero() || c.SessionToken.IsZero():
		return errors.New("shouldn't happen: credentials with an empty part")
	case c.Scope != order.Scope:
		return fmt.Errorf("shouldn't happen: credentials of tenant %q and grant %q for tenant %q and grant %q",
			c.Scope.Tenant, c.Scope.Grant, order.Scope.Tenant, order.Scope.Grant)
	case c.SessionName != order.SessionName:
		return fmt.Errorf("shouldn't happen: credentials of session %q for session %q", c.SessionName, order.SessionName)
	case !c.Fresh(now):
		return fmt.Errorf("shouldn't happen: credentials that end in %s", c.Expiration.Sub(now))
	}
	return nil
}

// Order is one verified and decided request for credentials: everything that
// an Issuer needs, and everything that shapes what it answers.
type Order struct {
	Revision    string          // of the configuration that decided
	Identity    Identity        // verified for this very request
	Token       Secret          // the token that proved it
	Scope       Scope           // decided
	Document    policy.Document // for Scope; proved before it is sent
	SessionName string          // for AWS's logs; see SessionName
	Lifetime    time.Duration   // to ask of STS: whole seconds, MinDuration to MaxDuration
	NotAfter    time.Time       // wall clock; a session for this order ends by then
	After       time.Time       // what was issued by then is held already, and no answer; zero: anything may be

	decided *decided // what of all this was decided, where it was decided here; who changes that takes it away
}

// Allows reports whether a session that was made for another order, which let it last
// until notAfter, may be given for this one: if it ends in time, or was made for one
// that gave it no more. A token that is about to end gets no session that outlives it
// because another token of the same subject was good for longer.
func (o Order) Allows(expiration, notAfter time.Time) bool {
	return !notAfter.After(o.NotAfter) || !expiration.After(o.NotAfter)
}

// bound returns until when a session may last: as long as the token is good, except
// that STS gives no less than MinDuration. The scope's duration is no part of it: it
// would set the orders of one token apart by the moments in which they were made, and
// who waits for what another has asked for could not be given it.
func bound(tokenExpiry, now time.Time) time.Time {
	if least := now.Add(MinDuration); least.After(tokenExpiry) {
		return least
	}
	return tokenExpiry.Round(0)
}

// SessionName returns the role session name of a subject under a tenant: "cb-"
// and an opaque, injective name of issuer, subject and tenant. It is what
// CloudTrail and S3 log; it holds no personal data and nothing that a caller
// could choose, since a bucket policy may name a session.
func SessionName(issuer, subject string, tenant policy.Tenant) string {
	return "cb-" + policy.OpaqueName("session", issuer, subject, tenant.String())
}
