package localauth0

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// serveLogout answers GET /v2/logout (returnTo) and GET /oidc/logout (post_logout_redirect_uri): it ends the browser's
// session whatever the parameters, and then redirects only where a client, the named one if one is named, allows it.
func (s *Server) serveLogout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.state.dropSession(cookie.Value)
	}
	http.SetCookie(w, s.cookie("", -1))
	p, err := queryParams(r)
	if err != nil {
		s.refusePage(w, err)
		return
	}
	target, back := p["returnTo"], url.Values{}
	if r.URL.Path == "/oidc/logout" {
		target = p["post_logout_redirect_uri"]
		if p["state"] != "" {
			back.Set("state", p["state"]) // OpenID Connect RP-Initiated Logout §3
		}
	}
	if target == "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "OK") // what Auth0 says; a client that went away is nobody's to tell
		return
	}
	if !s.allowsLogout(p["client_id"], target) {
		s.refusePage(w, invalidRequest("The address to return to is not in the list of allowed logout URLs: "+target))
		return
	}
	if len(back) > 0 {
		separator := "?"
		if strings.Contains(target, "?") {
			separator = "&"
		}
		target += separator + back.Encode()
	}
	http.Redirect(w, r, target, http.StatusSeeOther) //nolint:gosec // G710: allowsLogout compared it with the allowed ones
}

func (s *Server) allowsLogout(clientID, target string) bool {
	for _, c := range s.cfg.Clients {
		if (clientID == "" || clientID == c.ID) && slices.Contains(c.LogoutURLs, target) {
			return true
		}
	}
	return false
}

// serveUserInfo answers GET and POST /userinfo (OpenID Connect Core §5.3) for an access token with the scope openid.
func (s *Server) serveUserInfo(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750 §3.1: no error code when no token came
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	in, err := s.bearer(token)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	writeJSON(w, http.StatusOK, s.profile(in))
}

// bearer is the sign-in behind an access token: one of the opaque kind, or a JWT that names /userinfo in aud.
func (s *Server) bearer(token string) (signIn, error) {
	if in, ok := s.state.opaqueToken(token); ok && in.has(scopeOpenID) {
		return in, nil
	}
	subject, scopes, err := s.ownToken(token)
	if err != nil {
		return signIn{}, err
	}
	for _, u := range s.cfg.Users {
		if u.Subject == subject {
			return signIn{user: u, scopes: scopes}, nil
		}
	}
	return signIn{}, unauthorized()
}
