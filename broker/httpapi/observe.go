package httpapi

import (
	"net/http"
	"net/http/pprof" // it registers itself on http.DefaultServeMux, which nothing here serves
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

// Answer is a request that has been answered, for who counts. Nothing in it is the
// caller's choice: Route and Code are of closed sets.
type Answer struct {
	ID     string
	Method string // as HTTP has it, or "other"
	Route  string // one of Routes
	Status int
	Code   string        // one of Codes
	Grant  string        // of the credentials that were given, and
	Source broker.Source // where they came from; empty: none were given
	Took   time.Duration
}

const (
	// CodeOK is the code of an answer that is no refusal.
	CodeOK = "ok"
	// NoRoute is the route of what leads nowhere.
	NoRoute = "none"

	// documents is where those are that AWS reads. What stands before it is of the
	// configuration.
	documents = "/.well-known/"
)

// Routes returns what requests on the public port are counted as.
func Routes() []string {
	return []string{
		"/v1/credentials", "/v1/grants", uppyPath, "/v1/client.js", "/openapi.yaml", "/v1/backchannel-logout",
		documents + "openid-configuration", documents + "jwks.json", "/healthz", "/readyz", NoRoute,
	}
}

// Codes returns the codes of the error table, and CodeOK.
func Codes() []string {
	codes := []string{CodeOK}
	for _, r := range table() {
		codes = append(codes, string(r.class))
	}
	return codes
}

// label is what a route's pattern is counted as.
func label(path string) string {
	if i := strings.Index(path, documents); i >= 0 {
		return path[i:]
	}
	return path
}

func (a *API) answer(c echo.Context, note *event, took time.Duration) Answer {
	answer := Answer{
		ID: note.id, Method: knownMethod(c.Request().Method), Route: a.labels[c.Path()], Status: c.Response().Status, Code: string(note.class),
		Grant: note.grant, Source: broker.Source(note.source), Took: took,
	}
	if answer.Route == "" {
		answer.Route = NoRoute
	}
	if answer.Code == "" {
		answer.Code = CodeOK
	}
	return answer
}

// profiles serves net/http/pprof's: stacks and counts, and no memory's content. A
// profile of time must end before the server's WriteTimeout: ?seconds=10.
func profiles(e *port) {
	const at = "/debug/pprof/"
	e.GET(at, echo.WrapHandler(http.HandlerFunc(pprof.Index)))
	e.GET(at+":name", echo.WrapHandler(http.HandlerFunc(pprof.Index))) // heap, goroutine and the like
	e.GET(at+"profile", echo.WrapHandler(http.HandlerFunc(pprof.Profile)))
	e.GET(at+"trace", echo.WrapHandler(http.HandlerFunc(pprof.Trace)))
	e.GET(at+"symbol", echo.WrapHandler(http.HandlerFunc(pprof.Symbol)))
}
