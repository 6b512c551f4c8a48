// Package policy turns a tenant, an access level and a prefix into the IAM
// session policy that confines S3 to them, and proves that a policy does.
//
// It is pure: no I/O, no clock, no SDK, no randomness. The same scope gives the
// same bytes. Values that reach a policy have types that only their parsers
// make (Tenant, User, Bucket, Template, Prefix, Path); their grammars leave out
// every character that the IAM policy language gives a meaning to (`*`, `?`,
// `$`, `{`, `}`), so nothing is ever escaped: the escapes `${*}`, `${?}` and
// `${$}` of IAM are not honoured by the S3-compatible servers in use, where an
// escaped wildcard would match the wrong keys.
//
// Generate writes a document and Confined judges one. They share the types in
// their signatures and nothing else: a misreading of the policy language in one
// of them is not repeated by the other.
package policy

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
)

// ErrInvalid is wrapped by every error of the parsers in this package: the
// value given does not follow the grammar.
var ErrInvalid = errors.New("invalid")

// OpaqueName returns a stable name of the fields: 52 characters of [a-z2-7],
// the base32 of a SHA-256 over the label and the length-prefixed fields. Two
// different labels or lists of fields give different names (to the strength of
// SHA-256; the length prefixes make the encoding injective, so that ("a|b","c")
// and ("a","b|c") differ), and the name tells nothing about the fields to who
// cannot guess them.
func OpaqueName(label string, fields ...string) string {
	h := sha256.New()
	write := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = h.Write(n[:]) // hash.Hash never returns an error
		_, _ = h.Write([]byte(s))
	}
	write(label)
	for _, f := range fields {
		write(f)
	}
	return lowerBase32.EncodeToString(h.Sum(nil))
}

// lowerBase32 is RFC 4648 base32 in lower case without padding: legal in an S3
// key, an ARN, a session tag and a role session name alike.
var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
