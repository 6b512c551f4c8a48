package policy

import (
	"fmt"
	"strings"
)

// BucketTemplate names a bucket, or, with {tenant} in it, a bucket for each
// tenant: "acme-uploads", "{tenant}-uploads". The zero value names none.
type BucketTemplate struct {
	head, tail string // around the variable; all of it is head where there is none
	perTenant  bool
}

// ParseBucketTemplate reads a bucket's name in which {tenant} may stand once.
// What is around it, and so every name that comes of it, keeps the rules of
// ParseBucket.
func ParseBucketTemplate(s string) (BucketTemplate, error) {
	head, tail, found := strings.Cut(s, tenantVariable)
	if !found {
		if strings.ContainsAny(s, "{}") {
			return BucketTemplate{}, fmt.Errorf("%w bucket %q: {tenant} is the only variable", ErrInvalid, s)
		}
		_, err := ParseBucket(s)
		if err != nil {
			return BucketTemplate{}, err
		}
		return BucketTemplate{head: s}, nil
	}
	// A tenant of three letters is a bucket's name by itself, so that nothing but
	// what stands around it can be at fault.
	if _, err := ParseBucket(head + "aaa" + tail); err != nil {
		return BucketTemplate{}, fmt.Errorf("%w (with %q for the tenant)", err, "aaa")
	}
	return BucketTemplate{head: head, tail: tail, perTenant: true}, nil
}

// IsZero reports whether b is the zero value, which names no bucket.
func (b BucketTemplate) IsZero() bool { return b == BucketTemplate{} }

// Bare reports whether a bucket's name is the tenant's and nothing else.
func (b BucketTemplate) Bare() bool { return b.perTenant && b.head == "" && b.tail == "" }

// PerTenant reports whether each tenant has a bucket of its own.
func (b BucketTemplate) PerTenant() bool { return b.perTenant }

// MaxTenant returns the length of the longest tenant that has a bucket.
func (b BucketTemplate) MaxTenant() int {
	if !b.perTenant {
		return maxTenantBytes
	}
	return maxBucketBytes - len(b.head) - len(b.tail)
}

// String returns the template as it was written.
func (b BucketTemplate) String() string {
	if !b.perTenant {
		return b.head
	}
	return b.head + tenantVariable + b.tail
}

// Render fills the variable. A tenant that gives no name that S3 takes (one with
// a capital letter or an underscore, or too long) is refused: folded or cut, two
// tenants could come to one bucket.
func (b BucketTemplate) Render(tenant Tenant) (Bucket, error) {
	if !b.perTenant {
		return ParseBucket(b.head)
	}
	if tenant.IsZero() {
		return Bucket{}, fmt.Errorf("%w bucket %q: no tenant", ErrInvalid, b)
	}
	return ParseBucket(b.head + tenant.String() + b.tail)
}

// meets reports whether a name of b could be a name of other.
func (b BucketTemplate) meets(other BucketTemplate) bool {
	switch {
	case !b.perTenant && !other.perTenant:
		return b.head == other.head
	case b.perTenant && other.perTenant:
		return (strings.HasPrefix(b.head, other.head) || strings.HasPrefix(other.head, b.head)) &&
			(strings.HasSuffix(b.tail, other.tail) || strings.HasSuffix(other.tail, b.tail))
	case other.perTenant:
		return other.meets(b)
	}
	rest, begins := strings.CutPrefix(other.head, b.head)
	name, ends := strings.CutSuffix(rest, b.tail)
	_, err := ParseTenant(name)
	return begins && ends && err == nil
}

// Layout is where a grant's tenants have their files. The zero value is nowhere
// and is refused.
type Layout struct {
	Bucket BucketTemplate
	Prefix Template
}

// Validate reports what keeps l from holding tenants apart: a part is missing,
// or {tenant} is neither in the bucket nor in the prefix.
func (l Layout) Validate() error {
	switch {
	case l.Bucket.IsZero():
		return fmt.Errorf("%w bucket: missing", ErrInvalid)
	case l.Prefix.IsZero():
		return fmt.Errorf("%w prefix: missing", ErrInvalid)
	case !l.Bucket.perTenant && !l.Prefix.has(tenantVariable):
		return fmt.Errorf("%w prefix %q: {tenant} must occur in it, or in the bucket, or tenants would share it", ErrInvalid, l.Prefix)
	}
	return nil
}

// Place returns the bucket and the prefix of a tenant and a user. No two tenants
// have the same place, nor one within the other's.
func (l Layout) Place(tenant Tenant, user User) (Bucket, Prefix, error) {
	if err := l.Validate(); err != nil {
		return Bucket{}, Prefix{}, err
	}
	bucket, err := l.Bucket.Render(tenant)
	if err != nil {
		return Bucket{}, Prefix{}, err
	}
	prefix, err := l.Prefix.Render(tenant, user)
	return bucket, prefix, err
}

// Overlaps reports whether some tenant's place under l could be, contain, or lie
// inside a different tenant's place under other. It may say so of places that no
// real names bring together; it is never silent about a pair that one does.
func (l Layout) Overlaps(other Layout) bool {
	if l.Bucket.perTenant && l.Bucket == other.Bucket {
		return false // one bucket, one tenant
	}
	return l.Bucket.meets(other.Bucket) && l.Prefix.Overlaps(other.Prefix)
}
