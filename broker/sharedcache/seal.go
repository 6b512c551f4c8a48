package sharedcache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"credential-broker/broker"
)

const (
	// KeyBytes is the length of a key.
	KeyBytes = 32
	// maxKeys bounds how many there are: one that seals, one that did, one that will.
	maxKeys = 8
	// maxSealed bounds what is opened. An entry has 2 kB: STS says that a session token
	// may grow, and names no limit.
	maxSealed = 64 << 10

	version   = 1
	idBytes   = 4
	saltBytes = 16
)

// ParseKeys reads a file of keys: one on a line, 32 random bytes in base64. The
// first seals, all open, so that a key is changed by adding the next one below,
// everywhere; then by putting it first, everywhere; then by taking the old one away.
// The error holds none of them.
func ParseKeys(data []byte) ([]broker.Secret, error) {
	var keys []broker.Secret
	for n, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(line))
		if err != nil || len(key) != KeyBytes {
			return nil, fmt.Errorf("line %d: not %d bytes in base64, as openssl rand -base64 32 makes them", n+1, KeyBytes)
		}
		keys = append(keys, broker.NewSecret(string(key)))
	}
	return keys, nil
}

// key is what is derived of one key: for each use its own (RFC 5869).
type key struct {
	id   [idBytes]byte // tells in the open which key sealed
	name []byte        // of keyed hashes
	seal []byte
}

// keyring are all of them, the one that seals first: by pointers, so that who prints
// one sees addresses.
type keyring []*key

func newKeyring(secrets []broker.Secret) (keyring, error) {
	if len(secrets) == 0 || len(secrets) > maxKeys {
		return nil, fmt.Errorf("%d keys: 1 to %d", len(secrets), maxKeys)
	}
	var ring keyring
	for _, s := range secrets {
		secret := []byte(s.Reveal())
		if len(secret) != KeyBytes {
			return nil, fmt.Errorf("a key of %d bytes: %d are needed", len(secret), KeyBytes)
		}
		k := &key{}
		id, err0 := derive(secret, nil, "id", idBytes)
		name, err1 := derive(secret, nil, "name", KeyBytes)
		seal, err2 := derive(secret, nil, "seal", KeyBytes)
		if err := errors.Join(err0, err1, err2); err != nil {
			return nil, err
		}
		k.name, k.seal = name, seal
		copy(k.id[:], id)
		for _, other := range ring {
			if other.id == k.id {
				return nil, errors.New("a key is given twice")
			}
		}
		ring = append(ring, k)
	}
	return ring, nil
}

func derive(secret, salt []byte, use string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, salt, "credential-broker shared cache "+use, n)
}

// hash names something without saying it.
func (k *key) hash(label string, what []byte) string {
	mac := hmac.New(sha256.New, k.name)
	mac.Write([]byte(label))
	mac.Write([]byte{0})
	mac.Write(what)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// aead is AES-256-GCM under a key of its own for each salt: GCM's random nonces are
// good for 2^32 messages (NIST SP 800-38D §8.3), which ten million users seal in
// nine days.
func (k *key) aead(salt []byte) (cipher.AEAD, error) {
	derived, err := derive(k.seal, salt, "message", KeyBytes)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal closes a text, for the use and the context that are bound into it:
//
//	version ∥ key id ∥ salt ∥ nonce ∥ AES-256-GCM(text), all but salt and nonce authenticated
func (r keyring) seal(use string, context, text []byte) ([]byte, error) {
	k := r[0]
	head := append([]byte{version}, k.id[:]...)
	out := append(bytes.Clone(head), make([]byte, saltBytes)...)
	_, _ = rand.Read(out[len(head):]) // never fails
	aead, err := k.aead(out[len(head):])
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, text, bound(head, use, context)), nil
}

// errSealed says that a text does not open, and not why.
var errSealed = errors.New("does not open")

// open gives what was sealed for the same use and context, by any of the keys.
func (r keyring) open(use string, context, sealed []byte) ([]byte, error) {
	if !closed(sealed) {
		return nil, errSealed
	}
	for _, k := range r {
		if !bytes.Equal(k.id[:], sealed[1:headBytes]) {
			continue
		}
		aead, err := k.aead(sealed[headBytes : headBytes+saltBytes])
		if err != nil {
			return nil, err
		}
		rest := sealed[headBytes+saltBytes:]
		if len(rest) < aead.NonceSize() {
			return nil, errSealed
		}
		nonce, text := rest[:aead.NonceSize()], rest[aead.NonceSize():]
		plain, err := aead.Open(nil, nonce, text, bound(sealed[:headBytes], use, context))
		if err != nil {
			return nil, errSealed
		}
		return plain, nil
	}
	return nil, errSealed
}

// headBytes are the version and the key's id.
const headBytes = 1 + idBytes

// closed reports whether a text may be one that was sealed, by whatever key.
func closed(text []byte) bool {
	return len(text) >= headBytes+saltBytes && len(text) <= maxSealed && text[0] == version
}

// foreign reports whether a text says that it was sealed by a key that is none of
// these.
func (r keyring) foreign(sealed []byte) bool {
	return closed(sealed) && !slices.ContainsFunc(r, func(k *key) bool { return bytes.Equal(k.id[:], sealed[1:headBytes]) })
}

// bound is what is authenticated beside the text.
func bound(head []byte, use string, context []byte) []byte {
	out := bytes.Clone(head)
	out = binary.BigEndian.AppendUint32(out, uint32(len(use))) //nolint:gosec // a word of ours
	out = append(out, use...)
	return append(out, context...)
}

// body is what an entry holds.
type body struct {
	AccessKeyID     string    `json:"a"`
	SecretAccessKey string    `json:"s"`
	SessionToken    string    `json:"t"`
	IssuedAt        time.Time `json:"i"`
	Expiration      time.Time `json:"e"`
	NotAfter        time.Time `json:"n"` // of the order that they were made for
	SessionName     string    `json:"c"`
	Scope           []byte    `json:"p"` // its digest
	Seen            position  `json:"j"` // of the journal, before STS was asked
}

func sealEntry(r keyring, k entryKey, order broker.Order, c broker.Credentials, seen position) ([]byte, error) {
	text, err := json.Marshal(body{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey.Reveal(), SessionToken: c.SessionToken.Reveal(),
		IssuedAt: c.IssuedAt.Round(0), Expiration: c.Expiration, NotAfter: order.NotAfter,
		SessionName: c.SessionName, Scope: scopeDigest(c.Scope), Seen: seen,
	})
	if err != nil {
		return nil, err
	}
	return r.seal("entry", k.context, text)
}

// errElse says that an entry opens and is of something else.
var errElse = errors.New("shouldn't happen: an entry of another scope or session")

// openEntry gives the credentials of an entry for the order that it is named after.
func openEntry(r keyring, k entryKey, order broker.Order, sealed []byte) (broker.Credentials, body, error) {
	text, err := r.open("entry", k.context, sealed)
	if err != nil {
		return broker.Credentials{}, body{}, err
	}
	var b body
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&b); err != nil {
		return broker.Credentials{}, body{}, errSealed
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return broker.Credentials{}, body{}, errSealed
	}
	if !hmac.Equal(b.Scope, scopeDigest(order.Scope)) || b.SessionName != order.SessionName {
		return broker.Credentials{}, body{}, errElse
	}
	return broker.Credentials{
		AccessKeyID: b.AccessKeyID, SecretAccessKey: broker.NewSecret(b.SecretAccessKey), SessionToken: broker.NewSecret(b.SessionToken),
		IssuedAt: b.IssuedAt, Expiration: b.Expiration, SessionName: b.SessionName, Scope: order.Scope, Source: broker.FromShared,
	}, b, nil
}
