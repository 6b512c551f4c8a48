package auditlog

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"credential-broker/broker"
)

// What can be kept as a pseudonym.
const (
	Subject = "subject"
	Address = "address"
)

// minKeyBytes is the strength of HMAC-SHA-256: from fewer, whoever has the records
// could try keys.
const minKeyBytes = 32

// Pseudonyms puts keyed hashes (HMAC-SHA-256) in the place of subjects and
// addresses. The same key gives the same ones, so that records of one person can
// be told to belong together; whoever has the key can ask whether somebody is
// meant, and nobody else can. A nil one does nothing.
type Pseudonyms struct {
	key    broker.Secret
	id     string
	fields map[string]bool
}

// NewPseudonyms takes a key of at least 32 bytes, the ends of lines after it
// aside, and what to hide: Subject, Address.
func NewPseudonyms(key []byte, fields ...string) (*Pseudonyms, error) {
	if key = bytes.TrimRight(key, "\r\n"); len(key) < minKeyBytes {
		return nil, fmt.Errorf("key of pseudonyms: %d bytes, at least %d", len(key), minKeyBytes)
	}
	p := &Pseudonyms{key: broker.NewSecret(string(key)), fields: map[string]bool{}}
	for _, f := range fields {
		if f != Subject && f != Address {
			return nil, fmt.Errorf("pseudonyms of %q: subject and address are known", f)
		}
		p.fields[f] = true
	}
	if len(fields) == 0 {
		return nil, errors.New("pseudonyms of nothing")
	}
	p.id = hex.EncodeToString(p.sum("key"))[:8]
	return p, nil
}

// sum is the keyed hash of texts, which a length before each keeps apart.
func (p *Pseudonyms) sum(texts ...string) []byte {
	mac := hmac.New(sha256.New, []byte(p.key.Reveal()))
	for _, t := range texts {
		_, _ = fmt.Fprintf(mac, "%d:%s", len(t), t) // hash.Hash never returns an error
	}
	return mac.Sum(nil)
}

// name writes a pseudonym: what made it, with which key, and the hash.
func (p *Pseudonyms) name(texts ...string) string {
	return "hmac-sha256:" + p.id + ":" + hex.EncodeToString(p.sum(texts...))
}

// Subject returns the pseudonym of an issuer's subject.
func (p *Pseudonyms) Subject(issuer, subject string) string { return p.name(Subject, issuer, subject) }

// Address returns the pseudonym of an address.
func (p *Pseudonyms) Address(address string) string { return p.name(Address, address) }

// Hides reports whether what is named is kept as a pseudonym.
func (p *Pseudonyms) Hides(field string) bool { return p != nil && p.fields[field] }

// apply hides what is to be hidden, in the reason too.
func (p *Pseudonyms) apply(r *broker.Record) {
	if p.Hides(Subject) && r.Subject != "" {
		hide(r, &r.Subject, p.Subject(r.Issuer, r.Subject))
	}
	if p.Hides(Address) && r.Address != "" {
		hide(r, &r.Address, p.Address(r.Address))
	}
}

// hide replaces a text of a record, wherever it stands. In a reason it may stand
// in quotes, with what quoting makes of it.
func hide(r *broker.Record, text *string, with string) {
	quoted := strconv.Quote(*text)
	r.Reason = strings.NewReplacer(quoted, with, *text, with).Replace(r.Reason)
	*text = with
}
