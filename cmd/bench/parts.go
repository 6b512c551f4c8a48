package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
	"credential-broker/broker/awssts"
	"credential-broker/broker/credcache"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/idtoken"
	"credential-broker/broker/limits"
	"credential-broker/broker/telemetry"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
)

func (s spec) has(part string) bool { return !slices.Contains(s.Off, part) }

// parts serves the broker's parts as the service wires them, less those that are off,
// and less what serves reloads. It is for measuring what each costs; the product has
// no such options.
func (s spec) parts(ctx context.Context) (string, error) {
	cfg, err := config.Parse("bench.yaml", []byte(s.Config), os.LookupEnv)
	if err != nil {
		return "", err
	}
	p, err := newParts(ctx, cfg)
	if err != nil {
		return "", err
	}
	var auditor broker.Auditor = broker.NewAuditLog(io.Discard)
	if s.has(partAudit) {
		if auditor, err = auditlog.Open(auditlog.Config{Path: cfg.Audit.Output}); err != nil {
			return "", err
		}
	}
	var log *slog.Logger
	if s.has(partLog) {
		if log, err = eventLog(s.Log); err != nil {
			return "", err
		}
	}
	h, err := s.handler(cfg, p, auditor, log)
	if err != nil {
		return "", err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := httpapi.NewServer(h, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(httpapi.Limit(l)) }() // to the end of the process
	return l.Addr().String(), nil
}

// parts are those that ask others.
type parts struct {
	verifier *idtoken.Verifier
	sts      broker.Issuer
}

// newParts makes them, and waits for the issuers' keys.
func newParts(ctx context.Context, cfg config.Config) (parts, error) {
	verifier, err := idtoken.New(serve.VerifierConfig(cfg))
	if err != nil {
		return parts{}, err
	}
	if err := verifier.Start(ctx); err != nil {
		return parts{}, err
	}
	if err := verifier.Await(ctx); err != nil {
		return parts{}, err
	}
	assert, _, err := serve.NewWebIdentity(cfg.WebIdentity)
	if err != nil {
		return parts{}, err
	}
	sts, err := awssts.New(awssts.Config{
		Region: cfg.STS.Region, Endpoint: cfg.STS.Endpoint, Timeout: cfg.STS.Timeout, MaxConcurrent: cfg.STS.MaxConcurrent, PerSecond: cfg.STS.PerSecond, Assert: assert,
	})
	return parts{verifier, sts}, err
}

// handler wires them with the rest.
func (s spec) handler(cfg config.Config, p parts, auditor broker.Auditor, log *slog.Logger) (http.Handler, error) {
	issuer := p.sts
	var observe func(context.Context, httpapi.Answer)
	if s.has(partMetrics) {
		m := telemetry.New(telemetry.Config{Routes: httpapi.Routes(), Codes: httpapi.Codes()})
		issuer, auditor = m.Issuer(issuer), m.Auditor(auditor)
		observe = func(_ context.Context, a httpapi.Answer) { m.Request(a.Route, a.Code, a.Source, a.Took) }
	}
	cache, err := credcache.New(credcache.Config{Issuer: issuer, Entries: cfg.CacheEntries})
	if err != nil {
		return nil, err
	}
	issuer = cache
	var addresses httpapi.Addresses
	if s.has(partLimits) {
		counters := limits.NewCounters()
		if issuer, err = limits.New(limits.Config{Issuer: issuer, Counters: counters, PerSubject: cfg.Limits.PerSubject, PerTenant: cfg.Limits.PerTenant}); err != nil {
			return nil, err
		}
		if addresses, err = limits.NewAddresses(limits.AddressConfig{Counters: counters, Failures: cfg.Limits.PerAddressFailures}); err != nil {
			return nil, err
		}
	}
	b, err := broker.New(broker.Config{Revision: cfg.Revision, Grants: cfg.Grants, Verifier: p.verifier, Issuer: issuer, Forgetter: cache, Auditor: auditor})
	if err != nil {
		return nil, err
	}
	api, err := httpapi.New(httpapi.Config{
		Broker: b, Addresses: addresses, AllowedOrigins: cfg.AllowedOrigins, TrustedProxies: cfg.TrustedProxies, TokenBytes: cfg.TokenBytes,
		Ready: p.verifier.Ready, Observe: observe, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return api.Handler(), nil
}
