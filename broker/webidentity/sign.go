package webidentity

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"credential-broker/broker"
)

// signer signs with one key. This file is the only one that uses jwx to sign.
type signer struct {
	id        string // RFC 7638 thumbprint, the `kid`
	algorithm string
	public    json.RawMessage // JWK
	key       crypto.Signer
}

func newSigner(pem broker.Secret) (signer, error) {
	key, algorithm, err := readKey([]byte(pem.Reveal()))
	if err != nil {
		return signer{}, err
	}
	public, err := jwk.FromRaw(key.Public())
	if err != nil {
		return signer{}, fmt.Errorf("publish key: %w", err)
	}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return signer{}, fmt.Errorf("publish key: %w", err)
	}
	s := signer{id: base64.RawURLEncoding.EncodeToString(thumbprint), algorithm: algorithm, key: key}
	// No key_ops: STS does not use a key that has them.
	for name, value := range map[string]any{jwk.KeyIDKey: s.id, jwk.AlgorithmKey: algorithm, jwk.KeyUsageKey: "sig"} {
		if err := public.Set(name, value); err != nil {
			return signer{}, fmt.Errorf("publish key: %w", err)
		}
	}
	if s.public, err = json.Marshal(public); err != nil {
		return signer{}, fmt.Errorf("publish key: %w", err)
	}
	return s, nil
}

// sign returns the compact JWS of the payload.
func (s signer) sign(payload []byte) (string, error) {
	headers := jws.NewHeaders()
	for name, value := range map[string]string{jws.KeyIDKey: s.id, jws.TypeKey: "JWT"} {
		if err := headers.Set(name, value); err != nil {
			return "", err
		}
	}
	token, err := jws.Sign(payload, jws.WithKey(jwa.SignatureAlgorithm(s.algorithm), s.key, jws.WithProtectedHeaders(headers)))
	return string(token), err
}
