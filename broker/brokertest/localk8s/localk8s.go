// Package localk8s is a Kubernetes cluster as an issuer of tokens: what its API
// server publishes, and the tokens that the kubelet projects into a pod for a service
// account. Their shape is that of the TokenRequest API.
//
// It is for tests, and NOT SAFE FOR PRODUCTION USE: Token signs for whomever it is
// asked.
//
// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
package localk8s

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

// Cluster is one issuer. It is safe for concurrent use.
type Cluster struct {
	issuer string
	key    *rsa.PrivateKey
	keyID  string
}

// New makes a cluster whose tokens have that iss: --service-account-issuer, by
// default https://kubernetes.default.svc.cluster.local, without a slash behind it.
func New(issuer string) (*Cluster, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make cluster: %w", err)
	}
	sum := sha256.Sum256(key.N.Bytes())
	return &Cluster{issuer: issuer, key: key, keyID: base64.RawURLEncoding.EncodeToString(sum[:])}, nil
}

// ServeHTTP publishes discovery and keys, at the paths of an API server.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		write(w, "application/json", map[string]any{
			"issuer": c.issuer, "jwks_uri": c.issuer + "/openid/v1/jwks", "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	case "/openid/v1/jwks":
		write(w, "application/jwk-set+json", map[string]any{"keys": []any{map[string]string{
			"use": "sig", "kty": "RSA", "alg": "RS256", "kid": c.keyID,
			"n": base64.RawURLEncoding.EncodeToString(c.key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(c.key.E)).Bytes()),
		}}})
	default:
		http.NotFound(w, r)
	}
}

func write(w http.ResponseWriter, media string, v any) {
	w.Header().Set("Content-Type", media)
	_ = json.NewEncoder(w).Encode(v) // who went away needs no answer
}

// Account is a service account, and the audience that its token is asked for.
type Account struct {
	Namespace, Name, Audience string
}

// Token is what a pod of the account finds in its projected volume: an hour's, with
// the claim kubernetes.io, and without typ in its header.
func (c *Cluster) Token(a Account) (string, error) {
	now := time.Now()
	named := func(name string) map[string]string {
		sum := sha256.Sum256([]byte(a.Namespace + "/" + name))
		return map[string]string{"name": name, "uid": fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])}
	}
	header, err := json.Marshal(map[string]string{"alg": "RS256", "kid": c.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": c.issuer, "sub": "system:serviceaccount:" + a.Namespace + ":" + a.Name, "aud": []string{a.Audience},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text(),
		"kubernetes.io": map[string]any{
			"namespace": a.Namespace, "node": named("node-1"), "pod": named(a.Name + "-5d8f9"), "serviceaccount": named(a.Name),
		},
	})
	if err != nil {
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
