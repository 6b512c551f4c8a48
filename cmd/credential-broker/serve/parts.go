package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
	"credential-broker/broker/idtoken"
	"credential-broker/broker/webidentity"
	"credential-broker/cmd/credential-broker/config"
)

// NewVerifier makes the verifier of the configured issuers. Log and observe, which
// is told of each attempt to get an issuer's keys, may be nil.
func NewVerifier(cfg config.Config, log *slog.Logger, observe func(issuer string, err error)) (*idtoken.Verifier, error) {
	return idtoken.New(verifierConfig(cfg, log, observe, nil, nil))
}

// VerifierConfig is what the verifier of the configured issuers is made of, for
// those who give it other keys or another time.
func VerifierConfig(cfg config.Config) idtoken.Config { return verifierConfig(cfg, nil, nil, nil, nil) }

func verifierConfig(cfg config.Config, log *slog.Logger, observe func(string, error), transport http.RoundTripper, previous *idtoken.Verifier) idtoken.Config {
	issuers := make([]idtoken.Issuer, len(cfg.Issuers))
	for i, c := range cfg.Issuers {
		issuers[i] = idtoken.Issuer{
			URL: c.URL, Audiences: c.Audiences, Algorithms: c.Algorithms, Clients: c.Clients, JWKSURL: c.JWKSURL, LogoutAudiences: c.LogoutAudiences,
		}
	}
	_, tokens := room(debug.SetMemoryLimit(-1), cfg.CacheEntries)
	return idtoken.Config{
		Issuers: issuers, TokenBytes: cfg.TokenBytes, Remember: tokens, Claims: broker.ClaimsOf(cfg.Grants),
		Transport: transport, Log: log, Observe: observe, Previous: previous,
	}
}

// Assert gives the token that STS is shown for an order.
type Assert = func(context.Context, broker.Order) (broker.Assertion, error)

// NewWebIdentity chooses what STS is shown, and returns it with the documents to
// publish, by path: none in mode forwarded. It reads the signing keys.
func NewWebIdentity(cfg config.WebIdentity) (Assert, map[string][]byte, error) {
	w, err := newWebIdentity(cfg)
	return w.assert, w.documents, err
}

// webIdentity is what STS is shown. All but assert is of mode minted.
type webIdentity struct {
	assert    Assert
	documents map[string][]byte // :: path → what is published there
	keys      []string          // their names: the first signs, all are published
	digest    string            // of the key files, as they were read
}

func newWebIdentity(cfg config.WebIdentity) (webIdentity, error) {
	if cfg.Mode == config.Forwarded {
		return webIdentity{assert: webidentity.Forwarder{}.Assert}, nil
	}
	keys, digest := make([]broker.Secret, len(cfg.SigningKeys)), sha256.New()
	for i, path := range cfg.SigningKeys {
		pem, err := ReadKey("signing key", path)
		if err != nil {
			return webIdentity{}, err
		}
		keys[i] = broker.NewSecret(string(pem))
		sum := sha256.Sum256(pem)
		digest.Write(sum[:])
	}
	minter, err := webidentity.NewMinter(webidentity.Config{Issuer: cfg.Issuer, Audience: cfg.Audience, Keys: keys})
	if err != nil {
		return webIdentity{}, err
	}
	return webIdentity{
		assert: minter.Assert, documents: minter.Documents(), keys: minter.KeyIDs(), digest: hex.EncodeToString(digest.Sum(nil)),
	}, nil
}

// maxKeyBytes bounds a key file; RSA of 4096 bits has 3.3 kB in PEM.
const maxKeyBytes = 64 << 10

// ReadKey reads the file of a key; a signing key has the power of every tenant. A
// file that anybody on the machine can read is refused; the group may, since
// Kubernetes gives mounted secrets to a group (fsGroup). On Windows a mode says nothing
// of that, and nobody looks: the configuration's notes say so.
func ReadKey(what, path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if mode := info.Mode(); !mode.IsRegular() || runtime.GOOS != "windows" && mode.Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read %s: %s has mode %s: it must be a file that others cannot read (chmod 600)", what, path, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(data) > maxKeyBytes {
		return nil, fmt.Errorf("read %s: %s is longer than %d bytes", what, path, maxKeyBytes)
	}
	return data, nil
}

// openAudit opens where the audit records go.
func openAudit(cfg config.Audit, o Options) (*auditlog.Log, error) {
	to := auditlog.Config{Log: o.Log, Observe: o.Audited}
	switch {
	case cfg.Output != "stdout":
		to.Path = cfg.Output
	case o.Stdout == nil:
		return nil, errors.New("open audit log: there is no standard output")
	default:
		to.Writer = o.Stdout
	}
	var err error
	if to.Pseudonyms, err = NewPseudonyms(cfg); err != nil {
		return nil, err
	}
	return auditlog.Open(to)
}

// NewPseudonyms reads the key of what the audit records hide; nil where they hide
// nothing.
func NewPseudonyms(cfg config.Audit) (*auditlog.Pseudonyms, error) {
	if len(cfg.Hash) == 0 {
		return nil, nil
	}
	key, err := ReadKey("key of audit.hash_key", cfg.HashKey)
	if err != nil {
		return nil, err
	}
	return auditlog.NewPseudonyms(key, cfg.Hash...)
}
