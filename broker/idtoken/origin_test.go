package idtoken_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// origin answers in place of the issuers' web servers, in this process.
type origin struct {
	mu      sync.Mutex
	answers map[string]answer // :: URL → what is answered; none: 404
	asked   map[string]int    // :: URL → how often
	times   []time.Time       // of requests for the key set of acme
}

type answer func(*http.Request) (*http.Response, error)

func newOrigin() *origin {
	o := &origin{answers: map[string]answer{}, asked: map[string]int{}}
	o.serve(acme, jwks(jwkOf("a1", acmeRSA(), "alg", "RS256")))
	set := []any{}
	for _, alg := range []string{"RS256", "RS384", "RS512"} {
		set = append(set, jwkOf("b-"+alg, globexRSA(), "alg", alg))
	}
	for alg, private := range globexECDSA {
		set = append(set, jwkOf("b-"+alg, private()))
	}
	o.serve(globex, jwks(set...))
	return o
}

// serve makes an issuer whole: a discovery document and a key set.
func (o *origin) serve(issuer, set string) {
	o.set(issuer+".well-known/openid-configuration", text(marshal(map[string]any{"issuer": issuer, "jwks_uri": issuer + "keys"})))
	o.set(issuer+"keys", text(set))
}

func (o *origin) set(url string, a answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[url] = a
}

func (o *origin) count(url string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[url]
}

// moments are when acme's keys were asked for.
func (o *origin) moments() []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.times)
}

func (o *origin) all() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.asked)
}

// RoundTrip implements http.RoundTripper.
func (o *origin) RoundTrip(r *http.Request) (*http.Response, error) {
	url := r.URL.String()
	o.mu.Lock()
	o.asked[url]++
	if url == acme+"keys" {
		o.times = append(o.times, time.Now())
	}
	a := o.answers[url]
	o.mu.Unlock()
	if a == nil {
		a = status(http.StatusNotFound)
	}
	return a(r)
}

func text(body string) answer {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func status(code int, header ...string) answer {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(jwks(jwkOf("a1", acmeRSA())))), Request: r}, nil
	}
}

// hang answers when the request's time is up, and not before.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
