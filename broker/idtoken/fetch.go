package idtoken

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// The bounds of one request to an issuer.
const (
	// fetchTimeout is for all of a request, the last byte of the body included.
	fetchTimeout = 5 * time.Second
	// maxAnswer bounds a body after decompression. A key with its certificates has
	// 3 KiB, so twenty have 60; a discovery document has under 10.
	maxAnswer = 1 << 20
	// maxAnswerHeader bounds the header lines of an answer; Auth0's have 2 KiB.
	maxAnswerHeader = 64 << 10
)

// newClient makes the client for all issuers. It follows no redirect: an issuer's
// keys are where its configuration or its discovery document says, and what leads
// elsewhere leads to whom nobody has decided to believe.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           10,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxAnswerHeader,
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// source is where an issuer's keys come from.
type source struct {
	client  *http.Client
	issuer  string
	jwksURL string // empty: by discovery, anew each time
	log     *slog.Logger
}

// fetch gets the issuer's keys.
func (s source) fetch(ctx context.Context) (map[string]key, error) {
	keysURL := s.jwksURL
	if keysURL == "" {
		var err error
		if keysURL, err = s.discover(ctx); err != nil {
			return nil, fmt.Errorf("discover key set: %w", err)
		}
	}
	body, err := s.get(ctx, keysURL)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	keys, err := parseKeySet(body, s.log)
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	return keys, nil
}

// discover asks the issuer for the URL of its keys (OpenID Connect Discovery 1.0 §4).
func (s source) discover(ctx context.Context) (string, error) {
	body, err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	document, err := parseObject(body)
	if err != nil {
		return "", err
	}
	if document["issuer"] != s.issuer { // §4.3: exactly
		return "", errors.New("the document is of another issuer")
	}
	keysURL, _ := document["jwks_uri"].(string)
	if err := checkKeysURL(s.issuer, keysURL); err != nil {
		return "", err
	}
	return keysURL, nil
}

// get reads an answer within the bounds; one that exceeds them is an error and
// never cut short.
func (s source) get(ctx context.Context, from string) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "credential-broker")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: status %d", from, response.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", from, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("get %s: more than %d bytes", from, maxAnswer)
	}
	return body, nil
}
