package broker

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"credential-broker/policy"
)

// Scope is what one answer opens, and for whom. It is comparable: credentials
// carry the scope they were made for, and it must equal the scope decided for
// the request that gets them. The zero value is refused.
type Scope struct {
	Grant    string
	Tenant   policy.Tenant
	User     policy.User
	RoleARN  RoleARN
	Region   string
	S3       policy.Scope
	Duration time.Duration // the longest life of a session under this scope
}

// decide finds the grant for the identity and applies the request's narrowing.
// Nothing in a request can widen what the grant gives. What is made of each grant
// is told to e, which may be nil.
func decide(grants []Grant, id Identity, req Request, e *Explanation) (Scope, error) {
	for _, g := range grants {
		if req.Grant != "" && g.Name != req.Grant {
			continue
		}
		err := g.Match.holds(id.Claims)
		e.looked(g, err)
		if err != nil {
			if req.Grant != "" {
				return Scope{}, fmt.Errorf("%w: grant %q: %w", ErrNoGrant, g.Name, err)
			}
			continue
		}
		scope, err := g.scope(id, req)
		if err != nil {
			return Scope{}, fmt.Errorf("grant %q: %w", g.Name, err)
		}
		e.gives(scope)
		return scope.narrow(req)
	}
	if req.Grant != "" {
		return Scope{}, fmt.Errorf("%w: no grant is named %q", ErrNoGrant, req.Grant)
	}
	return Scope{}, fmt.Errorf("%w: none of %d grants matches the token", ErrNoGrant, len(grants))
}

// scope returns all that the grant gives the identity, for the request's tenant
// and address.
func (g Grant) scope(id Identity, req Request) (Scope, error) {
	tenant, err := g.Tenant.tenant(id.Claims, req.Tenant)
	if err != nil {
		return Scope{}, err
	}
	user := id.User()
	s3, err := g.place(tenant, user)
	if err != nil { // a tenant whose name no bucket can have
		return Scope{}, fmt.Errorf("%w: %w", ErrInvalidTenant, err)
	}
	if g.BindSourceIP {
		address, err := netip.ParseAddr(req.Address)
		if err != nil {
			return Scope{}, fmt.Errorf("%w: credentials are to be bound to the caller's address: %w", ErrInternal, err)
		}
		s3.SourceIP = address.Unmap()
	}
	return Scope{
		Grant: g.Name, Tenant: tenant, User: user, RoleARN: g.RoleARN, Region: g.Region, S3: s3, Duration: g.Duration,
	}, nil
}

// narrow applies the request's access, path and duration. What is malformed is
// ErrInvalidRequest, what would widen or leave nothing is ErrScopeNotAllowed.
func (s Scope) narrow(req Request) (Scope, error) {
	path, err := policy.ParsePath(strings.Clone(req.Path)) // it is kept, and in the request it is a part of something longer
	if err != nil {
		return Scope{}, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	s.S3.Path = path
	if path.IsObject() && len(req.Access) == 0 {
		s.S3.Access &^= policy.List // one object has no listing
	}
	if len(req.Access) > 0 {
		asked, err := policy.ParseAccess(req.Access)
		if err != nil {
			return Scope{}, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
		}
		if !s.S3.Access.Has(asked) {
			return Scope{}, fmt.Errorf("%w: access %s is not within %s", ErrScopeNotAllowed, asked, s.S3.Access)
		}
		s.S3.Access = asked
	}
	if req.Duration != 0 {
		if req.Duration < MinDuration {
			return Scope{}, fmt.Errorf("%w: duration %s: at least %s", ErrInvalidRequest, req.Duration, MinDuration)
		}
		if req.Duration > s.Duration {
			return Scope{}, fmt.Errorf("%w: duration %s is longer than the grant's %s", ErrScopeNotAllowed, req.Duration, s.Duration)
		}
		s.Duration = req.Duration.Truncate(time.Second) // STS counts in seconds
	}
	if err := s.S3.Validate(); err != nil {
		return Scope{}, fmt.Errorf("%w: %w", ErrScopeNotAllowed, err)
	}
	return s, nil
}
