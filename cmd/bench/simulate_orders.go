package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
)

// orders are what the users ask for, as the broker itself makes them: one for each, who
// has one grant in one of a hundred tenants.
func (s simulateCmd) orders(ctx context.Context) ([]broker.Order, error) {
	cfg, err := config.Parse("simulate.yaml", fmt.Appendf(nil, `
issuers: [{url: "https://acme.eu.auth0.com/", audiences: [%q], clients: [spa]}]
web_identity: {mode: forwarded}
sts: {region: eu-west-1}
grants: [{name: uploads, role_arn: %s, tenant: {claim: org_id}, bucket: acme-uploads, region: eu-west-1, prefix: "tenants/{tenant}/{user}/", access: [list, read, write, delete], duration: %q}]
`, audience, role, s.Session), os.LookupEnv)
	if err != nil {
		return nil, err
	}
	made := make([]broker.Order, s.Users)
	for i := range made {
		asks := &asking{user: i}
		b, err := broker.New(broker.Config{Revision: cfg.Revision, Grants: cfg.Grants, Verifier: asks, Issuer: asks, Auditor: broker.NewAuditLog(io.Discard)})
		if err != nil {
			return nil, err
		}
		if _, err := b.Exchange(ctx, broker.Request{Token: broker.NewSecret("t")}); !errors.Is(err, errNoted) {
			return nil, fmt.Errorf("user %d: %w", i, err)
		}
		made[i] = asks.order
	}
	return made, nil
}

// asking is one user, whose order is noted.
type asking struct {
	user  int
	order broker.Order
}

var errNoted = errors.New("noted")

// Verify implements broker.Verifier.
func (a *asking) Verify(context.Context, broker.Secret) (broker.Identity, error) {
	return broker.Identity{
		Issuer: "https://acme.eu.auth0.com/", Subject: fmt.Sprintf("auth0|%024x", a.user), Client: "spa", Audience: []string{audience},
		Expiry: time.Now().Add(24 * time.Hour), Claims: broker.Claims{"org_id": fmt.Sprintf("org_%016d", a.user%100)},
	}, nil
}

// Issue implements broker.Issuer.
func (a *asking) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	a.order = o
	return broker.Credentials{}, errNoted
}
