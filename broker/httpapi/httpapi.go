// Package httpapi is the broker over HTTP: routes, formats, limits, CORS, the
// error table and the request event. It decides nothing.
package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the API's description
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

// Exchanger is what the routes call; *broker.Broker is one.
type Exchanger interface {
	Exchange(context.Context, broker.Request) (broker.Credentials, error)
	Grants(context.Context, broker.Request) ([]broker.Scope, error)
	Forget(context.Context, broker.Request) error
	// Refuse notes a request that is refused before it can be asked for, and returns
	// why.
	Refuse(context.Context, broker.Action, broker.Request, error) error
}

var _ Exchanger = (*broker.Broker)(nil)

// Addresses bounds what fails from one address.
type Addresses interface {
	// Check returns ErrRateLimited for an address that has failed too often.
	Check(netip.Addr) error
	// Failed counts a request that did not show who it is, or cannot be read.
	Failed(netip.Addr)
}

// Logout takes a logout token; Broker.Logout is one.
type Logout func(context.Context, broker.Request) error

// Config is what an API is made of. Broker, Ready and TokenBytes are needed.
type Config struct {
	Broker         Exchanger
	Addresses      Addresses         // nil: failures are not bounded
	Logout         Logout            // nil: log-outs are not heard
	AllowedOrigins []string          // exact; empty: no browser on another origin
	TrustedProxies []netip.Prefix    // whose X-Forwarded-For is believed
	TokenBytes     int               // longest token
	Documents      map[string][]byte // :: path → JSON that anybody may read and cache
	ClientJS       []byte            // the browser helper, an ES module; empty: not served
	Ready          func() error      // nil error: requests can be served
	Status         func() Status     // told on the admin port; nil: nothing is
	Metrics        http.Handler      // answers GET /metrics on the admin port; nil: nothing does
	Profiles       bool              // whether the admin port answers /debug/pprof/
	Log            *slog.Logger      // nil: nowhere
	// Observe, if set, is told of each request on the public port once it has been
	// answered. It must be quick and safe for concurrent use.
	Observe func(context.Context, Answer)
	Now     func() time.Time // nil: time.Now
}

// API answers requests. It is safe for concurrent use.
type API struct {
	cfg     Config
	labels  map[string]string   // :: route's pattern → what it is counted as
	origins map[string][]string // :: origin → itself, as a header's value
	always  []header
	exposed []string // Access-Control-Expose-Headers
	json    []string // Content-Type
	public  *port
	admin   *port
	limited shed // what is refused for its address
	foreign shed // what is refused for its origin
	ids     ids
	events  sync.Pool // of *event
}

// New checks the configuration and makes the routes.
func New(cfg Config) (*API, error) {
	if cfg.Broker == nil || cfg.Ready == nil || cfg.TokenBytes < 1 {
		return nil, errors.New("make HTTP API: a broker, a readiness and a token limit are needed")
	}
	a := &API{cfg: cfg, origins: map[string][]string{}, labels: map[string]string{}, always: always()}
	a.exposed, a.json = []string{"X-Request-Id, Retry-After, WWW-Authenticate"}, []string{"application/json"}
	for _, o := range cfg.AllowedOrigins {
		if err := checkOrigin(o); err != nil {
			return nil, fmt.Errorf("make HTTP API: %w", err)
		}
		a.origins[o] = []string{o}
	}
	if a.cfg.Log == nil {
		a.cfg.Log = slog.New(slog.DiscardHandler)
	}
	if a.cfg.Now == nil {
		a.cfg.Now = time.Now
	}
	a.public, a.admin = a.newPort(cfg.Observe), a.newPort(nil)
	a.public.GET("/v1/credentials", a.guard(a.credentials))
	a.public.POST("/v1/credentials", a.guard(a.credentials))
	a.public.handle(http.MethodDelete, "/v1/credentials", a.guard(a.forget))
	a.public.GET("/v1/grants", a.guard(a.grants))
	a.public.GET(uppyPath, a.guard(a.credentials))
	if len(cfg.ClientJS) > 0 {
		a.serve("/v1/client.js", asset("text/javascript; charset=utf-8", cfg.ClientJS))
	}
	a.serve("/openapi.yaml", asset("application/yaml", description))
	if cfg.Logout != nil {
		a.public.POST("/v1/backchannel-logout", a.guard(a.logout))
	}
	for path, body := range cfg.Documents {
		a.serve(path, document(body))
	}
	a.public.GET("/healthz", a.healthz)
	a.public.GET("/readyz", a.readyz(false))
	a.admin.GET("/healthz", a.healthz)
	a.admin.GET("/readyz", a.readyz(true))
	if cfg.Metrics != nil {
		a.admin.GET("/metrics", echo.WrapHandler(cfg.Metrics))
	}
	if cfg.Profiles {
		profiles(a.admin)
	}
	for _, r := range a.public.echo.Routes() {
		a.labels[r.Path] = label(r.Path)
	}
	return a, nil
}

// checkOrigin takes an exact origin: no wildcard, no path, no "null".
func checkOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || s != u.Scheme+"://"+u.Host || strings.ContainsAny(s, "*@") {
		return fmt.Errorf("origin %q: must be scheme://host[:port]", s)
	}
	return nil
}

// port is what answers on one, with what goes around every route. That is put there
// once, here: Echo's own middleware is put together anew at every request.
type port struct {
	echo   *echo.Echo
	around func(echo.HandlerFunc) echo.HandlerFunc
}

// newPort makes a port. Its requests are told to observe, which may be nil.
func (a *API) newPort(observe func(context.Context, Answer)) *port {
	e := echo.New()
	p := &port{e, func(h echo.HandlerFunc) echo.HandlerFunc { return a.around(observe, h) }}
	e.HideBanner, e.HidePort = true, true
	// A route's handler never fails, see around: what comes here has found none.
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		_ = p.around(func(echo.Context) error { return err })(c)
	}
	e.IPExtractor = a.addressFrom()
	e.Logger.SetLevel(99) // off: there is one event a request, and it is ours
	return p
}

// ServeHTTP implements http.Handler.
func (p *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodOptions {
		p.echo.ServeHTTP(w, r)
		return
	}
	c := p.echo.NewContext(r, w) // Echo has a handler of its own for these, which is no route's
	p.echo.Router().Find(r.Method, echo.GetPath(r), c)
	_ = p.around(c.Handler())(c) // never fails
}

// handle adds a route.
func (p *port) handle(method, path string, h echo.HandlerFunc) { p.echo.Add(method, path, p.around(h)) }

// GET adds a route.
func (p *port) GET(path string, h echo.HandlerFunc) { p.handle(http.MethodGet, path, h) }

// POST adds a route.
func (p *port) POST(path string, h echo.HandlerFunc) { p.handle(http.MethodPost, path, h) }

// addressFrom believes X-Forwarded-For from the configured proxies only. Echo's
// default believes it from anybody.
func (a *API) addressFrom() echo.IPExtractor {
	if len(a.cfg.TrustedProxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range a.cfg.TrustedProxies {
		trust = append(trust, echo.TrustIPRange(ipNet(p)))
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

// Handler answers on the public port.
func (a *API) Handler() http.Handler { return a.public }

// Admin answers on the admin port: probes with detail, and metrics.
func (a *API) Admin() http.Handler { return a.admin }

// uppyPath is where Uppy 4 and 5 look for temporary credentials, below what they
// take for their Companion. The path says the format.
const uppyPath = "/s3/sts"

// GET or POST /v1/credentials, GET /s3/sts
func (a *API) credentials(c echo.Context) error {
	req, format, err := a.request(c)
	if err != nil {
		return err
	}
	note := eventOf(c)
	creds, err := a.cfg.Broker.Exchange(c.Request().Context(), req)
	note.recorded = true
	if err != nil {
		return err
	}
	note.grant, note.source = creds.Scope.Grant, string(creds.Source)
	if note.body, err = render(note.body[:0], creds, format, a.cfg.Now()); err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, note.body)
}

// DELETE /v1/credentials
func (a *API) forget(c echo.Context) error {
	req, _, err := a.request(c)
	if err != nil {
		return err
	}
	err = a.cfg.Broker.Forget(c.Request().Context(), req)
	eventOf(c).recorded = true
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// GET /v1/grants
func (a *API) grants(c echo.Context) error {
	req, _, err := a.request(c)
	if err != nil {
		return err
	}
	scopes, err := a.cfg.Broker.Grants(c.Request().Context(), req)
	eventOf(c).recorded = true
	if err != nil {
		return err
	}
	body, err := renderGrants(scopes)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, body)
}

// document serves what AWS reads to check minted tokens. It changes only with the
// configuration; five minutes bound how long a new key is not seen.
func document(body []byte) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "public, max-age=300")
		c.Response().Header().Del("Pragma")
		c.Response().Header().Del("Vary")
		return sendJSON(c, http.StatusOK, body)
	}
}

// description is the API in OpenAPI 3.1. A test holds it against the routes and
// their answers, both ways.
//
//go:embed openapi.yaml
var description []byte

// serve answers GET and HEAD.
func (a *API) serve(path string, h echo.HandlerFunc) {
	a.public.GET(path, h)
	a.public.handle(http.MethodHead, path, h)
}

// GET /v1/client.js, GET /openapi.yaml
//
// An asset holds nothing of anybody's. It changes with a release only: an hour
// bounds how long a page runs an old one, and the tag spares its bytes afterwards.
// A copy is for one origin, whose name stands in the answer. Browsers fetch modules
// of another origin with CORS, so that Cross-Origin-Resource-Policy plays no part.
// It is served whole: a part of a module is of no use.
func asset(media string, content []byte) echo.HandlerFunc {
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Type", media)
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("ETag", tag)
		h.Set("Vary", "Origin")
		h.Del("Pragma")
		for _, name := range []string{"Range", "If-Range", "If-Match"} {
			c.Request().Header.Del(name)
		}
		http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(content))
		return nil
	}
}
