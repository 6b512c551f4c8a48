// Package account writes the AWS side of a configuration: the OIDC providers,
// and for each role that a grant names its trust policy and its own policy. What
// is deployed, what the demo's local AWS enforces and what the doctor advises is
// this.
package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/policy"
)

// Setup is what an AWS account needs.
type Setup struct {
	Providers []Provider `json:"oidc_providers"`
	Roles     []Role     `json:"roles"`
}

// Provider is an IAM OIDC provider.
type Provider struct {
	ARN       string   `json:"arn"`
	URL       string   `json:"url"`
	ClientIDs []string `json:"client_ids"`
}

// Role is an IAM role with all the grants that name it.
type Role struct {
	ARN                string          `json:"role_arn"`
	Grants             []string        `json:"grants"`
	MaxSessionDuration int             `json:"max_session_duration"` // seconds
	TrustPolicy        json.RawMessage `json:"trust_policy"`
	Policy             json.RawMessage `json:"policy"`
}

// Of writes the setup for a configuration, roles in the order in which grants
// name them first. It fails, with every reason, where the mode cannot bound what
// a grant gives.
func Of(cfg config.Config) (Setup, error) {
	var s Setup
	var errs []error
	for _, g := range cfg.Grants {
		if slices.ContainsFunc(s.Roles, func(r Role) bool { return r.ARN == g.RoleARN.String() }) {
			continue
		}
		role, providers, err := roleOf(cfg, g.RoleARN)
		if err != nil {
			errs = append(errs, fmt.Errorf("role %s: %w", g.RoleARN, err))
			continue
		}
		s.Roles = append(s.Roles, role)
		for _, p := range providers {
			if !slices.ContainsFunc(s.Providers, func(o Provider) bool { return o.ARN == p.ARN }) {
				s.Providers = append(s.Providers, p)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Setup{}, err
	}
	return s, nil
}

// roleOf writes one role, and the providers that its trust policy names.
func roleOf(cfg config.Config, arn broker.RoleARN) (Role, []Provider, error) {
	role := Role{ARN: arn.String()}
	var grants []policy.RoleGrant
	tags, only := []string{policy.TagTenant}, ""
	for _, g := range cfg.Grants {
		if g.RoleARN != arn {
			continue
		}
		if g.Tenant.Request && cfg.WebIdentity.Mode == config.Forwarded {
			return Role{}, nil, fmt.Errorf("grant %q lets the request name the tenant: in mode forwarded the token's tag names it, and AWS would refuse every other", g.Name)
		}
		if cfg.WebIdentity.Mode == config.Forwarded && len(role.Grants) > 0 {
			return Role{}, nil, fmt.Errorf("grants %q and %q share the role: in mode forwarded a caller can ask STS himself, and has what both give: let each have a role of its own", role.Grants[0], g.Name)
		}
		if cfg.WebIdentity.Mode == config.Forwarded && g.BindSourceIP {
			return Role{}, nil, fmt.Errorf("grant %q has bind_source_ip: in mode forwarded a caller can ask STS himself, and is bound to no address", g.Name)
		}
		if iss, ok := g.Match.Claims["iss"].(string); ok && cfg.WebIdentity.Mode == config.Forwarded {
			only = iss
		}
		role.Grants = append(role.Grants, g.Name)
		role.MaxSessionDuration = max(role.MaxSessionDuration, int(g.Duration.Seconds()), minSessionDuration)
		grants = append(grants, policy.RoleGrant{Layout: g.Layout(), Access: g.Access, KMSKey: g.KMSKey})
		if strings.Contains(g.Prefix.String(), "{user}") && !slices.Contains(tags, policy.TagUser) {
			tags = append(tags, policy.TagUser)
		}
	}
	trusts, providers, err := trustsOf(cfg, arn, tags, only)
	if err != nil {
		return Role{}, nil, err
	}
	trust, err := policy.TrustDocument(trusts)
	if err != nil {
		return Role{}, nil, err
	}
	own, err := policy.RoleDocument(arn.Partition(), arn.Account(), grants)
	if err != nil {
		return Role{}, nil, err
	}
	role.TrustPolicy, role.Policy = json.RawMessage(trust), json.RawMessage(own)
	return role, providers, nil
}

// minSessionDuration is the least that IAM takes for a role's longest session.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
const minSessionDuration = 3600

// trustsOf says whose tokens a role has to trust in the configuration's mode: the
// broker's own, which name the role themselves, or each issuer's. Of those STS
// takes the client for the audience, so the audience is asked for besides.
//
// A role whose grant is for the tenants of one issuer trusts only that one, if it
// is named: a caller can ask STS himself in mode forwarded, and another issuer's
// tenant of the same name would be inside.
func trustsOf(cfg config.Config, arn broker.RoleARN, tags []string, only string) ([]policy.Trust, []Provider, error) {
	if w := cfg.WebIdentity; w.Mode == config.Minted {
		p := provider(arn, w.Issuer, []string{w.Audience})
		return []policy.Trust{{Provider: p.ARN, Host: host(p.URL), ClientIDs: p.ClientIDs, Tags: tags, RolesClaim: true}}, []Provider{p}, nil
	}
	var trusts []policy.Trust
	var providers []Provider
	for _, i := range cfg.Issuers {
		if only != "" && i.URL != only {
			continue
		}
		if len(i.Clients) == 0 {
			return nil, nil, fmt.Errorf("mode forwarded: issuers[].clients of %s is empty: IAM's provider has to list the clients whose tokens it takes", i.URL)
		}
		p := provider(arn, i.URL, i.Clients)
		providers = append(providers, p)
		trusts = append(trusts, policy.Trust{Provider: p.ARN, Host: host(p.URL), ClientIDs: i.Clients, Audiences: i.Audiences, Tags: tags, Foreign: true})
	}
	return trusts, providers, nil
}

func provider(arn broker.RoleARN, url string, clients []string) Provider {
	return Provider{
		ARN: fmt.Sprintf("arn:%s:iam::%s:oidc-provider/%s", arn.Partition(), arn.Account(), host(url)), URL: url, ClientIDs: clients,
	}
}

// host is what IAM calls an issuer: without the scheme, with the path, and with
// its last slash if it has one.
func host(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return rest
}
