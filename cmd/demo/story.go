package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"golang.org/x/sync/errgroup"

	"credential-broker/broker/brokertest"
	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/localaws"
	"credential-broker/cmd/credential-broker/serve"
)

// story is the running demo. Its exported fields are what --json prints.
type story struct {
	Broker   string `json:"broker"`
	Issuer   string `json:"issuer"` // as the tokens' `iss` has it, slash included
	Audience string `json:"audience"`
	STS      string `json:"sts"`
	S3       string `json:"s3"`
	Region   string `json:"region"`
	Bucket   string `json:"bucket"`
	Page     string `json:"page"` // empty: there is none

	Mode string `json:"-"`
	Own  bool   `json:"-"` // a real tenant's, by --config

	Config string `json:"-"` // file: the broker's configuration, for the other commands

	folder string // of the signing key and the configuration
	stop   context.CancelFunc
	parts  *errgroup.Group
	ended  <-chan struct{} // closed when a part has failed or stop was called
	auth0  *localauth0.Server
	aws    *brokertest.AWS
	broker config.Config

	stopBroker context.CancelFunc // the broker alone
}

// start brings everything up and returns when the broker is ready. What it
// started goes on until Close, or until ctx ends.
func start(ctx context.Context, o options) (*story, error) {
	ctx, stop := context.WithCancel(ctx)
	parts, ctx := errgroup.WithContext(ctx)
	s := &story{
		Audience: brokertest.Audience, Region: brokertest.Region, Bucket: brokertest.Bucket,
		Mode: o.Mode, stop: stop, parts: parts, ended: ctx.Done(),
	}
	if err := s.begin(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin opens the addresses, so that each part knows the others', and starts
// the parts.
func (s *story) begin(ctx context.Context, o options) error {
	if o.Config != "" {
		return s.beginOwn(ctx, o)
	}
	broker, err := s.listen(ctx, "--broker", o.Broker, &s.Broker)
	if err != nil {
		return err
	}
	issuer, err := s.listen(ctx, "--issuer", o.Issuer, &s.Issuer)
	if err != nil {
		return err
	}
	local, err := s.listen(ctx, "--aws", o.AWS, &s.S3)
	if err != nil {
		return err
	}
	page, origin, err := s.listenPage(ctx, o)
	if err != nil {
		return err
	}
	s.Issuer += "/"
	s.STS = s.S3

	if s.auth0, err = brokertest.NewAuth0(s.Issuer, origin, o.Mode == modeForwarded); err != nil {
		return err
	}
	if s.broker, err = s.configure(o.Mode, origin); err != nil {
		return err
	}
	if s.aws, err = newAWS(s.broker, origin, o); err != nil {
		return err
	}
	s.parts.Go(func() error { return brokertest.Serve(ctx, issuer, brokertest.TrimSlashes(s.auth0)) })
	s.parts.Go(func() error { return brokertest.Serve(ctx, local, s.aws) })
	if err := s.startBroker(ctx, broker, o); err != nil || page == nil {
		return err
	}
	if err := s.sow(); err != nil {
		return err
	}
	return s.startPage(ctx, page, s.demoPage(), o)
}

// listen opens an address and says what it has become.
func (s *story) listen(ctx context.Context, flag, addr string, is *string) (net.Listener, error) {
	l, err := brokertest.Listen(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("%w (another address: %s)", err, flag)
	}
	*is = "http://" + l.Addr().String()
	return l, nil
}

// listenPage opens the page's address, if there is a page. The origin is that of
// whoever stands there: without a page, Vite's own server does, on the same port.
func (s *story) listenPage(ctx context.Context, o options) (l net.Listener, origin string, err error) {
	if o.Headless {
		return nil, "http://" + o.Page, nil
	}
	if l, err = s.listen(ctx, "--page", o.Page, &s.Page); err != nil {
		return nil, "", err
	}
	return l, s.Page, nil
}

func (s *story) startPage(ctx context.Context, l net.Listener, c pageConfig, o options) error {
	page, err := newPage(o.dist, c)
	if err != nil {
		return err
	}
	s.parts.Go(func() error { return brokertest.Serve(ctx, l, page) })
	return nil
}

// newAWS is the account that the configuration asks for: what it deploys is what
// `credential-broker iam` prints.
func newAWS(cfg config.Config, origin string, o options) (*brokertest.AWS, error) {
	local, err := localaws.Of(cfg)
	if err != nil {
		return nil, fmt.Errorf("make local AWS: %w", err)
	}
	local.Buckets[0].AllowedOrigins = []string{origin}
	if o.change != nil {
		o.change(&local)
	}
	return brokertest.NewAWS(local)
}

// configuration is what an operator would write, for the addresses at hand.
const configuration = `
listen: "127.0.0.1:0"        # opened already
admin_listen: "127.0.0.1:0"
cors: {allowed_origins: ["{{.Page}}"]}
issuers:
  - url: {{.Issuer}}
    audiences: [{{.Audience}}]
    algorithms: [RS256]
{{- if not .Key}}
    clients: [{{.SPA}}, {{.CLI}}] # STS takes a token's client for its audience
{{- end}}
web_identity:
  mode: {{.Mode}}
{{- if .Key}}
  issuer: {{.Broker}}
  audience: {{.STSAudience}}
  signing_keys: ["{{.Key}}"]
{{- end}}
sts: {region: {{.Region}}, endpoint: "{{.STS}}"}
grants:
  - name: uploads
    match: {permissions: [upload:files]}
    role_arn: {{.RoleARN}}
    tenant: {claim: org_id, pattern: "org_[A-Za-z0-9]{1,40}"}
    bucket: {{.Bucket}}
    region: {{.Region}}
    prefix: tenants/{tenant}/
    access: [list, read, write, delete]
    duration: 1h
{{- if .Key}}
  - name: reports
    match: {permissions: [broker:act-for-tenant]}
    role_arn: {{.RoleARN}}
    tenant: {request: true, pattern: "org_[A-Za-z0-9]{1,40}"}
    bucket: {{.Bucket}}
    region: {{.Region}}
    prefix: tenants/{tenant}/
    access: [list, read]
    duration: 1h
{{- end}}
`

// configure writes and reads the broker's configuration.
func (s *story) configure(mode, origin string) (_ config.Config, err error) {
	if s.folder, err = os.MkdirTemp("", "credential-broker-demo-"); err != nil {
		return config.Config{}, fmt.Errorf("make a folder for the configuration: %w", err)
	}
	key := ""
	if mode == modeMinted {
		key = filepath.Join(s.folder, "web-identity.pem")
		if err := brokertest.WriteSigningKey(key); err != nil {
			return config.Config{}, err
		}
	}
	var text strings.Builder
	t, err := template.New("configuration").Parse(configuration)
	if err == nil {
		err = t.Execute(&text, map[string]string{
			"Page": origin, "Issuer": s.Issuer, "Audience": s.Audience, "Mode": s.Mode, "Key": key, "Broker": s.Broker,
			"STSAudience": brokertest.STSAudience, "Region": s.Region, "STS": s.STS, "RoleARN": brokertest.RoleARN, "Bucket": s.Bucket,
			"SPA": localauth0.DemoSPA, "CLI": localauth0.DemoCLI,
		})
	}
	if err != nil {
		return config.Config{}, fmt.Errorf("write the broker's configuration: %w", err)
	}
	s.Config = filepath.Join(s.folder, "demo.yaml")
	if err := os.WriteFile(s.Config, []byte(text.String()), 0o600); err != nil {
		return config.Config{}, fmt.Errorf("write the broker's configuration: %w", err)
	}
	return config.Parse(s.Config, []byte(text.String()), os.LookupEnv)
}

// startBroker runs the very service that the container runs, in this process.
func (s *story) startBroker(ctx context.Context, listener net.Listener, o options) error {
	ctx, s.stopBroker = context.WithCancel(ctx)
	ready := make(chan struct{})
	service, err := serve.New(s.broker, serve.Options{
		Listener: listener, Stdout: o.log, Log: slog.New(slog.NewJSONHandler(o.log, nil)), Ready: func() { close(ready) },
	})
	if err != nil {
		return err
	}
	s.parts.Go(func() error { return service.Run(ctx) })
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the broker did not get ready: %w", context.Cause(ctx))
	}
}

// Wait returns when ctx ends or when a part has ended, with what it said.
func (s *story) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.ended:
		return s.parts.Wait()
	}
}

// Close stops everything and removes the signing key and the configuration.
func (s *story) Close() error {
	s.stop()
	err := s.parts.Wait()
	if s.folder != "" {
		err = errors.Join(err, os.RemoveAll(s.folder))
	}
	return err
}
