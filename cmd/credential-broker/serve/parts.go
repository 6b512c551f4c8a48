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

	"credential-broker/broker"
	"credential-broker/broker/idtoken"
	"credential-broker/broker/webidentity"
	"credential-broker/cmd/credential-broker/config"
)

// NewVerifier makes the verifier of the configured issuers. Log and observe, which
// is told of each attempt to get an issuer's keys, may be nil.
func NewVerifier(cfg config.Config, log *slog.Logger, observe func(issuer string, err error)) (*idtoken.Verifier, error) {
	return idtoken.New(verifierConfig(cfg, log, observe, nil, nil))
}

func verifierConfig(cfg config.Config, log *slog.Logger, observe func(string, error), transport http.RoundTripper, previous *idtoken.Verifier) idtoken.Config {
	issuers := make([]idtoken.Issuer, len(cfg.Issuers))
	for i, c := range cfg.Issuers {
		issuers[i] = idtoken.Issuer{
			URL: c.URL, Audiences: c.Audiences, Algorithms: c.Algorithms, Clients: c.Clients, JWKSURL: c.JWKSURL, LogoutAudiences: c.LogoutAudiences,
		}
	}
	return idtoken.Config{
		Issuers: issuers, TokenBytes: cfg.TokenBytes, Remember: cfg.CacheEntries, Claims: broker.ClaimsOf(cfg.Grants),
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
	keys, digest := make([][]byte, len(cfg.SigningKeys)), sha256.New()
	for i, path := range cfg.SigningKeys {
		var err error
		if keys[i], err = readKey(path); err != nil {
			return webIdentity{}, err
		}
		sum := sha256.Sum256(keys[i])
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

// readKey reads a signing key, which has the power of every tenant. A file that
// anybody on the machine can read is refused; the group may, since Kubernetes
// gives mounted secrets to a group (fsGroup).
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read signing key: %s has mode %s: it must be a file that others cannot read (chmod 600)", path, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	if len(data) > maxKeyBytes {
		return nil, fmt.Errorf("read signing key: %s is longer than %d bytes", path, maxKeyBytes)
	}
	return data, nil
}

// openAudit opens where the audit records go. What is to be closed in the end is
// nil for standard output.
func openAudit(output string, stdout io.Writer) (io.Writer, io.Closer, error) {
	if output == "stdout" {
		if stdout == nil {
			return nil, nil, errors.New("open audit log: there is no standard output")
		}
		return stdout, nil, nil
	}
	f, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, nil, fmt.Errorf("open audit log: %w", err)
	}
	return f, f, nil
}
