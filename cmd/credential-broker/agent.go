package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/agent"
)

// backendFlags say whom to ask, as whom, and for what.
type backendFlags struct {
	BrokerURL        string `name:"broker-url" help:"The broker: https, or http on this machine." env:"BROKER_URL" required:"" placeholder:"URL"`
	TokenFile        string `help:"A file with an access token that somebody else renews, such as a projected service-account token; instead of a client." env:"BROKER_TOKEN_FILE" placeholder:"FILE"`
	Auth0Domain      string `name:"auth0-domain" help:"The Auth0 tenant that gives the client its tokens, such as acme.eu.auth0.com." env:"BROKER_AUTH0_DOMAIN" placeholder:"NAME"`
	TokenURL         string `name:"token-url" help:"The token endpoint, where there is no --auth0-domain." env:"BROKER_TOKEN_URL" placeholder:"URL"`
	ClientID         string `name:"client-id" help:"The client." env:"BROKER_CLIENT_ID" placeholder:"ID"`
	ClientSecretFile string `help:"A file with its secret, unreadable for others; or the secret stands in BROKER_CLIENT_SECRET." env:"BROKER_CLIENT_SECRET_FILE" placeholder:"FILE"`
	Audience         string `help:"The API that the broker takes tokens for." env:"BROKER_AUDIENCE" placeholder:"ID"`
	Organization     string `help:"The Auth0 organization that the client acts in." env:"BROKER_ORGANIZATION" placeholder:"ORG"`
	Grant            string `help:"The grant; without it, the first that matches." env:"BROKER_GRANT"`
	Tenant           string `help:"The tenant, for a grant that lets the request name it." env:"BROKER_TENANT"`
	Access           string `help:"Of list,read,write,delete; without it, all that the grant gives." env:"BROKER_ACCESS"`
	Path             string `help:"Below the prefix: a folder ends in a slash, anything else is one object." env:"BROKER_PATH"`
	Duration         string `help:"Of a session: 15m or more." env:"BROKER_DURATION"`
}

// options reads what does not stand on the command line, where everybody on the
// machine would see it.
func (f backendFlags) options(w *world) agent.Options {
	secret, _ := w.lookup("BROKER_CLIENT_SECRET")
	return agent.Options{
		BrokerURL: f.BrokerURL, TokenFile: f.TokenFile, Auth0Domain: f.Auth0Domain, TokenURL: f.TokenURL, ClientID: f.ClientID,
		ClientSecret: broker.NewSecret(secret), SecretFile: f.ClientSecretFile, Audience: f.Audience, Organization: f.Organization,
		Grant: f.Grant, Tenant: f.Tenant, Access: f.Access, Path: f.Path, Duration: f.Duration,
	}
}

type agentCmd struct {
	backendFlags
	Listen                  string `help:"Where the agent is asked: a loopback address." env:"AGENT_LISTEN" default:"127.0.0.1:9911" placeholder:"ADDRESS"`
	AuthorizationTokenFile  string `help:"The token that who asks has to show; the file is made if there is none. Programs get its name as AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE." env:"AGENT_AUTHORIZATION_TOKEN_FILE" placeholder:"FILE"`
	AuthorizationTokenMode  string `help:"The mode of that file when it is made: 0600, or 0640 for programs that run as another user of its group." enum:"0600,0640" default:"0600" env:"AGENT_AUTHORIZATION_TOKEN_MODE"`
	InsecureNoAuthorization bool   `help:"Answer every program on this machine, whoever runs it. Only where that is one container of yours." env:"AGENT_INSECURE_NO_AUTHORIZATION"`
}

// Run serves until the process is told to stop.
func (c agentCmd) Run(w *world) error {
	log := slog.New(slog.NewJSONHandler(w.stderr, nil))
	options := c.options(w)
	options.Log = log
	a, err := agent.New(options)
	if (c.AuthorizationTokenFile != "") == c.InsecureNoAuthorization {
		err = errors.Join(err, errors.New("--authorization-token-file is needed, so that not everybody on this machine gets the credentials; or --insecure-no-authorization, and not both"))
	}
	if err != nil {
		return usageError{err}
	}
	l, err := agent.Listen(w.ctx, c.Listen)
	if err != nil {
		return asUsage(err)
	}
	defer func() { _ = l.Close() }() // for the ways out before it serves
	var key *agent.Authorization
	if !c.InsecureNoAuthorization {
		if key, err = agent.ReadAuthorization(c.AuthorizationTokenFile, map[string]os.FileMode{"0600": 0o600, "0640": 0o640}[c.AuthorizationTokenMode]); err != nil {
			return err
		}
	}
	lines := fmt.Sprintf("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://%s%s\n", l.Addr(), agent.Path)
	if key != nil {
		lines += "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + c.AuthorizationTokenFile + "\n"
	}
	if _, err := fmt.Fprint(w.stdout, lines); err != nil {
		return err
	}
	return a.Serve(w.ctx, l, key)
}

// asUsage marks a mistake in the options as one.
func asUsage(err error) error {
	var mistake agent.OptionsError
	if errors.As(err, &mistake) {
		return usageError{err}
	}
	return err
}
