package policy

import (
	"fmt"
	"strings"
)

// Access is a set of rights. The zero value is no right at all, and no policy
// is made for it.
type Access uint8

// The rights that a grant can give.
const (
	List   Access = 1 << iota // see the names of keys below the prefix
	Read                      // read objects
	Write                     // create and overwrite objects, multipart uploads included
	Delete                    // delete objects
)

// everything is each right in the order in which they are written.
const everything = List | Read | Write | Delete

// ParseAccess reads names of rights: "list", "read", "write", "delete", each at
// most once and at least one.
func ParseAccess(names []string) (Access, error) {
	var a Access
	for _, name := range names {
		right, err := parseRight(name)
		if err != nil {
			return 0, err
		}
		if a.Has(right) {
			return 0, fmt.Errorf("%w access: %q twice", ErrInvalid, name)
		}
		a |= right
	}
	if a == 0 {
		return 0, fmt.Errorf("%w access: empty", ErrInvalid)
	}
	return a, nil
}

func parseRight(name string) (Access, error) {
	for right := List; right <= Delete; right <<= 1 {
		if right.name() == name {
			return right, nil
		}
	}
	return 0, fmt.Errorf("%w access %q: list, read, write and delete are known", ErrInvalid, name)
}

// Has reports whether every right of other is in a.
func (a Access) Has(other Access) bool { return a&other == other }

// Names returns the rights of a in the order list, read, write, delete.
func (a Access) Names() []string {
	var names []string
	for right := List; right <= Delete; right <<= 1 {
		if a.Has(right) {
			names = append(names, right.name())
		}
	}
	return names
}

// AppendJSON appends what Names returns as an array of JSON.
func (a Access) AppendJSON(to []byte) []byte {
	to = append(to, '[')
	first := len(to)
	for right := List; right <= Delete; right <<= 1 {
		if a.Has(right) {
			if len(to) > first {
				to = append(to, ',')
			}
			to = append(append(append(to, '"'), right.name()...), '"')
		}
	}
	return append(to, ']')
}

// String returns the names, separated by commas.
func (a Access) String() string { return strings.Join(a.Names(), ",") }

func (a Access) name() string {
	switch a {
	case List:
		return "list"
	case Read:
		return "read"
	case Write:
		return "write"
	case Delete:
		return "delete"
	default:
		return ""
	}
}

// objectActions returns the S3 actions on objects that a allows, in a fixed
// order. Write brings what a multipart upload needs: the parts themselves are
// s3:PutObject, abort and list-parts are actions of their own.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
func (a Access) objectActions() []string {
	var actions []string
	if a.Has(Read) {
		actions = append(actions, "s3:GetObject")
	}
	if a.Has(Write) {
		actions = append(actions, "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
	}
	if a.Has(Delete) {
		actions = append(actions, "s3:DeleteObject")
	}
	return actions
}

// kmsActions returns the actions on a KMS key that a needs where objects are
// encrypted with one. A multipart upload reads its parts back when it is
// completed, so Write needs to decrypt, too: without it small files work and
// large ones fail.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuAndPermissions.html
func (a Access) kmsActions() []string {
	switch {
	case a.Has(Write):
		return []string{"kms:GenerateDataKey", "kms:Decrypt"}
	case a.Has(Read):
		return []string{"kms:Decrypt"}
	default:
		return nil
	}
}
