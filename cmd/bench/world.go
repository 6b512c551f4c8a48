package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"credential-broker/broker/brokertest"
)

const (
	audience = "https://uploads.acme.example"
	origin   = "https://app.acme.example"
	account  = "123456789012"
	role     = "arn:aws:iam::" + account + ":role/tenant-uploads"
	kid      = "3fVpWq8yZb1nTtGkC5rXs"
)

// world is what a broker needs around it, as little as will do: keys of an issuer, and
// an STS that answers as AWS does, from memory. It enforces nothing: what is measured
// is the broker, and its tests have worlds that do.
type world struct {
	folder string
	base   string // its URL
	key    *rsa.PrivateKey
	quick  *ecdsa.PrivateKey // signs where there is a million of tokens
	server *http.Server

	stsTakes  time.Duration
	stsCalls  atomic.Int64
	conns     atomic.Int64 // opened here
	quota     *quota       // nil: STS does not throttle
	throttled atomic.Int64
}

func newWorld(ctx context.Context) (*world, error) {
	w := &world{}
	var err error
	if w.folder, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	if w.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	if w.quick, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if err := brokertest.WriteSigningKey(filepath.Join(w.folder, "web-identity.pem")); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.base = "http://" + l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/jwks.json", w.keys)
	mux.HandleFunc("POST /v1/traces", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("POST /{$}", w.sts)
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.conns.Add(1)
		}
	}}
	go func() { _ = w.server.Serve(l) }() // ends with close
	return w, nil
}

func (w *world) close() {
	_ = w.server.Close()
	_ = os.RemoveAll(w.folder)
}

// config is the broker's, with limits so high that they count and refuse nobody.
func (w *world) config(s spec) string {
	return fmt.Sprintf(`
listen: "127.0.0.1:0"
admin_listen: "127.0.0.1:0"
admin_pprof: true
trusted_proxies: ["127.0.0.0/8"]
cors: {allowed_origins: [%q]}
issuers: [{url: %q, audiences: [%q], algorithms: [RS256, ES256], jwks_url: %q}]
web_identity: {mode: minted, issuer: "http://127.0.0.1:1", signing_keys: [%q]}
sts: {region: eu-west-1, endpoint: %q, max_concurrent: 256}
cache: {entries: %d}
limits: {per_subject_per_minute: 1000000, per_tenant_per_minute: 1000000, per_address_failures_per_minute: %d, sts_per_second: %d}
audit: {output: %q}
grants:
  - name: uploads
    match: {permissions: ["upload:files"]}
    role_arn: %s
    tenant: {claim: org_id, pattern: "org_[A-Za-z0-9]{1,40}"}
    bucket: acme-uploads
    region: eu-west-1
    prefix: tenants/{tenant}/{user}/
    access: [list, read, write, delete]
    duration: 1h
`, origin, w.base+"/", audience, w.base+"/.well-known/jwks.json", filepath.Join(w.folder, "web-identity.pem"), w.base, s.Entries, cmp.Or(s.Failures, 1_000_000), s.STSPerSecond,
		filepath.Join(w.folder, "audit-"+s.Name+".jsonl"), role)
}

func (w *world) keys(rw http.ResponseWriter, _ *http.Request) {
	b64 := base64.RawURLEncoding.EncodeToString
	point, err := w.quick.PublicKey.Bytes() // 4, x, y
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": b64(w.key.N.Bytes()), "e": "AQAB",
	}, {
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "quick", "x": b64(point[1:33]), "y": b64(point[33:]),
	}}})
}

// claims are those of a token as Auth0 makes it for a user of an organisation.
func (w *world) claims(subject, number int) map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": w.base + "/", "sub": fmt.Sprintf("auth0|%024x", subject), "aud": []string{audience, "https://acme.eu.auth0.com/userinfo"},
		"iat": now - 60, "exp": now + 12*3600, "scope": "openid profile email offline_access", "org_id": fmt.Sprintf("org_%016d", subject%100),
		"azp": "3fVpWq8yZb1nTtGkC5rXsL0aHdJmEoUi", "jti": fmt.Sprintf("%032x", number),
		"permissions":                  []string{"upload:files", "read:files", "read:reports", "list:folders"},
		"https://acme.example/profile": strings.Repeat("x", 90), // so that a token has the 1,150 bytes that are usual
	}
}

// token signs claims.
func (w *world) token(claims map[string]any) (string, error) {
	text, err := unsigned("RS256", kid, claims)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, w.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// quickToken signs in a twentieth of the time, with ES256.
func (w *world) quickToken(claims map[string]any) (string, error) {
	text, err := unsigned("ES256", "quick", claims)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, w.quick, sum[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}

func unsigned(alg, kid string, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(`{"alg":"`+alg+`","typ":"JWT","kid":"`+kid+`"}`)) + "." + b64(payload), nil
}

// tokens makes n of them, for the subjects in turn.
func (w *world) tokens(n int) ([]string, error) {
	made := make([]string, n)
	for i := range made {
		var err error
		if made[i], err = w.token(w.claims(i%subjects, i)); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// strangers makes the requests of n subjects that nobody has seen.
func (w *world) strangers(n int) ([][]byte, error) {
	made := make([][]byte, n)
	for i := range made {
		token, err := w.quickToken(w.claims(1_000_000+i, i))
		if err != nil {
			return nil, err
		}
		made[i] = request(token)
	}
	return made, nil
}

// sts answers AssumeRoleWithWebIdentity: it says what it read in the token.
func (w *world) sts(rw http.ResponseWriter, r *http.Request) {
	w.stsCalls.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(rw, "form", http.StatusBadRequest)
		return
	}
	rw.Header().Set("Content-Type", "text/xml")
	if w.quota != nil && !w.quota.take() {
		w.throttled.Add(1)
		rw.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(rw, `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>r</RequestId></ErrorResponse>`)
		return
	}
	if w.stsTakes > 0 {
		time.Sleep(w.stsTakes)
	}
	_, _ = io.WriteString(rw, assumed(form))
}

// assumed is STS's good answer, with a session token of 1.2 kB as with tags.
func assumed(form url.Values) string {
	var told struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Source  string `json:"https://aws.amazon.com/source_identity"`
		Aud     string `json:"aud"`
	}
	parts := strings.Split(form.Get("WebIdentityToken"), ".")
	if len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &told) // what cannot be read is not said, and the broker refuses that
	}
	session := form.Get("RoleSessionName")
	var secret [30]byte
	var token [900]byte
	_, _ = rand.Read(secret[:])
	_, _ = rand.Read(token[:])
	life, _ := time.ParseDuration(form.Get("DurationSeconds") + "s")
	return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
		`<SubjectFromWebIdentityToken>` + told.Subject + `</SubjectFromWebIdentityToken><Audience>` + told.Aud + `</Audience>` +
		`<AssumedRoleUser><Arn>arn:aws:sts::` + account + `:assumed-role/tenant-uploads/` + session + `</Arn><AssumedRoleId>AROAEXAMPLEEXAMPLEEXA:` + session + `</AssumedRoleId></AssumedRoleUser>` +
		`<Credentials><AccessKeyId>ASIA` + strings.ToUpper(fmt.Sprintf("%x", secret[:8])) + `</AccessKeyId><SecretAccessKey>` + base64.StdEncoding.EncodeToString(secret[:]) +
		`</SecretAccessKey><SessionToken>` + base64.StdEncoding.EncodeToString(token[:]) + `</SessionToken><Expiration>` + time.Now().Add(life).UTC().Format(time.RFC3339) +
		`</Expiration></Credentials><Provider>` + told.Issuer + `</Provider><SourceIdentity>` + told.Source + `</SourceIdentity><PackedPolicySize>10</PackedPolicySize>` +
		`</AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>`
}
