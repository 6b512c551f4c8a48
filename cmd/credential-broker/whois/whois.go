// Package whois leads back from what AWS logs to who asked the broker: from an
// access key id, a session name, an assumed role's ARN or a source identity to the
// audit records that have it.
package whois

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
)

// Query is what is looked for: one of its members, or Account, Role and Session.
type Query struct {
	AccessKeyID string
	Session     string // the role session name
	Account     string // of the role, with Session
	Role        string // its name without the path, with Session
	User        string // the opaque name that is the source identity and the principal tag `user`
	RequestID   string
	Subject     string // as the issuer knows it; only ParseSubject makes such a query
}

var errUnknown = errors.New("neither an access key id (ASIA…), a session name (cb-…), an assumed role's ARN (arn:aws:sts::…:assumed-role/ROLE/SESSION), a principal id (AROA…:SESSION), a source identity (52 letters and digits) nor a request id (32 hexadecimal digits)")

// Parse tells by its form what a text is. The forms are compiled here and not when the
// program starts, which is for serve.
func Parse(text string) (Query, error) {
	var (
		accessKey = regexp.MustCompile(`\A(?:ASIA|AKIA)[A-Z0-9]{12,124}\z`)
		assumed   = regexp.MustCompile(`\Aarn:aws[a-z-]*:sts::([0-9]{12}):assumed-role/(?:[!-.0-~]+/)*([A-Za-z0-9_+=,.@-]{1,64})/([A-Za-z0-9_+=,.@-]{2,64})\z`)
		principal = regexp.MustCompile(`\AAROA[A-Z0-9]+:([A-Za-z0-9_+=,.@-]{2,64})\z`)
		session   = regexp.MustCompile(`\Acb-[a-z2-7]{52}\z`)
		user      = regexp.MustCompile(`\A[a-z2-7]{52}\z`)
		requestID = regexp.MustCompile(`\A[0-9a-f]{32}\z`)
	)
	text = strings.Trim(strings.TrimSpace(text), `"`)
	switch {
	case accessKey.MatchString(text):
		return Query{AccessKeyID: text}, nil
	case session.MatchString(text):
		return Query{Session: text}, nil
	case user.MatchString(text):
		return Query{User: text}, nil
	case requestID.MatchString(text):
		return Query{RequestID: text}, nil
	}
	if m := assumed.FindStringSubmatch(text); m != nil {
		return Query{Account: m[1], Role: m[2], Session: m[3]}, nil
	}
	if m := principal.FindStringSubmatch(text); m != nil {
		return Query{Session: m[1]}, nil
	}
	return Query{}, fmt.Errorf("%q: %w", text, errUnknown)
}

// Match reports whether a record is what is looked for. With the key of the
// pseudonyms, a subject is found under its pseudonym too.
func (q Query) Match(r broker.Record, p *auditlog.Pseudonyms) bool {
	switch {
	case q.AccessKeyID != "":
		return r.AccessKeyID == q.AccessKeyID
	case q.RequestID != "":
		return r.RequestID == q.RequestID
	case q.User != "":
		return r.User == q.User
	case q.Subject != "":
		return r.Subject != "" && (r.Subject == q.Subject || p != nil && r.Subject == p.Subject(r.Issuer, q.Subject))
	case q.Session != "" && q.Role != "":
		role, err := broker.ParseRoleARN(r.RoleARN)
		return err == nil && r.SessionName == q.Session && role.Account() == q.Account && role.Name() == q.Role
	case q.Session != "":
		return r.SessionName == q.Session
	default:
		return false
	}
}

// Person is one caller in one tenant, with what was found of him.
type Person struct {
	Issuer  string   `json:"issuer"`
	Subject string   `json:"subject"`
	Name    string   `json:"name,omitempty"` // who a pseudonym stands for, of those who were asked about
	Client  string   `json:"client,omitempty"`
	Tenant  string   `json:"tenant,omitempty"`
	Grants  []string `json:"grants,omitempty"`
	// Records are the audit records, in the order of their times.
	Records []broker.Record `json:"records"`
}

// Result is what was found, and what could not be looked at.
type Result struct {
	People []Person `json:"people"`
	Counts
}

// People puts records together by whose they are, in the order of their first.
// Names are who could stand behind pseudonyms.
func People(records []broker.Record, p *auditlog.Pseudonyms, names []string) []Person {
	type key struct{ issuer, subject, client, tenant string }
	slices.SortStableFunc(records, func(a, b broker.Record) int { return a.Time.Compare(b.Time) })
	at := map[key]int{} // :: whose → index
	people := []Person{}
	for _, r := range records {
		k := key{r.Issuer, r.Subject, r.Client, r.Tenant}
		i, ok := at[k]
		if !ok {
			i = len(people)
			at[k] = i
			people = append(people, Person{Issuer: r.Issuer, Subject: r.Subject, Client: r.Client, Tenant: r.Tenant, Name: nameOf(r, p, names)})
		}
		person := &people[i]
		person.Records = append(person.Records, r)
		if r.Grant != "" && !slices.Contains(person.Grants, r.Grant) {
			person.Grants = append(person.Grants, r.Grant)
		}
	}
	return people
}

func nameOf(r broker.Record, p *auditlog.Pseudonyms, names []string) string {
	if p == nil || r.Subject == "" {
		return ""
	}
	for _, n := range names {
		if p.Subject(r.Issuer, n) == r.Subject {
			return n
		}
	}
	return ""
}
