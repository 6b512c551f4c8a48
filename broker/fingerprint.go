package broker

import (
	"crypto/sha256"
	"encoding/binary"
)

// Fingerprint names everything that shapes the answer to an order, and whose it is:
// two orders have the same exactly where they agree in all of it. It is a SHA-256,
// since callers have a say in what goes in: of a quick hash they could find two orders
// that are one. The zero value is no order's.
type Fingerprint [sha256.Size]byte

// Fingerprint returns the order's. It is made once for a decision that is kept; of
// another order it is made here.
func (o Order) Fingerprint() Fingerprint {
	if o.decided == nil || o.decided.fingerprint == (Fingerprint{}) {
		return fingerprint(o)
	}
	return o.decided.fingerprint
}

// fingerprint takes in each part with its length before it, so that no two lists of
// parts make the same bytes. Neither the token nor how long a session may last is
// among them: the token proved the identity, which is, and the rest is asked of what
// is held each time. The key that proved the token is, so that what was given for it
// cannot be found once that key is withdrawn.
func fingerprint(o Order) Fingerprint {
	var room [2048]byte // an order has 600 bytes
	to := append(room[:0], "order 1"...)
	id, s := o.Identity, o.Scope
	for _, part := range [...]string{o.Revision, id.Issuer, id.Subject, id.Client, id.KeyID, id.KeyThumbprint, o.Document.Digest(), o.SessionName} {
		to = appendPart(to, part)
	}
	to = binary.AppendUvarint(to, uint64(len(id.Audience)))
	for _, audience := range id.Audience {
		to = appendPart(to, audience)
	}
	for _, part := range [...]string{
		s.Grant, s.Tenant.String(), s.User.String(), s.RoleARN.String(), s.Region,
		string(s.S3.Partition), s.S3.Bucket.String(), s.S3.Prefix.String(), s.S3.Path.String(), s.S3.KMSKey.String(), s.S3.SourceIP.Zone(),
	} {
		to = appendPart(to, part)
	}
	address := s.S3.SourceIP.As16()
	to = append(append(to, byte(s.S3.SourceIP.BitLen())), address[:]...) //nolint:gosec // 0, 32 or 128 bits
	to = append(to, byte(s.S3.Access))
	to = binary.AppendVarint(to, int64(s.Duration))
	return sha256.Sum256(to)
}

func appendPart(to []byte, part string) []byte {
	to = binary.AppendUvarint(to, uint64(len(part)))
	return append(to, part...)
}
