package policy

import (
	"fmt"
	"slices"
	"strings"
)

// maxTemplateBytes bounds a template or a path: rendered with the longest names
// (63 + 52 bytes) it keeps a key well below S3's 1024 bytes, and a policy, which
// holds it twice, below 2048.
const maxTemplateBytes = 256

const (
	tenantVariable = "{tenant}"
	userVariable   = "{user}"
)

// Template is a prefix with variables: "tenants/{tenant}/". The zero value
// renders nothing.
type Template struct{ segments []string }

// ParseTemplate reads a prefix template. It ends in "/"; each variable
// ({tenant}, {user}) is a whole path segment and occurs at most once; every other
// segment is made of letters, digits and "_.=@-" and is neither "." nor "..".
// That {tenant} is there, or in the bucket, is for Layout to see.
//
// These rules are what keeps tenants apart: because the variable fills its
// segment and a slash follows, the prefixes of two different tenants differ
// within that segment, and so neither contains the other.
func ParseTemplate(s string) (Template, error) {
	segments, err := splitFolder("prefix", s)
	if err != nil {
		return Template{}, err
	}
	count := map[string]int{}
	for _, seg := range segments {
		if seg == tenantVariable || seg == userVariable {
			count[seg]++
			continue
		}
		if strings.ContainsAny(seg, "{}") {
			return Template{}, fmt.Errorf("%w prefix %q: in the segment %q a variable is not the whole segment, or is neither {tenant} nor {user}", ErrInvalid, s, seg)
		}
		if err := checkSegment("prefix", s, seg); err != nil {
			return Template{}, err
		}
	}
	for variable, n := range count {
		if n > 1 {
			return Template{}, fmt.Errorf("%w prefix %q: %s occurs twice", ErrInvalid, s, variable)
		}
	}
	return Template{segments: segments}, nil
}

// IsZero reports whether t is the zero value, which renders nothing.
func (t Template) IsZero() bool { return len(t.segments) == 0 }

// has reports whether the variable is one of the segments.
func (t Template) has(variable string) bool { return slices.Contains(t.segments, variable) }

// String returns the template as it was written.
func (t Template) String() string {
	if t.IsZero() {
		return ""
	}
	return strings.Join(t.segments, "/") + "/"
}

// Render fills the variables. It fails on the zero Template, on a zero tenant,
// and on a zero user where the template names {user}.
func (t Template) Render(tenant Tenant, user User) (Prefix, error) {
	if t.IsZero() {
		return Prefix{}, fmt.Errorf("%w prefix: empty template", ErrInvalid)
	}
	var b strings.Builder
	for _, seg := range t.segments {
		switch seg {
		case tenantVariable:
			seg = tenant.String()
		case userVariable:
			seg = user.String()
		}
		if seg == "" {
			return Prefix{}, fmt.Errorf("%w prefix %q: no value for a variable", ErrInvalid, t)
		}
		b.WriteString(seg)
		b.WriteByte('/')
	}
	return Prefix{text: b.String()}, nil
}

// Overlaps reports whether some tenant's prefix under t could be equal to,
// contain, or lie inside a different tenant's prefix under other, if both are in
// one bucket. "tenants/{tenant}/" and "tenants/shared/{tenant}/" do: the tenant
// named "shared" would own everybody's files. The answer may be true for pairs
// that no real name brings together; it is never false for a pair that one does.
func (t Template) Overlaps(other Template) bool {
	apart := t.IsZero() || other.IsZero() // what renders nothing meets nothing
	for i := range min(len(t.segments), len(other.segments)) {
		a, b := t.segments[i], other.segments[i]
		switch {
		case a == tenantVariable && b == tenantVariable:
			apart = true // equal here only for one and the same tenant
		case isVariable(a) && isVariable(b):
		case isVariable(a):
			apart = apart || !couldFill(a, b)
		case isVariable(b):
			apart = apart || !couldFill(b, a)
		case a != b:
			apart = true
		}
	}
	return !apart
}

func isVariable(seg string) bool { return seg == tenantVariable || seg == userVariable }

// couldFill reports whether the variable may take the literal value.
func couldFill(variable, literal string) bool {
	if variable == userVariable {
		return len(literal) == len(OpaqueName(""))
	}
	_, err := ParseTenant(literal)
	return err == nil
}

// Prefix is a rendered template: where one scope's keys begin. It ends in "/".
// The zero value is no prefix and is refused: it would be the whole bucket.
type Prefix struct{ text string }

// String returns the prefix with its final slash, and "" for the zero value.
func (p Prefix) String() string { return p.text }

// IsZero reports whether p is the zero value.
func (p Prefix) IsZero() bool { return p.text == "" }

// Path is a place below a prefix: a folder when it ends in "/", otherwise one
// object. The zero value is the prefix itself.
type Path struct{ text string }

// ParsePath reads a relative path: segments of letters, digits and "_.=@-"
// separated by single slashes, none of them "." or "..", no slash in front.
// "" gives the zero Path.
func ParsePath(s string) (Path, error) {
	if s == "" {
		return Path{}, nil
	}
	folder := s
	if !strings.HasSuffix(s, "/") {
		folder += "/"
	}
	segments, err := splitFolder("path", folder)
	if err != nil {
		return Path{}, err
	}
	for _, seg := range segments {
		if err := checkSegment("path", s, seg); err != nil {
			return Path{}, err
		}
	}
	return Path{text: s}, nil
}

// IsZero reports whether p is the zero value: the prefix itself.
func (p Path) IsZero() bool { return p.text == "" }

// IsObject reports whether p names a single object rather than a folder.
func (p Path) IsObject() bool { return p.text != "" && !strings.HasSuffix(p.text, "/") }

// String returns the path as it was parsed.
func (p Path) String() string { return p.text }

func splitFolder(what, s string) ([]string, error) {
	if len(s) > maxTemplateBytes {
		return nil, fmt.Errorf("%w %s: %d bytes, at most %d", ErrInvalid, what, len(s), maxTemplateBytes)
	}
	body, ok := strings.CutSuffix(s, "/")
	if !ok {
		return nil, fmt.Errorf("%w %s %q: must end in \"/\", or the prefix of one name would contain that of a longer one", ErrInvalid, what, s)
	}
	return strings.Split(body, "/"), nil
}

func checkSegment(what, whole, seg string) error {
	if seg == "" || seg == "." || seg == ".." {
		return fmt.Errorf("%w %s %q: the segment %q is not allowed", ErrInvalid, what, whole, seg)
	}
	for i := range len(seg) {
		if !isAlnum(seg[i]) && !strings.ContainsRune("_.=@-", rune(seg[i])) {
			return fmt.Errorf("%w %s %q: %q is not allowed; letters, digits and _.=@- are", ErrInvalid, what, whole, seg[i])
		}
	}
	return nil
}
