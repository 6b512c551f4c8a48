package localauth0_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// tokens is what /oauth/token gives.
type tokens struct {
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token"`
	ID        string `json:"id_token"`
	Scope     string `json:"scope"`
	ExpiresIn int64  `json:"expires_in"`
	Type      string `json:"token_type"`
}

func granted(t testing.TB, a answer) tokens {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	var out tokens
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// refused checks status and code of an OAuth error and yields its description.
func refused(t testing.TB, a answer, status int, code string) string {
	t.Helper()
	var out struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	if a.status != status || out.Error != code {
		t.Fatalf("got %d %s (%s), want %d %s", a.status, out.Error, out.Description, status, code)
	}
	if out.Description == "" {
		t.Error("no description")
	}
	return out.Description
}

// jwks fetches the published keys.
func (tn *tenant) jwks() map[string]*rsa.PublicKey {
	tn.t.Helper()
	var set struct {
		Keys []struct {
			Kty, Use, Alg, Kid, N, E string
		}
	}
	if err := json.Unmarshal([]byte(tn.get(".well-known/jwks.json").body), &set); err != nil {
		tn.t.Fatal(err)
	}
	out := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		if k.Kty != "RSA" || k.Use != "sig" || k.Alg != "RS256" || k.Kid == "" {
			tn.t.Fatalf("key %+v: want an RS256 signing key with a kid", k)
		}
		n, errN := base64.RawURLEncoding.DecodeString(k.N)
		e, errE := base64.RawURLEncoding.DecodeString(k.E)
		if err := errors.Join(errN, errE); err != nil {
			tn.t.Fatal(err)
		}
		out[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	}
	return out
}

// verify holds the token's signature against the served JWKS and yields header and claims.
func (tn *tenant) verify(token string) (header, claims map[string]any) {
	tn.t.Helper()
	header, claims, err := verifyWith(tn.jwks(), token)
	if err != nil {
		tn.t.Fatal(err)
	}
	return header, claims
}

func verifyWith(keys map[string]*rsa.PublicKey, token string) (header, claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errors.New("not three parts")
	}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, err
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(into); err != nil {
			return nil, nil, err
		}
	}
	kid, _ := header["kid"].(string)
	key := keys[kid]
	if key == nil {
		return nil, nil, errors.New("kid is not published")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	return header, claims, rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig)
}

// names are a claim set's members in order.
func names(claims map[string]any) []string {
	var out []string
	for name := range claims {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
