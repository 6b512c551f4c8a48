package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// mostAnswer is what is read of a collector's answer, so that its connection can
	// be used again.
	mostAnswer = 64 << 10
	// firstPause is before the second attempt for a batch; it doubles, within the
	// batch's time.
	firstPause = 200 * time.Millisecond
)

// sender sends spans by OTLP over HTTP. OpenTelemetry's own (otlptracehttp) links
// gRPC, for the one type in which a request is wrapped: 8 MB. TracesData has the
// same bytes on the wire (its only field is the request's only field), and is what
// the specification has for data that is not sent by a service.
type sender struct {
	url      string
	headers  http.Header
	timeout  time.Duration
	compress bool
	client   *http.Client
	exported func(error)
	log      *slog.Logger
	failing  atomic.Bool     // the last batch failed: it has been said
	over     context.Context //nolint:containedctx // of the sender's life: nothing is sent after it
	abort    func()          // ends it
}

var _ otlptrace.Client = (*sender)(nil)

// env reads the variables of the specification; one for traces goes before the
// general one. https://opentelemetry.io/docs/specs/otel/protocol/exporter/
type env func(string) (string, bool)

func (e env) of(name string) string {
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"} {
		if v, _ := e(prefix + name); v != "" { // an empty one is as none
			return v
		}
	}
	return ""
}

// newSender returns nil if no traces are asked for. What is asked for and cannot be
// done is an error.
func newSender(cfg TraceConfig) (*sender, error) {
	e := env(cfg.Lookup)
	disabled, _ := e("OTEL_SDK_DISABLED")
	exporter, _ := e("OTEL_TRACES_EXPORTER")
	if strings.EqualFold(disabled, "true") || exporter == "none" || e.of("ENDPOINT") == "" {
		return nil, nil //nolint:nilnil // see above
	}
	s := &sender{exported: cfg.Exported, log: cfg.Log, timeout: tracesTimeout}
	s.over, s.abort = context.WithCancel(context.Background())
	if s.exported == nil {
		s.exported = func(error) {}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if exporter != "" && exporter != "otlp" {
		errs = append(errs, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: otlp or none", exporter))
	}
	if p := e.of("PROTOCOL"); p != "" && p != "http/protobuf" {
		errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: only http/protobuf is spoken", p))
	}
	switch c := e.of("COMPRESSION"); c {
	case "", "none":
	case "gzip":
		s.compress = true
	default:
		errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION is %q: gzip or none", c))
	}
	if t := e.of("TIMEOUT"); t != "" {
		ms, err := strconv.Atoi(t)
		if err != nil || ms < 1 {
			errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT is %q: milliseconds", t))
		}
		s.timeout = time.Duration(ms) * time.Millisecond
	}
	var problems [3]error
	s.url, problems[0] = e.endpoint()
	s.headers, problems[1] = headers(e.of("HEADERS"))
	s.client, problems[2] = e.client()
	return s, errors.Join(append(errs, problems[:]...)...)
}

// endpoint is where batches go: the one for traces as it stands, the general one
// with the signal's path.
func (e env) endpoint() (string, error) {
	text, _ := e("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	path := ""
	if text == "" {
		text, _ = e("OTEL_EXPORTER_OTLP_ENDPOINT")
		path = "v1/traces"
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("the OTLP endpoint is not an http or https URL") // it may hold a password
	}
	if path != "" {
		u = u.JoinPath(path)
	}
	return u.String(), nil
}

// headers are what a collector may ask for, such as a key: name=value,name=value.
func headers(text string) (http.Header, error) {
	h := http.Header{}
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || name == "" {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS: name=value, with commas between") // and not what it holds
		}
		h.Add(name, value)
	}
	return h, nil
}

// client trusts what the environment says.
func (e env) client() (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	if path := e.of("CERTIFICATE"); path != "" {
		roots, err := os.ReadFile(path) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots) {
			return nil, errors.New("OTEL_EXPORTER_OTLP_CERTIFICATE: no certificate in it")
		}
	}
	if path := e.of("CLIENT_CERTIFICATE"); path != "" {
		own, err := tls.LoadX509KeyPair(path, e.of("CLIENT_KEY"))
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: %w", err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{own}
	}
	// A redirect would take the headers to wherever it points.
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// Start implements otlptrace.Client.
func (s *sender) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (s *sender) Stop(context.Context) error {
	s.abort()
	s.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. What cannot be sent is lost: it is
// counted, and said once until a batch goes through again. There is no error for the
// SDK, which would print each.
func (s *sender) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	err := s.send(ctx, spans)
	s.exported(err)
	switch was := s.failing.Swap(err != nil); {
	case err != nil && !was:
		s.log.LogAttrs(ctx, slog.LevelError, "send spans", slog.String("error", err.Error()))
	case err == nil && was:
		s.log.LogAttrs(ctx, slog.LevelInfo, "spans are sent again")
	}
	return nil
}

func (s *sender) send(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer context.AfterFunc(s.over, cancel)()
	body, err := s.encode(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	for pause := firstPause; ; pause *= 2 {
		after, err := s.post(ctx, body)
		if err == nil || after < 0 {
			return err
		}
		timer := time.NewTimer(max(pause, after))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (s *sender) encode(m proto.Message) ([]byte, error) {
	data, err := proto.Marshal(m)
	if err != nil || !s.compress {
		return data, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// post sends a batch once. The time is when it may be sent again: below zero, never.
func (s *sender) post(ctx context.Context, body []byte) (time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	r.Header = s.headers.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	if s.compress {
		r.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, reason(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, mostAnswer))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout: // what the specification has sent again
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return max(0, time.Duration(seconds)*time.Second), fmt.Errorf("the collector answers %s", resp.Status)
	default:
		return -1, fmt.Errorf("the collector answers %s", resp.Status)
	}
}

// reason is an error without the URL, which may hold a password.
func reason(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
