package cases

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
)

// keys sign the tokens of one run: one for each algorithm that an issuer takes
// first, and one that nobody has heard of, made when it is asked for. They are not
// safe for concurrent use.
type keys struct {
	of     map[string]crypto.Signer // :: algorithm → key, whose kid is the algorithm
	forger map[string]crypto.Signer
	set    []byte // JWK set
}

func newKeys(cfg config.Config) (keys, error) {
	k := keys{of: map[string]crypto.Signer{}, forger: map[string]crypto.Signer{}}
	var public []map[string]string
	for _, i := range cfg.Issuers {
		alg := i.Algorithms[0] // the configuration has at least one
		if k.of[alg] != nil {
			continue
		}
		var err error
		if k.of[alg], err = generate(alg); err != nil {
			return keys{}, err
		}
		public = append(public, jwk(alg, k.of[alg].Public()))
	}
	var err error
	k.set, err = json.Marshal(map[string]any{"keys": public})
	return k, err
}

func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case "RS256", "RS384", "RS512":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		return nil, fmt.Errorf("shouldn't happen: algorithm %s", alg)
	}
}

// jwk writes a public key (RFC 7518 §6).
func jwk(alg string, public crypto.PublicKey) map[string]string {
	members := map[string]string{"kid": alg, "alg": alg, "use": "sig"}
	switch p := public.(type) {
	case *rsa.PublicKey:
		members["kty"], members["n"], members["e"] = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		size := (p.Curve.Params().BitSize + 7) / 8
		point, _ := p.Bytes() // 4, x, y (SEC 1 §2.3.3); a key that was made here is on its curve
		members["kty"], members["crv"], members["x"], members["y"] = "EC", p.Curve.Params().Name, encode(point[1:1+size]), encode(point[1+size:])
	}
	return members
}

// sign makes the token of a case.
func (k keys) sign(cfg config.Config, t Token, now time.Time) (broker.Secret, error) {
	life := t.Life
	if life == 0 {
		life = time.Hour
	}
	made := now.Add(-t.Age)
	claims := map[string]any{
		"iss": cfg.Issuers[0].URL, "aud": cfg.Issuers[0].Audiences[0], "sub": "test|user", "iat": made.Unix(), "exp": made.Add(life).Unix(),
	}
	alg := cfg.Issuers[0].Algorithms[0]
	if iss, ok := t.Claims["iss"].(string); ok {
		if i := slices.IndexFunc(cfg.Issuers, func(i config.Issuer) bool { return i.URL == iss }); i >= 0 {
			claims["aud"], alg = cfg.Issuers[i].Audiences[0], cfg.Issuers[i].Algorithms[0]
		}
	}
	for name, value := range t.Claims {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return broker.Secret{}, fmt.Errorf("claims: %w", err)
	}
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": alg, "kid": alg})
	if err != nil {
		return broker.Secret{}, err
	}
	signer := k.of[alg]
	if t.Forged {
		if k.forger[alg] == nil {
			if k.forger[alg], err = generate(alg); err != nil {
				return broker.Secret{}, err
			}
		}
		signer = k.forger[alg]
	}
	signed := encode(header) + "." + encode(payload)
	signature, err := signature(signer, alg, []byte(signed))
	if err != nil {
		return broker.Secret{}, err
	}
	return broker.NewSecret(signed + "." + encode(signature)), nil
}

// signature signs as JWS has it (RFC 7518 §3.3, §3.4).
func signature(signer crypto.Signer, alg string, text []byte) ([]byte, error) {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	h := hash.New()
	_, _ = h.Write(text) // hash.Hash never returns an error
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
		if err != nil {
			return nil, err
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out, nil
	default:
		return nil, errors.New("shouldn't happen: another key")
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
