package idtoken_test

import (
	"strings"
	"testing"
	"time"

	"credential-broker/broker/idtoken"
)

func TestNewRefusesWhatWouldNotBeChecked(t *testing.T) {
	issuer := func(change func(*idtoken.Issuer)) func(*idtoken.Config) {
		return func(c *idtoken.Config) { change(&c.Issuers[0]) }
	}
	url := func(u string) func(*idtoken.Config) { return issuer(func(i *idtoken.Issuer) { i.URL = u }) }
	keys := func(u string) func(*idtoken.Config) { return issuer(func(i *idtoken.Issuer) { i.JWKSURL = u }) }
	algorithms := func(a ...string) func(*idtoken.Config) { return issuer(func(i *idtoken.Issuer) { i.Algorithms = a }) }
	for name, c := range map[string]struct {
		change func(*idtoken.Config)
		reason string // empty: taken
	}{
		"the good configuration":         {func(*idtoken.Config) {}, ""},
		"no issuers":                     {func(c *idtoken.Config) { c.Issuers = nil }, "no issuers"},
		"an issuer twice":                {func(c *idtoken.Config) { c.Issuers = append(c.Issuers, c.Issuers[0]) }, "listed twice"},
		"no audiences":                   {issuer(func(i *idtoken.Issuer) { i.Audiences = nil }), "audiences: at least one"},
		"an empty audience":              {issuer(func(i *idtoken.Issuer) { i.Audiences = []string{"a", ""} }), "audiences: at least one"},
		"an empty logout audience":       {issuer(func(i *idtoken.Issuer) { i.LogoutAudiences = []string{"a", ""} }), "logout audiences: one is empty"},
		"an empty client":                {issuer(func(i *idtoken.Issuer) { i.Clients = []string{"a", ""} }), "clients: one is empty"},
		"no algorithms":                  {algorithms(), "algorithms: at least one"},
		"algorithm none":                 {algorithms("RS256", "none"), `algorithm "none"`},
		"algorithm HS256":                {algorithms("HS256"), `algorithm "HS256"`},
		"algorithm PS256":                {algorithms("PS256"), `algorithm "PS256"`},
		"algorithm rs256":                {algorithms("rs256"), `algorithm "rs256"`},
		"all six algorithms":             {algorithms("RS256", "RS384", "RS512", "ES256", "ES384", "ES512"), ""},
		"an empty URL":                   {url(""), "a URL with a host"},
		"no URL":                         {url("https://%zz/"), "not a URL"},
		"a host alone":                   {url("acme.eu.auth0.com"), "a URL with a host"},
		"http":                           {url("http://acme.eu.auth0.com/"), "https is needed"},
		"http on loopback":               {url("http://127.0.0.1:9400/"), ""},
		"http on all of 127/8":           {url("http://127.8.9.10:9400/"), ""},
		"http on loopback, IPv6":         {url("http://[::1]:9400/"), ""},
		"http on localhost":              {url("http://localhost:9400/"), ""},
		"http on something like it":      {url("http://localhost.evil.example/"), "https is needed"},
		"http on something like 127":     {url("http://127.0.0.1.evil.example/"), "https is needed"},
		"http on a private network":      {url("http://10.0.0.1/"), "https is needed"},
		"ftp on loopback":                {url("ftp://127.0.0.1/"), "https is needed"},
		"a user":                         {url("https://user@acme.eu.auth0.com/"), "without user"},
		"a fragment":                     {url(acme + "#a"), "without user or fragment"},
		"an empty fragment":              {url(acme + "#"), "without user or fragment"},
		"a query":                        {url(acme + "?a=b"), "has no query"},
		"an empty query":                 {url(acme + "?"), "has no query"},
		"an issuer with a path":          {url("https://login.example/tenant/v2.0"), ""},
		"keys on the issuer's host":      {keys(acme + ".well-known/jwks.json?v=1"), ""},
		"keys on its host in capitals":   {keys("https://ACME.eu.auth0.com/keys"), ""},
		"keys on its port, spelled out":  {keys("https://acme.eu.auth0.com:443/keys"), ""},
		"keys on another host":           {keys("https://evil.example/keys"), "not on the issuer's own host"},
		"keys on another port":           {keys("https://acme.eu.auth0.com:8443/keys"), "not on the issuer's own host"},
		"keys by http":                   {keys("http://acme.eu.auth0.com/keys"), "https is needed"},
		"keys of a user":                 {keys("https://a@acme.eu.auth0.com/keys"), "without user"},
		"keys by a path":                 {keys("/keys"), "a URL with a host"},
		"a negative leeway":              {func(c *idtoken.Config) { c.Leeway = -1 }, "leeway -1ns"},
		"a leeway of a minute":           {func(c *idtoken.Config) { c.Leeway = time.Minute }, ""},
		"a leeway of more than a minute": {func(c *idtoken.Config) { c.Leeway = time.Minute + 1 }, "leeway 1m0.000000001s"},
		"a negative lifetime":            {func(c *idtoken.Config) { c.MaxLifetime = -1 }, "maximum lifetime"},
		"a negative token length":        {func(c *idtoken.Config) { c.TokenBytes = -1 }, "token bytes -1"},
		"a token length of 8192":         {func(c *idtoken.Config) { c.TokenBytes = 8192 }, ""},
		"a token length of 8193":         {func(c *idtoken.Config) { c.TokenBytes = 8193 }, "token bytes 8193"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(nil)
			c.change(&cfg)
			v, err := idtoken.New(cfg)
			if c.reason == "" {
				if err != nil || v == nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.reason) || v != nil {
				t.Errorf("got %v, want …%s…", err, c.reason)
			}
		})
	}
}

func TestNewReportsEverythingTogether(t *testing.T) {
	_, err := idtoken.New(idtoken.Config{Leeway: -1, Issuers: []idtoken.Issuer{{URL: "http://x/"}, {URL: acme, JWKSURL: "x"}}})
	for _, part := range []string{"leeway", `"http://x/": audiences`, "https is needed", "algorithms", "key set URL"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}

func TestTheConfiguredBoundsAreTheOnesThatHold(t *testing.T) {
	cfg := config(newOrigin())
	cfg.TokenBytes, cfg.MaxLifetime = 900, time.Hour
	v := started(t, cfg)
	for name, c := range map[string]struct {
		change func(*draft)
		reason string
	}{
		"longer than was configured":       {inClaims("pad", strings.Repeat("x", 500)), "longer than 900 bytes"},
		"lives longer than was configured": {func(d *draft) { d.claims["iat"] = noon.Unix() - 1 }, "longer than 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraft(noon)
			d.claims["iat"] = noon.Unix()
			if _, err := v.Verify(t.Context(), secretOf(d)); err != nil {
				t.Fatal(err)
			}
			c.change(d)
			_, err := v.Verify(t.Context(), secretOf(d))
			refused(t, err, "invalid_token", c.reason)
		})
	}
}
