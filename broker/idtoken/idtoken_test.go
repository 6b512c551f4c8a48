package idtoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
)

const (
	acme     = "https://acme.eu.auth0.com/"
	globex   = "https://globex.eu.auth0.com/"
	audience = "https://uploads.acme.example"
)

// noon is the time in tests that do not run a clock.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// The keys of the two issuers, made once.
var (
	acmeRSA     = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	globexRSA   = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	globexECDSA = map[string]func() *ecdsa.PrivateKey{
		"ES256": sync.OnceValue(func() *ecdsa.PrivateKey { return newECDSA(elliptic.P256()) }),
		"ES384": sync.OnceValue(func() *ecdsa.PrivateKey { return newECDSA(elliptic.P384()) }),
		"ES512": sync.OnceValue(func() *ecdsa.PrivateKey { return newECDSA(elliptic.P521()) }),
	}
	coordinate = map[string]int{"P-256": 32, "P-384": 48, "P-521": 66}
	hashes     = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
)

func newRSA(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

func newECDSA(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func marshal(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// jwkOf is the public JWK of a private key, with what is given in more.
func jwkOf(kid string, private crypto.Signer, more ...any) map[string]any {
	jwk := map[string]any{"kid": kid, "use": "sig"}
	switch p := private.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(p.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		crv := p.Curve.Params().Name
		point, err := p.Bytes()
		if err != nil {
			panic(err)
		}
		size := coordinate[crv]
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", crv, b64(point[1:1+size]), b64(point[1+size:])
	}
	for i := 0; i < len(more); i += 2 {
		jwk[more[i].(string)] = more[i+1]
	}
	return jwk
}

func jwks(keys ...any) string { return marshal(map[string]any{"keys": keys}) }

// sign makes the signature that alg asks for.
func sign(alg string, private crypto.Signer, signed string) []byte {
	hash := hashes[alg[2:]]
	h := hash.New()
	h.Write([]byte(signed))
	digest := h.Sum(nil)
	switch k := private.(type) {
	case *rsa.PrivateKey:
		var signature []byte
		var err error
		if alg[0] == 'P' {
			signature, err = rsa.SignPSS(rand.Reader, k, hash, digest, nil)
		} else {
			signature, err = rsa.SignPKCS1v15(nil, k, hash, digest)
		}
		if err != nil {
			panic(err)
		}
		return signature
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			panic(err)
		}
		size := coordinate[k.Curve.Params().Name]
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	panic("no such key")
}

// config has the two issuers; the second restricts clients and takes more algorithms.
func config(o http.RoundTripper) idtoken.Config {
	return idtoken.Config{
		Issuers: []idtoken.Issuer{
			{URL: acme, Audiences: []string{audience}, Algorithms: []string{"RS256"}},
			{
				URL: globex, Audiences: []string{"other", audience}, Clients: []string{"spa", "reports"},
				Algorithms: []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"},
			},
		},
		Transport: o,
		Remember:  100, // as in production: what is remembered may change no verdict
	}
}

// started returns a verifier with its keys, at noon for ever.
func started(t testing.TB, cfg idtoken.Config) *idtoken.Verifier {
	t.Helper()
	return startedAt(t, cfg, func() time.Time { return noon })
}

// startedAt returns a verifier with its keys and another clock.
func startedAt(t testing.TB, cfg idtoken.Config, now func() time.Time) *idtoken.Verifier {
	t.Helper()
	cfg.Now = now
	fetched := make(chan error, 100)
	cfg.Observe = func(_ string, err error) { fetched <- err }
	v, err := idtoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if err := v.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for range cfg.Issuers {
		if err := <-fetched; err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// refused fails unless err has the class and the reason, which says that it was
// this rule, and not another further on, that refused.
func refused(t *testing.T, err error, class broker.Class, reason string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if !errors.Is(err, class) || !strings.Contains(err.Error(), reason) {
		t.Fatalf("got %q, want %s: …%s…", err, class, reason)
	}
}

// modulus is an odd number of exactly so many bits, in base64url.
func modulus(bits int) string {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return b64(n.Add(n, big.NewInt(12345)).Bytes())
}

func ExampleVerifier_Verify() {
	v, err := idtoken.New(idtoken.Config{Issuers: []idtoken.Issuer{{
		URL:        "https://acme.eu.auth0.com/", // slash included, as in `iss`
		Audiences:  []string{"https://uploads.acme.example"},
		Algorithms: []string{"RS256"},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = v.Verify(context.Background(), broker.NewSecret("opaque"))
	fmt.Println(err)
	// Output: invalid_token: not three segments
}
