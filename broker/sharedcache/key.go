package sharedcache

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"credential-broker/broker"
)

// entryKey is where an entry is kept, and what is bound into its seal.
type entryKey struct {
	context []byte   // everything that shapes an answer, and whose it is
	names   []string // of the entry, by each key of the ring: it may have been sealed by any
	lock    string   // of who asks STS for it
}

// keyOf has in it what the replica's own cache has in its key: configuration
// revision, identity, the key that proved the token, the policy and the scope; and
// the name of the session.
func keyOf(r keyring, o broker.Order) entryKey {
	id := o.Identity
	f := fields{}
	f.add(o.Revision, id.Issuer, id.Subject, id.Client, strconv.Itoa(len(id.Audience)))
	f.add(id.Audience...)
	f.add(id.KeyID, id.KeyThumbprint, o.Document.Digest(), o.SessionName)
	f.scope(o.Scope)
	k := entryKey{context: f}
	for _, key := range r {
		// Braces keep an entry and its lock on one node of a cluster.
		k.names = append(k.names, "cb:{"+key.hash("entry", f)+"}")
	}
	k.lock = k.names[0] + "l"
	return k
}

// fields are texts, each with its length before it: no two lists make the same.
type fields []byte

func (f *fields) add(all ...string) {
	for _, s := range all {
		*f = binary.AppendUvarint(*f, uint64(len(s)))
		*f = append(*f, s...)
	}
}

func (f *fields) scope(s broker.Scope) {
	ip := ""
	if s.S3.SourceIP.IsValid() {
		ip = s.S3.SourceIP.String()
	}
	f.add(
		s.Grant, s.Tenant.String(), s.User.String(), s.RoleARN.String(), s.Region, s.Duration.String(),
		string(s.S3.Partition), s.S3.Bucket.String(), s.S3.Prefix.String(), s.S3.Path.String(), strconv.Itoa(int(s.S3.Access)), s.S3.KMSKey.String(), ip,
	)
}

func scopeDigest(s broker.Scope) []byte {
	f := fields{}
	f.scope(s)
	sum := sha256.Sum256(f)
	return sum[:]
}
