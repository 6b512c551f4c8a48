package localauth0

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// cookieName is our own, since cookies of 127.0.0.1 are shared by everything that listens there.
const cookieName = "localauth0_session"

// authRequest is an authorization request whose client and redirect_uri are proven.
type authRequest struct {
	client       Client
	redirect     *url.URL
	redirectText string // as it was sent: the code is bound to it
	audience     string
	challenge    string
	prompt       string
	hint         string
	organization string
	params       params
}

// serveAuthorize answers GET and POST /authorize: silently with a code when the browser has a session that fits, else
// with the page to choose a user.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	read := queryParams
	if r.Method == http.MethodPost {
		read = formParams
	}
	p, err := read(r)
	if err != nil {
		s.refusePage(w, err)
		return
	}
	req, err := s.client(p)
	if err != nil {
		s.refusePage(w, err)
		return
	}
	if err := s.check(req); err != nil {
		req.refuse(w, r, err)
		return
	}
	person, ok := s.fitting(r, req)
	switch {
	case ok && (req.prompt == "" || req.prompt == "none"):
		s.finish(w, r, req, person)
	case req.prompt == "none":
		req.refuse(w, r, &oauthError{http.StatusForbidden, "login_required", "Login required"})
	default:
		s.showChooser(w, req)
	}
}

// serveLogin answers POST /u/login, which the page sends: the parameters of the request again, all checked again, and
// the user that was chosen.
func (s *Server) serveLogin(w http.ResponseWriter, r *http.Request) {
	// A foreign page must not choose whom the browser is signed in as.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		s.refusePage(w, accessDenied("this form belongs to another page"))
		return
	}
	p, err := formParams(r)
	if err != nil {
		s.refusePage(w, err)
		return
	}
	req, err := s.client(p)
	if err != nil {
		s.refusePage(w, err)
		return
	}
	if err := s.check(req); err != nil {
		req.refuse(w, r, err)
		return
	}
	user, ok := s.users[p["user"]]
	if !ok {
		req.refuse(w, r, accessDenied("nobody signed in"))
		return
	}
	org, err := organizationOf(req.organization, req.client, user)
	if err != nil {
		req.refuse(w, r, err)
		return
	}
	key, sid, err := s.state.addSession(user.Email)
	if err != nil {
		req.refuse(w, r, err)
		return
	}
	if old, err := r.Cookie(cookieName); err == nil {
		s.state.dropSession(old.Value)
	}
	http.SetCookie(w, s.cookie(key, int(sessionLife.Seconds())))
	s.finish(w, r, req, visitor{user, org, sid})
}

func (s *Server) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // G124: Secure follows the issuer's scheme; over plain http browsers would drop it
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true,
		Secure: s.issuer.Scheme == "https", SameSite: http.SameSiteLaxMode,
	}
}

// client proves client_id and redirect_uri. Until both are proven nothing may be redirected (RFC 6749 §4.1.2.1).
func (s *Server) client(p params) (*authRequest, error) {
	client, ok := s.clients[p["client_id"]]
	if !ok {
		return nil, &oauthError{http.StatusForbidden, "invalid_request", "Unknown client: " + p["client_id"]}
	}
	if !client.allows(GrantCode) {
		return nil, &oauthError{http.StatusForbidden, "unauthorized_client", "Grant type 'authorization_code' not allowed for the client."}
	}
	if !slices.Contains(client.Callbacks, p["redirect_uri"]) {
		return nil, &oauthError{http.StatusForbidden, "invalid_request",
			"Callback URL mismatch. " + p["redirect_uri"] + " is not in the list of allowed callback URLs"}
	}
	redirect, err := url.Parse(p["redirect_uri"])
	if err != nil {
		return nil, fmt.Errorf("parse callback: %w", err)
	}
	return &authRequest{
		client: client, redirect: redirect, redirectText: p["redirect_uri"], audience: p["audience"], prompt: p["prompt"],
		challenge: p["code_challenge"], hint: p["login_hint"], organization: p["organization"], params: p,
	}, nil
}

// check holds the rest of the request against what the tenant does; what it refuses goes back to the client.
func (s *Server) check(req *authRequest) error {
	p := req.params
	if p["request"] != "" || p["request_uri"] != "" {
		return &oauthError{http.StatusBadRequest, "request_not_supported", "request objects are not supported"}
	}
	if p["response_type"] != "code" {
		return &oauthError{http.StatusBadRequest, "unsupported_response_type", "Unsupported response type: " + p["response_type"]}
	}
	if mode := p["response_mode"]; mode != "" && mode != "query" {
		return invalidRequest("Unsupported response mode: " + mode)
	}
	if p["code_challenge_method"] != "S256" {
		return invalidRequest("Parameter 'code_challenge_method' must be S256")
	}
	if !challengeForm.MatchString(req.challenge) {
		return invalidRequest("Parameter 'code_challenge' must be a SHA-256 digest in base64url")
	}
	if !slices.Contains([]string{"", "none", "login", "select_account"}, req.prompt) {
		return invalidRequest("Unsupported prompt: " + req.prompt)
	}
	return s.checkAudience(req.audience)
}

// visitor is the person in front of the browser, in the organization that the request settled.
type visitor struct {
	user         User
	organization string
	sid          string
}

// fitting is the person of the browser's session, if the request could be answered for that person.
func (s *Server) fitting(r *http.Request, req *authRequest) (visitor, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return visitor{}, false
	}
	current, ok := s.state.session(cookie.Value)
	if !ok {
		return visitor{}, false
	}
	user := s.users[current.email]
	if req.hint != "" && req.hint != user.Email {
		return visitor{}, false
	}
	org, err := organizationOf(req.organization, req.client, user)
	if err != nil {
		return visitor{}, false
	}
	return visitor{user, org, current.id}, true
}

// finish sends the browser back with a code.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, req *authRequest, person visitor) {
	key, err := s.state.addCode(&code{
		redirect: req.redirectText, challenge: req.challenge,
		signIn: signIn{
			client: req.client, user: person.user, organization: person.organization, audience: req.audience,
			scopes: grantScopes(req.params.scopes(), person.user, req.client), nonce: req.params["nonce"], sid: person.sid,
		},
	})
	if err != nil {
		req.refuse(w, r, err)
		return
	}
	req.answer(w, r, url.Values{"code": {key}})
}

// refuse sends the browser back with an error (RFC 6749 §4.1.2.1).
func (req *authRequest) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refused := asOAuth(err)
	req.answer(w, r, url.Values{"error": {refused.code}, "error_description": {refused.description}})
}

// answer adds the values and the client's state to the redirect_uri, keeping the query that it may have. The status
// is 303 so that a browser never posts the form again to the client (RFC 9700 §4.12).
func (req *authRequest) answer(w http.ResponseWriter, r *http.Request, values url.Values) {
	target := *req.redirect
	query := target.Query()
	for name, v := range values {
		query[name] = v
	}
	if req.params["state"] != "" {
		query.Set("state", req.params["state"])
	}
	target.RawQuery = query.Encode()
	http.Redirect(w, r, target.String(), http.StatusSeeOther) //nolint:gosec // G710: Server.client compared it with the callbacks
}
