package idtoken_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// drip gives a byte a second.
type drip struct{ ctx context.Context }

func (d drip) Read(p []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	}
}

// body answers with what a reader gives, made anew for each request.
func body(read func(context.Context) io.Reader) answer {
	return func(request *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(read(request.Context())), Request: request,
		}, nil
	}
}

func blank(size int64) answer {
	return body(func(context.Context) io.Reader { return io.LimitReader(spaces{}, size) })
}

// Threat cases DS02 to DS05 and DS07.
func TestNoBadAnswerReplacesGoodKeys(t *testing.T) {
	const discovery = acme + ".well-known/openid-configuration"
	document := func(issuer, keys any) answer {
		return text(marshal(map[string]any{"issuer": issuer, "jwks_uri": keys}))
	}
	good := jwks(jwkOf("a1", acmeRSA()))
	for name, c := range map[string]struct {
		url    string
		answer answer
		reason string
	}{
		"no network":                      {acme + "keys", func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }, "refused"},
		"status 500":                      {acme + "keys", status(500), "status 500"},
		"status 404":                      {acme + "keys", status(404), "status 404"},
		"status 206, a part":              {acme + "keys", status(206), "status 206"},
		"a redirect to itself":            {acme + "keys", status(302, "Location", acme+"keys?again"), "status 302"},
		"a redirect to another host":      {acme + "keys", status(307, "Location", "https://evil.example/keys"), "status 307"},
		"a redirect to http":              {acme + "keys", status(301, "Location", "http://acme.eu.auth0.com/keys"), "status 301"},
		"a redirect to the metadata":      {acme + "keys", status(308, "Location", "http://169.254.169.254/"), "status 308"},
		"nothing":                         {acme + "keys", text(""), "not a JSON object"},
		"HTML":                            {acme + "keys", text("<html><title>Blocked</title></html>"), "not a JSON object"},
		"half of it":                      {acme + "keys", text(good[:len(good)/2]), "malformed JSON"},
		"two of it":                       {acme + "keys", text(good + good), "bytes after"},
		"an empty set":                    {acme + "keys", text(`{"keys":[]}`), "none of 0 keys"},
		"keys that are null":              {acme + "keys", text(`{"keys":null}`), "keys is not an array"},
		"a set without a key for us":      {acme + "keys", text(jwks(jwkOf("a1", acmeRSA(), "use", "enc"))), "none of 1 keys"},
		"one byte over 1 MiB":             {acme + "keys", text(good + strings.Repeat(" ", 1<<20+1-len(good))), "more than 1048576 bytes"},
		"300 MiB":                         {acme + "keys", blank(300 << 20), "more than 1048576 bytes"},
		"a byte a second":                 {acme + "keys", body(func(ctx context.Context) io.Reader { return drip{ctx} }), "deadline exceeded"},
		"no answer":                       {acme + "keys", hang, "deadline exceeded"},
		"discovery: no answer":            {discovery, hang, "deadline exceeded"},
		"discovery: status 500":           {discovery, status(500), "status 500"},
		"discovery: HTML":                 {discovery, text("<html>"), "not a JSON object"},
		"discovery: another issuer":       {discovery, document("https://evil.example/", acme+"keys"), "of another issuer"},
		"discovery: issuer without slash": {discovery, document(strings.TrimSuffix(acme, "/"), acme+"keys"), "of another issuer"},
		"discovery: no issuer":            {discovery, document(nil, acme+"keys"), "of another issuer"},
		"discovery: issuer twice":         {discovery, text(`{"issuer":"https://evil.example/","issuer":"` + acme + `","jwks_uri":"` + acme + `keys"}`), "stands twice"},
		"discovery: keys on another host": {discovery, document(acme, "https://evil.example/keys"), "not on the issuer's own host"},
		"discovery: keys on a sub-domain": {discovery, document(acme, "https://keys.acme.eu.auth0.com/keys"), "not on the issuer's own host"},
		"discovery: keys on another port": {discovery, document(acme, "https://acme.eu.auth0.com:8443/keys"), "not on the issuer's own host"},
		"discovery: keys by http":         {discovery, document(acme, "http://acme.eu.auth0.com/keys"), "https is needed"},
		"discovery: keys by file":         {discovery, document(acme, "file:///etc/passwd"), "a URL with a host"},
		"discovery: keys of a user":       {discovery, document(acme, "https://acme.eu.auth0.com@evil.example/keys"), "without user"},
		"discovery: keys somewhere":       {discovery, document(acme, "/keys"), "a URL with a host"},
		"discovery: keys are a number":    {discovery, document(acme, 7), "a URL with a host"},
		"discovery: keys are nowhere":     {discovery, document(acme, "https://%zz/"), "not a URL"},
		"discovery: a redirect":           {discovery, status(301, "Location", "https://evil.example/"), "status 301"},
		"discovery: over 1 MiB":           {discovery, blank(2 << 20), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			inRoom(t, func(t *testing.T, r *room) {
				r.origin.set(c.url, c.answer)
				before := len(r.origin.all())
				r.after(5*time.Minute + 36*time.Second)
				if err := r.last(); err == nil || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("got %v, want …%s…", err, c.reason)
				}
				if after := r.origin.all(); len(after) != before {
					t.Errorf("asked elsewhere: %v", after)
				}
				r.accepts()
			})
		})
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// Threat case DS03.
func TestNoMoreThanTheBoundIsRead(t *testing.T) {
	inRoom(t, func(_ *testing.T, r *room) {
		rest := &io.LimitedReader{R: spaces{}, N: 300 << 20}
		r.origin.set(acme+"keys", body(func(context.Context) io.Reader { return rest }))
		for r.fetches(acme) == 1 {
			r.after(time.Second)
		}
		if read := 300<<20 - rest.N; read != 1<<20+1 {
			t.Errorf("read %d bytes", read)
		}
	})
}

func TestAnAnswerOfExactlyOneMebibyteIsTaken(t *testing.T) {
	inRoom(t, func(t *testing.T, r *room) {
		set := jwks(jwkOf("a2", acmeRSA()))
		r.origin.set(acme+"keys", text(set+strings.Repeat(" ", 1<<20-len(set))))
		r.after(6 * time.Minute)
		r.accepts(kid("a2"))
	})
}
