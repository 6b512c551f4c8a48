package policy

import (
	"encoding/json"
	"fmt"
	"time"
)

// Sessions are sessions that are to end: all that have what is named here.
type Sessions struct {
	Before  time.Time // issued before; needed
	Tenant  Tenant    // the zero value: of any tenant
	Sources []User    // with one of these as their source identity; none: with any or none
	Names   []string  // role session names; none: of any
}

// DenyDocument writes a policy that ends sessions of the role that it is attached
// to. STS cannot recall a session; what it may do is asked anew with each request,
// and a Deny outweighs whatever the session and the role allow.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html
func DenyDocument(s Sessions) (string, error) {
	if s.Before.IsZero() {
		return "", fmt.Errorf("%w denial: no time before which sessions were issued", ErrInvalid)
	}
	before := s.Before.UTC().Truncate(time.Second)
	if before.Before(s.Before) { // sessions are issued on whole seconds
		before = before.Add(time.Second)
	}
	conditions := map[string]map[string]values{"DateLessThan": {"aws:TokenIssueTime": {before.Format(time.RFC3339)}}}
	equals := map[string]values{}
	if s.Tenant != (Tenant{}) {
		equals["aws:PrincipalTag/"+TagTenant] = values{s.Tenant.String()}
	}
	for _, user := range s.Sources {
		equals["aws:SourceIdentity"] = append(equals["aws:SourceIdentity"], user.String())
	}
	if len(equals) > 0 {
		conditions["StringEquals"] = equals
	}
	for _, name := range s.Names {
		// The role's ID, which is not known here, and the session's name.
		if conditions["StringLike"] == nil {
			conditions["StringLike"] = map[string]values{}
		}
		conditions["StringLike"]["aws:userid"] = append(conditions["StringLike"]["aws:userid"], "*:"+name)
	}
	type denial struct {
		Sid, Effect, Action, Resource string
		Condition                     map[string]map[string]values
	}
	text, err := json.Marshal(struct {
		Version   string
		Statement []denial
	}{languageVersion, []denial{{"EndSessions", "Deny", "*", "*", conditions}}})
	if err != nil {
		return "", fmt.Errorf("write denial: %w", err)
	}
	return string(text), nil
}
