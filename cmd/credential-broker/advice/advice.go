// Package advice says what to do about a token or a decision that was refused, in
// one sentence that a support engineer can pass on. It decides nothing.
package advice

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
)

// Claims are what a token says, unverified: for explaining a refusal, and
// for nothing else.
type Claims struct {
	Issuer   string   `json:"iss"`
	Audience Audience `json:"aud"`
	Client   string   `json:"azp"`
	ClientID string   `json:"client_id"`
	Tags     struct {
		Principal map[string][]string `json:"principal_tags"`
	} `json:"https://aws.amazon.com/tags"`
}

// ForSTS is what STS takes for the audience.
func (c Claims) ForSTS() string {
	if c.Client != "" {
		return c.Client
	}
	return strings.Join(c.Audience, " ")
}

// Audience is one text, or a list.
type Audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *Audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = Audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// Payload returns what a token says, unverified, as it stands; nothing for what is
// no token. What proves it is not in it.
func Payload(token broker.Secret) []byte {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	return payload
}

// ReadClaims reads what it can; of what is no token, nothing.
func ReadClaims(token broker.Secret) Claims {
	var c Claims
	_ = json.Unmarshal(Payload(token), &c) // what is none explains nothing
	return c
}

// Of finds the token's issuer in the configuration.
func (c Claims) Of(cfg config.Config) (config.Issuer, bool) {
	i := slices.IndexFunc(cfg.Issuers, func(i config.Issuer) bool { return i.URL == c.Issuer })
	if i < 0 {
		return config.Issuer{}, false
	}
	return cfg.Issuers[i], true
}

// SlashOnly returns the configured issuer that differs from the token's in its
// last slash only.
func (c Claims) SlashOnly(cfg config.Config) (string, bool) {
	for _, i := range cfg.Issuers {
		if i.URL != c.Issuer && strings.TrimSuffix(i.URL, "/") == strings.TrimSuffix(c.Issuer, "/") {
			return i.URL, true
		}
	}
	return "", false
}

// SlashRemedy is for that.
func (c Claims) SlashRemedy(configured string) string {
	return fmt.Sprintf("write issuers[].url as %q, exactly as the token's iss: it says %q, and the last slash counts", c.Issuer, configured)
}

// Token says what to do about a token that was refused with err.
func Token(cfg config.Config, c Claims, err error) string {
	if configured, ok := c.SlashOnly(cfg); ok {
		return c.SlashRemedy(configured)
	}
	known, ok := c.Of(cfg)
	switch client := cmp.Or(c.Client, c.ClientID); {
	case c.Issuer == "":
		return "give --token-file a file with one JWT access token in it: an opaque token means that the app did not ask Auth0 for an audience"
	case !ok:
		return fmt.Sprintf("add an issuer with url: %s, or take a token of a configured one", c.Issuer)
	case errors.Is(err, broker.ErrExpiredToken):
		return "take a fresh token"
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(known.Audiences, a) }):
		return fmt.Sprintf("let the app ask Auth0 for the audience %q, or add %q to issuers[].audiences", strings.Join(known.Audiences, " or "), strings.Join(c.Audience, " "))
	case len(known.Clients) > 0 && !slices.Contains(known.Clients, client):
		return fmt.Sprintf("add %q to issuers[].clients", client)
	default:
		return "take an access token as the issuer made it, with an algorithm of issuers[].algorithms"
	}
}

// Decision says what to do about a verified caller who was refused with err.
func Decision(err error) string {
	switch broker.ClassOf(err) {
	case broker.ErrNoGrant:
		return "give the caller what grants[].match asks for (in Auth0: a permission of the API, with RBAC and \"Add Permissions in the Access Token\" on), or name another grant with --grant"
	case broker.ErrInvalidTenant:
		return "let the token carry the grant's tenant claim as one text of the grant's pattern (in Auth0: log in with an organisation, or set the claim in an Action)"
	case broker.ErrInvalidRequest:
		if strings.Contains(err.Error(), "needs the parameter tenant") {
			return "name the tenant with --tenant: the grant lets the request choose it"
		}
		return "write the parameter as the README has it"
	case broker.ErrScopeNotAllowed:
		return "ask for no more than the grant gives: a request can only narrow it"
	case broker.ErrRevoked:
		return "take another caller: this one is listed under revoked"
	default:
		return "if the grant binds the caller's address, give --source-ip, the address from which S3 sees this machine; otherwise please report this"
	}
}
