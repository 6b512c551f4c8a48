package policy

import "fmt"

// maxTenantBytes bounds a tenant's name. Auth0 organisation ids ("org_" and 16
// characters) and UUIDs fit easily, and a prefix that holds the longest name
// twice stays far below the 2048 bytes of a session policy.
const maxTenantBytes = 63

// Tenant is the name of one tenant, safe in an S3 key, an ARN, a policy
// condition and a session tag. The zero value is no tenant and is refused
// wherever a Tenant is taken.
type Tenant struct{ name string }

// ParseTenant is the only maker of a Tenant. The grammar is
// [A-Za-z0-9][A-Za-z0-9_-]{0,62}, matched to the last byte: no dots, slashes,
// wildcards, policy variables, spaces, percent signs, control characters or
// anything outside ASCII. Case is kept and matters, as it does in S3 keys.
// Nothing is trimmed, folded or escaped.
func ParseTenant(s string) (Tenant, error) {
	if s == "" {
		return Tenant{}, fmt.Errorf("%w tenant: empty", ErrInvalid)
	}
	if len(s) > maxTenantBytes {
		return Tenant{}, fmt.Errorf("%w tenant: %d bytes, at most %d", ErrInvalid, len(s), maxTenantBytes)
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && (i == 0 || s[i] != '_' && s[i] != '-') {
			return Tenant{}, fmt.Errorf("%w tenant: byte %d is %q; letters, digits, and after the first also _ and -", ErrInvalid, i, s[i])
		}
	}
	return Tenant{name: s}, nil
}

// String returns the name as it was parsed, and "" for the zero value.
func (t Tenant) String() string { return t.name }

// IsZero reports whether t is the zero value, which names no tenant.
func (t Tenant) IsZero() bool { return t.name == "" }

// User is the opaque name under which one person or service appears in keys,
// tags, session names and AWS's logs. The zero value is nobody and is refused.
type User struct{ name string }

// UserOf names the subject of an issuer. The name is stable, injective (see
// OpaqueName) and says nothing of the subject, which may hold anything at all
// and appears in clear in CloudTrail otherwise.
func UserOf(issuer, subject string) User {
	if issuer == "" || subject == "" {
		return User{}
	}
	return User{name: OpaqueName("user", issuer, subject)}
}

// String returns the name, 52 characters of [a-z2-7], and "" for the zero value.
func (u User) String() string { return u.name }

// IsZero reports whether u is the zero value, which names nobody.
func (u User) IsZero() bool { return u.name == "" }

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
