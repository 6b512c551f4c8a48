package broker

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"credential-broker/policy"
)

// The bounds of a session's life. STS takes no less than 900 s, and no more
// than 12 h whatever the role allows.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
const (
	MinDuration = 15 * time.Minute
	MaxDuration = 12 * time.Hour
)

// Grant is one rule of who may reach what.
type Grant struct {
	Name     string // unique; the request may name it
	Match    Match
	RoleARN  RoleARN
	Tenant   TenantRule
	Bucket   policy.BucketTemplate
	Region   string // the bucket's, told to the caller
	Prefix   policy.Template
	Access   policy.Access
	Duration time.Duration // of a session, MinDuration to MaxDuration
	KMSKey   policy.KMSKey // with which the bucket is encrypted; zero: S3's own
	// BindSourceIP makes credentials that work only from the address from which
	// they were asked for.
	BindSourceIP bool
}

// Layout returns where the grant's tenants have their files.
func (g Grant) Layout() policy.Layout { return policy.Layout{Bucket: g.Bucket, Prefix: g.Prefix} }

// Match says which tokens a grant is for. All of it must hold; an empty part
// demands nothing.
type Match struct {
	Permissions []string       // each in the claim `permissions`
	Scopes      []string       // each in the claim `scope`
	Claims      map[string]any // :: claim (name or JSON Pointer) → string, bool or int64
}

// ClaimsOf returns the names of the claims that an exchange reads of an identity,
// so that a Verifier need keep no others: what the grants ask for, each by the name
// that it has in the token, and `sid`, by which log-outs are heard.
func ClaimsOf(grants []Grant) []string {
	names := map[string]bool{"sid": true}
	for _, g := range grants {
		if len(g.Match.Permissions) > 0 {
			names["permissions"] = true
		}
		if len(g.Match.Scopes) > 0 {
			names["scope"] = true
		}
		for _, name := range append(slices.Collect(maps.Keys(g.Match.Claims)), g.Tenant.Claim) {
			names[claimPath(name)[0]] = true
		}
	}
	delete(names, "") // of a grant whose tenant the request names
	return slices.Sorted(maps.Keys(names))
}

// holds returns nil when every demand is met, and otherwise the first that is not.
func (m Match) holds(c Claims) error {
	for _, p := range m.Permissions {
		if !c.hasPermission(p) {
			return fmt.Errorf("the token lacks the permission %q", p)
		}
	}
	for _, s := range m.Scopes {
		if !c.hasScope(s) {
			return fmt.Errorf("the token lacks the scope %q", s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Claims)) { // the first is the same each time
		if want := m.Claims[name]; !c.equals(name, want) {
			return fmt.Errorf("the claim %q is not %#v", name, want)
		}
	}
	return nil
}

// TenantRule says where a grant's tenant comes from: a claim of the token, or,
// for a caller that may act for any tenant, the request.
type TenantRule struct {
	Claim   string         // name or JSON Pointer; empty exactly when Request is set
	Request bool           // the request's parameter names the tenant
	Pattern *regexp.Regexp // the whole name must match; nil leaves it to policy.ParseTenant
}

// CompilePattern compiles a tenant pattern so that it must match the whole name.
// The pattern is compiled alone first, so that "a)|(b" cannot break out of the
// group, and then anchored around a group, so that neither can "a|b".
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, fmt.Errorf("tenant pattern: %w", err)
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// tenant derives the tenant for an identity and the request's parameter.
func (r TenantRule) tenant(c Claims, requested string) (policy.Tenant, error) {
	if !r.Request {
		if requested != "" {
			return policy.Tenant{}, fmt.Errorf("%w: the grant does not let the request name a tenant", ErrScopeNotAllowed)
		}
		value, ok := c.Lookup(r.Claim)
		if !ok {
			return policy.Tenant{}, fmt.Errorf("%w: the token has no claim %q", ErrInvalidTenant, r.Claim)
		}
		// Never fmt.Sprint: an array or a number would become a name.
		if requested, ok = value.(string); !ok {
			return policy.Tenant{}, fmt.Errorf("%w: the claim %q is not a string", ErrInvalidTenant, r.Claim)
		}
	} else if requested == "" {
		return policy.Tenant{}, fmt.Errorf("%w: the grant needs the parameter tenant", ErrInvalidRequest)
	}
	t, err := policy.ParseTenant(strings.Clone(requested)) // it is kept, and may be a part of something longer
	if err != nil {
		return policy.Tenant{}, fmt.Errorf("%w: %w", ErrInvalidTenant, err)
	}
	if r.Pattern != nil && !r.Pattern.MatchString(t.String()) {
		return policy.Tenant{}, fmt.Errorf("%w: %q does not match the grant's pattern", ErrInvalidTenant, t)
	}
	return t, nil
}

// Validate reports everything that keeps g from being a grant, joined.
func (g Grant) Validate() error {
	var errs []error
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	demand(g.Name != "", "name is missing")
	demand(!g.RoleARN.IsZero(), "role_arn is missing")
	demand(g.Tenant.Request != (g.Tenant.Claim != ""), "tenant needs either a claim or request: true")
	demand(g.Region != "", "region is missing")
	demand(!g.Bucket.Bare(), "bucket %s: put something of your own beside {tenant}, or a tenant named like another bucket of the account would be led into it", g.Bucket)
	demand(g.KMSKey.IsZero() || g.KMSKey.Region() == g.Region, "the KMS key is of region %s: S3 encrypts with keys of the bucket's own", g.KMSKey.Region())
	if err := g.Layout().Validate(); err != nil {
		errs = append(errs, err)
	}
	demand(g.Duration >= MinDuration && g.Duration <= MaxDuration, "duration %s: between %s and %s", g.Duration, MinDuration, MaxDuration)
	for name, want := range g.Match.Claims {
		switch want.(type) {
		case string, bool, int64:
		default:
			demand(false, "match.claims %q: a string, a bool or a whole number, not %T", name, want)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, g.fits())
	}
	return errors.Join(errs...)
}

// Conflict reports why two grants cannot stand in one configuration, joined:
// they have one name, or different tenants' prefixes could meet in one bucket.
func (g Grant) Conflict(h Grant) error {
	var errs []error
	if g.Name != "" && g.Name == h.Name {
		errs = append(errs, fmt.Errorf("grant %q: the name is taken", g.Name))
	}
	if g.Layout().Overlaps(h.Layout()) {
		errs = append(errs, fmt.Errorf("grant %q: %s/%s and %s/%s of grant %q can meet for different tenants", g.Name, g.Bucket, g.Prefix, h.Bucket, h.Prefix, h.Name))
	}
	return errors.Join(errs...)
}

// fits reports whether the document for the longest names can be made at all. A
// request's path comes on top of it and is looked at with the request.
func (g Grant) fits() error {
	tenant, err := policy.ParseTenant(strings.Repeat("a", g.Bucket.MaxTenant()))
	if err != nil {
		return err
	}
	s3, err := g.place(tenant, policy.UserOf("i", "s"))
	if err != nil {
		return err
	}
	if g.BindSourceIP {
		s3.SourceIP = netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff") // none is longer
	}
	_, err = policy.Generate(s3)
	return err
}

// place returns all that the grant gives a tenant and a user, from anywhere.
func (g Grant) place(tenant policy.Tenant, user policy.User) (policy.Scope, error) {
	bucket, prefix, err := g.Layout().Place(tenant, user)
	if err != nil {
		return policy.Scope{}, err
	}
	return policy.Scope{Partition: g.RoleARN.Partition(), Bucket: bucket, Prefix: prefix, Access: g.Access, KMSKey: g.KMSKey}, nil
}
