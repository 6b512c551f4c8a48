// Package broker is the exchange: a token comes in, is verified, matched
// against the grants, turned into a scope, and answered with credentials that
// AWS confines to that scope.
//
//	verify → decide → issue → audit → release
//
// Every session policy is also proved to stay inside its scope; that is done by
// the Issuer that talks to STS, as the last thing before the call, so that
// nothing which stands between can have changed what was proved.
//
// The package holds the domain types and the order of events, and nothing that
// talks to the world: it imports neither net/http nor os. What talks to the
// world implements one of its one-method interfaces in a package of its own.
package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"credential-broker/policy"
)

// Verifier proves an identity from a token.
type Verifier interface {
	// Verify returns the identity only if every rule holds. Its errors are
	// ErrMissingToken, ErrInvalidToken, ErrExpiredToken, ErrKeysUnavailable or ErrBusy and
	// never hold the token or a part of its signature. It must be safe for
	// concurrent use and be called for every request: nothing may be remembered
	// that outlives the token or its key.
	Verify(ctx context.Context, token Secret) (Identity, error)
}

// Issuer gives credentials for an order.
type Issuer interface {
	// Issue returns credentials whose scope and session name are the order's. It
	// need not look at the token: the identity is verified. The Issuer that asks
	// STS proves the document with policy.Confined before each call. Errors are
	// ErrSTSRejected, ErrSTSUnavailable, ErrBusy, ErrExpiredToken, or without a
	// class. It must be safe for concurrent use. A cache, a limit or a metric is
	// an Issuer around another.
	Issue(ctx context.Context, order Order) (Credentials, error)
}

// Forgetter drops what is remembered of a subject.
type Forgetter interface {
	Forget(issuer, subject string)
}

// Config is what an exchange is made of. All of it is needed but for Forgetter,
// Revoked, Logouts, Deciding and Now.
type Config struct {
	Revision  string // names this configuration; a part of every cache key
	Grants    []Grant
	Verifier  Verifier
	Issuer    Issuer
	Forgetter Forgetter // nil: there is nothing to forget
	Auditor   Auditor
	Revoked   Revoked
	Logouts   Logouts
	// Deciding, if set, is told when the decision about an exchange begins, and what
	// it returns, how it ended. Both must be quick and safe for concurrent use.
	Deciding func(context.Context) func(Scope, error)
	Now      func() time.Time // nil: time.Now
}

// Revoked are subjects and tenants that get nothing any more.
type Revoked struct {
	Subjects map[string]bool // :: subject → shut out, whatever the issuer
	Tenants  map[string]bool // :: tenant → shut out
}

// Broker runs exchanges. It is safe for concurrent use.
type Broker struct {
	cfg     Config
	repeats repeats
}

// New checks the configuration; a broker that is not whole is not made.
func New(cfg Config) (*Broker, error) {
	var errs []error
	if cfg.Revision == "" {
		errs = append(errs, errors.New("no revision"))
	}
	if cfg.Verifier == nil || cfg.Issuer == nil || cfg.Auditor == nil {
		errs = append(errs, errors.New("verifier, issuer and auditor are all needed"))
	}
	if !cfg.Logouts.none() && !cfg.Logouts.whole() {
		errs = append(errs, errors.New("a part of what it takes to hear of log-outs is missing"))
	}
	errs = append(errs, ValidateGrants(cfg.Grants))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make broker: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Broker{cfg: cfg}, nil
}

// ValidateGrants reports everything that is wrong with the grants, each and
// together: two of one name, and two whose prefixes in one bucket could bring
// different tenants together.
func ValidateGrants(grants []Grant) error {
	var errs []error
	if len(grants) == 0 {
		errs = append(errs, errors.New("no grants"))
	}
	for i, g := range grants {
		if err := g.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("grant %q: %w", g.Name, err))
		}
		for _, h := range grants[:i] {
			errs = append(errs, g.Conflict(h))
		}
	}
	return errors.Join(errs...)
}

// Request is what a caller asks for. All but Token can be empty; every
// parameter can only narrow what the grant gives.
type Request struct {
	Token    Secret
	Grant    string        // name of a grant; empty: the first that matches
	Access   []string      // rights; empty: all that the grant gives
	Path     string        // relative: a folder ("in/") or one object; empty: the prefix
	Duration time.Duration // 0: the grant's
	Tenant   string        // only for a grant that lets the request name it

	ID, Address, UserAgent string // of the request, for the audit record
}

// Exchange answers a request with credentials. The error's class (see ClassOf)
// is for the caller, the rest of it for the audit record, which is written
// before anything is released, for refusals as for credentials: without a record
// there are no credentials.
func (b *Broker) Exchange(ctx context.Context, req Request) (Credentials, error) {
	record := b.newRecord(ActionCredentials, req)
	creds, err := b.exchange(ctx, req, &record)
	if err := b.conclude(ctx, &record, req.Token, err); err != nil {
		return Credentials{}, err
	}
	return creds, nil
}

func (b *Broker) exchange(ctx context.Context, req Request, record *Record) (Credentials, error) {
	order, err := b.plan(ctx, req, record, nil)
	if err != nil {
		return Credentials{}, err
	}
	b.learn(order.Identity)
	asked := b.cfg.Now()
	creds, err := b.cfg.Issuer.Issue(ctx, order)
	if err != nil {
		return Credentials{}, err
	}
	// As of when they were asked for: who found enough left of them since then cannot
	// be contradicted because the last moment has passed in between.
	if err := creds.validate(order, asked); err != nil {
		return Credentials{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	record.AccessKeyID, record.Expiration, record.Source = creds.AccessKeyID, creds.Expiration, creds.Source
	return creds, nil
}

// plan verifies and decides: everything up to the order for credentials. What it
// finds on the way it fills into the record, and into the explanation, which may
// be nil.
func (b *Broker) plan(ctx context.Context, req Request, record *Record, e *Explanation) (Order, error) {
	id, err := b.identify(ctx, req.Token, record)
	e.identified(id)
	if err != nil {
		return Order{}, err
	}
	p, document, err := b.planned(ctx, id, req, record, e)
	if err != nil {
		return Order{}, err
	}
	return b.order(id, req.Token, p, document), nil
}

// decide finds the scope, and tells who wants to know how it goes.
func (b *Broker) decide(ctx context.Context, id Identity, req Request, e *Explanation) (Scope, error) {
	if b.cfg.Deciding == nil {
		return decide(b.cfg.Grants, id, req, e)
	}
	decided := b.cfg.Deciding(ctx)
	scope, err := decide(b.cfg.Grants, id, req, e)
	decided(scope, err)
	return scope, err
}

// Grants returns the scopes that the token yields, in the order of the grants,
// without asking STS. A grant whose tenant the token does not tell, or that
// would need the request to name one and does not get it, is left out.
func (b *Broker) Grants(ctx context.Context, req Request) ([]Scope, error) {
	record := b.newRecord(ActionGrants, req)
	scopes, err := b.grants(ctx, req, &record)
	if err := b.conclude(ctx, &record, req.Token, err); err != nil {
		return nil, err
	}
	return scopes, nil
}

func (b *Broker) grants(ctx context.Context, req Request, record *Record) ([]Scope, error) {
	id, err := b.identify(ctx, req.Token, record)
	if err != nil {
		return nil, err
	}
	scopes := []Scope{}
	for _, g := range b.cfg.Grants {
		ask := req
		if !g.Tenant.Request {
			ask.Tenant = ""
		}
		if g.Match.holds(id.Claims) != nil {
			continue
		}
		scope, err := g.scope(id, ask)
		if err != nil || b.cfg.Revoked.Tenants[scope.Tenant.String()] {
			continue
		}
		scopes = append(scopes, scope)
	}
	return scopes, nil
}

// Forget drops what is remembered for the token's subject. That is done before
// the record is written: what ends access does not wait for it.
func (b *Broker) Forget(ctx context.Context, req Request) error {
	record := b.newRecord(ActionForget, req)
	id, err := b.identify(ctx, req.Token, &record)
	if err == nil && b.cfg.Forgetter != nil {
		b.cfg.Forgetter.Forget(id.Issuer, id.Subject)
	}
	return b.conclude(ctx, &record, req.Token, err)
}

// identify verifies the token and refuses a subject that has been shut out, whose
// identity comes with the refusal.
func (b *Broker) identify(ctx context.Context, token Secret, record *Record) (Identity, error) {
	if token.IsZero() {
		return Identity{}, fmt.Errorf("%w: no token", ErrMissingToken)
	}
	id, err := b.cfg.Verifier.Verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	record.name(id)
	if b.cfg.Revoked.Subjects[id.Subject] {
		return id, fmt.Errorf("%w: subject %q", ErrRevoked, id.Subject)
	}
	return id, nil
}

func (b *Broker) order(id Identity, token Secret, p *plan, document policy.Document) Order {
	// The wall clock alone, so that two orders under one token end at exactly the
	// same instant: the token's.
	now := b.cfg.Now().Round(0)
	end, scope := bound(id.Expiry, now), p.scope()
	return Order{
		Revision:    b.cfg.Revision,
		Identity:    id,
		Token:       token,
		Scope:       scope,
		Document:    document,
		SessionName: p.sessionName(),
		Lifetime:    min(scope.Duration, end.Sub(now)).Truncate(time.Second), // STS counts in seconds
		NotAfter:    end,
		decided:     &p.decided,
	}
}
