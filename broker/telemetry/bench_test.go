package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/telemetry"
	"credential-broker/policy"
)

// One hit, from the handler in and back out, without the network: with metrics and
// without, and with traces that are sampled or not. The difference is what they cost;
// the rest of the hit is the same in each.
func BenchmarkHit(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	for _, tc := range []struct {
		name            string
		metrics         bool
		traces, sampler string
	}{
		{"neither", false, "", ""},
		{"metrics", true, "", ""},
		{"metrics and traces, none sampled", true, collector.URL, "parentbased_always_off"},
		{"metrics and traces, all sampled", true, collector.URL, "always_on"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.Setenv("OTEL_TRACES_SAMPLER", tc.sampler)
			traces, err := telemetry.NewTraces(b.Context(), telemetry.TraceConfig{Lookup: lookup(endpoint, tc.traces)})
			if err != nil {
				b.Fatal(err)
			}
			h := hit(b, tc.metrics, traces)
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/v1/credentials", nil)
			r.Header.Set("Authorization", "Bearer a.b.c")
			h.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(nowhere{}, r)
			}
			b.StopTimer()
			if err := traces.Shutdown(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// nowhere takes an answer.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// hit is the broker's handler with alice's credentials in its cache.
func hit(b *testing.B, counted bool, traces *telemetry.Traces) http.Handler {
	b.Helper()
	var m *telemetry.Metrics
	issuer, auditor := broker.Issuer(sts{}), broker.Auditor(broker.NewAuditLog(io.Discard))
	var observe func(context.Context, httpapi.Answer)
	if counted {
		m = telemetry.New(telemetry.Config{Routes: httpapi.Routes(), Codes: httpapi.Codes()})
		issuer, auditor = m.Issuer(issuer), m.Auditor(auditor)
		observe = func(ctx context.Context, a httpapi.Answer) {
			traces.Answered(ctx, a.Method, a.Route, a.Status, a.Code, a.ID)
			m.Request(a.Route, a.Code, a.Source, a.Took)
		}
	}
	cache, err := credcache.New(credcache.Config{Issuer: traces.STS(issuer), Entries: 10})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cache.Close)
	bk, err := broker.New(broker.Config{
		Revision: "r", Grants: []broker.Grant{grant(b)}, Verifier: traces.Verifier(alice{}), Issuer: traces.Cache(cache), Auditor: auditor, Deciding: traces.Deciding(false),
	})
	if err != nil {
		b.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{
		Broker: bk, TokenBytes: 8192, Ready: func() error { return nil }, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Observe: observe, //nolint:sloglint // the line is to be made, as in production
	})
	if err != nil {
		b.Fatal(err)
	}
	return traces.Handler(api.Handler())
}

type alice struct{}

func (alice) Verify(context.Context, broker.Secret) (broker.Identity, error) {
	return broker.Identity{Issuer: "https://i/", Subject: "alice", Claims: broker.Claims{"org_id": "org_acme"}, Expiry: time.Now().Add(time.Hour)}, nil
}

type sts struct{}

func (sts) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	return broker.Credentials{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: broker.NewSecret("secret"), SessionToken: broker.NewSecret("token"),
		IssuedAt: time.Now(), Expiration: time.Now().Add(o.Lifetime), SessionName: o.SessionName, Scope: o.Scope, Source: broker.FromSTS,
	}, nil
}

func grant(b *testing.B) broker.Grant {
	b.Helper()
	g := broker.Grant{Name: "uploads", Tenant: broker.TenantRule{Claim: "org_id"}, Region: "eu-west-1", Access: policy.List | policy.Read, Duration: time.Hour}
	var errs [4]error
	g.RoleARN, errs[0] = broker.ParseRoleARN("arn:aws:iam::123456789012:role/uploads")
	g.Bucket, errs[1] = policy.ParseBucketTemplate("acme-uploads")
	g.Prefix, errs[2] = policy.ParseTemplate("tenants/{tenant}/")
	g.Tenant.Pattern, errs[3] = broker.CompilePattern("[a-z_]+")
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	return g
}

// What a hit costs to count: two counters and two histograms.
func BenchmarkRequest(b *testing.B) {
	m := telemetry.New(telemetry.Config{Routes: httpapi.Routes(), Codes: httpapi.Codes()})
	b.ReportAllocs()
	for b.Loop() {
		m.Request("/v1/credentials", "ok", broker.FromCache, 300*time.Microsecond)
	}
}
