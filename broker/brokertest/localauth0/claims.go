package localauth0

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	scopeOpenID  = "openid"
	scopeProfile = "profile"
	scopeEmail   = "email"
	scopeOffline = "offline_access"

	machineSuffix = "@clients" // Auth0's sub of a machine client: CLIENTID@clients
)

// Claims is what an Action sees of a sign-in.
type Claims struct {
	Subject      string
	Email        string // empty for a machine client
	Name         string // empty for a machine client
	Organization string // the org_id of the token; may be empty
	Client       string // client_id
	Permissions  []string
	Scopes       []string
}

// signIn is one decision of the tenant: who, through which client, for which API, with what.
type signIn struct {
	client       Client
	user         User // zero for a machine client
	machine      bool
	organization string
	audience     string // empty: no API was asked for
	scopes       []string
	nonce        string
	sid          string
	gty          string // Auth0's mark of the grant; empty for an authorization code
}

func (in signIn) subject() string {
	if in.machine {
		return in.client.ID + machineSuffix
	}
	return in.user.Subject
}

// permissions are everything that RBAC grants a user, asked for or not; a machine has the scopes that it was given.
func (in signIn) permissions() []string {
	if in.machine {
		return append([]string{}, in.scopes...)
	}
	return append([]string{}, in.user.Permissions...)
}

func (in signIn) has(scope string) bool { return slices.Contains(in.scopes, scope) }

// accessClaims are the claims of an access token for the API in the configured profile.
func (s *Server) accessClaims(in signIn) map[string]any {
	claims := s.acted(in)
	now := s.cfg.Now()
	maps.Copy(claims, map[string]any{
		"iss": s.cfg.Issuer, "sub": in.subject(), "iat": now.Unix(), "exp": now.Add(s.cfg.TokenLife).Unix(),
		"permissions": in.permissions(),
	})
	claims["aud"] = in.audience
	if in.has(scopeOpenID) {
		claims["aud"] = []string{in.audience, s.cfg.Issuer + "userinfo"}
	}
	if len(in.scopes) > 0 {
		claims["scope"] = strings.Join(in.scopes, " ")
	}
	if in.organization != "" {
		claims["org_id"] = in.organization
	}
	if s.cfg.RFC9068 {
		claims["client_id"] = in.client.ID
		claims["jti"] = randomToken()
		return claims
	}
	claims["azp"] = in.client.ID
	if in.gty != "" {
		claims["gty"] = in.gty
	}
	return claims
}

// acted are the claims that the Action adds.
func (s *Server) acted(in signIn) map[string]any {
	claims := map[string]any{}
	if s.cfg.Action == nil {
		return claims
	}
	added := s.cfg.Action(Claims{
		Subject: in.subject(), Email: in.user.Email, Name: in.user.Name, Organization: in.organization,
		Client: in.client.ID, Permissions: in.permissions(), Scopes: slices.Clone(in.scopes),
	})
	for name, value := range added {
		if !reservedClaim(name) {
			claims[name] = value
		}
	}
	return claims
}

// reservedClaim holds for names that Auth0 keeps for itself; an Action cannot set them.
func reservedClaim(name string) bool {
	switch name {
	case "iss", "sub", "aud", "exp", "iat", "nbf", "jti", "azp", "client_id", "gty", "scope", "permissions",
		"org_id", "org_name", "sid", "nonce", "auth_time", "acr", "amr", "act", "may_act", "cnf", "typ",
		"groups", "roles", "entitlements", "at_hash", "c_hash", "s_hash", "authorization_details", "events":
		return true
	}
	return false
}

// idClaims are the claims of an ID token: for the client, never for an API.
func (s *Server) idClaims(in signIn) map[string]any {
	claims := s.acted(in)
	maps.Copy(claims, s.profile(in))
	now := s.cfg.Now()
	maps.Copy(claims, map[string]any{
		"iss": s.cfg.Issuer, "aud": in.client.ID, "iat": now.Unix(), "exp": now.Add(idTokenLife).Unix(),
	})
	for name, value := range map[string]string{"nonce": in.nonce, "sid": in.sid, "org_id": in.organization} {
		if value != "" {
			claims[name] = value
		}
	}
	return claims
}

// profile is what the scopes let the client know about the user (OpenID Connect Core §5.4).
func (s *Server) profile(in signIn) map[string]any {
	claims := map[string]any{"sub": in.subject()}
	if in.has(scopeProfile) {
		claims["name"] = in.user.Name
		claims["nickname"], _, _ = strings.Cut(in.user.Email, "@")
	}
	if in.has(scopeEmail) {
		claims["email"] = in.user.Email
		claims["email_verified"] = true
	}
	return claims
}

// grantScopes keeps, of what was asked for, the OpenID scopes and the permissions that the user has; RBAC drops the
// rest silently, as Auth0 does.
func grantScopes(asked []string, user User, client Client) []string {
	var granted []string
	for _, scope := range asked {
		switch scope {
		case scopeOpenID, scopeProfile, scopeEmail:
		case scopeOffline:
			if !client.allows(GrantRefresh) {
				continue
			}
		default:
			if !slices.Contains(user.Permissions, scope) {
				continue
			}
		}
		if !slices.Contains(granted, scope) {
			granted = append(granted, scope)
		}
	}
	return granted
}

// organizationOf decides the org_id of a user's sign-in: the one that was asked for, else the client's, else the
// user's own. Asking for one that the user does not belong to is refused; belonging to none is not.
func organizationOf(asked string, client Client, user User) (string, error) {
	want := asked
	if want == "" {
		want = client.Organization
	}
	if want == "" || want == user.Organization {
		return user.Organization, nil
	}
	return "", accessDenied(fmt.Sprintf("user %s is not part of the %s organization", user.Subject, want))
}

// checkAudience refuses an API that the tenant does not have. None at all is allowed: the token is then opaque.
func (s *Server) checkAudience(audience string) error {
	if audience == "" || audience == s.cfg.Audience {
		return nil
	}
	return accessDenied("Service not found: " + audience)
}

// seconds is a duration as expires_in has it.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
