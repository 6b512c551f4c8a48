package idtoken

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// withDefaults fills in what has a default.
func (c Config) withDefaults() Config {
	if c.Leeway == 0 {
		c.Leeway = DefaultLeeway
	}
	if c.MaxLifetime == 0 {
		c.MaxLifetime = DefaultMaxLifetime
	}
	if c.TokenBytes == 0 {
		c.TokenBytes = MaxTokenBytes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(string, error) {}
	}
	return c
}

// validate reports everything that is wrong, joined.
func (c Config) validate() error {
	var errs []error
	if len(c.Issuers) == 0 {
		errs = append(errs, errors.New("no issuers"))
	}
	if c.Leeway < 0 || c.Leeway > MaxLeeway {
		errs = append(errs, fmt.Errorf("leeway %s: between 0 and %s", c.Leeway, MaxLeeway))
	}
	if c.MaxLifetime < 0 {
		errs = append(errs, fmt.Errorf("maximum lifetime %s: negative", c.MaxLifetime))
	}
	if c.TokenBytes < 0 || c.TokenBytes > MaxTokenBytes {
		errs = append(errs, fmt.Errorf("token bytes %d: between 1 and %d", c.TokenBytes, MaxTokenBytes))
	}
	if c.Remember < 0 {
		errs = append(errs, fmt.Errorf("remember %d tokens: negative", c.Remember))
	}
	seen := map[string]bool{} // :: URL → it stood before
	for _, i := range c.Issuers {
		if seen[i.URL] {
			errs = append(errs, fmt.Errorf("issuer %q: listed twice", i.URL))
		}
		seen[i.URL] = true
		if err := i.validate(); err != nil {
			errs = append(errs, fmt.Errorf("issuer %q: %w", i.URL, err))
		}
	}
	return errors.Join(errs...)
}

// validate reports everything that is wrong with one issuer, joined.
func (i Issuer) validate() error {
	var errs []error
	// An empty list would mean "not checked", which nobody may mean.
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		errs = append(errs, errors.New("audiences: at least one, and none empty"))
	}
	if slices.Contains(i.Clients, "") {
		errs = append(errs, errors.New("clients: one is empty"))
	}
	if slices.Contains(i.LogoutAudiences, "") {
		errs = append(errs, errors.New("logout audiences: one is empty"))
	}
	if len(i.Algorithms) == 0 {
		errs = append(errs, errors.New("algorithms: at least one"))
	}
	for _, name := range i.Algorithms {
		if algorithms(name) == (algorithm{}) {
			errs = append(errs, fmt.Errorf("algorithm %q: none of RS256, RS384, RS512, ES256, ES384, ES512", name))
		}
	}
	u, err := parseOrigin(i.URL)
	switch {
	case err != nil:
		errs = append(errs, err)
	case u.RawQuery != "" || u.ForceQuery: // OpenID Connect Core 1.0 §2, `iss`
		errs = append(errs, errors.New("an issuer has no query"))
	case i.JWKSURL != "":
		if err := checkKeysURL(i.URL, i.JWKSURL); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// parseOrigin parses the URL of an issuer or of its keys: https, or http on a
// loopback host, where there is no network to listen on.
func parseOrigin(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL") // url.Parse would repeat the text
	}
	if u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return nil, errors.New("a URL with a host, without user or fragment is needed")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New("https is needed, or http on a loopback host")
	}
	return u, nil
}

// checkKeysURL refuses keys from anywhere but the issuer's own host and port: who
// serves the keys is who can sign, and that is to be the issuer and nobody else.
func checkKeysURL(issuer, keys string) error {
	i, err := parseOrigin(issuer)
	if err != nil {
		return err
	}
	k, err := parseOrigin(keys)
	if err != nil {
		return fmt.Errorf("key set URL %s: %w", quote(keys), err)
	}
	if !strings.EqualFold(i.Hostname(), k.Hostname()) || port(i) != port(k) {
		return fmt.Errorf("key set URL %s: not on the issuer's own host %s", quote(keys), i.Host)
	}
	return nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
