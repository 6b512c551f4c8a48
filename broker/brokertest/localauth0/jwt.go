package localauth0

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MintOption changes how [Server.Mint] makes a token.
type MintOption func(*mint)

type mint struct {
	key    *rsa.PrivateKey
	header map[string]any
}

// WithHeader sets a header parameter; a nil value removes it. The signature stays RS256 whatever alg says.
func WithHeader(name string, value any) MintOption {
	return func(m *mint) {
		if value == nil {
			delete(m.header, name)
			return
		}
		m.header[name] = value
	}
}

// WithKey signs with a foreign key under the header of the current one: a forgery.
func WithKey(key *rsa.PrivateKey) MintOption { return func(m *mint) { m.key = key } }

// Mint signs exactly the given claims with the current key, valid or not. The header is that of the configured
// access-token profile unless options change it. Start from [Server.UserClaims] to differ in one member.
func (s *Server) Mint(claims map[string]any, opts ...MintOption) (string, error) {
	typ := "JWT"
	if s.cfg.RFC9068 {
		typ = "at+jwt" // RFC 9068 §2.1
	}
	return s.mint(typ, claims, opts...)
}

func (s *Server) mint(typ string, claims map[string]any, opts ...MintOption) (string, error) {
	signer := s.keys.signer()
	m := mint{key: signer.private, header: map[string]any{"alg": "RS256", "typ": typ, "kid": signer.public.KeyID}}
	for _, o := range opts {
		o(&m)
	}
	header, err := json.Marshal(m.header)
	if err != nil {
		return "", fmt.Errorf("encode token header: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode token claims: %w", err)
	}
	return signBytes(m.key, header, payload)
}

// MintBytes signs header and payload byte for byte with the current key: for tokens that no encoder would write, such
// as those with a member twice.
func (s *Server) MintBytes(header, payload []byte) (string, error) {
	return signBytes(s.keys.signer().private, header, payload)
}

// signBytes makes the compact serialization of RFC 7515 §7.1 with RS256 (RFC 7518 §3.3).
func signBytes(key *rsa.PrivateKey, header, payload []byte) (string, error) {
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// UserClaims are the claims that an access token of the user would carry now, for a test to change and [Server.Mint]
// to sign. The sign-in is that of [Server.UserToken]; the map and its slices are the caller's, times are int64 seconds.
func (s *Server) UserClaims(email string) (map[string]any, error) {
	in, err := s.pageSignIn(email)
	if err != nil {
		return nil, err
	}
	return s.accessClaims(in), nil
}

// UserToken is the access token that a page would get for the user after an authorization code flow with the scopes
// openid, profile, email and all of the user's permissions, through the first client that may use that flow.
func (s *Server) UserToken(email string) (string, error) {
	in, err := s.pageSignIn(email)
	if err != nil {
		return "", err
	}
	return s.Mint(s.accessClaims(in))
}

func (s *Server) pageSignIn(email string) (signIn, error) {
	user, ok := s.users[email]
	if !ok {
		return signIn{}, fmt.Errorf("sign in %q: no such user", email)
	}
	i := slices.IndexFunc(s.cfg.Clients, func(c Client) bool { return c.allows(GrantCode) })
	if i < 0 {
		return signIn{}, fmt.Errorf("sign in %q: no client with the grant %s", email, GrantCode)
	}
	client := s.cfg.Clients[i]
	org, err := organizationOf("", client, user)
	if err != nil {
		return signIn{}, fmt.Errorf("sign in %q: %w", email, err)
	}
	return signIn{
		client: client, user: user, organization: org, audience: s.cfg.Audience,
		scopes: append([]string{scopeOpenID, scopeProfile, scopeEmail}, user.Permissions...),
	}, nil
}

// ClientToken is the access token that a machine client would get by client_credentials, with all its permissions.
func (s *Server) ClientToken(clientID string) (string, error) {
	client, ok := s.clients[clientID]
	if !ok || !client.allows(GrantClientCredentials) {
		return "", fmt.Errorf("sign in %q: no client with the grant %s", clientID, GrantClientCredentials)
	}
	return s.Mint(s.accessClaims(machineSignIn(client, s.cfg.Audience, client.Permissions)))
}

// ownToken verifies an access token of this tenant for /userinfo: published key, RS256, issuer, audience, expiry.
func (s *Server) ownToken(token string) (subject string, scopes []string, err error) {
	var header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
	}
	var claims struct {
		Issuer   string          `json:"iss"`
		Subject  string          `json:"sub"`
		Audience json.RawMessage `json:"aud"`
		Expires  int64           `json:"exp"`
		Scope    string          `json:"scope"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", nil, errors.New("token: want three parts")
	}
	if err := errors.Join(decodePart(parts[0], &header), decodePart(parts[1], &claims)); err != nil {
		return "", nil, err
	}
	keys := s.keys.published()
	i := slices.IndexFunc(keys, func(k *signingKey) bool { return k.public.KeyID == header.KeyID })
	if i < 0 || header.Algorithm != "RS256" {
		return "", nil, errors.New("token: not signed by a key of this tenant")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return "", nil, fmt.Errorf("token: decode signature: %w", err)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&keys[i].private.PublicKey, crypto.SHA256, digest[:], sig); err != nil {
		return "", nil, fmt.Errorf("token: %w", err)
	}
	var audiences []string // a string aud is an API's alone and does not decode
	if err := json.Unmarshal(claims.Audience, &audiences); err != nil || !slices.Contains(audiences, s.cfg.Issuer+"userinfo") {
		return "", nil, errors.New("token: not for /userinfo; ask for the scope openid")
	}
	if claims.Issuer != s.cfg.Issuer || !s.cfg.Now().Before(time.Unix(claims.Expires, 0)) {
		return "", nil, errors.New("token: wrong issuer or expired")
	}
	return claims.Subject, strings.Fields(claims.Scope), nil
}

func decodePart(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return fmt.Errorf("token: decode: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("token: decode: %w", err)
	}
	return nil
}
