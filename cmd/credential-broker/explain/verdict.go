package explain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/advice"
	"credential-broker/policy"
)

// Verdict is what comes of a request, and why. It holds no token.
type Verdict struct {
	Allowed bool         `json:"allowed"`
	Status  int          `json:"status"` // of HTTP; 200 where STS would be asked
	Code    broker.Class `json:"code,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Advice  string       `json:"advice,omitempty"`
	Token   Token        `json:"token"`
	Grants  []Grant      `json:"grants,omitempty"` // all of the configuration, in order
	Tenant  string       `json:"tenant,omitempty"`
	Given   *Scope       `json:"given,omitempty"` // all that the grant gives
	Scope   *Scope       `json:"scope,omitempty"` // after narrowing
	Session string       `json:"session_name,omitempty"`
	Policy  *Policy      `json:"policy,omitempty"`
}

// Token is what a token says, and whether it is proved.
type Token struct {
	Verified bool            `json:"verified"`
	Expires  string          `json:"expires,omitempty"` // of a verified one
	Claims   json.RawMessage `json:"claims,omitempty"`  // as they stand, proved or not
}

// Grant is what was made of one.
type Grant struct {
	Name    string `json:"grant"`
	Looked  bool   `json:"looked_at"`
	Matches bool   `json:"matches"`
	Reason  string `json:"reason,omitempty"` // why it does not match, or was not looked at
}

// Scope is what credentials would open. Its members are those of /v1/credentials.
type Scope struct {
	Grant    string   `json:"grant"`
	RoleARN  string   `json:"role_arn"`
	Bucket   string   `json:"bucket"`
	Region   string   `json:"region"`
	Prefix   string   `json:"prefix"`
	Access   []string `json:"access"`
	Duration int      `json:"duration"` // seconds; of Verdict.Scope, what is asked of STS
	SourceIP string   `json:"source_ip,omitempty"`
}

// Policy is the document that STS would be sent.
type Policy struct {
	Document json.RawMessage `json:"document"`
	Bytes    int             `json:"bytes"`
	MaxBytes int             `json:"max_bytes"`
	Digest   string          `json:"sha256"`
	Confined bool            `json:"confined"` // proved to stay inside the scope
	Problem  string          `json:"problem,omitempty"`
}

func (e *Engine) verdict(r Request, a *asked, answer *answer) (Verdict, error) {
	x := a.explanation
	v := Verdict{Status: answer.status, Token: token(r.Token, x.Identity)}
	v.Grants = e.looked(r, x)
	if x.Given.Grant != "" {
		v.Tenant, v.Given = x.Given.Tenant.String(), scope(x.Given, x.Given.Duration)
	}
	err := cmp.Or(a.refused, x.Err)
	if err != nil {
		var said struct{ Code broker.Class }
		if err := json.Unmarshal(answer.body.Bytes(), &said); err != nil {
			return Verdict{}, fmt.Errorf("shouldn't happen: an answer that is not JSON: %w", err)
		}
		v.Code, v.Reason = said.Code, err.Error()
		v.Advice = e.advice(r, x, err)
		return v, nil
	}
	if x.Order.SessionName == "" {
		return Verdict{}, fmt.Errorf("shouldn't happen: neither refused nor ordered: %d", answer.status)
	}
	v.Allowed, v.Status = true, http.StatusOK
	v.Scope, v.Session = scope(x.Order.Scope, x.Order.Lifetime), x.Order.SessionName
	text := x.Order.Document.String()
	v.Policy = &Policy{Document: json.RawMessage(text), Bytes: len(text), MaxBytes: policy.MaxDocumentBytes, Digest: x.Order.Document.Digest(), Confined: x.Unproved == nil}
	if x.Unproved != nil { // what asks STS proves it once more, and refuses
		v.Policy.Problem = x.Unproved.Error()
		v.Allowed, v.Status, v.Code = false, http.StatusInternalServerError, broker.ErrInternal
		v.Reason = "the document is not proved to stay inside the scope: " + v.Policy.Problem
	}
	return v, nil
}

// advice goes by what failed: the token, or what was made of it.
func (e *Engine) advice(r Request, x broker.Explanation, err error) string {
	claims := advice.ReadClaims(r.Token)
	switch {
	case errors.Is(err, broker.ErrKeysUnavailable):
		return "let this machine reach the issuer's keys over https, or give them with --jwks"
	case errors.Is(err, broker.ErrExpiredToken):
		return "take a fresh token, or ask about an instant at which it was good, with --at"
	case x.Identity.Subject == "" && !errors.Is(err, broker.ErrInvalidRequest):
		return advice.Token(e.cfg, claims, err)
	default:
		return advice.Decision(err)
	}
}

// looked tells of every grant, in the order of the configuration.
func (e *Engine) looked(r Request, x broker.Explanation) []Grant {
	if x.Identity.Subject == "" {
		return nil // nobody to match them with
	}
	known := map[string]broker.Considered{}
	matched := ""
	for _, c := range x.Looked {
		known[c.Grant] = c
		if c.Refused == nil {
			matched = c.Grant
		}
	}
	var all []Grant
	for _, g := range e.cfg.Grants {
		c, ok := known[g.Name]
		view := Grant{Name: g.Name, Looked: ok, Matches: ok && c.Refused == nil}
		switch {
		case ok && c.Refused != nil:
			view.Reason = c.Refused.Error()
		case !ok && r.Grant != "":
			view.Reason = fmt.Sprintf("the request names another: %q", r.Grant)
		case !ok:
			view.Reason = matched + " matches, and stands before it"
		}
		all = append(all, view)
	}
	return all
}

func scope(s broker.Scope, life time.Duration) *Scope {
	view := &Scope{
		Grant: s.Grant, RoleARN: s.RoleARN.String(), Bucket: s.S3.Bucket.String(), Region: s.Region, Prefix: s.S3.Key(),
		Access: s.S3.Access.Names(), Duration: int(life / time.Second),
	}
	if s.S3.SourceIP.IsValid() {
		view.SourceIP = s.S3.SourceIP.String()
	}
	return view
}

func token(t broker.Secret, id broker.Identity) Token {
	view := Token{Verified: id.Subject != ""}
	if view.Verified {
		view.Expires = id.Expiry.UTC().Format(time.RFC3339)
	}
	if claims := bytes.TrimSpace(advice.Payload(t)); json.Valid(claims) {
		view.Claims = claims
	}
	return view
}

// discovery is the document that leads to the keys.
func discovery(issuer, keys string) []byte {
	text, _ := json.Marshal(map[string]string{"issuer": issuer, "jwks_uri": keys}) // texts only: no error
	return text
}

// IsKeySet reports whether data looks like a JWK set, so that a wrong file is
// named as such and not as an issuer that is out.
func IsKeySet(data []byte) bool {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	return json.Unmarshal(data, &set) == nil && len(set.Keys) > 0
}
