package idtoken

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// This file is the only one here that knows jwx. jwx sees no token, no header, no
// key set and nothing that an issuer or a caller wrote beyond the numbers of one
// key: measured on v2.1.7, its parsers take unsigned members of JSON
// serialisations for claims, lose a whole set to one odd key, ignore `crit` and
// the header's `alg`, and have settings that are global to the process.

// key is one public key with the one algorithm that it verifies.
type key struct {
	alg        string
	thumbprint string // RFC 7638, SHA-256, base64url
	public     any    // *rsa.PublicKey or *ecdsa.PublicKey
	verifier   jws.Verifier
}

// newKey makes a key of a JWK's members, which must have been checked: `kty` and
// the numbers of that type, no more.
func newKey(alg string, members map[string]string) (key, error) {
	data, err := json.Marshal(members)
	if err != nil {
		return key{}, fmt.Errorf("write JWK: %w", err)
	}
	parsed, err := jwk.ParseKey(data)
	if err != nil {
		return key{}, errors.New("parse JWK") // the cause may quote the key
	}
	// RFC 7638 §3.2: exactly the members that make the key, in the order of their
	// names, without a space: what encoding/json writes of such a map.
	sum := sha256.Sum256(data)
	k := key{alg: alg, thumbprint: base64.RawURLEncoding.EncodeToString(sum[:])}
	if err := parsed.Raw(&k.public); err != nil {
		return key{}, errors.New("read public key")
	}
	if k.verifier, err = jws.NewVerifier(jwa.SignatureAlgorithm(alg)); err != nil {
		return key{}, fmt.Errorf("algorithm %q: %w", alg, err)
	}
	return k, nil
}

// signed reports whether signature is the key's over text.
func (k key) signed(text string, signature []byte) bool {
	return k.verifier.Verify([]byte(text), signature, k.public) == nil
}
