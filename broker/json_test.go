package broker_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"credential-broker/broker"
)

// reference is what encoding/json makes of it.
func reference(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTextIsWrittenAsEncodingJSONWritesIt(t *testing.T) {
	check := func(text string) {
		t.Helper()
		if got, want := string(broker.AppendJSON([]byte("x"), text))+"\n", "x"+reference(t, text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	// Each byte at each place of a word, alone and with others like it.
	for c := range 256 {
		for at := range 9 {
			check(strings.Repeat("a", at) + string([]byte{byte(c)}) + strings.Repeat("b", 9-at))
			check(strings.Repeat("a", at) + strings.Repeat(string([]byte{byte(c)}), 9))
		}
	}
	rapid.Check(t, func(rt *rapid.T) { check(rapid.String().Draw(rt, "text")) })
	rapid.Check(t, func(rt *rapid.T) { check(string(rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes"))) })
}

func TestARecordIsWrittenAsEncodingJSONWritesIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := func(name string) string { return rapid.OneOf(rapid.Just(""), rapid.String()).Draw(rt, name) }
		at := func(name string) time.Time {
			return time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, name), rapid.Int64Range(0, 999_999_999).Draw(rt, name)).UTC()
		}
		r := broker.Record{
			V: rapid.Int().Draw(rt, "v"), Time: at("time"), Action: broker.Action(text("action")), Decision: text("decision"), Code: broker.Class(text("code")),
			Reason: text("reason"), RequestID: text("id"), Issuer: text("issuer"), Subject: text("subject"), Client: text("client"), Tenant: text("tenant"),
			Grant: text("grant"), RoleARN: text("role"), Bucket: text("bucket"), Prefix: text("prefix"), Access: rapid.SliceOf(rapid.String()).Draw(rt, "access"),
			User: text("user"), SessionName: text("session"), AccessKeyID: text("key"), Source: broker.Source(text("source")), PolicySHA256: text("policy"),
			TokenSHA256: text("token"), Address: text("address"), UserAgent: text("agent"),
		}
		if rapid.Bool().Draw(rt, "expires") {
			r.Expiration = at("expiration")
		}
		if len(r.Reason) > 1024 {
			r.Reason = ""
		}
		line, err := r.AppendLine([]byte("before"))
		if want := "before" + reference(t, r); err != nil || string(line) != want {
			rt.Errorf("%v\n%s\n%s", err, line, want)
		}
	})
}

func TestARecordThatCannotBeWrittenLeavesNothing(t *testing.T) {
	bad := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, r := range map[string]broker.Record{"time": {Time: bad}, "expiration": {Time: noon, Expiration: bad}} {
		if line, err := r.AppendLine([]byte("before")); err == nil || string(line) != "before" {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
}
