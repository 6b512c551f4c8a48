package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"credential-broker/broker"
)

// TraceConfig is what Traces are made of, beside the environment.
type TraceConfig struct {
	Version  string
	Lookup   func(string) (string, bool) // as os.LookupEnv; what the SDK reads by itself it reads from the process's own environment
	Exported func(error)                 // nil, or told of each batch of spans that was sent, or not
	Log      *slog.Logger                // nil: nowhere
}

// Traces follows requests. It is safe for concurrent use. A nil one does nothing,
// and what it is to be put around is returned as it is.
//
// A span holds nothing of a token but, where that is asked for, the tenant; an
// error is its class, since its text may name a subject.
type Traces struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	sender   *sender
}

// NewTraces returns nil where the environment does not ask for traces: they are on
// when OTEL_EXPORTER_OTLP_ENDPOINT, or its variant for traces, is set. The variables
// are those of the OpenTelemetry specification: OTEL_TRACES_SAMPLER and its argument
// (by default as the parent, and all that have none), OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_* and OTEL_SPAN_* are the SDK's, the rest see
// newSender. Shutdown sends what is left.
func NewTraces(ctx context.Context, cfg TraceConfig) (*Traces, error) {
	client, err := newSender(cfg)
	if err != nil {
		return nil, fmt.Errorf("make traces: %w", err)
	}
	if client == nil {
		return nil, nil //nolint:nilnil // see above: nil does nothing
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "credential-broker"), attribute.String("service.version", cfg.Version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv(), // the environment's word is the last
	)
	if err != nil {
		return nil, fmt.Errorf("make traces: %w", err)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("make traces: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Traces{provider: provider, tracer: provider.Tracer("credential-broker"), sender: client}, nil
}

// Shutdown sends what is left, as long as ctx lasts, and ends the work.
func (t *Traces) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	defer context.AfterFunc(ctx, t.sender.abort)()
	// It ends with ctx, since nothing is sent from then on; the SDK itself would
	// return and let its goroutines go on.
	if err := errors.Join(t.provider.Shutdown(context.WithoutCancel(ctx)), ctx.Err()); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// Handler begins a span for each request, as the child of what the caller's
// traceparent names; his tracestate, a text of his own, goes no further. Probes have
// none. Answered ends what it is to say.
func (t *Traces) Handler(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		carrier := propagation.MapCarrier{"traceparent": r.Header.Get("Traceparent")}
		ctx := propagation.TraceContext{}.Extract(r.Context(), carrier)
		ctx, span := t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Answered says what became of a request, all of it in words of closed sets but for
// the id that the broker gave it.
func (t *Traces) Answered(ctx context.Context, method, route string, status int, code, id string) {
	if t == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(method + " " + route)
	span.SetAttributes(
		attribute.String("http.request.method", method), attribute.String("http.route", route), attribute.Int("http.response.status_code", status),
		attribute.String("credential_broker.code", code), attribute.String("credential_broker.request_id", id),
	)
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, code)
	}
}

// idle reports whether the request is in a trace that is not sampled: no step of it
// is either, and need not be asked about.
func idle(ctx context.Context) bool {
	span := trace.SpanFromContext(ctx)
	return span.SpanContext().IsValid() && !span.IsRecording()
}

// end ends a span with the class of an error, whose text may name a subject.
func end(span trace.Span, err error) {
	if err != nil {
		class := broker.ClassOf(err)
		span.SetAttributes(attribute.String("credential_broker.code", string(class)))
		span.SetStatus(codes.Error, string(class))
	}
	span.End()
}

// Verifier puts the span "verify" around another.
func (t *Traces) Verifier(next broker.Verifier) broker.Verifier {
	if t == nil {
		return next
	}
	return tracedVerifier{next, t}
}

type tracedVerifier struct {
	next broker.Verifier
	t    *Traces
}

// Verify implements broker.Verifier.
func (v tracedVerifier) Verify(ctx context.Context, token broker.Secret) (broker.Identity, error) {
	if idle(ctx) {
		return v.next.Verify(ctx, token)
	}
	ctx, span := v.t.tracer.Start(ctx, "verify")
	id, err := v.next.Verify(ctx, token)
	end(span, err)
	return id, err
}

// Deciding is broker.Config's: the span "decide". It names the tenant if asked to.
func (t *Traces) Deciding(tenant bool) func(context.Context) func(broker.Scope, error) {
	if t == nil {
		return nil
	}
	return func(ctx context.Context) func(broker.Scope, error) {
		if idle(ctx) {
			return func(broker.Scope, error) {}
		}
		_, span := t.tracer.Start(ctx, "decide")
		return func(s broker.Scope, err error) {
			if err == nil {
				span.SetAttributes(attribute.String("credential_broker.grant", s.Grant))
				if tenant {
					span.SetAttributes(attribute.String("credential_broker.tenant", s.Tenant.String()))
				}
			}
			end(span, err)
		}
	}
}

// Cache puts the span "cache" around another Issuer. What is fetched ahead of need
// is a child of the request that began it, and may end after it.
func (t *Traces) Cache(next broker.Issuer) broker.Issuer { return t.issuer(next, "cache") }

// STS puts the span "sts" around another Issuer, both attempts and the wait for a
// place included. STS is told nothing of the trace.
func (t *Traces) STS(next broker.Issuer) broker.Issuer {
	return t.issuer(next, "sts", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rpc.system", "aws-api"), attribute.String("rpc.service", "STS"), attribute.String("rpc.method", "AssumeRoleWithWebIdentity")))
}

func (t *Traces) issuer(next broker.Issuer, name string, o ...trace.SpanStartOption) broker.Issuer {
	if t == nil {
		return next
	}
	return tracedIssuer{next, t, name, o}
}

type tracedIssuer struct {
	next broker.Issuer
	t    *Traces
	name string
	o    []trace.SpanStartOption
}

// Issue implements broker.Issuer.
func (i tracedIssuer) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	if idle(ctx) {
		return i.next.Issue(ctx, order)
	}
	ctx, span := i.t.tracer.Start(ctx, i.name, i.o...)
	creds, err := i.next.Issue(ctx, order)
	if err == nil && span.IsRecording() {
		span.SetAttributes(attribute.String("credential_broker.source", string(creds.Source)))
	}
	end(span, err)
	return creds, err
}

// tracesTimeout is OpenTelemetry's default for a batch.
const tracesTimeout = 10 * time.Second
