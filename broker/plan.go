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
	asked asked

	scope       Scope
	document    policy.Document
	sessionName string
	prefix      string   // as the record has it
	access      []string // likewise
	tokenSHA256 string
}

// asked is what a request asks for: everything in it that shapes a decision, but for
// the address.
type asked struct {
	token               Digest
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
	if last == nil || last.by != by || !last.asked.same(req) {
		return nil
	}
	return last
}

func (a asked) same(req Request) bool {
	return a.token == req.Token.Digest() && a.grant == req.Grant && a.path == req.Path && a.tenant == req.Tenant && a.duration == req.Duration && slices.Equal(a.access, req.Access)
}

// keep keeps what was decided for the request. The texts are copied: in a request
// they are parts of something longer.
func (p *Plans) keep(made *plan, req Request) {
	if p == nil || made.scope.S3.SourceIP.IsValid() {
		return
	}
	made.asked = asked{token: req.Token.Digest(), grant: strings.Clone(req.Grant), path: strings.Clone(req.Path), tenant: strings.Clone(req.Tenant), duration: req.Duration}
	for _, right := range req.Access {
		made.asked.access = append(made.asked.access, strings.Clone(right))
	}
	kept := *made
	kept.document = made.document.Fold(&kept.scope.S3)
	p.last.Store(&kept)
}

// planned decides, or finds what was decided. An explanation wants to see how it is
// done, so nothing is found for one.
func (b *Broker) planned(ctx context.Context, id Identity, req Request, record *Record, e *Explanation) (*plan, error) {
	if e == nil {
		if p := id.Plans.find(b, req); p != nil {
			b.tellDecided(ctx, p.scope)
			record.placed(p)
			return p, b.revokedTenant(p.scope)
		}
	}
	scope, err := b.decide(ctx, id, req, e)
	if err != nil {
		return nil, err
	}
	record.place(scope)
	if err := b.revokedTenant(scope); err != nil {
		return nil, err
	}
	document, err := policy.Generate(scope.S3)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	p := &plan{by: b, scope: scope, document: document, sessionName: SessionName(id.Issuer, id.Subject, scope.Tenant)}
	p.prefix, p.access, p.tokenSHA256 = record.Prefix, record.Access, req.Token.SHA256()
	id.Plans.keep(p, req)
	record.placed(p)
	return p, nil
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

// placed fills in what was planned. The list is shared, and nobody's to change.
func (r *Record) placed(p *plan) {
	s := p.scope
	r.Tenant, r.User, r.Grant, r.RoleARN = s.Tenant.String(), s.User.String(), s.Grant, s.RoleARN.String()
	r.Bucket, r.Prefix, r.Access = s.S3.Bucket.String(), p.prefix, p.access
	r.SessionName, r.PolicySHA256, r.TokenSHA256 = p.sessionName, p.document.Digest(), p.tokenSHA256
}
