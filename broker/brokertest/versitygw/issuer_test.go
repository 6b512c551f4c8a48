package versitygw_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"credential-broker/broker/brokertest/versitygw"
)

func TestMain(m *testing.M) { os.Exit(versitygw.Isolate(m)) }

const (
	issuerURL = "https://" + versitygw.Address
	audience  = "sts.amazonaws.com"
)

// issuer publishes one ES256 key at issuerURL and signs with it.
type issuer struct {
	key *ecdsa.PrivateKey
	ca  *x509.Certificate
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	cert, ca, err := versitygw.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	point, err := key.PublicKey.Bytes() // 4, x, y: SEC 1, section 2.3.3
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(path string, v any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v) })
	}
	answer("/.well-known/openid-configuration", map[string]string{"issuer": issuerURL, "jwks_uri": issuerURL + "/jwks.json"})
	answer("/jwks.json", map[string][]map[string]string{"keys": {{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(versitygw.Address, "443"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	server.Listener, server.TLS = listener, &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return &issuer{key: key, ca: ca}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// token signs the usual claims, with changes.
func (i *issuer) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": issuerURL, "aud": audience, "sub": "user-1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	maps.Copy(claims, changes)
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := encode([]byte(`{"alg":"ES256","typ":"JWT","kid":"1"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// start runs a server that trusts the issuer.
func start(t *testing.T, i *issuer, roles ...versitygw.Role) *versitygw.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := versitygw.Start(ctx, versitygw.Config{
		Binary: versitygw.Need(t), Dir: t.TempDir(), Region: region, Buckets: []string{bucket}, Roles: roles,
		Provider: versitygw.Provider{URL: issuerURL, ClientIDs: []string{audience}, CA: i.ca}, Output: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}
