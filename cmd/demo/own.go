package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"credential-broker/cmd/credential-broker/config"
)

// beginOwn starts the broker and the page for a real tenant and a real bucket.
// Nothing local stands in for anything: Auth0 and AWS are whatever the file names.
func (s *story) beginOwn(ctx context.Context, o options) error {
	data, err := os.ReadFile(o.Config)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if s.broker, err = config.Parse(o.Config, data, os.LookupEnv); err != nil {
		return err
	}
	if !o.Headless && o.ClientID == "" {
		return errors.New("--config needs --client-id: the client ID of the page's Auth0 application (a single-page application)")
	}
	broker, err := s.listen(ctx, "--broker", o.Broker, &s.Broker)
	if err != nil {
		return err
	}
	page, origin, err := s.listenPage(ctx, o)
	if err != nil {
		return err
	}
	// The page of this process may always call the broker of this process.
	if !slices.Contains(s.broker.AllowedOrigins, origin) {
		s.broker.AllowedOrigins = append(slices.Clone(s.broker.AllowedOrigins), origin)
	}
	issuer, grant := s.broker.Issuers[0], s.broker.Grants[0]
	s.Own, s.Config, s.Mode = true, o.Config, s.broker.WebIdentity.Mode
	s.Issuer, s.Audience, s.Bucket, s.Region, s.S3 = issuer.URL, issuer.Audiences[0], grant.Bucket.String(), grant.Region, o.S3
	if s.STS = s.broker.STS.Endpoint; s.STS == "" {
		s.STS = "https://sts." + s.broker.STS.Region + "." + domain(s.broker.STS.Region)
	}
	if err := s.startBroker(ctx, broker, o); err != nil || page == nil {
		return err
	}
	return s.startPage(ctx, page, s.ownPage(s.broker, o), o)
}
