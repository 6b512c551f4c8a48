package idtoken

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
)

// maxKeys bounds a set. An issuer has two or three keys, a big one under ten.
const maxKeys = 20

// The bounds of an RSA modulus, in bits: below, it can be factored (NIST SP
// 800-131A); above, one verification costs milliseconds.
const (
	minModulus = 2048
	maxModulus = 4096
)

// publicExponent is 65537, the one in use. An exponent of 1 would make every
// signature good, and a long one is slow.
const publicExponent = "AQAB"

// algorithm is what a signature algorithm demands of a key (RFC 7518 §3).
type algorithm struct {
	kty, crv string
	size     int // of a coordinate, in bytes
}

// algorithms are those that can be configured: what STS takes of web identity
// tokens. The zero value stands for all others.
func algorithms(name string) algorithm {
	switch name {
	case "RS256", "RS384", "RS512":
		return algorithm{kty: "RSA"}
	case "ES256":
		return algorithm{"EC", "P-256", 32}
	case "ES384":
		return algorithm{"EC", "P-384", 48}
	case "ES512":
		return algorithm{"EC", "P-521", 66}
	}
	return algorithm{}
}

// errSecret says that a public document shows a secret.
var errSecret = errors.New("secret key material in a public key set")

// parseKeySet reads a JWK set (RFC 7517 §5) into keys by kid. A key that is not
// for us is left out and logged; an answer that is no sound set, or has no key
// for us, is refused whole.
func parseKeySet(data []byte, log *slog.Logger) (map[string]key, error) {
	set, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	list, ok := set["keys"].([]any)
	if !ok {
		return nil, errors.New("keys is not an array")
	}
	if len(list) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	keys := map[string]key{}
	seen := map[string]bool{} // :: kid → it stood before, be it used or not
	for _, element := range list {
		jwk, ok := element.(map[string]any)
		if !ok {
			return nil, errors.New("a key is not an object")
		}
		kid, _ := jwk["kid"].(string)
		if seen[kid] && kid != "" {
			return nil, fmt.Errorf("kid %s stands twice", quote(kid))
		}
		seen[kid] = true
		k, err := parseJWK(jwk)
		if err != nil {
			level := slog.LevelInfo
			if errors.Is(err, errSecret) {
				level = slog.LevelError // the issuer must be told: the secret is out
			}
			log.LogAttrs(context.Background(), level, "leave out a signing key", slog.String("kid", quote(kid)), slog.String("reason", err.Error()))
			continue
		}
		keys[kid] = k
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of %d keys can be used", len(list))
	}
	return keys, nil
}

// parseJWK makes a key of one JWK, or says why it is left out.
func parseJWK(jwk map[string]any) (key, error) {
	kty, _ := jwk["kty"].(string)
	if kty == "oct" {
		return key{}, errSecret
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} { // RFC 7518 §6.2.2, §6.3.2, §6.4
		if _, ok := jwk[name]; ok {
			return key{}, errSecret
		}
	}
	if _, err := keyID(jwk); err != nil {
		return key{}, err
	}
	if use, ok := jwk["use"]; ok && use != "sig" {
		return key{}, errors.New("use is not sig")
	}
	if ops, ok := jwk["key_ops"]; ok {
		if list, _ := ops.([]any); !slices.Contains(list, any("verify")) {
			return key{}, errors.New("key_ops without verify")
		}
	}
	name, err := algorithmOf(jwk)
	if err != nil {
		return key{}, err
	}
	if kty == "RSA" {
		return parseRSA(name, jwk)
	}
	return parseEC(name, jwk)
}

// algorithmOf is the one algorithm that a key verifies: its `alg`, or where it has
// none, the one that is taken for granted for its type and curve.
func algorithmOf(jwk map[string]any) (string, error) {
	kty, _ := jwk["kty"].(string)
	crv, _ := jwk["crv"].(string)
	name, ok := map[string]string{"RSA": "RS256", "EC P-256": "ES256", "EC P-384": "ES384", "EC P-521": "ES512"}[join(kty, crv)]
	if !ok {
		return "", fmt.Errorf("type %s with curve %s is not known", quote(kty), quote(crv))
	}
	if alg, present := jwk["alg"]; present {
		name, _ = alg.(string)
	}
	a := algorithms(name)
	if a.kty != kty || kty == "EC" && a.crv != crv {
		return "", fmt.Errorf("alg %s is not one for type %s", quote(name), kty)
	}
	return name, nil
}

// join names a type and, where the type has them, its curve.
func join(kty, crv string) string {
	if kty == "EC" {
		return kty + " " + crv
	}
	return kty
}

func parseRSA(alg string, jwk map[string]any) (key, error) {
	n, _ := jwk["n"].(string)
	modulus, err := decodeBase64(n)
	if err != nil {
		return key{}, fmt.Errorf("modulus: %w", err)
	}
	if bits := new(big.Int).SetBytes(modulus).BitLen(); bits < minModulus || bits > maxModulus {
		return key{}, fmt.Errorf("modulus of %d bits: between %d and %d", bits, minModulus, maxModulus)
	}
	if jwk["e"] != publicExponent {
		return key{}, errors.New("exponent is not 65537")
	}
	return newKey(alg, map[string]string{"kty": "RSA", "n": n, "e": publicExponent})
}

func parseEC(alg string, jwk map[string]any) (key, error) {
	a := algorithms(alg)
	members := map[string]string{"kty": a.kty, "crv": a.crv}
	for _, name := range []string{"x", "y"} {
		text, _ := jwk[name].(string)
		coordinate, err := decodeBase64(text)
		if err != nil {
			return key{}, fmt.Errorf("coordinate %s: %w", name, err)
		}
		if len(coordinate) != a.size { // RFC 7518 §6.2.1.2: the full size, always
			return key{}, fmt.Errorf("coordinate %s of %d bytes, not %d", name, len(coordinate), a.size)
		}
		members[name] = text
	}
	k, err := newKey(alg, members)
	if err != nil {
		return key{}, err
	}
	// ECDH, though nothing is agreed on, is how to ask whether the point is on the curve.
	public, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return key{}, errors.New("shouldn't happen: no elliptic-curve key")
	}
	if _, err := public.ECDH(); err != nil {
		return key{}, errors.New("the point is not on the curve")
	}
	return k, nil
}
