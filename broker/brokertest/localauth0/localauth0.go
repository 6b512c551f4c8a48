// Package localauth0 is an Auth0 tenant that runs inside the process: discovery, JWKS, /authorize with PKCE and a
// page to choose a user, /oauth/token for the four grants, /userinfo and log-out. The demo and the tests sign in
// against it, so what it issues has the shapes that Auth0 documents: both access-token profiles, the array audience
// when openid is asked for, org_id, permissions, the subjects of machine clients.
//
// It is for loopback only and NOT SAFE FOR PRODUCTION USE: the page lets anybody be any user without a password, and
// [Server.Mint] signs whatever it is given. [CheckLoopback] refuses an address that others can reach; the server
// itself answers only requests whose Host is its issuer's or a loopback name, which keeps a web page that rebinds its
// DNS name to 127.0.0.1 out.
package localauth0

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	codeLife    = 60 * time.Second    // brief enough that a code in a browser's history is dead; RFC 6749 §4.1.2 allows 10 min
	sessionLife = 3 * 24 * time.Hour  // Auth0's default inactivity timeout of a session
	refreshLife = 30 * 24 * time.Hour // Auth0's default absolute lifetime of a rotating refresh token
	idTokenLife = 10 * time.Hour      // Auth0's default ID token lifetime, 36 000 s

	// maxBody bounds a request's body: the largest honest one, a refresh with every parameter, is below 2 KiB.
	maxBody = 16 << 10
)

// Server is one local Auth0 tenant. Make it with [New]; it is an [http.Handler]. All its methods may be called
// concurrently.
type Server struct {
	cfg     Config
	issuer  *url.URL
	users   map[string]User   // :: e-mail → user
	clients map[string]Client // :: client_id → client
	keys    keyring
	state   state
	chooser *template.Template
	handler http.Handler
}

// New validates the configuration, reporting every problem together, and makes the signing keys it was not given.
// Making an RSA key takes tens of milliseconds; set [Config.Keys] where that matters.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure local auth0: %w", err)
	}
	issuer, err := url.Parse(cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("configure local auth0: %w", err)
	}
	page, err := parseChooser()
	if err != nil {
		return nil, fmt.Errorf("configure local auth0: %w", err)
	}
	s := &Server{
		cfg: cfg, issuer: issuer, chooser: page,
		users: make(map[string]User, len(cfg.Users)), clients: make(map[string]Client, len(cfg.Clients)),
		state: newState(cfg.Now),
	}
	for _, u := range cfg.Users {
		s.users[u.Email] = u
	}
	for _, c := range cfg.Clients {
		s.clients[c.ID] = c
	}
	if err := s.keys.fill(cfg.Keys, issuer.Hostname(), cfg.Now()); err != nil {
		return nil, fmt.Errorf("configure local auth0: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// ServeHTTP answers every route of the tenant.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store") // RFC 6749 §5.1; the well-known documents set their own
	h.Set("Pragma", "no-cache")
	if !s.ownHost(r.Host) {
		writeError(w, &oauthError{http.StatusForbidden, "access_denied", "unknown host"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.handler.ServeHTTP(w, r)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", s.serveDiscovery)
	mux.HandleFunc("GET /.well-known/jwks.json", s.serveKeys)
	mux.HandleFunc("GET /authorize", s.serveAuthorize)
	mux.HandleFunc("POST /authorize", s.serveAuthorize) // OpenID Connect Core §3.1.2.1 demands both
	mux.HandleFunc("POST /u/login", s.serveLogin)
	mux.HandleFunc("POST /oauth/token", s.serveToken)
	mux.HandleFunc("GET /userinfo", s.serveUserInfo)
	mux.HandleFunc("POST /userinfo", s.serveUserInfo)
	mux.HandleFunc("GET /v2/logout", s.serveLogout)
	mux.HandleFunc("GET /oidc/logout", s.serveLogout)
	return s.cors(mux)
}

// ownHost holds for the issuer's own host and for loopback names, whatever the port: a facade may put the server
// behind another port than the issuer names.
func (s *Server) ownHost(host string) bool {
	if strings.EqualFold(host, s.issuer.Host) {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return isLoopback(name)
}

// CheckLoopback refuses a listen address (host:port) that another machine could reach. An empty host means every
// interface and is refused too.
func CheckLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("check address %q: %w", addr, err)
	}
	if !isLoopback(host) {
		return fmt.Errorf("check address %q: not a loopback address; the local auth0 lets anybody be any user", addr)
	}
	return nil
}

// isLoopback takes the one name that RFC 6761 §6.3 ties to loopback, and literal addresses; no name is looked up.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// randomToken is 256 bits from the system, in base64url: codes, sessions, refresh tokens, token identifiers.
func randomToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}
