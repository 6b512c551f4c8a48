package auditlog_test

import (
	"bytes"
	"strings"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
)

func pseudonyms(t *testing.T, key string, fields ...string) *auditlog.Pseudonyms {
	t.Helper()
	p, err := auditlog.NewPseudonyms([]byte(key), fields...)
	must(t, err)
	return p
}

const key = "0123456789abcdef0123456789abcdef"

func TestWhatIsHiddenStandsNowhere(t *testing.T) {
	subject, address := "auth0|\"alice\"", "192.0.2.7"
	r := broker.Record{
		V: 1, Issuer: "https://a/", Subject: subject, Address: address,
		Reason: "revoked: subject \"auth0|\\\"alice\\\"\", that is " + subject + ", from 192.0.2.7",
	}
	for _, tc := range []struct {
		fields []string
		hidden []string
		shown  []string
	}{
		{[]string{auditlog.Subject}, []string{"alice"}, []string{address}},
		{[]string{auditlog.Address}, []string{address}, []string{"alice"}},
		{[]string{auditlog.Subject, auditlog.Address}, []string{"alice", address}, nil},
	} {
		p := pseudonyms(t, key, tc.fields...)
		var text bytes.Buffer
		l, err := auditlog.Open(auditlog.Config{Writer: &text, Pseudonyms: p})
		must(t, err)
		must(t, l.Record(t.Context(), r))
		must(t, l.Close())
		for _, s := range tc.hidden {
			if strings.Contains(text.String(), s) {
				t.Errorf("%v: %q is in %s", tc.fields, s, &text)
			}
		}
		for _, s := range tc.shown {
			if !strings.Contains(text.String(), s) {
				t.Errorf("%v: %q is not in %s", tc.fields, s, &text)
			}
		}
		all, _ := records(text.String())
		if p.Hides(auditlog.Subject) && (all[0].Subject != p.Subject("https://a/", subject) || !strings.Contains(all[0].Reason, all[0].Subject)) {
			t.Errorf("%+v", all[0])
		}
		if p.Hides(auditlog.Address) && all[0].Address != p.Address(address) {
			t.Errorf("%+v", all[0])
		}
	}
}

func TestAPseudonymIsOfOneNameUnderOneKey(t *testing.T) {
	p := pseudonyms(t, key, auditlog.Subject)
	seen := map[string]bool{}
	for _, name := range []string{
		p.Subject("a", "b"), p.Subject("ab", ""), p.Subject("", "ab"), p.Subject("a", "c"), p.Address("b"),
		pseudonyms(t, key+"x", auditlog.Subject).Subject("a", "b"),
	} {
		if seen[name] || !strings.HasPrefix(name, "hmac-sha256:") || len(name) != len("hmac-sha256:")+8+1+64 {
			t.Errorf("%q", name)
		}
		seen[name] = true
	}
	if again := pseudonyms(t, key+"\r\n", auditlog.Subject, auditlog.Address); again.Subject("a", "b") != p.Subject("a", "b") {
		t.Error("the end of a line is a part of the key, or what is hidden changes it")
	}
}

func TestPseudonymsNeedAKeyAndSomethingToHide(t *testing.T) {
	for _, tc := range []struct {
		key    string
		fields []string
	}{{key[1:], []string{"subject"}}, {key[1:] + "\n", []string{"subject"}}, {key, nil}, {key, []string{"tenant"}}} {
		if _, err := auditlog.NewPseudonyms([]byte(tc.key), tc.fields...); err == nil {
			t.Errorf("%q is taken", tc)
		}
	}
}
