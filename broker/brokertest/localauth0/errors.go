package localauth0

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// oauthError is a refusal in the form of RFC 6749 §5.2, with the status and the words that Auth0 uses where they are
// known: 403 for a refused grant, 401 for a client that did not prove itself.
type oauthError struct {
	status      int
	code        string
	description string
}

func (e *oauthError) Error() string { return e.code + ": " + e.description }

func invalidRequest(description string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_request", description}
}

func invalidGrant(description string) *oauthError {
	return &oauthError{http.StatusForbidden, "invalid_grant", description}
}

func accessDenied(description string) *oauthError {
	return &oauthError{http.StatusForbidden, "access_denied", description}
}

// unauthorized is for a client that is unknown or did not prove itself; Auth0 does not say which.
func unauthorized() *oauthError {
	return &oauthError{http.StatusUnauthorized, "access_denied", "Unauthorized"}
}

// asOAuth finds the refusal in err; anything else is a fault of this server.
func asOAuth(err error) *oauthError {
	var refused *oauthError
	if errors.As(err, &refused) {
		return refused
	}
	return &oauthError{http.StatusInternalServerError, "server_error", err.Error()}
}

func writeError(w http.ResponseWriter, err error) {
	refused := asOAuth(err)
	if refused.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="local auth0"`) // RFC 6749 §5.2
	}
	writeJSON(w, refused.status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{refused.code, refused.description})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that went away is nobody's to tell.
	_ = json.NewEncoder(w).Encode(body)
}

// writeWellKnown lets readers cache as Auth0 does, but briefly: a test or a demo that rotates keys wants to see it.
func writeWellKnown(w http.ResponseWriter, body any) {
	w.Header().Set("Cache-Control", "public, max-age=15")
	w.Header().Del("Pragma")
	writeJSON(w, http.StatusOK, body)
}

// cors lets the allowed origins call the endpoints that a page fetches, without credentials, and refuses a foreign
// page before any work. Navigation (/authorize, /u/login, log-out) is not fetched and has no CORS.
func (s *Server) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fetched(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if origin == "" || origin == originOf(s.issuer) {
			next.ServeHTTP(w, r)
			return
		}
		if !slices.Contains(s.cfg.AllowedOrigins, origin) {
			writeError(w, accessDenied("Origin is not allowed."))
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
			// Auth0-Client is the telemetry header that Auth0's own browser library adds.
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Auth0-Client")
			w.Header().Set("Access-Control-Max-Age", "600") // ten minutes; Chromium takes two hours at most
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func fetched(path string) bool {
	return path == "/oauth/token" || path == "/userinfo" || strings.HasPrefix(path, "/.well-known/")
}
