package broker

import (
	"fmt"
	"regexp"
	"strings"

	"credential-broker/policy"
)

// RoleARN names an IAM role. It is comparable; the zero value names none.
type RoleARN struct{ text string }

// roleARN is the form of a role's ARN, path included.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
var roleARN = regexp.MustCompile(`\Aarn:(aws|aws-cn|aws-us-gov):iam::([0-9]{12}):role/((?:[!-~]+/)?[A-Za-z0-9_+=,.@-]{1,64})\z`)

// ParseRoleARN reads the ARN of a role in one of the known partitions.
func ParseRoleARN(s string) (RoleARN, error) {
	if len(s) > 2048 || !roleARN.MatchString(s) { // STS: 20 to 2048 characters
		return RoleARN{}, fmt.Errorf("role ARN %q: not of the form arn:aws:iam::123456789012:role/name", s)
	}
	return RoleARN{text: s}, nil
}

// String returns the ARN, and "" for the zero value.
func (r RoleARN) String() string { return r.text }

// IsZero reports whether r names no role.
func (r RoleARN) IsZero() bool { return r.text == "" }

// Partition returns the partition of the ARN.
func (r RoleARN) Partition() policy.Partition { return policy.Partition(r.field(1)) }

// Account returns the twelve digits of the role's account.
func (r RoleARN) Account() string { return r.field(4) }

// Name returns the role's name without its path.
func (r RoleARN) Name() string { return r.text[strings.LastIndex(r.text, "/")+1:] }

// SessionARN returns the ARN under which a session of the role acts. The path
// of a role is not part of it.
func (r RoleARN) SessionARN(sessionName string) string {
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", r.Partition(), r.Account(), r.Name(), sessionName)
}

// field returns the i-th field of the ARN, from 0; the zero value has none.
func (r RoleARN) field(i int) string {
	field, rest, _ := strings.Cut(r.text, ":")
	for range i {
		field, rest, _ = strings.Cut(rest, ":")
	}
	return field
}
