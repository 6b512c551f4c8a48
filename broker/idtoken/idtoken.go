// Package idtoken proves an identity from a JWT: it is the broker.Verifier for
// access tokens of OpenID Connect issuers such as Auth0.
//
//	size → compact form → header → issuer → claims → times → key → signature
//
// Everything that needs no key is refused before a key is looked up, so that a
// flood of bad tokens costs neither RSA nor a request to the issuer. The issuers'
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

	Transport http.RoundTripper // reaches the issuers; nil: one that keeps to the bounds here
	Now       func() time.Time  // nil: time.Now
	Log       *slog.Logger      // nil: nothing is logged

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
}

// Verifier proves identities. It is safe for concurrent use. Until Start has been
// called it has no keys and refuses every token.
type Verifier struct {
	issuers     map[string]*issuer // :: iss → what is believed of it
	leeway      time.Duration
	maxLifetime time.Duration
	tokenBytes  int
	now         func() time.Time
	started     chan struct{} // capacity 1: full once Start has been called
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
	v := &Verifier{
		issuers:     make(map[string]*issuer, len(cfg.Issuers)),
		leeway:      cfg.Leeway,
		maxLifetime: cfg.MaxLifetime,
		tokenBytes:  cfg.TokenBytes,
		now:         cfg.Now,
		started:     make(chan struct{}, 1),
	}
	client := newClient(cfg.Transport)
	for _, i := range cfg.Issuers {
		v.issuers[i.URL] = &issuer{Issuer: i, keys: newKeySet(cfg, i, client)}
	}
	return v, nil
}

// Start begins to fetch and refresh each issuer's keys, apart from one another,
// and returns at once; see Ready. The work ends with ctx. It can be called once.
func (v *Verifier) Start(ctx context.Context) error {
	select {
	case v.started <- struct{}{}:
	default:
		return errors.New("start verifier: already started")
	}
	for _, i := range v.issuers {
		go i.keys.run(ctx)
	}
	return nil
}

// Ready returns nil once the first keys of every issuer are there, and until then
// an error that names the issuers without. Keys that grow old later do not undo
// it: the tokens of that issuer are refused, those of the others are not.
func (v *Verifier) Ready() error {
	var errs []error
	for url, i := range v.issuers {
		if i.keys.good.Load() == nil {
			errs = append(errs, fmt.Errorf("%w: issuer %s: no keys yet", broker.ErrKeysUnavailable, url))
		}
	}
	return errors.Join(errs...)
}
