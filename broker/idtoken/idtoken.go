// Package idtoken proves an identity from a JWT: it is the broker.Verifier for
// access tokens of OpenID Connect issuers such as Auth0.
//
//	size → compact form → header → issuer → claims → times → key → signature
//
// Everything that needs no key is refused before a key is looked up, so that a
// flood of bad tokens costs neither RSA nor a request to the issuer; and of those who
// need RSA, few are served at a time. The issuers'
// signing keys are fetched, refreshed and bounded here too. The parsers are this
// package's own and strict; github.com/lestrrat-go/jwx is used in signature.go
// alone, for one key and one signature at a time. RFC 8725 is the rule book.
package idtoken

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"credential-broker/broker"
)

// The bounds of the configuration.
const (
	// DefaultLeeway is for clocks that NTP keeps; what is within it is no attack.
	DefaultLeeway = 5 * time.Second
	// MaxLeeway is what a badly kept clock may need; more would make tokens live on.
	MaxLeeway = time.Minute
	// DefaultMaxLifetime is Auth0's default life of an access token.
	DefaultMaxLifetime = 24 * time.Hour
	// MaxTokenBytes is the most that is looked at. A token with many permissions
	// has 2 to 4 KiB, and common proxies cut header lines at 8 KiB.
	MaxTokenBytes = 8192
)

// Config is what a Verifier is made of.
type Config struct {
	Issuers     []Issuer
	Leeway      time.Duration // for exp, iat and nbf; 0: DefaultLeeway; at most MaxLeeway
	MaxLifetime time.Duration // the most that exp - iat may be; 0: DefaultMaxLifetime
	TokenBytes  int           // the longest token; 0: MaxTokenBytes, which is the most
	Remember    int           // how many checked tokens are remembered, see memo; 0: none
	// Claims are the names of the claims that an Identity has, so that no more of a
	// token is kept than somebody asks for; nil: all.
	Claims []string

	Transport http.RoundTripper // reaches the issuers; nil: one that keeps to the bounds here
	Now       func() time.Time  // nil: time.Now
	Log       *slog.Logger      // nil: nothing is logged

	// Previous, if set, is the verifier that this one is to follow. The keys of an
	// issuer that both have, from the same source, are taken over, so that the new one
	// can begin while the issuer is out; how old they are goes along.
	Previous *Verifier

	// Observe, if set, is told of each attempt to get an issuer's keys: nil for a
	// good one. It is called from one goroutine per issuer and must not block.
	Observe func(issuer string, err error)
}

// Issuer is whom to believe, and what of it.
type Issuer struct {
	URL        string   // exactly the tokens' `iss`; https, or http on a loopback host
	Audiences  []string // one of them must be in `aud`; none is an error, never "any"
	Algorithms []string // of RS256, RS384, RS512, ES256, ES384, ES512; none is an error
	Clients    []string // one of them must be `azp` or `client_id`; none: any client
	JWKSURL    string   // on the issuer's own host; empty: by discovery
	// LogoutAudiences are the clients whose log-outs are heard: one of them must be
	// the `aud` of a logout token; none: the issuer's are refused.
	LogoutAudiences []string
}

// Verifier proves identities. It is safe for concurrent use. Until Start has been
// called it has no keys and refuses every token.
type Verifier struct {
	issuers     map[string]*issuer // :: iss → what is believed of it
	leeway      time.Duration
	maxLifetime time.Duration
	tokenBytes  int
	claims      []string // that an Identity has; nil: all
	memo        memo
	gate        gate
	now         func() time.Time
	client      *http.Client
	started     chan struct{} // capacity 1: full once Start has been called
	work        sync.WaitGroup
}

var _ broker.Verifier = (*Verifier)(nil)

// issuer is an Issuer with its keys.
type issuer struct {
	Issuer
	keys *keySet
}

// New checks all of the configuration and reports everything that is wrong with
// it, joined. It does no I/O.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.withDefaults().validate(); err != nil {
		return nil, fmt.Errorf("make verifier: %w", err)
	}
	cfg = cfg.withDefaults()
	memo, err := newMemo(cfg.Remember)
	if err != nil {
		return nil, fmt.Errorf("make verifier: %w", err)
	}
	v := &Verifier{
		issuers:     make(map[string]*issuer, len(cfg.Issuers)),
		leeway:      cfg.Leeway,
		maxLifetime: cfg.MaxLifetime,
		tokenBytes:  cfg.TokenBytes,
		claims:      cfg.Claims,
		memo:        memo,
		gate:        newGate(),
		now:         cfg.Now,
		client:      newClient(cfg.Transport),
		started:     make(chan struct{}, 1),
	}
	for _, i := range cfg.Issuers {
		v.issuers[i.URL] = &issuer{Issuer: i, keys: newKeySet(cfg, i, v.client)}
	}
	return v, nil
}

// keysOf returns the keys of an issuer from the same source, or nil.
func (v *Verifier) keysOf(i Issuer) *keySet {
	if v == nil {
		return nil
	}
	if own, ok := v.issuers[i.URL]; ok && own.JWKSURL == i.JWKSURL {
		return own.keys
	}
	return nil
}

// Start begins to fetch and refresh each issuer's keys, apart from one another,
// and returns at once; see Ready. The work ends with ctx; see Wait. It can be
// called once.
func (v *Verifier) Start(ctx context.Context) error {
	select {
	case v.started <- struct{}{}:
	default:
		return errors.New("start verifier: already started")
	}
	for _, i := range v.issuers {
		v.work.Go(func() { i.keys.run(ctx) })
	}
	return nil
}

// Wait returns when the work that Start began has ended, and its connections are
// closed.
func (v *Verifier) Wait() {
	v.work.Wait()
	v.client.CloseIdleConnections()
}
