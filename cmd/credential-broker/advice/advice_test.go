package advice_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/advice"
	"credential-broker/cmd/credential-broker/config"
)

var cfg = config.Config{Issuers: []config.Issuer{{
	URL: "https://acme.eu.auth0.com/", Audiences: []string{"https://api.example"}, Clients: []string{"spa"}, Algorithms: []string{"RS256"},
}}}

func token(claims string) broker.Secret {
	return broker.NewSecret("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln")
}

func TestEachRefusedTokenHasItsRemedy(t *testing.T) {
	const good = `"iss":"https://acme.eu.auth0.com/","aud":"https://api.example","azp":"spa"`
	for name, tc := range map[string]struct {
		token broker.Secret
		err   error
		want  string
	}{
		"no JWT":           {broker.NewSecret("opaque"), broker.ErrInvalidToken, "did not ask Auth0 for an audience"},
		"not base64":       {broker.NewSecret("a.?.c"), broker.ErrInvalidToken, "did not ask Auth0 for an audience"},
		"the last slash":   {token(`{"iss":"https://acme.eu.auth0.com"}`), broker.ErrInvalidToken, "the last slash counts"},
		"another issuer":   {token(`{"iss":"https://other.example/"}`), broker.ErrInvalidToken, "add an issuer with url: https://other.example/"},
		"ended":            {token(`{` + good + `}`), fmt.Errorf("%w: long ago", broker.ErrExpiredToken), "take a fresh token"},
		"another audience": {token(`{"iss":"https://acme.eu.auth0.com/","aud":["a","b"],"azp":"spa"}`), broker.ErrInvalidToken, `add "a b" to issuers[].audiences`},
		"another client":   {token(`{"iss":"https://acme.eu.auth0.com/","aud":"https://api.example","client_id":"m2m"}`), broker.ErrInvalidToken, `add "m2m" to issuers[].clients`},
		"anything else":    {token(`{` + good + `}`), broker.ErrInvalidToken, "issuers[].algorithms"},
	} {
		if got := advice.Token(cfg, advice.ReadClaims(tc.token), tc.err); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want …%s…", name, got, tc.want)
		}
	}
}

func TestEachRefusedDecisionHasItsRemedy(t *testing.T) {
	for err, want := range map[error]string{
		broker.ErrNoGrant:         "grants[].match",
		broker.ErrInvalidTenant:   "tenant claim",
		broker.ErrInvalidRequest:  "as the README has it",
		broker.ErrScopeNotAllowed: "can only narrow",
		broker.ErrRevoked:         "listed under revoked",
		broker.ErrInternal:        "--source-ip",
		fmt.Errorf("%w: the grant needs the parameter tenant", broker.ErrInvalidRequest): "--tenant",
	} {
		if got := advice.Decision(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want …%s…", err, got, want)
		}
	}
}

// What proves a token is not in what is read of it.
func TestThePayloadIsWithoutTheSignature(t *testing.T) {
	if got := string(advice.Payload(token(`{"sub":"alice"}`))); got != `{"sub":"alice"}` {
		t.Errorf("got %q", got)
	}
	if c := advice.ReadClaims(token(`{"aud":["a","b"]}`)); c.ForSTS() != "a b" {
		t.Errorf("for STS: %q", c.ForSTS())
	}
	if c := advice.ReadClaims(token(`{"aud":"a","azp":"spa"}`)); c.ForSTS() != "spa" {
		t.Errorf("for STS: %q", c.ForSTS())
	}
}
