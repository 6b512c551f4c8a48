package localauth0

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The grants of /oauth/token that a [Client] may hold.
const (
	GrantCode              = "authorization_code"
	GrantRefresh           = "refresh_token"
	GrantPassword          = "password"
	GrantClientCredentials = "client_credentials"
)

const (
	defaultTokenLife = 24 * time.Hour      // Auth0's default for a custom API, 86 400 s: tests meet the life that real tokens have
	maxTokenLife     = 30 * 24 * time.Hour // Auth0's maximum for a custom API, 2 592 000 s
	minKeyBits       = 2048                // RFC 7518 §3.3
)

// Config is one tenant with one API. Its zero value is refused: issuer, audience and at least one client are needed.
type Config struct {
	// Issuer is the tenant's URL and the iss of its tokens: root path, trailing slash, like Auth0's.
	Issuer string
	// Audience is the identifier of the tenant's one API.
	Audience string
	Users    []User
	Clients  []Client
	// DefaultClient is the client_id of a password grant that names none, so that a script needs no client. Auth0
	// itself always wants a client_id. Empty: such a request is refused.
	DefaultClient string
	// TokenLife is the life of access tokens; 0 is 24 h, Auth0's default; at most 30 days, Auth0's maximum.
	TokenLife time.Duration
	// RFC9068 chooses the API's access-token profile: RFC 9068 (typ at+jwt, client_id, jti) instead of Auth0's own
	// (typ JWT, azp, gty).
	RFC9068 bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Action plays the tenant's post-login Action: what it returns is added to the access token and to the ID token, except for names
	// that Auth0 reserves, which are ignored as Auth0 ignores them. Nil adds nothing. It must be safe for concurrent
	// calls. [TenantTags] is one.
	Action func(Claims) map[string]any
	// AllowedOrigins are the pages that may call the tenant from a browser (exact origins).
	AllowedOrigins []string
	// Keys are the current and the next signing key, in this order; those that are missing are made. Give them where
	// start-up time counts or where tokens must outlive the server.
	Keys []*rsa.PrivateKey
}

// User is a person of the tenant.
type User struct {
	Email    string
	Password string // for the password grant only; the page asks for none
	Name     string
	Subject  string // such as auth0|5f7c8ec7c33c6c004bbafe82
	// Organization is the org_id of the user's tokens; empty for a user who belongs to none.
	Organization string
	// Permissions are what the API's RBAC grants the user.
	Permissions []string
}

// Client is an application of the tenant. One without a Secret is public; every client uses PKCE with S256.
type Client struct {
	ID     string
	Secret string
	Name   string
	// Callbacks are the allowed redirect_uri values, compared exactly.
	Callbacks []string
	// LogoutURLs are the allowed targets of log-out, compared exactly.
	LogoutURLs []string
	// Permissions are what a machine client is granted on the API; they do not limit users.
	Permissions []string
	// Grants are the grant types the client may use; at least one.
	Grants []string
	// Organization is the client's default organization: a machine client's tokens carry it as org_id, and people
	// sign in to it. Empty: machine tokens have none, and people sign in to their own.
	Organization string
}

func (c Client) allows(grant string) bool { return slices.Contains(c.Grants, grant) }

func (c Config) withDefaults() Config {
	if c.TokenLife == 0 {
		c.TokenLife = defaultTokenLife
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) validate() error {
	errs := []error{checkIssuer(c.Issuer)}
	if c.Audience == "" || c.Audience == c.Issuer+"userinfo" {
		errs = append(errs, errors.New("audience: want the identifier of an API"))
	}
	if c.TokenLife < time.Second || c.TokenLife > maxTokenLife {
		errs = append(errs, fmt.Errorf("token life %s: want 1s to %s", c.TokenLife, maxTokenLife))
	}
	if len(c.Clients) == 0 {
		errs = append(errs, errors.New("clients: want at least one"))
	}
	if len(c.Keys) > 2 {
		errs = append(errs, errors.New("keys: want the current and the next one, no more"))
	}
	for _, k := range c.Keys {
		if k == nil || k.N.BitLen() < minKeyBits {
			errs = append(errs, fmt.Errorf("keys: want RSA keys of %d bits or more", minKeyBits))
		}
	}
	for _, o := range c.AllowedOrigins {
		if u, err := url.Parse(o); err != nil || !isWeb(u) || originOf(u) != o {
			errs = append(errs, fmt.Errorf("allowed origin %q: want scheme://host[:port]", o))
		}
	}
	errs = append(errs, checkUsers(c.Users), checkClients(c.Clients), c.checkDefaultClient())
	return errors.Join(errs...)
}

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || !isWeb(u) || issuer != originOf(u)+"/" {
		return fmt.Errorf("issuer %q: want scheme://host[:port]/ with the slash", issuer)
	}
	return nil
}

func checkUsers(users []User) error {
	var errs []error
	emails, subjects := map[string]bool{}, map[string]bool{}
	for _, u := range users {
		if u.Email == "" || u.Password == "" || u.Subject == "" {
			errs = append(errs, fmt.Errorf("user %q: want e-mail, password and subject", u.Email))
		}
		if strings.HasSuffix(u.Subject, machineSuffix) {
			errs = append(errs, fmt.Errorf("user %q: subject %q is a machine client's", u.Email, u.Subject))
		}
		if emails[u.Email] || subjects[u.Subject] {
			errs = append(errs, fmt.Errorf("user %q: e-mail or subject stands twice", u.Email))
		}
		emails[u.Email], subjects[u.Subject] = true, true
	}
	return errors.Join(errs...)
}

func checkClients(clients []Client) error {
	var errs []error
	seen := map[string]bool{}
	for _, c := range clients {
		if c.ID == "" || seen[c.ID] {
			errs = append(errs, fmt.Errorf("client %q: want an id of its own", c.ID))
		}
		seen[c.ID] = true
		errs = append(errs, c.validate())
	}
	return errors.Join(errs...)
}

func (c Client) validate() error {
	var errs []error
	if len(c.Grants) == 0 {
		errs = append(errs, fmt.Errorf("client %q: want at least one grant", c.ID))
	}
	for _, g := range c.Grants {
		if !slices.Contains(supportedGrants(), g) {
			errs = append(errs, fmt.Errorf("client %q: unknown grant %q", c.ID, g))
		}
	}
	if c.allows(GrantClientCredentials) && c.Secret == "" {
		errs = append(errs, fmt.Errorf("client %q: client_credentials wants a secret (RFC 6749 §4.4)", c.ID))
	}
	if c.allows(GrantCode) && len(c.Callbacks) == 0 {
		errs = append(errs, fmt.Errorf("client %q: authorization_code wants a callback", c.ID))
	}
	for _, raw := range slices.Concat(c.Callbacks, c.LogoutURLs) {
		// RFC 6749 §3.1.2: absolute, without fragment.
		if u, err := url.Parse(raw); err != nil || !isWeb(u) || strings.Contains(raw, "#") {
			errs = append(errs, fmt.Errorf("client %q: %q is no absolute web address without fragment", c.ID, raw))
		}
	}
	return errors.Join(errs...)
}

func (c Config) checkDefaultClient() error {
	if c.DefaultClient == "" {
		return nil
	}
	for _, cl := range c.Clients {
		if cl.ID == c.DefaultClient && cl.Secret == "" && cl.allows(GrantPassword) {
			return nil
		}
	}
	return fmt.Errorf("default client %q: want a public client with the password grant", c.DefaultClient)
}

func supportedGrants() []string {
	return []string{GrantCode, GrantRefresh, GrantPassword, GrantClientCredentials}
}

func isWeb(u *url.URL) bool { return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" }

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }
