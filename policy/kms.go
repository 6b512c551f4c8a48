package policy

import (
	"fmt"
	"regexp"
)

// KMSKey is the ARN of a KMS key with which a bucket's objects are encrypted. It
// is comparable; the zero value is no key: S3's own encryption needs no right.
type KMSKey struct{ partition, region, arn string }

// kmsKey is the form of a key's ARN. An alias is not taken: KMS compares a
// policy's resource with the key, never with its alias.
// https://docs.aws.amazon.com/kms/latest/developerguide/cmks-in-iam-policies.html
var kmsKey = regexp.MustCompile(`\Aarn:(aws|aws-cn|aws-us-gov):kms:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:key/[A-Za-z0-9-]{1,64}\z`)

// ParseKMSKey reads a key's ARN. The empty text gives the zero value.
func ParseKMSKey(s string) (KMSKey, error) {
	if s == "" {
		return KMSKey{}, nil
	}
	m := kmsKey.FindStringSubmatch(s)
	if m == nil {
		return KMSKey{}, fmt.Errorf("%w KMS key %q: not of the form arn:aws:kms:eu-west-1:123456789012:key/ID; an alias does not work in a policy", ErrInvalid, s)
	}
	return KMSKey{partition: m[1], region: m[2], arn: s}, nil
}

// IsZero reports whether there is no key.
func (k KMSKey) IsZero() bool { return k.arn == "" }

// Region returns the key's region, which is that of every bucket it is used for.
func (k KMSKey) Region() string { return k.region }

// String returns the ARN, and "" for the zero value.
func (k KMSKey) String() string { return k.arn }

// viaS3 returns the values that kms:ViaService has when S3 of the key's region
// asks. In China the service's name was not found written down: it has the
// partition's own domain or the common one, and both can only be S3.
// https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
func (k KMSKey) viaS3() []string {
	service := "s3." + k.region + ".amazonaws.com"
	if k.partition == string(AWSChina) {
		return []string{service + ".cn", service}
	}
	return []string{service}
}
