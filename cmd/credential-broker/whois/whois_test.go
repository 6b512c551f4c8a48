package whois_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
	"credential-broker/cmd/credential-broker/whois"
)

var name52 = strings.Repeat("a2", 26)

func TestWhatIsLookedForIsToldByItsForm(t *testing.T) {
	for text, want := range map[string]whois.Query{
		"ASIA0123456789ABCDEF":              {AccessKeyID: "ASIA0123456789ABCDEF"},
		` "ASIA0123456789ABCDEF" `:          {AccessKeyID: "ASIA0123456789ABCDEF"},
		"cb-" + name52:                      {Session: "cb-" + name52},
		name52:                              {User: name52},
		"AROA0123456789ABCDEF:cb-" + name52: {Session: "cb-" + name52},
		strings.Repeat("0f", 16):            {RequestID: strings.Repeat("0f", 16)},
		"arn:aws:sts::123456789012:assumed-role/uploads/cb-" + name52:      {Account: "123456789012", Role: "uploads", Session: "cb-" + name52},
		"arn:aws-cn:sts::123456789012:assumed-role/a/uploads/cb-" + name52: {Account: "123456789012", Role: "uploads", Session: "cb-" + name52},
	} {
		if got, err := whois.Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "ASIA", "cb-" + name52[1:], name52 + "a", "arn:aws:iam::123456789012:role/uploads", "AROA:x", strings.Repeat("0F", 16)} {
		if q, err := whois.Parse(text); err == nil {
			t.Errorf("%q is taken for %+v", text, q)
		}
	}
	if (whois.Query{}).Match(broker.Record{}, nil) || (whois.Query{Subject: "a"}).Match(broker.Record{}, nil) {
		t.Error("nothing matches something")
	}
}

func record(subject, key string) broker.Record {
	return broker.Record{V: 1, Time: time.Unix(1764072000, 0).UTC(), Action: broker.ActionCredentials, Decision: broker.Allow, Issuer: "https://a/", Subject: subject, Tenant: "org_acme", AccessKeyID: key, RequestID: "r"}
}

func line(t *testing.T, r broker.Record) string {
	t.Helper()
	return string(must(r.Line())(t))
}

// What collectors put around a line is taken off, what is torn is counted, and what
// is of another log is none of ours.
func TestLinesAreReadAsTheyAreKept(t *testing.T) {
	one := line(t, record("alice", "ASIA0000000000000001"))
	docker, _ := json.Marshal(map[string]string{"log": one, "stream": "stdout"})
	later := strings.Replace(one, `"v":1`, `"v":2`, 1)
	gap := line(t, broker.Record{V: 1, Action: broker.ActionAudit, Decision: broker.Deny, Code: broker.ErrBusy})
	text := one + "\n" + string(docker) + "\n2026-11-25T12:00:00.0Z stdout F " + one + `{"msg":"request"}` + "\n" + one[:50] + "\n" + later + gap + strings.Repeat("x", 2<<20) + "\n" + "5\n" + strings.TrimSuffix(one, "\n")
	for _, pack := range []bool{false, true} {
		data := []byte(text)
		if pack {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, _ = z.Write(data)
			_ = z.Close()
			data = packed.Bytes()
		}
		found := 0
		got, err := whois.Read(bytes.NewReader(data), func(r broker.Record) {
			if r.Subject == "alice" {
				found++
			}
		})
		if want := (whois.Counts{Records: 5, Others: 1, Unreadable: 3, Later: 1, Gaps: 1}); err != nil || got != want || found != 4 {
			t.Errorf("packed %t: %+v, %d found, %v", pack, got, found, err)
		}
		if len(got.Notes()) != 3 {
			t.Errorf("%q", got.Notes())
		}
		if pack {
			if _, err := whois.Read(bytes.NewReader(data[:len(data)/2]), func(broker.Record) {}); err == nil {
				t.Error("half a packed file is a whole one")
			}
		}
	}
}

func TestAPseudonymIsSomebodysForWhoHasTheKey(t *testing.T) {
	p := must(auditlog.NewPseudonyms([]byte(strings.Repeat("k", 32)), auditlog.Subject))(t)
	var text bytes.Buffer
	l := must(auditlog.Open(auditlog.Config{Writer: &text, Pseudonyms: p}))(t)
	for _, r := range []broker.Record{record("auth0|alice", "ASIA0000000000000001"), record("auth0|bob", "ASIA0000000000000002")} {
		if err := l.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	search := func(q whois.Query, p *auditlog.Pseudonyms, names ...string) []whois.Person {
		var found []broker.Record
		_ = must(whois.Read(strings.NewReader(text.String()), func(r broker.Record) {
			if q.Match(r, p) {
				found = append(found, r)
			}
		}))(t)
		return whois.People(found, p, names)
	}
	key := whois.Query{AccessKeyID: "ASIA0000000000000002"}
	if got := search(key, nil); len(got) != 1 || got[0].Name != "" || strings.Contains(got[0].Subject, "bob") {
		t.Errorf("without the key: %+v", got)
	}
	if got := search(key, p, "auth0|alice", "auth0|bob"); len(got) != 1 || got[0].Name != "auth0|bob" {
		t.Errorf("with the key: %+v", got)
	}
	if got := search(whois.Query{Subject: "auth0|bob"}, p, "auth0|bob"); len(got) != 1 || got[0].Records[0].AccessKeyID != "ASIA0000000000000002" {
		t.Errorf("what bob did: %+v", got)
	}
	if got := search(whois.Query{Subject: "auth0|bob"}, nil); len(got) != 0 {
		t.Errorf("what bob did, without the key: %+v", got)
	}
}

func TestThePrintIsForPeopleAndTheirTerminals(t *testing.T) {
	var records []broker.Record
	for i := range 30 {
		r := record("auth0|alice", "ASIA0000000000000001")
		r.Time, r.RequestID, r.UserAgent, r.Grant = r.Time.Add(time.Duration(30-i)*time.Minute), fmt.Sprint("r", 30-i), "x\x1b[2J", "uploads"
		records = append(records, r)
	}
	refused := record("auth0|alice", "")
	refused.Decision, refused.Code, refused.Reason = broker.Deny, broker.ErrNoGrant, "no_grant: none of 1 grants matches the token"
	var text strings.Builder
	whois.Print(&text, whois.Result{People: whois.People(append(records, refused), nil, nil)})
	for _, words := range []string{"who      auth0|alice\n", "tenant   org_acme", "grant    uploads", "credentials deny no_grant (none of 1 grants", "… and 21 more", "request r30", `x\u001b[2J`} {
		if !strings.Contains(text.String(), words) {
			t.Errorf("%q is not in\n%s", words, &text)
		}
	}
	if strings.Contains(text.String(), "\x1b") || strings.Count(text.String(), "\n") > 17 {
		t.Errorf("%q", &text)
	}
}

func TestAFileMayBeMissing(t *testing.T) {
	if _, err := whois.File(filepath.Join(t.TempDir(), "none"), nil); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
