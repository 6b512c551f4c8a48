package broker_test

import (
	"errors"
	"strings"
	"testing"

	"credential-broker/broker"
)

// Every action leaves one record, of who asked as far as a token has proved it.
func TestEachActionHasOneRecord(t *testing.T) {
	req := broker.Request{Token: broker.NewSecret("canary-token"), ID: "req-1", Address: "192.0.2.1", UserAgent: "test"}
	for _, tc := range []struct {
		name    string
		do      func(*broker.Broker) error
		revoked bool
		want    broker.Record
	}{
		{"grants", func(b *broker.Broker) error { _, err := b.Grants(t.Context(), req); return err }, false,
			broker.Record{Action: broker.ActionGrants, Decision: broker.Allow, Subject: "auth0|alice"}},
		{"grants, shut out", func(b *broker.Broker) error { _, err := b.Grants(t.Context(), req); return err }, true,
			broker.Record{Action: broker.ActionGrants, Decision: broker.Deny, Code: broker.ErrRevoked, Subject: "auth0|alice"}},
		{"forget", func(b *broker.Broker) error { return b.Forget(t.Context(), req) }, false,
			broker.Record{Action: broker.ActionForget, Decision: broker.Allow, Subject: "auth0|alice"}},
		{"credentials, shut out", func(b *broker.Broker) error { _, err := b.Exchange(t.Context(), req); return err }, true,
			broker.Record{Action: broker.ActionCredentials, Decision: broker.Deny, Code: broker.ErrRevoked, Subject: "auth0|alice"}},
		{"a log-out that is not heard", func(b *broker.Broker) error { return b.Logout(t.Context(), req) }, false,
			broker.Record{Action: broker.ActionLogout, Decision: broker.Deny, Code: broker.ErrInvalidRequest}},
		{"refused on the way", func(b *broker.Broker) error {
			return b.Refuse(t.Context(), broker.ActionForget, req, broker.ErrMissingToken)
		}, false, broker.Record{Action: broker.ActionForget, Decision: broker.Deny, Code: broker.ErrMissingToken}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			if tc.revoked {
				w.cfg.Revoked.Subjects = map[string]bool{"auth0|alice": true}
			}
			b := mustNew(t, w)
			if err := tc.do(b); broker.ClassOf(err) != tc.want.Code {
				t.Errorf("%v", err)
			}
			got := w.lastRecord(t)
			if strings.Count(w.records.String(), "\n") != 1 || got.V != broker.RecordVersion || got.RequestID != "req-1" || got.Address != "192.0.2.1" ||
				got.TokenSHA256 != req.Token.SHA256() || got.Action != tc.want.Action || got.Decision != tc.want.Decision || got.Code != tc.want.Code || got.Subject != tc.want.Subject {
				t.Errorf("%s", &w.records)
			}
			// Without a record: what was allowed is refused, what was refused stays so.
			w.cfg.Auditor = failingAuditor{}
			want := tc.want.Code
			if tc.want.Decision == broker.Allow {
				want = broker.ErrBusy
			}
			if err := tc.do(mustNew(t, w)); broker.ClassOf(err) != want {
				t.Errorf("without a record: %v", err)
			}
		})
	}
}

// Who is shut out by its tenant is in the record with it.
func TestARefusalAfterTheDecisionSaysWhatWasDecided(t *testing.T) {
	w := newWorld(t)
	w.cfg.Revoked.Tenants = map[string]bool{"org_acme": true}
	_, err := w.exchange(t, broker.Request{})
	if r := w.lastRecord(t); broker.ClassOf(err) != broker.ErrRevoked || r.Tenant != "org_acme" || r.Grant != "uploads" || r.AccessKeyID != "" || r.SessionName != "" {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestALineOfTheRecordIsBounded(t *testing.T) {
	line, err := broker.Record{V: 1, Reason: strings.Repeat("é", 5000)}.Line()
	if err != nil || len(line) > 1300 || !strings.HasSuffix(string(line), "é…\"}\n") {
		t.Errorf("%d bytes, %v: %q", len(line), err, line[len(line)-20:])
	}
}

// Explain says what Exchange would, without a record and without asking for
// anything.
func TestAnExplanationIsTheExchangesOwn(t *testing.T) {
	w := newWorld(t)
	w.cfg.Grants = []broker.Grant{
		grant(t, "admin", func(g *broker.Grant) { g.Match.Permissions = []string{"admin"} }),
		grant(t, "gold", func(g *broker.Grant) { g.Match.Claims = map[string]any{"plan": "silver", "beta": false} }),
		grant(t, "uploads", nil),
		grant(t, "later", nil),
	}
	for i := range w.cfg.Grants {
		w.cfg.Grants[i].Prefix = template(t, w.cfg.Grants[i].Name+"/{tenant}/")
	}
	b := mustNew(t, w)
	e := b.Explain(t.Context(), broker.Request{Token: broker.NewSecret("canary-token"), Access: []string{"read"}})
	if e.Err != nil || e.Unproved != nil || e.Identity.Subject != "auth0|alice" || len(e.Looked) != 3 || e.Looked[2].Refused != nil ||
		e.Looked[0].Refused.Error() != `the token lacks the permission "admin"` || e.Looked[1].Refused.Error() != `the claim "beta" is not false` {
		t.Errorf("%+v", e)
	}
	if strings.Join(e.Given.S3.Access.Names(), ",") != "list,read,write,delete" || strings.Join(e.Order.Scope.S3.Access.Names(), ",") != "read" {
		t.Errorf("given %v, narrowed %v", e.Given.S3.Access, e.Order.Scope.S3.Access)
	}
	e = b.Explain(t.Context(), broker.Request{Token: broker.NewSecret("canary-token"), Access: []string{"fly"}})
	if !errors.Is(e.Err, broker.ErrInvalidRequest) || e.Given.Grant != "uploads" || e.Order.SessionName != "" {
		t.Errorf("%+v", e)
	}
	if w.records.Len() != 0 || len(w.orders) != 0 {
		t.Errorf("records %q, orders %v", &w.records, w.orders)
	}
}
