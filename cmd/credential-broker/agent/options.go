package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"credential-broker/broker"
)

// Options are whom to ask, as whom, and for what. A request to the agent changes
// nothing of it.
type Options struct {
	BrokerURL string // https, or http on this machine

	// One of the two is who asks: a file with a token, or an application.
	TokenFile    string
	ClientID     string
	ClientSecret broker.Secret // or
	SecretFile   string
	TokenURL     string // https, or http on this machine; or
	Auth0Domain  string // whose /oauth/token it is
	Audience     string
	Organization string

	// What is asked for; empty: the broker's default. See broker.Request.
	Grant, Access, Path, Duration, Tenant string

	Log       *slog.Logger      // nil: nowhere
	Transport http.RoundTripper // nil: the network
}

// asker checks the options and reports everything that is wrong with them, joined.
func (o Options) asker(format Format) (*asker, error) {
	client := newHTTP(o.Transport)
	source, err := o.source(client)
	address, urlErr := checkURL("--broker-url", o.BrokerURL)
	if err := errors.Join(urlErr, err); err != nil {
		return nil, err
	}
	query := url.Values{"format": {string(format)}}
	for name, value := range map[string]string{
		"grant": o.Grant, "access": o.Access, "path": o.Path, "duration": o.Duration, "tenant": o.Tenant,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	address = address.JoinPath("v1", "credentials")
	address.RawQuery = query.Encode()
	return &asker{url: address.String(), format: format, source: source, http: client}, nil
}

func (o Options) source(client *http.Client) (Source, error) {
	if o.TokenFile != "" {
		if o.ClientID+o.SecretFile+o.TokenURL+o.Auth0Domain+o.Audience+o.Organization != "" {
			return nil, errors.New("--token-file stands for itself: a client, its token endpoint and its audience belong to the other way")
		}
		return TokenFile(o.TokenFile), nil
	}
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	need(o.ClientID != "", "--client-id is needed, or --token-file")
	need((o.SecretFile != "") != !o.ClientSecret.IsZero(), "the client's secret is needed: --client-secret-file, or BROKER_CLIENT_SECRET in the environment, and not both")
	need(o.Audience != "", "--audience is needed: the identifier of the API that the broker takes tokens for")
	need((o.TokenURL != "") != (o.Auth0Domain != ""), "--auth0-domain is needed, or --token-url, and not both")
	endpoint := o.TokenURL
	if o.Auth0Domain != "" {
		if strings.ContainsAny(o.Auth0Domain, "/:@?# ") {
			errs = append(errs, fmt.Errorf("--auth0-domain %q: a name such as acme.eu.auth0.com is needed", o.Auth0Domain))
		}
		endpoint = "https://" + o.Auth0Domain + "/oauth/token"
	}
	if endpoint != "" {
		_, err := checkURL("--token-url", endpoint)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Client{
		TokenURL: endpoint, ID: o.ClientID, Secret: o.ClientSecret, SecretFile: o.SecretFile, Audience: o.Audience, Organization: o.Organization, http: client,
	}, nil
}

// checkURL takes https, or http on this machine, where there is no network to listen
// on: tokens and secrets go there.
func checkURL(flag, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s: a URL with a host, and without user, query or fragment, is needed", flag)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("%s %s: https is needed, or http on a loopback host", flag, readable(text, maxText))
	}
	return u, nil
}

// isLoopback takes the one name that RFC 6761 §6.3 ties to loopback, and literal
// addresses; no name is looked up.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
