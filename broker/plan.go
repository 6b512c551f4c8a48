package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"credential-broker/policy"
)

// Plans keeps the last decision that was made for an identity, so that who asks the
// same again costs no new one. The zero value is ready, nil keeps nothing. It is safe
// for concurrent use.
//
// To decide asks nothing that changes: it is a function of the grants, the identity
// and the request. So what is kept is the decision that would be made again:
//
//   - The grants are those of the broker that decided, and a broker's grants never
//     change. Another broker, as after a reload, finds nothing here.
//   - The identity is the one that Plans hangs on, which nobody changes: who verifies
//     tokens gives each its own. That it is this very token is looked at all the same.
//   - Of the request, everything that shapes a decision is compared. Where the address
//     does, for credentials that are bound to it, nothing is kept.
//
// Only what was granted is kept. Whether its subject and its tenant have been shut out
// is asked each time, as is for how long a session may last.
type Plans struct{ last atomic.Pointer[plan] }

// plan is what was decided for a request. It is not changed once it is made.
type plan struct {
	by    *Broker
	token Digest
	asked *asked // nil: for nothing in particular
	decided
}

// asked is what a request asks for: everything in it that shapes a decision, but for
// the address.
type asked struct {
	grant, path, tenant string
	access              []string
	duration            time.Duration
}

// find returns what was decided for the request, or nil.
func (p *Plans) find(by *Broker, req Request) *plan {
	if p == nil {
		return nil
	}
	last := p.last.Load()
	if last == nil || last.by != by || last.token != req.Token.Digest() || !last.asked.same(req) {
		return nil
	}
	return last
}

func (a *asked) same(req Request) bool {
	if a == nil {
		a = &asked{}
	}
	return a.grant == req.Grant && a.path == req.Path && a.tenant == req.Tenant && a.duration == req.Duration && slices.Equal(a.access, req.Access)
}

// newAsked copies the texts: in a request they are parts of something longer.
func newAsked(req Request) *asked {
	a := &asked{grant: strings.Clone(req.Grant), path: strings.Clone(req.Path), tenant: strings.Clone(req.Tenant), duration: req.Duration}
	for _, right := range req.Access {
		a.access = append(a.access, strings.Clone(right))
	}
	if (*asked)(nil).same(req) {
		return nil
	}
	return a
}

// planned decides, or finds what was decided. An explanation wants to see how it is
// done, so nothing is found for one.
func (b *Broker) planned(ctx context.Context, id Identity, req Request, record *Record, e *Explanation) (*plan, policy.Document, error) {
	if e == nil {
		if p := id.Plans.find(b, req); p != nil {
			scope := p.scope()
			b.tellDecided(ctx, scope)
			record.placed(p, scope)
			return p, p.document(), b.revokedTenant(scope)
		}
	}
	scope, err := b.decide(ctx, id, req, e)
	if err != nil {
		return nil, policy.Document{}, err
	}
	record.place(scope)
	if err := b.revokedTenant(scope); err != nil {
		return nil, policy.Document{}, err
	}
	document, err := policy.Generate(scope.S3)
	if err != nil {
		return nil, policy.Document{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	d, err := newDecided(Order{
		Revision: b.cfg.Revision, Identity: id, Scope: scope, Document: document, SessionName: SessionName(id.Issuer, id.Subject, scope.Tenant),
	}, req.Token.SHA256())
	if err != nil {
		return nil, policy.Document{}, err
	}
	p := &plan{by: b, token: req.Token.Digest(), asked: newAsked(req), decided: d}
	if id.Plans != nil && !scope.S3.SourceIP.IsValid() {
		id.Plans.last.Store(p)
	}
	record.placed(p, scope)
	return p, document, nil
}

// revokedTenant refuses a tenant that has been shut out.
func (b *Broker) revokedTenant(scope Scope) error {
	if b.cfg.Revoked.Tenants[scope.Tenant.String()] {
		return fmt.Errorf("%w: tenant %q", ErrRevoked, scope.Tenant)
	}
	return nil
}

// tellDecided tells who wants to know how a decision goes of one that was found.
func (b *Broker) tellDecided(ctx context.Context, scope Scope) {
	if b.cfg.Deciding != nil {
		b.cfg.Deciding(ctx)(scope, nil)
	}
}

// placed fills in what was planned, of which scope is the scope. The list is shared,
// and nobody's to change.
func (r *Record) placed(p *plan, s Scope) {
	r.Tenant, r.User, r.Grant, r.RoleARN = s.Tenant.String(), s.User.String(), s.Grant, s.RoleARN.String()
	r.Bucket, r.Prefix, r.Access = s.S3.Bucket.String(), p.names.Key(), rights[s.S3.Access]
	r.SessionName, r.PolicySHA256, r.TokenSHA256 = p.sessionName(), p.names.More(digestOfPolicy), p.names.More(digestOfToken)
}

// rights are the names of every set of rights, made once: a record is made at each
// request. Nobody changes them.
var rights = everyRights() //nolint:gochecknoglobals // as it says

func everyRights() (all [1 << 8][]string) {
	for access := range all {
		all[access] = policy.Access(access).Names()
	}
	return all
}
