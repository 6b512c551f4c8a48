package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// Partition is a group of AWS regions with ARNs of their own.
type Partition string

// The partitions that have the services the broker needs.
const (
	AWS      Partition = "aws"
	AWSChina Partition = "aws-cn"
	AWSUSGov Partition = "aws-us-gov"
)

// Domain returns the domain under which the partition's services are.
func (p Partition) Domain() string {
	if p == AWSChina {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// PartitionOf returns the partition that a region is in.
func PartitionOf(region string) Partition {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return AWSChina
	case strings.HasPrefix(region, "us-gov-"):
		return AWSUSGov
	default:
		return AWS
	}
}

// Valid reports whether p is one of the known partitions.
func (p Partition) Valid() bool { return p == AWS || p == AWSChina || p == AWSUSGov }

// maxBucketBytes is the length of the longest name that S3 gives a bucket.
const maxBucketBytes = 63

// Bucket is the name of an S3 bucket. The zero value is refused.
type Bucket struct{ name string }

// ParseBucket reads a bucket's name under S3's naming rules: 3 to 63 lower-case
// letters, digits and hyphens, a letter or digit at both ends, none of the
// reserved prefixes and suffixes. Dots are refused although S3 allows them:
// they break the TLS host names of virtual-hosted addresses.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
func ParseBucket(s string) (Bucket, error) {
	if len(s) < 3 || len(s) > maxBucketBytes {
		return Bucket{}, fmt.Errorf("%w bucket %q: 3 to %d characters", ErrInvalid, s, maxBucketBytes)
	}
	for i := range len(s) {
		c := s[i]
		lower := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		inner := c == '-' && i != 0 && i != len(s)-1
		if !lower && !inner {
			return Bucket{}, fmt.Errorf("%w bucket %q: lower-case letters, digits and inner hyphens only", ErrInvalid, s)
		}
	}
	for _, reserved := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(s, reserved) {
			return Bucket{}, fmt.Errorf("%w bucket %q: the prefix %q is reserved", ErrInvalid, s, reserved)
		}
	}
	for _, reserved := range []string{"-s3alias", "--ol-s3", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(s, reserved) {
			return Bucket{}, fmt.Errorf("%w bucket %q: the suffix %q is reserved", ErrInvalid, s, reserved)
		}
	}
	return Bucket{name: s}, nil
}

// String returns the bucket's name, and "" for the zero value.
func (b Bucket) String() string { return b.name }

// IsZero reports whether b is the zero value.
func (b Bucket) IsZero() bool { return b.name == "" }

// Scope is the part of S3 that one document may open. It is comparable, and
// two scopes are equal exactly when they open the same. The zero value opens
// nothing and is refused.
type Scope struct {
	Partition Partition
	Bucket    Bucket
	Prefix    Prefix // every key of the scope begins with it
	Path      Path   // narrows to a folder or to one object below Prefix
	Access    Access
	KMSKey    KMSKey     // with which the bucket's objects are encrypted; zero: S3's own
	SourceIP  netip.Addr // the only address from which requests are let through; zero: any
}

// Key returns the prefix with the path: what every key of the scope begins
// with, or, when the path names an object, the one key of the scope.
func (s Scope) Key() string { return s.Prefix.String() + s.Path.String() }

// Validate reports what keeps s from being a scope: an unknown partition, a
// missing bucket, prefix or right, a listing of what is one object, another
// partition's key, or an address that IAM could not compare.
func (s Scope) Validate() error {
	switch {
	case !s.Partition.Valid():
		return fmt.Errorf("%w scope: partition %q", ErrInvalid, s.Partition)
	case s.Bucket.IsZero():
		return fmt.Errorf("%w scope: no bucket", ErrInvalid)
	case s.Prefix.IsZero():
		return fmt.Errorf("%w scope: no prefix", ErrInvalid)
	case s.Access == 0 || s.Access&^everything != 0:
		return fmt.Errorf("%w scope: access %#x", ErrInvalid, uint8(s.Access))
	case s.Path.IsObject() && s.Access.Has(List):
		return fmt.Errorf("%w scope: one object cannot be listed", ErrInvalid)
	case !s.KMSKey.IsZero() && s.KMSKey.partition != string(s.Partition):
		return fmt.Errorf("%w scope: the KMS key %s is not in partition %s", ErrInvalid, s.KMSKey, s.Partition)
	case s.SourceIP.Zone() != "" || s.SourceIP.Is4In6():
		return fmt.Errorf("%w scope: source address %s", ErrInvalid, s.SourceIP)
	}
	return nil
}
