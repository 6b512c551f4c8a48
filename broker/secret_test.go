package broker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/policy"
)

const canary = "canary-4f2e"

// CC25
func TestASecretIsNotSeenHoweverItIsPrinted(t *testing.T) {
	for _, s := range []broker.Secret{broker.NewSecret(canary), broker.NewToken(canary)} {
		notSeen(t, s)
	}
}

func notSeen(t *testing.T, s broker.Secret) {
	t.Helper()
	type holder struct {
		Public  broker.Secret
		private broker.Secret
		Key     map[string]broker.Secret
	}
	h := holder{s, s, map[string]broker.Secret{"k": s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%T", "%c", "%e", "%U", "%w"} {
		for _, v := range []any{s, &s, h, &h, []broker.Secret{s}, broker.Credentials{SecretAccessKey: s}, broker.Order{Token: s}, broker.Request{Token: s}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{s, h, broker.Credentials{SessionToken: s}} {
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Any("s", s), slog.Any("h", h), slog.Group("g", slog.Any("s", s)))
	}
	fmt.Fprint(&out, fmt.Errorf("token %v", s))
	got := strings.ToLower(out.String())
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%d", []byte(canary))} {
		if strings.Contains(got, form) {
			t.Errorf("found %q", form)
		}
	}
	if !strings.Contains(got, "[redacted]") {
		t.Error("nothing says that it was redacted")
	}
}

func TestASecretKeepsItsPlaintextAndTheEmptyOneIsNone(t *testing.T) {
	if broker.NewSecret(canary).Reveal() != canary {
		t.Error("the plaintext is lost")
	}
	if s := broker.NewSecret(""); !s.IsZero() || s.Reveal() != "" || s.SHA256() != "" {
		t.Error("the empty string is a secret")
	}
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(canary)))
	for _, s := range []broker.Secret{broker.NewSecret(canary), broker.NewToken(canary)} {
		if digest := s.Digest(); s.SHA256() != want || fmt.Sprintf("%x", digest[:]) != want || s.Reveal() != canary {
			t.Errorf("digest %q, %x", s.SHA256(), s.Digest())
		}
	}
	if s := broker.NewToken(""); !s.IsZero() || s.Digest() != (broker.Digest{}) {
		t.Error("the empty string is a token")
	}
	long := strings.Repeat("x", 8192) // longer than the room that is there for it
	if got := broker.NewToken(long).SHA256(); got != fmt.Sprintf("%x", sha256.Sum256([]byte(long))) {
		t.Errorf("digest of something long: %s", got)
	}
}

// Session names are legal at STS, opaque, and differ whenever who or where
// differs, however the parts are cut.
// CC06
func TestSessionNamesAreLegalAndInjective(t *testing.T) {
	tenant := func(rt *rapid.T, label string) policy.Tenant {
		parsed, err := policy.ParseTenant(rapid.StringMatching(`[a-c][a-c_]{0,3}`).Draw(rt, label))
		if err != nil {
			rt.Fatal(err)
		}
		return parsed
	}
	rapid.Check(t, func(rt *rapid.T) {
		type who struct {
			issuer, subject string
			tenant          policy.Tenant
		}
		draw := func(n string) who {
			part := rapid.StringMatching(`[ab|\x00é]{0,3}`)
			return who{part.Draw(rt, "issuer"+n), part.Draw(rt, "subject"+n), tenant(rt, "tenant"+n)}
		}
		a, b := draw("a"), draw("b")
		na, nb := broker.SessionName(a.issuer, a.subject, a.tenant), broker.SessionName(b.issuer, b.subject, b.tenant)
		if (a == b) != (na == nb) {
			rt.Fatalf("%v and %v: %s and %s", a, b, na, nb)
		}
		if len(na) > 64 || strings.Trim(na, "abcdefghijklmnopqrstuvwxyz234567-") != "" || !strings.HasPrefix(na, "cb-") {
			rt.Fatalf("name %q", na)
		}
	})
}
