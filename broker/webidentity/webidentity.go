// Package webidentity makes the token that STS is shown: in mode minted one that
// the broker signs for this one exchange, in mode forwarded the caller's own. It
// also publishes what AWS needs to check minted tokens: the discovery document
// and the keys.
package webidentity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"credential-broker/broker"
)

// tokenLife is how long a minted token is good. It is used once, at once, and
// never leaves the process but for STS; a minute leaves room for the clocks.
const tokenLife = time.Minute

// The claims that STS reads.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
const (
	claimTags           = "https://aws.amazon.com/tags"
	claimSourceIdentity = "https://aws.amazon.com/source_identity"
	claimRoles          = "https://aws.amazon.com/roles"
)

// Config is what a Minter is made of.
type Config struct {
	Issuer   string           // of the minted tokens: where the documents are published
	Audience string           // what the IAM OIDC provider has in its client-ID list
	Keys     []broker.Secret  // PEM; the first signs, all are published
	Now      func() time.Time // nil: time.Now
}

// Minter signs tokens for STS. It is safe for concurrent use. Its keys carry
// the power of every tenant.
type Minter struct {
	issuer, audience string
	now              func() time.Time
	signer           signer
	documents        map[string][]byte
	ids              []string // of all keys, in their order
}

// NewMinter reads the keys: RSA of 2048 to 4096 bits or EC on P-256, as PKCS#8,
// PKCS#1 or SEC1, not encrypted. Its errors never hold a part of a key.
func NewMinter(cfg Config) (*Minter, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("web identity issuer %q: not a URL", cfg.Issuer)
	}
	if cfg.Audience == "" {
		return nil, errors.New("web identity: no audience")
	}
	if len(cfg.Keys) == 0 {
		return nil, errors.New("web identity: no signing key")
	}
	signers, ids := make([]signer, 0, len(cfg.Keys)), make([]string, 0, len(cfg.Keys))
	for i, pem := range cfg.Keys {
		s, err := newSigner(pem)
		if err != nil {
			return nil, fmt.Errorf("web identity: signing key %d: %w", i+1, err)
		}
		for _, other := range signers {
			if other.id == s.id {
				return nil, fmt.Errorf("web identity: signing key %d is given twice", i+1)
			}
		}
		signers, ids = append(signers, s), append(ids, s.id)
	}
	m := &Minter{issuer: cfg.Issuer, audience: cfg.Audience, now: cfg.Now, signer: signers[0], ids: ids}
	if m.now == nil {
		m.now = time.Now
	}
	if m.documents, err = documents(cfg.Issuer, u.Path, signers); err != nil {
		return nil, fmt.Errorf("web identity: %w", err)
	}
	return m, nil
}

// tags is the shape that STS takes: each value is an array of exactly one
// string. No key is transitive: these sessions are not meant to assume roles.
type tags struct {
	PrincipalTags map[string][]string `json:"principal_tags"`
}

type claims struct {
	Issuer         string `json:"iss"`
	Subject        string `json:"sub"`
	Audience       string `json:"aud"`
	IssuedAt       int64  `json:"iat"`
	NotBefore      int64  `json:"nbf"`
	Expiry         int64  `json:"exp"`
	ID             string `json:"jti"`
	Tags           tags   `json:"https://aws.amazon.com/tags"`
	SourceIdentity string `json:"https://aws.amazon.com/source_identity"`
	Roles          string `json:"https://aws.amazon.com/roles"`
}

// Assert mints the token for an order: its subject is the opaque user, since
// CloudTrail shows it in clear; its tags bound the role; its one role keeps it
// from being shown for another.
func (m *Minter) Assert(_ context.Context, order broker.Order) (broker.Assertion, error) {
	user, tenant, role := order.Scope.User.String(), order.Scope.Tenant.String(), order.Scope.RoleARN.String()
	if user == "" || tenant == "" || role == "" {
		return broker.Assertion{}, errors.New("mint web identity: the order lacks a user, a tenant or a role")
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails; see crypto/rand
	now := m.now().Unix()
	payload, err := json.Marshal(claims{
		Issuer: m.issuer, Subject: user, Audience: m.audience,
		IssuedAt: now, NotBefore: now, Expiry: now + int64(tokenLife/time.Second), ID: hex.EncodeToString(id[:]),
		Tags:           tags{PrincipalTags: map[string][]string{"tenant": {tenant}, "user": {user}}},
		SourceIdentity: user, Roles: role,
	})
	if err != nil {
		return broker.Assertion{}, fmt.Errorf("mint web identity: %w", err)
	}
	token, err := m.signer.sign(payload)
	if err != nil {
		return broker.Assertion{}, fmt.Errorf("mint web identity: %w", err)
	}
	return broker.Assertion{
		Token: broker.NewSecret(token), Issuer: m.issuer, Subject: user, Audiences: []string{m.audience}, SourceIdentity: user,
	}, nil
}

// Documents returns what is to be published, by path: the discovery document
// and the JWKS. The caller must not change them.
func (m *Minter) Documents() map[string][]byte { return m.documents }

// KeyIDs returns the names of the keys, in their order: the first signs, all are
// published.
func (m *Minter) KeyIDs() []string { return slices.Clone(m.ids) }

// Forwarder shows STS the caller's own token.
type Forwarder struct{}

// Assert returns the order's token, and what STS will say of it: it names `azp`
// as the audience where the token has one, and `aud` otherwise.
func (Forwarder) Assert(_ context.Context, order broker.Order) (broker.Assertion, error) {
	if order.Token.IsZero() {
		return broker.Assertion{}, errors.New("forward web identity: the order has no token")
	}
	audiences := order.Identity.Audience
	if order.Identity.Client != "" {
		audiences = append([]string{order.Identity.Client}, audiences...)
	}
	return broker.Assertion{
		Token: order.Token, Issuer: order.Identity.Issuer, Subject: order.Identity.Subject, Audiences: audiences, CallersOwn: true,
	}, nil
}

// discovery has the members without which AWS does not take the document.
type discovery struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	Claims        []string `json:"claims_supported"`
}

func documents(issuer, path string, signers []signer) (map[string][]byte, error) {
	base := strings.TrimSuffix(path, "/")
	keys := make([]json.RawMessage, len(signers))
	var algorithms []string
	for i, s := range signers {
		keys[i] = s.public
		if len(algorithms) == 0 || algorithms[len(algorithms)-1] != s.algorithm {
			algorithms = append(algorithms, s.algorithm)
		}
	}
	jwks, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(discovery{
		Issuer: issuer, JWKSURI: strings.TrimSuffix(issuer, "/") + "/.well-known/jwks.json",
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"}, Algorithms: algorithms,
		Claims: []string{"iss", "sub", "aud", "iat", "nbf", "exp", "jti", claimTags, claimSourceIdentity, claimRoles},
	})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		base + "/.well-known/openid-configuration": doc,
		base + "/.well-known/jwks.json":            jwks,
	}, nil
}
