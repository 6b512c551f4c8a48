// Package serve wires the broker from its configuration and runs it: straight
// line code, no rules of its own.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
	"credential-broker/broker/client"
	"credential-broker/broker/credcache"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/idtoken"
	"credential-broker/broker/webidentity"
	"credential-broker/cmd/credential-broker/config"
)

// drain is how long requests that are under way have to finish after the signal
// to stop: an exchange takes 1.8 s at most, a slow reader 15 s. It stays below the
// 30 s after which Kubernetes kills.
const drain = 16 * time.Second

// readyPoll is how often readiness is looked at while the service starts.
const readyPoll = time.Millisecond

// Options are what a service is given from outside.
type Options struct {
	Stdout   io.Writer    // audit records, where the configuration says so
	Log      *slog.Logger // nil: nowhere
	Listener net.Listener // nil: opened as the configuration says
	Ready    func()       // nil, or called once when requests can be served
}

// Service is a broker that has its ports and is not yet running.
type Service struct {
	log      *slog.Logger
	ready    func()
	verifier *idtoken.Verifier
	cache    *credcache.Cache
	stopping atomic.Bool
	public   endpoint
	admin    endpoint
	audit    io.Closer
}

type endpoint struct {
	server   *http.Server
	listener net.Listener
}

// New wires a service and opens its ports, so that a port that is taken is said
// before anything is promised. Close or Run releases what it holds.
func New(cfg config.Config, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{log: o.Log, ready: o.Ready}
	api, err := s.wire(cfg, o)
	if err == nil {
		err = s.listen(cfg, o, api)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// wire makes the parts, innermost first.
func (s *Service) wire(cfg config.Config, o Options) (*httpapi.API, error) {
	var err error
	if s.verifier, err = NewVerifier(cfg, o.Log, nil); err != nil {
		return nil, err
	}
	assert, documents, err := NewWebIdentity(cfg.WebIdentity)
	if err != nil {
		return nil, err
	}
	issuer, err := awssts.New(awssts.Config{
		Region: cfg.STS.Region, FallbackRegions: cfg.STS.FallbackRegions, Endpoint: cfg.STS.Endpoint,
		Timeout: cfg.STS.Timeout, MaxConcurrent: cfg.STS.MaxConcurrent, PerSecond: cfg.STS.PerSecond, Assert: assert, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	// What nobody waits for takes a quarter of the places at STS, so that it delays nobody who does.
	if s.cache, err = credcache.New(credcache.Config{
		Issuer: issuer, Entries: cfg.CacheEntries, Refreshes: max(1, cfg.STS.MaxConcurrent/4),
	}); err != nil {
		return nil, err
	}
	audit, err := s.openAudit(cfg.AuditOutput, o.Stdout)
	if err != nil {
		return nil, err
	}
	b, err := broker.New(broker.Config{
		Revision: cfg.Revision, Grants: cfg.Grants, Verifier: s.verifier, Issuer: s.cache, Forgetter: s.cache,
		Auditor: broker.NewAuditLog(audit), Revoked: cfg.Revoked,
	})
	if err != nil {
		return nil, err
	}
	return httpapi.New(httpapi.Config{
		Broker: b, AllowedOrigins: cfg.AllowedOrigins, TrustedProxies: cfg.TrustedProxies, TokenBytes: cfg.TokenBytes,
		Documents: documents, ClientJS: client.JS(), Ready: s.readiness, Log: o.Log,
	})
}

// NewVerifier makes the verifier of the configured issuers. Log and observe, which
// is told of each attempt to get an issuer's keys, may be nil.
func NewVerifier(cfg config.Config, log *slog.Logger, observe func(issuer string, err error)) (*idtoken.Verifier, error) {
	issuers := make([]idtoken.Issuer, len(cfg.Issuers))
	for i, c := range cfg.Issuers {
		issuers[i] = idtoken.Issuer{URL: c.URL, Audiences: c.Audiences, Algorithms: c.Algorithms, Clients: c.Clients, JWKSURL: c.JWKSURL}
	}
	return idtoken.New(idtoken.Config{Issuers: issuers, TokenBytes: cfg.TokenBytes, Log: log, Observe: observe})
}

// Assert gives the token that STS is shown for an order.
type Assert = func(context.Context, broker.Order) (broker.Assertion, error)

// NewWebIdentity chooses what STS is shown, and returns it with the documents to
// publish, by path: none in mode forwarded. It reads the signing keys.
func NewWebIdentity(cfg config.WebIdentity) (Assert, map[string][]byte, error) {
	if cfg.Mode == config.Forwarded {
		return webidentity.Forwarder{}.Assert, nil, nil
	}
	keys := make([][]byte, len(cfg.SigningKeys))
	for i, path := range cfg.SigningKeys {
		var err error
		if keys[i], err = readKey(path); err != nil {
			return nil, nil, err
		}
	}
	minter, err := webidentity.NewMinter(webidentity.Config{Issuer: cfg.Issuer, Audience: cfg.Audience, Keys: keys})
	if err != nil {
		return nil, nil, err
	}
	return minter.Assert, minter.Documents(), nil
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

// openAudit opens where the audit records go.
func (s *Service) openAudit(output string, stdout io.Writer) (io.Writer, error) {
	if output == "stdout" {
		if stdout == nil {
			return nil, errors.New("open audit log: there is no standard output")
		}
		return stdout, nil
	}
	f, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	s.audit = f
	return f, nil
}

// listen opens the ports.
func (s *Service) listen(cfg config.Config, o Options, api *httpapi.API) error {
	s.public = endpoint{httpapi.NewServer(api.Handler(), s.log), o.Listener}
	s.admin = endpoint{httpapi.NewServer(api.Admin(), s.log), nil}
	var lc net.ListenConfig
	if s.public.listener == nil {
		l, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		s.public.listener = httpapi.Limit(l)
	}
	l, err := lc.Listen(context.Background(), "tcp", cfg.AdminListen)
	if err != nil {
		return fmt.Errorf("listen for the admin port: %w", err)
	}
	s.admin.listener = httpapi.Limit(l)
	return nil
}

// Addr and AdminAddr return where the service listens.
func (s *Service) Addr() net.Addr { return s.public.listener.Addr() }

// AdminAddr returns where the admin port is.
func (s *Service) AdminAddr() net.Addr { return s.admin.listener.Addr() }

// readiness is nil while requests can be served.
func (s *Service) readiness() error {
	if s.stopping.Load() {
		return errors.New("stopping")
	}
	return s.verifier.Ready()
}

// Run serves until ctx ends, then lets what is under way finish, and releases
// everything. It returns nil after an orderly stop.
func (s *Service) Run(ctx context.Context) error {
	parts, broken := errgroup.WithContext(context.WithoutCancel(ctx))
	background, stop := context.WithCancel(broken)
	for _, e := range []endpoint{s.public, s.admin} {
		parts.Go(func() error {
			if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", e.listener.Addr(), err)
			}
			return nil
		})
	}
	if err := s.verifier.Start(background); err != nil {
		parts.Go(func() error { return err }) // ends the others
	}
	parts.Go(func() error { s.announce(background); return nil })
	select {
	case <-ctx.Done():
	case <-broken.Done():
	}
	s.stopping.Store(true) // whoever balances the load looks elsewhere from now on
	s.log.LogAttrs(ctx, slog.LevelInfo, "stopping")
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := errors.Join(s.public.server.Shutdown(deadline), s.admin.server.Shutdown(deadline))
	stop()
	return errors.Join(err, parts.Wait(), s.Close())
}

// announce says once that requests can be served.
func (s *Service) announce(ctx context.Context) {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for s.readiness() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "ready", slog.String("listen", s.Addr().String()), slog.String("admin_listen", s.AdminAddr().String()))
	if s.ready != nil {
		s.ready()
	}
}

// Close releases what New opened, if Run does not.
func (s *Service) Close() error {
	for _, e := range []endpoint{s.public, s.admin} {
		if e.listener != nil {
			_ = e.listener.Close() // closed by the server already, if it ran
		}
	}
	if s.cache != nil {
		s.cache.Close()
	}
	if s.audit == nil {
		return nil
	}
	err := s.audit.Close()
	s.audit = nil
	return err
}
