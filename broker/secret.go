package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret holds a value that must not be seen: a token, a secret key, a session
// token. It prints as "[redacted]" under every verb of fmt, in JSON, in text and
// in slog. The plaintext stands behind a pointer because fmt cannot call methods
// of an unexported field of a struct that it prints: there it shows an address
// and nothing else. The zero value is no secret. Secrets are immutable, so copies
// may be shared between goroutines.
//
// It is a pointer to text, and must be: of a pointer to a struct, fmt shows what is in
// it where the verb is not for pointers.
type Secret struct {
	plain  *string
	digest *Digest // nil: not made yet
	simple bool    // nothing in it is to be escaped in JSON
}

// NewSecret keeps s; the empty string gives the zero value.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{plain: &s, simple: plain(s)}
}

// NewToken is NewSecret for what is known by its digest, which is made here, once,
// however often it is asked for.
func NewToken(s string) Secret {
	if s == "" {
		return Secret{}
	}
	both := &struct {
		text   string
		digest Digest
	}{s, sum(s)}
	return Secret{plain: &both.text, digest: &both.digest}
}

// Reveal returns the plaintext, and "" for the zero value. It is the only way
// out; the files that may call it are pinned in layout_test.go.
func (s Secret) Reveal() string {
	if s.plain == nil {
		return ""
	}
	return *s.plain
}

// Simple reports whether nothing in the plaintext is to be escaped in JSON, which is
// looked at once, when the secret is made.
func (s Secret) Simple() bool { return s.simple }

// size is how long the plaintext is.
func (s Secret) size() int {
	if s.plain == nil {
		return 0
	}
	return len(*s.plain)
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.plain == nil }

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// sum hashes a text without a copy of it on the heap, if it is no longer than tokens
// usually are.
func sum(text string) Digest {
	var room [2048]byte
	return sha256.Sum256(append(room[:0], text...))
}

// Digest returns the SHA-256 of the plaintext, and the zero value for the zero value.
// Use it only for values of high entropy: a short secret can be found by its digest.
func (s Secret) Digest() Digest {
	switch {
	case s.plain == nil:
		return Digest{}
	case s.digest != nil:
		return *s.digest
	default:
		return sum(*s.plain)
	}
}

// SHA256 returns the digest in hexadecimal, by which logs can tell two tokens apart,
// and "" for the zero value.
func (s Secret) SHA256() string {
	if s.plain == nil {
		return ""
	}
	digest := s.Digest()
	return hex.EncodeToString(digest[:])
}

// Format implements fmt.Formatter for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText implements encoding.TextMarshaler, which JSON uses too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
