// Package localsts is an AWS STS for tests and the demo that enforces what the
// real one does: the token's signature against the issuer's published keys, the
// provider's client IDs, the trust policy with its conditions, session tags,
// source identity and the roles claim, the limits of every parameter, and the
// session policy in what its credentials may do.
//
// It is NOT SAFE FOR PRODUCTION USE and is meant for loopback: it speaks http
// and fetches issuers over http.
//
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
package localsts

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"credential-broker/broker/brokertest/iam"
)

const (
	maxFormBytes = 64 << 10        // a token of 20,000 and a policy of 2,048 characters, encoded
	fetchTimeout = 5 * time.Second // AWS gives an issuer about as long
	maxSessions  = 100_000         // far above what a test makes; a bound all the same
	namespace    = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// Provider is an IAM OIDC provider.
type Provider struct {
	URL       string   // the tokens' `iss`
	ClientIDs []string // what `azp`, or else `aud`, may be
}

// Role is an IAM role.
type Role struct {
	Name        string // with its path, without the first slash: "path/name"
	TrustPolicy []byte
	Policy      []byte        // the role's own
	MaxSession  time.Duration // 0: one hour, as in IAM
}

// Config is one account.
type Config struct {
	Region    string
	AccountID string
	Providers []Provider
	Roles     []Role
	Now       func() time.Time // nil: time.Now
	// Authenticate checks a signed request and names the access key; nil refuses
	// every signed action.
	Authenticate func(*http.Request) (accessKeyID string, err error)
	// IgnoreSessionPolicies reads the session policy of a call and then forgets
	// it, as some servers do: for tests that have to notice.
	IgnoreSessionPolicies bool
	// MaxLife, when not 0, ends every session after so long, whatever the call asked
	// for: what holds credentials can then be seen to run out in seconds.
	MaxLife time.Duration
	// Fail, when not nil, may answer in the server's place: for tests of failure.
	Fail func(http.ResponseWriter, *http.Request) bool
	HTTP *http.Client // reaches the issuers; nil: a client with a short timeout
}

type role struct {
	arn        string
	trust      iam.Document
	policy     iam.Document
	maxSession time.Duration
}

// Server is the STS of one account. It is safe for concurrent use.
type Server struct {
	cfg   Config
	roles map[string]role // :: ARN → role

	mu       sync.Mutex
	sessions map[string]Session // :: access key id → session
	calls    map[string]int     // :: action → how often
}

// New checks the account's documents.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, roles: map[string]role{}, sessions: map[string]Session{}, calls: map[string]int{}}
	if cfg.AccountID == "" || cfg.Region == "" {
		return nil, errors.New("an account and a region are needed")
	}
	for _, p := range cfg.Providers {
		if u, err := url.Parse(p.URL); err != nil || u.Host == "" || len(p.ClientIDs) == 0 {
			return nil, fmt.Errorf("provider %q: a URL and at least one client id are needed", p.URL)
		}
	}
	for _, r := range cfg.Roles {
		trust, err := iam.Parse(r.TrustPolicy)
		if err != nil || !trust.HasPrincipal() {
			return nil, fmt.Errorf("trust policy of role %s: it needs a principal: %w", r.Name, err)
		}
		policy, err := iam.Parse(r.Policy)
		if err != nil || policy.HasPrincipal() || !policy.HasResource() {
			return nil, fmt.Errorf("policy of role %s: it needs resources and no principal: %w", r.Name, err)
		}
		arn := "arn:aws:iam::" + cfg.AccountID + ":role/" + r.Name
		s.roles[arn] = role{arn: arn, trust: trust, policy: policy, maxSession: r.MaxSession}
	}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	if s.cfg.HTTP == nil {
		s.cfg.HTTP = &http.Client{Timeout: fetchTimeout}
	}
	return s, nil
}

// Calls returns how often an action was asked for.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

// apiError is an error as STS words it.
type apiError struct {
	status  int
	code    string
	message string
}

func (e apiError) Error() string { return e.code + ": " + e.message }

func refuse(code, format string, args ...any) error {
	status := http.StatusBadRequest
	switch code {
	case "AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "IDPRejectedClaim", "RegionDisabledException":
		status = http.StatusForbidden
	}
	return apiError{status, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers an action of the query protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if cors(w, r) {
		return
	}
	if s.cfg.Fail != nil && s.cfg.Fail(w, r) {
		return
	}
	answer, err := s.answer(r)
	status := http.StatusOK
	if err != nil {
		var known apiError
		if !errors.As(err, &known) {
			known = apiError{http.StatusInternalServerError, "InternalFailure", "internal failure"}
		}
		status = known.status
		answer = errorResponse{XMLNS: namespace, Type: "Sender", Code: known.code, Message: known.message, RequestID: newID("", 20)}
	}
	text, err := xml.Marshal(answer)
	if err != nil {
		http.Error(w, "internal failure", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(text) //nolint:gosec // XML by encoding/xml, as text/xml
}

func (s *Server) answer(r *http.Request) (any, error) {
	accessKeyID, authErr := "", error(nil)
	if r.Header.Get("Authorization") != "" || r.URL.Query().Has("X-Amz-Signature") {
		accessKeyID, authErr = s.authenticate(r) // before the body is read: it is a part of what is signed
	}
	form, err := readForm(r)
	if err != nil {
		return nil, err
	}
	action := form["Action"]
	s.mu.Lock()
	s.calls[action]++
	s.mu.Unlock()
	if form["Version"] != "2011-06-15" {
		return nil, refuse("InvalidAction", "Could not find operation %s for version %s", action, form["Version"])
	}
	switch action {
	case "AssumeRoleWithWebIdentity": // is not signed; a signature is not looked at
		return s.assume(r.Context(), form)
	case "GetCallerIdentity":
		return s.caller(accessKeyID, authErr)
	case "AssumeRole": // no role of this account trusts another
		return nil, refuse("AccessDenied", "Not authorized to perform sts:AssumeRole")
	default:
		return nil, refuse("InvalidAction", "Could not find operation %s", action)
	}
}

func (s *Server) authenticate(r *http.Request) (string, error) {
	if s.cfg.Authenticate == nil {
		return "", errors.New("no signed action is served")
	}
	return s.cfg.Authenticate(r)
}

// readForm takes the parameters from a body of form data, or from the query on
// GET. What is given twice is refused: which of the two counts differs between
// readers.
func readForm(r *http.Request) (map[string]string, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		return nil, refuse("MalformedInput", "the parameters cannot be read")
	}
	if r.Method == http.MethodPost && r.URL.RawQuery != "" {
		return nil, refuse("MalformedInput", "parameters in the query of a POST")
	}
	form := map[string]string{}
	for name, values := range r.Form {
		if len(values) != 1 {
			return nil, refuse("MalformedInput", "parameter %s is given %d times", name, len(values))
		}
		form[name] = values[0]
	}
	return form, nil
}

func (s *Server) caller(accessKeyID string, err error) (any, error) {
	session, ok := s.Session(accessKeyID)
	switch {
	case err != nil || !ok:
		return nil, refuse("InvalidClientTokenId", "The security token included in the request is invalid")
	case !session.Expiration.After(s.cfg.Now()):
		return nil, refuse("ExpiredToken", "The security token included in the request is expired")
	}
	return callerResponse{
		XMLNS: namespace, Arn: session.AssumedRoleARN, UserID: session.UserID, Account: s.cfg.AccountID, RequestID: newID("", 20),
	}, nil
}

// assume is AssumeRoleWithWebIdentity.
func (s *Server) assume(ctx context.Context, form map[string]string) (any, error) {
	in, err := readInput(form)
	if err != nil {
		return nil, err
	}
	policy, err := sessionPolicy(in.policy, in.hasPolicy)
	if err != nil {
		return nil, err
	}
	token, err := s.verify(ctx, in.token)
	if err != nil {
		return nil, err
	}
	if len(token.roles) > 0 && !slices.Contains(token.roles, in.roleARN) {
		return nil, refuse("InvalidIdentityToken", "The target role ARN is not present in the roles claim of the identity token")
	}
	r, ok := s.roles[in.roleARN]
	if !ok || !r.trusts(token, in) {
		return nil, refuse("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	longest := r.maxSession
	if longest == 0 {
		longest = time.Hour
	}
	if in.duration > longest {
		return nil, refuse("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if s.cfg.IgnoreSessionPolicies {
		policy = nil
	}
	if s.cfg.MaxLife > 0 {
		in.duration = min(in.duration, s.cfg.MaxLife)
	}
	session := s.open(r, token, in, policy)
	return assumeResponse{
		XMLNS: namespace, Subject: token.subject, Audience: token.audience, Provider: s.providerARN(token.issuer),
		SourceIdentity: token.sourceIdentity, AssumedRoleARN: session.AssumedRoleARN, AssumedRoleID: session.UserID,
		AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken,
		Expiration: session.Expiration.UTC().Format(time.RFC3339), PackedPolicySize: 100 * len(in.policy) / maxPolicyBytes, RequestID: newID("", 20),
	}, nil
}

// sessionPolicy reads the Policy parameter. Absent, there is none, and the
// session has the whole role: that is the bypass which tests must be able to show.
func sessionPolicy(text string, present bool) (*iam.Document, error) {
	if !present {
		return nil, nil
	}
	d, err := iam.Parse([]byte(text))
	if err != nil || d.HasPrincipal() || !d.HasResource() {
		return nil, refuse("MalformedPolicyDocument", "The policy is not in the valid JSON format.")
	}
	return &d, nil
}

// trusts evaluates the trust policy: for the call itself, and for the tags and
// the source identity where the token brings them.
func (r role) trusts(t token, in input) bool {
	host := strings.SplitN(t.issuer, "://", 2)[1]
	context := map[string][]string{
		host + ":aud": {t.audience}, host + ":sub": {t.subject}, host + ":oaud": t.audiences,
		"sts:RoleSessionName": {in.sessionName}, "sts:RoleAuthorizedByIdp": {strconv.FormatBool(len(t.roles) > 0)},
	}
	if len(t.amr) > 0 {
		context[host+":amr"] = t.amr
	}
	actions := []string{"sts:AssumeRoleWithWebIdentity"}
	if t.sourceIdentity != "" {
		context["sts:SourceIdentity"] = []string{t.sourceIdentity}
		actions = append(actions, "sts:SetSourceIdentity")
	}
	for key, value := range t.tags {
		context["aws:RequestTag/"+key] = []string{value}
		context["aws:TagKeys"] = append(context["aws:TagKeys"], key)
	}
	if len(t.tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	for _, action := range actions {
		req := iam.Request{Action: action, Principal: t.providerARN, Context: context}
		if !iam.Decide(req, r.trust).Allowed() {
			return false
		}
	}
	return true
}

func (s *Server) providerARN(issuer string) string {
	_, host, _ := strings.Cut(issuer, "://")
	return "arn:aws:iam::" + s.cfg.AccountID + ":oidc-provider/" + host
}
