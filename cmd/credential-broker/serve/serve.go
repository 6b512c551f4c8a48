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
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
	"credential-broker/broker/awssts"
	"credential-broker/broker/client"
	"credential-broker/broker/credcache"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/idtoken"
	"credential-broker/broker/limits"
	"credential-broker/broker/sessions"
	"credential-broker/broker/sharedcache"
	"credential-broker/broker/telemetry"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/watch"
)

const (
	// drain is how long requests that are under way have to finish after the ports
	// are closed: an exchange takes 1.8 s at most, a slow reader 15 s. With Notice it
	// stays below the 30 s after which Kubernetes kills.
	drain = 16 * time.Second
	// cut is how long a request may go on after its connection was cut.
	cut = 2 * time.Second
	// lastSpans is how long a collector has for what is left at the end.
	lastSpans = 3 * time.Second
	// Notice is long enough for whoever balances the load to have heard that this one
	// is not ready: Kubernetes takes a second or two to tell all nodes.
	Notice = 3 * time.Second
)

// Options are what a service is given from outside.
type Options struct {
	Stdout        io.Writer         // audit records, where the configuration says so
	Log           *slog.Logger      // nil: nowhere
	Listener      net.Listener      // nil: opened as the configuration says
	AdminListener net.Listener      // the same for the admin port
	Transport     http.RoundTripper // reaches the issuers and STS; nil: each has its own
	Ready         func()            // nil, or called once when requests can be served
	Notice        time.Duration     // between the end of readiness and the closing of the ports
	Build         Build             // told by a metric, and by traces
	// Lookup reads the environment, which may ask for traces; nil: there are none.
	Lookup func(string) (string, bool)

	// Audited, if set, is told what came of each audit record: nil, or why it could
	// not be written. It must not block.
	Audited func(error)
	// Load reads the configuration again; nil: it stays as it is.
	Load func() (config.Config, error)
	// Hangup asks for it, whether or not anything has changed.
	Hangup <-chan os.Signal
	// Watch is the configuration's file: when it changes, or a signing key does, it is
	// asked for too. Empty: only Hangup does.
	Watch string
	// Reloaded, if set, is told what came of it. It must not block.
	Reloaded func(Reload)
}

// Build is what runs.
type Build struct{ Version, Revision, Go string }

// Service is a broker that has its ports and is not yet running.
type Service struct {
	o         Options
	log       *slog.Logger
	auditor   broker.Auditor
	metrics   *telemetry.Metrics
	traces    *telemetry.Traces  // nil: nobody asked for them
	counters  *limits.Counters   // these three go on under another configuration
	sessions  *sessions.Sessions //
	replays   *sessions.Replays  //
	shared    *sharedcache.Store // nil: nothing is shared
	current   atomic.Pointer[generation]
	drains    sync.WaitGroup         // generations that go on until their requests have ended
	last      atomic.Pointer[Reload] // nil: there was none
	watcher   *watch.Watcher         // of reloads alone
	announced sync.Once
	stopping  atomic.Bool
	public    endpoint
	admin     endpoint
	audit     *auditlog.Log
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
	s := &Service{o: o, log: o.Log, counters: limits.NewCounters(), sessions: sessions.New(), replays: sessions.NewReplays(nil)}
	s.metrics = s.newMetrics()
	var err error
	if s.traces, err = s.newTraces(); err != nil {
		return nil, err
	}
	if err := s.open(cfg, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) open(cfg config.Config, o Options) error {
	var err error
	if s.audit, err = openAudit(cfg.Audit, o); err != nil {
		return err
	}
	s.auditor = s.metrics.Auditor(s.audit)
	if s.shared, err = s.openShared(cfg); err != nil {
		return err
	}
	g, err := s.wire(cfg, o, nil)
	if err != nil {
		return err
	}
	g.since = time.Now()
	s.current.Store(g)
	return s.listen(cfg, o)
}

// wire makes the parts of one configuration, innermost first. What the generation
// before it has of the same issuers' keys, and has learnt of the same STS, is taken
// over; that one may be nil.
func (s *Service) wire(cfg config.Config, o Options, old *generation) (*generation, error) {
	g := &generation{cfg: cfg, empty: make(chan struct{})}
	var previous *idtoken.Verifier
	var sts *awssts.Client
	if old != nil {
		previous, sts = old.verifier, old.sts
	}
	var err error
	if g.verifier, err = idtoken.New(verifierConfig(cfg, o.Log, s.fetchedKeys, o.Transport, previous)); err != nil {
		return nil, err
	}
	if g.identity, err = newWebIdentity(cfg.WebIdentity); err != nil {
		return nil, err
	}
	g.sts, err = awssts.New(awssts.Config{
		Region: cfg.STS.Region, FallbackRegions: cfg.STS.FallbackRegions, Endpoint: cfg.STS.Endpoint,
		Timeout: cfg.STS.Timeout, MaxConcurrent: cfg.STS.MaxConcurrent, PerSecond: cfg.STS.PerSecond, Assert: g.identity.assert, Transport: o.Transport,
		Observe: s.observeSTS, Log: o.Log, Previous: sts,
	})
	if err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.sts.Close)
	// What nobody waits for takes a quarter of the places at STS, so that it delays nobody who does.
	bytes, _ := room(debug.SetMemoryLimit(-1), cfg.CacheEntries)
	g.cache, err = credcache.New(credcache.Config{
		Issuer: s.share(cfg.STS, s.traces.STS(s.metrics.Issuer(g.sts))), Entries: cfg.CacheEntries, Bytes: bytes, Refreshes: max(1, cfg.STS.MaxConcurrent/4),
		Observe: s.metrics.Fetched, Evicted: s.metrics.Evicted, Repeated: s.metrics.Repeated,
	})
	if err != nil {
		return nil, err
	}
	g.closers = append(g.closers, g.cache.Close)
	limited, err := limits.New(limits.Config{
		Issuer: s.traces.Cache(g.cache), Counters: s.counters, PerSubject: cfg.Limits.PerSubject, PerTenant: cfg.Limits.PerTenant, Observe: s.overLimit,
		Shared: s.sharedLimits(),
	})
	if err != nil {
		return nil, err
	}
	addresses, err := limits.NewAddresses(limits.AddressConfig{Counters: s.counters, Failures: cfg.Limits.PerAddressFailures, Observe: s.overLimit})
	if err != nil {
		return nil, err
	}
	b, err := broker.New(broker.Config{
		Revision: cfg.Revision, Grants: cfg.Grants, Verifier: s.traces.Verifier(g.verifier), Issuer: limited, Forgetter: s.forgetter(g),
		Auditor: s.auditor, Revoked: cfg.Revoked, Logouts: broker.Logouts{Verifier: g.verifier, Sessions: s.knownSessions(), Replays: s.replays},
		Deciding: s.traces.Deciding(cfg.TraceTenant),
	})
	if err != nil {
		return nil, err
	}
	g.api, err = httpapi.New(httpapi.Config{
		Broker: b, Addresses: addresses, Logout: b.Logout, AllowedOrigins: cfg.AllowedOrigins, TrustedProxies: cfg.TrustedProxies, TokenBytes: cfg.TokenBytes,
		Documents: g.identity.documents, ClientJS: client.JS(), Ready: s.readiness, Status: s.status, Metrics: s.metrics.Handler(), Profiles: cfg.AdminPprof,
		Observe: s.answered, Log: o.Log,
	})
	return g, err
}

// listen opens the ports.
func (s *Service) listen(cfg config.Config, o Options) error {
	s.public = endpoint{httpapi.NewServer(s.traces.Handler(s.serve((*httpapi.API).Handler)), s.log), o.Listener}
	s.admin = endpoint{httpapi.NewServer(s.serve((*httpapi.API).Admin), s.log), o.AdminListener}
	var lc net.ListenConfig
	if s.public.listener == nil {
		l, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		s.public.listener = httpapi.Limit(l)
	}
	if s.admin.listener == nil {
		l, err := lc.Listen(context.Background(), "tcp", cfg.AdminListen)
		if err != nil {
			return fmt.Errorf("listen for the admin port: %w", err)
		}
		s.admin.listener = httpapi.Limit(l)
	}
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
	return errors.Join(s.audit.Ready(), s.current.Load().verifier.Ready())
}

// Run serves until ctx ends, then lets what is under way finish, and releases
// everything. It returns nil after an orderly stop.
func (s *Service) Run(ctx context.Context) error {
	parts, broken := errgroup.WithContext(context.WithoutCancel(ctx))
	background, stop := context.WithCancel(broken)
	defer stop()
	for _, e := range []endpoint{s.public, s.admin} {
		parts.Go(func() error {
			if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", e.listener.Addr(), err)
			}
			return nil
		})
	}
	first := s.current.Load()
	if err := first.start(background); err != nil {
		parts.Go(func() error { return err }) // ends the others
	}
	changes, settle := context.WithCancel(background)
	var changing sync.WaitGroup
	changing.Go(func() {
		if first.verifier.Await(changes) == nil {
			s.announce(changes)
		}
	})
	changing.Go(func() { s.reloads(changes, background) })
	select {
	case <-ctx.Done():
	case <-broken.Done():
	}
	s.stopping.Store(true) // whoever balances the load looks elsewhere from now on
	s.log.LogAttrs(ctx, slog.LevelInfo, "stopping")
	settle()
	changing.Wait()
	select {
	case <-time.After(s.o.Notice):
	case <-broken.Done():
	}
	err := s.shutdown(context.WithoutCancel(ctx))
	stop()
	return errors.Join(err, parts.Wait(), s.Close())
}

// shutdown closes the ports, lets what is under way finish, and ends what works in
// the background. What does not finish in time is cut off.
func (s *Service) shutdown(ctx context.Context) error {
	deadline, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	err := errors.Join(s.public.server.Shutdown(deadline), s.admin.server.Shutdown(deadline))
	if err != nil {
		err = errors.Join(err, s.public.server.Close(), s.admin.server.Close())
	}
	s.replace(nil)
	drained := make(chan struct{})
	go func() {
		s.drains.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return err
	case <-time.After(cut):
		return errors.Join(err, errors.New("a request goes on after its connection was cut"))
	}
}

// announce says once that requests can be served.
func (s *Service) announce(ctx context.Context) {
	s.announced.Do(func() {
		s.log.LogAttrs(ctx, slog.LevelInfo, "ready", slog.String("listen", s.Addr().String()), slog.String("admin_listen", s.AdminAddr().String()))
		if s.o.Ready != nil {
			s.o.Ready()
		}
	})
}

// Close releases what New opened, if Run does not.
func (s *Service) Close() error {
	for _, e := range []endpoint{s.public, s.admin} {
		if e.listener != nil {
			_ = e.listener.Close() // closed by the server already, if it ran
		}
	}
	if g := s.current.Load(); g != nil {
		g.close()
	}
	if s.shared != nil {
		s.shared.Close()
	}
	last, cancel := context.WithTimeout(context.Background(), lastSpans)
	defer cancel()
	if err := s.traces.Shutdown(last); err != nil { // a collector that is out is no reason to have failed
		s.log.LogAttrs(last, slog.LevelWarn, err.Error())
	}
	if s.audit == nil {
		return nil
	}
	return s.audit.Close()
}
