package localauth0

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// RFC 7636 §4.1 and §4.2: a verifier is 43 to 128 unreserved characters, an S256 challenge 43 of base64url.
var (
	verifierForm  = regexp.MustCompile(`\A[A-Za-z0-9._~-]{43,128}\z`)
	challengeForm = regexp.MustCompile(`\A[A-Za-z0-9_-]{43}\z`)
)

type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
	ExpiresIn    int64  `json:"expires_in"`
	TokenType    string `json:"token_type"`
}

// serveToken answers POST /oauth/token.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	answer, err := s.token(r)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) token(r *http.Request) (*tokenResponse, error) {
	p, err := tokenParams(r)
	if err != nil {
		return nil, err
	}
	grant := p["grant_type"]
	if grant == "" {
		return nil, invalidRequest("Missing required parameter: grant_type")
	}
	if !slices.Contains(supportedGrants(), grant) {
		return nil, &oauthError{http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant type: " + grant}
	}
	client, err := s.authenticate(r, p)
	if err != nil {
		return nil, err
	}
	if !client.allows(grant) {
		return nil, &oauthError{
			http.StatusForbidden, "unauthorized_client", fmt.Sprintf("Grant type '%s' not allowed for the client.", grant),
		}
	}
	switch grant {
	case GrantCode:
		return s.redeemCode(p, client)
	case GrantRefresh:
		return s.refresh(p, client)
	case GrantPassword:
		return s.passwordGrant(p, client)
	default:
		return s.clientCredentials(p, client)
	}
}

// authenticate finds the client and has it prove itself, by Basic or in the body but not both (RFC 6749 §2.3). A
// public client names itself only. A password grant that names no client is the default client's.
func (s *Server) authenticate(r *http.Request, p params) (Client, error) {
	id, secret := p["client_id"], p["client_secret"]
	if r.Header.Get("Authorization") != "" {
		basicID, basicSecret, err := basicAuth(r)
		if err != nil {
			return Client{}, err
		}
		if secret != "" || (id != "" && id != basicID) {
			return Client{}, invalidRequest("authenticate the client in one way")
		}
		id, secret = basicID, basicSecret
	} else if id == "" && p["grant_type"] == GrantPassword {
		id = s.cfg.DefaultClient
	}
	client, ok := s.clients[id]
	if !ok || !same(secret, client.Secret) {
		return Client{}, unauthorized()
	}
	return client, nil
}

// basicAuth reads the client's Basic credentials, which are form-encoded inside (RFC 6749 §2.3.1).
func basicAuth(r *http.Request) (id, secret string, err error) {
	rawID, rawSecret, ok := r.BasicAuth()
	if !ok {
		return "", "", unauthorized()
	}
	if id, err = url.QueryUnescape(rawID); err != nil {
		return "", "", unauthorized()
	}
	if secret, err = url.QueryUnescape(rawSecret); err != nil {
		return "", "", unauthorized()
	}
	return id, secret, nil
}

// same compares two secrets in constant time, whatever their lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// redeemCode trades an authorization code for tokens. The code is spent by the first attempt, right or wrong.
func (s *Server) redeemCode(p params, client Client) (*tokenResponse, error) {
	for _, name := range []string{"code", "redirect_uri", "code_verifier"} {
		if p[name] == "" {
			return nil, invalidRequest("Missing required parameter: " + name)
		}
	}
	c, ok := s.state.takeCode(p["code"])
	if !ok || c.signIn.client.ID != client.ID {
		return nil, invalidGrant("Invalid authorization code")
	}
	if p["redirect_uri"] != c.redirect {
		return nil, invalidGrant("The redirect URI is wrong.")
	}
	if !verifierForm.MatchString(p["code_verifier"]) || !same(challengeOf(p["code_verifier"]), c.challenge) {
		return nil, invalidGrant("Failed to verify code verifier")
	}
	return s.issue(c.signIn, c.family)
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Server) refresh(p params, client Client) (*tokenResponse, error) {
	if p["refresh_token"] == "" {
		return nil, invalidRequest("Missing required parameter: refresh_token")
	}
	in, next, err := s.state.rotate(p["refresh_token"], client.ID, p.scopes())
	if err != nil {
		return nil, err
	}
	in.gty = GrantRefresh
	answer, err := s.tokens(in)
	if err != nil {
		return nil, err
	}
	answer.RefreshToken = next
	return answer, nil
}

// passwordGrant trades e-mail and password for tokens. Without a scope it gives all of the user's permissions, as
// Auth0 does for this grant.
func (s *Server) passwordGrant(p params, client Client) (*tokenResponse, error) {
	if err := s.checkAudience(p["audience"]); err != nil {
		return nil, err
	}
	user, ok := s.users[p["username"]]
	if !same(p["password"], user.Password) || !ok {
		return nil, invalidGrant("Wrong email or password.")
	}
	org, err := organizationOf(p["organization"], client, user)
	if err != nil {
		return nil, err
	}
	asked := p.scopes()
	if len(asked) == 0 {
		asked = user.Permissions
	}
	return s.issue(signIn{
		client: client, user: user, organization: org, audience: p["audience"],
		scopes: grantScopes(asked, user, client), gty: GrantPassword,
	}, &family{})
}

// clientCredentials gives a machine client a token of its own, with all its permissions unless it asks for fewer.
func (s *Server) clientCredentials(p params, client Client) (*tokenResponse, error) {
	if p["audience"] == "" {
		return nil, accessDenied("No audience parameter was provided, and no default audience has been configured")
	}
	if err := s.checkAudience(p["audience"]); err != nil {
		return nil, err
	}
	if org := p["organization"]; org != "" && org != client.Organization {
		return nil, accessDenied("Client is not granted access to the organization: " + org)
	}
	scopes := p.scopes()
	if len(scopes) == 0 {
		scopes = client.Permissions
	}
	for _, want := range scopes {
		if !slices.Contains(client.Permissions, want) {
			return nil, accessDenied("Client has not been granted scopes: " + want)
		}
	}
	return s.issue(machineSignIn(client, p["audience"], scopes), nil)
}

func machineSignIn(client Client, audience string, scopes []string) signIn {
	return signIn{
		client: client, machine: true, organization: client.Organization, audience: audience,
		scopes: scopes, gty: "client-credentials", // Auth0 writes it with a hyphen
	}
}

// issue makes the answer to a first grant, with a refresh token when offline_access was granted.
func (s *Server) issue(in signIn, f *family) (*tokenResponse, error) {
	answer, err := s.tokens(in)
	if err != nil {
		return nil, err
	}
	if in.has(scopeOffline) {
		if answer.RefreshToken, err = s.state.addRefresh(in, f); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func (s *Server) tokens(in signIn) (*tokenResponse, error) {
	answer := &tokenResponse{Scope: strings.Join(in.scopes, " "), ExpiresIn: seconds(s.cfg.TokenLife), TokenType: "Bearer"}
	var err error
	if in.audience == "" {
		// Auth0's answer to a sign-in that named no API: a token that is good for /userinfo and that no API can read.
		answer.AccessToken, err = s.state.addOpaque(in, s.cfg.TokenLife)
	} else {
		answer.AccessToken, err = s.Mint(s.accessClaims(in))
	}
	if err == nil && in.has(scopeOpenID) && !in.machine {
		answer.IDToken, err = s.mint("JWT", s.idClaims(in))
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}
