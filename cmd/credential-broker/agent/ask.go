package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"credential-broker/broker"
)

const (
	// maxAnswerBytes bounds an answer: credentials have some 2 kB.
	maxAnswerBytes = 64 << 10
	// maxRetryAfter bounds how long the agent can be told to stay away.
	maxRetryAfter = 5 * time.Minute
)

// asker asks the broker.
type asker struct {
	url    string
	format Format
	source Source
	http   *http.Client
}

// ask gets credentials. When the token is refused, another is tried once, if there
// is one: it may have been out of date. An error is a *Problem.
func (a *asker) ask(ctx context.Context) (*Credentials, error) {
	token, err := a.source.Token(ctx, false)
	if err != nil {
		return nil, err
	}
	creds, err := a.show(ctx, token)
	var p *Problem
	if !errors.As(err, &p) || !slices.Contains([]string{"invalid_token", "expired_token"}, p.Code) {
		return creds, err
	}
	another, tokenErr := a.source.Token(ctx, true)
	if tokenErr != nil || another.SHA256() == token.SHA256() {
		return nil, err
	}
	return a.show(ctx, another)
}

// show shows the broker a token.
func (a *asker) show(ctx context.Context, token broker.Secret) (*Credentials, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return nil, unavailable(codeBrokerUnavailable, err, "The broker cannot be asked.")
	}
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	r.Header.Set("Accept", "application/json")
	response, err := a.http.Do(r)
	if err != nil {
		return nil, unavailable(codeBrokerUnavailable, nil, "The broker at %s cannot be reached: %s", r.URL.Host, brief(err))
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, maxAnswerBytes))
	if err != nil {
		return nil, unavailable(codeBrokerUnavailable, nil, "The broker's answer cannot be read: %s", brief(err))
	}
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response, body, r.URL.Host, token)
	}
	creds, err := parse(body, a.format)
	if err != nil {
		return nil, unavailable(codeBrokerUnavailable, err, "%s does not answer as a broker does.", r.URL.Host)
	}
	return creds, nil
}

// refusal reads the broker's own words. What is not in them was said by something in
// between, and passes.
func refusal(response *http.Response, body []byte, host string, token broker.Secret) *Problem {
	var said struct{ Code, Message, RequestId string } //nolint:revive // as the broker spells it
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err := json.Unmarshal(body, &said); err != nil || media != "application/json" || said.Code == "" || response.StatusCode < 400 {
		p := unavailable(codeBrokerUnavailable, nil, "%s answers %s, and not as a broker does.", host, readable(response.Status, maxCode))
		p.RetryAfter = retryAfter(response.Header)
		return p
	}
	return &Problem{
		Status: response.StatusCode, Code: readable(without(token, said.Code), maxCode), Message: readable(without(token, said.Message), maxText),
		RequestID: readable(without(token, said.RequestId), maxCode), RetryAfter: retryAfter(response.Header),
		Final: slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden}, response.StatusCode),
	}
}

// retryAfter reads seconds, the form that the broker and Auth0 write.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// brief is an error without the address that was asked, which the message names.
func brief(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return readable(err.Error(), maxText)
}

// newHTTP makes the client for the broker and for the token endpoint. It follows no
// redirect: one would take the token, or the secret, elsewhere.
func newHTTP(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second, // asked every half hour: nothing is gained by holding on
			TLSHandshakeTimeout: attemptTimeout, MaxResponseHeaderBytes: 32 << 10,
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
