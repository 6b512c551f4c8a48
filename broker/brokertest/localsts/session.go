package localsts

import (
	"crypto/rand"
	"encoding/base64"
	"maps"
	"strings"
	"time"

	"credential-broker/broker/brokertest/iam"
)

// Session is what one call of AssumeRoleWithWebIdentity opened.
type Session struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
	RoleARN         string
	AssumedRoleARN  string
	UserID          string
	Tags            map[string]string
	SourceIdentity  string

	role    iam.Document
	policy  *iam.Document // nil: the call had none
	context map[string][]string
}

// Authorize decides what the session may do: what both the role's own policy and
// the session policy allow, and none denies. The context adds to what the session
// itself brings, and cannot replace it. A resource's own policy may be given: what
// it allows to the role counts beside the role's policy and is limited by the
// session policy, what it allows to the session itself, or to everybody, is not.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
func (s Session) Authorize(action, resource string, context map[string][]string, policies ...iam.Document) iam.Decision {
	all := maps.Clone(context)
	if all == nil {
		all = map[string][]string{}
	}
	for key := range all {
		if _, own := s.context[key]; own || strings.HasPrefix(strings.ToLower(key), "aws:principal") {
			delete(all, key)
		}
	}
	maps.Copy(all, s.context)
	req := iam.Request{Action: action, Resource: resource, Context: all}
	own := iam.Decide(req, s.role)
	session := iam.Allow
	if s.policy != nil {
		session = iam.Decide(req, *s.policy)
	}
	req.Principal = s.AssumedRoleARN
	direct := iam.Decide(req, policies...)
	req.Principal = s.RoleARN
	byRole := iam.Decide(req, policies...)
	for _, d := range []iam.Decision{own, session, direct, byRole} {
		if d == iam.ExplicitDeny {
			return d
		}
	}
	if direct.Allowed() || (own.Allowed() || byRole.Allowed()) && session.Allowed() {
		return iam.Allow
	}
	return iam.ImplicitDeny
}

// open keeps a new session.
func (s *Server) open(r role, t token, in input, policy *iam.Document) Session {
	now := s.cfg.Now()
	name := r.arn[strings.LastIndexByte(r.arn, '/')+1:]
	roleID := "AROA" + strings.ToUpper(strings.ReplaceAll(strings.Repeat(name+"0", 34), "-", ""))[:17] // letters and digits, as IAM has it
	session := Session{
		AccessKeyID: newID("ASIA", 16), SecretAccessKey: newID("", 40), SessionToken: newSessionToken(),
		Expiration: now.Add(in.duration).Truncate(time.Second), RoleARN: r.arn,
		AssumedRoleARN: "arn:aws:sts::" + s.cfg.AccountID + ":assumed-role/" + name + "/" + in.sessionName,
		UserID:         roleID + ":" + in.sessionName, Tags: t.tags, SourceIdentity: t.sourceIdentity,
		role: r.policy, policy: policy,
	}
	host := strings.SplitN(t.issuer, "://", 2)[1]
	session.context = map[string][]string{
		"aws:userid": {session.UserID}, "aws:PrincipalArn": {r.arn}, "aws:PrincipalAccount": {s.cfg.AccountID},
		"aws:PrincipalType": {"AssumedRole"}, "aws:TokenIssueTime": {now.UTC().Format(time.RFC3339)},
		"aws:FederatedProvider": {t.providerARN}, host + ":aud": {t.audience}, host + ":sub": {t.subject},
	}
	if t.sourceIdentity != "" {
		session.context["aws:SourceIdentity"] = []string{t.sourceIdentity}
	}
	for key, value := range t.tags {
		session.context["aws:PrincipalTag/"+key] = []string{value}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.sessions {
		if len(s.sessions) < maxSessions && old.Expiration.After(now.Add(-time.Hour)) {
			break // the map's order is random: a sweep of its beginning, each time, suffices
		}
		delete(s.sessions, id)
	}
	s.sessions[session.AccessKeyID] = session
	return session
}

// Session returns what an access key was given for, ended sessions included for
// a while, so that they can be told from unknown ones.
func (s *Server) Session(accessKeyID string) (Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := s.sessions[accessKeyID]
	return session, ok
}

// newID returns prefix and n random characters of base32.
func newID(prefix string, n int) string { return prefix + rand.Text()[:min(n, 26)] + pad(n-26) }

func pad(n int) string {
	if n <= 0 {
		return ""
	}
	return rand.Text()[:n]
}

// newSessionToken returns a token about as long as AWS's, which clients should
// not be surprised by, with characters that need encoding in a query.
func newSessionToken() string {
	random := make([]byte, 600)
	_, _ = rand.Read(random) // never fails; see crypto/rand
	return "IQoJ" + base64.StdEncoding.EncodeToString(random)
}
