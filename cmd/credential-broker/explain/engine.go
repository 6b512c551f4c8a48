// Package explain says why a request is answered as it is: it runs the server's
// own handler, verifier and decision over a token, and stops where STS would be
// asked. It has no rules of its own, so that it cannot disagree with the server.
//
// What it cannot know are the limits, which count requests, and what STS says.
package explain

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/idtoken"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
)

// patience is how long the issuers' keys are waited for: discovery and keys of 5 s
// each, and one more attempt. Without them the verdict says so.
const patience = 15 * time.Second

// nowhere is the address of a caller who has none (RFC 5737).
const nowhere = "192.0.2.1"

// Options say what is taken for given.
type Options struct {
	JWKS []byte           // the keys of the token's issuer; nil: the issuers are asked
	Now  func() time.Time // nil: time.Now
}

// Request is a request as a caller writes it: Access is a comma list, Duration
// seconds or a Go duration. All but Token can be empty.
type Request struct {
	Token                                 broker.Secret
	Grant, Access, Path, Duration, Tenant string
	Address                               string // of the caller; empty: one that nobody has
}

// Engine explains requests under one configuration. It is safe for concurrent use.
type Engine struct {
	cfg      config.Config
	broker   *broker.Broker
	verifier *idtoken.Verifier
	now      func() time.Time
	stop     context.CancelFunc
}

// New makes an engine, which works until it is closed.
func New(ctx context.Context, cfg config.Config, o Options) (*Engine, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	vc := serve.VerifierConfig(cfg)
	vc.Now = o.Now
	waiting, done := context.WithTimeout(ctx, patience)
	defer done()
	if o.JWKS != nil {
		vc.Transport = offline{cfg.Issuers, o.JWKS}
		vc.Observe = func(_ string, err error) {
			if err != nil { // they will not become others
				done()
			}
		}
	}
	e := &Engine{cfg: cfg, now: o.Now}
	var err error
	if e.verifier, err = idtoken.New(vc); err != nil {
		return nil, err
	}
	e.broker, err = broker.New(broker.Config{
		Revision: cfg.Revision, Grants: cfg.Grants, Verifier: e.verifier, Issuer: nobody{}, Auditor: broker.NewAuditLog(io.Discard),
		Revoked: cfg.Revoked, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	work, stop := context.WithCancel(ctx)
	e.stop = stop
	if err := e.verifier.Start(work); err != nil {
		stop()
		return nil, err
	}
	if err := e.verifier.Await(waiting); err != nil && o.JWKS != nil {
		e.Close()
		for _, s := range e.verifier.Status() {
			err = cmp.Or(s.Problem, err)
		}
		return nil, err
	}
	return e, nil
}

// Close ends the work in the background.
func (e *Engine) Close() {
	e.stop()
	e.verifier.Wait()
}

// Explain answers a request as the server would, and says why.
func (e *Engine) Explain(ctx context.Context, r Request) (Verdict, error) {
	asked := &asked{broker: e.broker}
	api, err := httpapi.New(httpapi.Config{Broker: asked, TokenBytes: e.cfg.TokenBytes, Ready: func() error { return nil }, Now: e.now})
	if err != nil {
		return Verdict{}, err
	}
	query := url.Values{}
	for name, value := range map[string]string{"grant": r.Grant, "access": r.Access, "path": r.Path, "duration": r.Duration, "tenant": r.Tenant} {
		if value != "" {
			query.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://broker/v1/credentials?"+query.Encode(), http.NoBody)
	if err != nil {
		return Verdict{}, err
	}
	req.RemoteAddr = net.JoinHostPort(cmp.Or(r.Address, nowhere), "1")
	if !r.Token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+r.Token.Reveal())
	}
	answer := &answer{header: http.Header{}}
	api.Handler().ServeHTTP(answer, req)
	return e.verdict(r, asked, answer)
}

// asked stands where the broker does: it explains, and gives nothing.
type asked struct {
	broker      *broker.Broker
	explanation broker.Explanation
	refused     error // before the broker could be asked
}

// errNobody ends a request that would have had credentials.
var errNobody = errors.New("nobody is given anything here")

func (a *asked) Exchange(ctx context.Context, r broker.Request) (broker.Credentials, error) {
	a.explanation = a.broker.Explain(ctx, r)
	return broker.Credentials{}, cmp.Or(a.explanation.Err, errNobody)
}

func (a *asked) Refuse(_ context.Context, _ broker.Action, _ broker.Request, err error) error {
	a.refused = err
	return err
}

func (a *asked) Grants(context.Context, broker.Request) ([]broker.Scope, error) {
	return nil, errNobody
}
func (a *asked) Forget(context.Context, broker.Request) error { return errNobody }

// nobody issues nothing: an explanation ends before.
type nobody struct{}

func (nobody) Issue(context.Context, broker.Order) (broker.Credentials, error) {
	return broker.Credentials{}, errNobody
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = cmp.Or(a.status, status) }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// offline answers in the place of the issuers: each has these keys.
type offline struct {
	issuers []config.Issuer
	jwks    []byte
}

// RoundTrip implements http.RoundTripper.
func (o offline) RoundTrip(r *http.Request) (*http.Response, error) {
	body := o.jwks
	for _, i := range o.issuers {
		base := strings.TrimSuffix(i.URL, "/") + "/.well-known/"
		if r.URL.String() == base+"openid-configuration" {
			body = discovery(i.URL, base+"jwks.json")
		}
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}, nil
}
