package auditlog_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
)

// document is the schema as JSON.
func document(t testing.TB) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(auditlog.Schema()), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// members are the names of a record's members, in Go's own order.
func members() []string {
	var names []string
	for f := range reflect.TypeFor[broker.Record]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// The schema, the record and its documentation have the same members, of the same
// version, and each is described.
func TestTheSchemaIsOfTheRecordAndTheDocumentation(t *testing.T) {
	properties := document(t)["properties"].(map[string]any)
	names := members()
	for _, name := range names {
		p, _ := properties[name].(map[string]any)
		if text, _ := p["description"].(string); text == "" {
			t.Errorf("the schema does not describe %q", name)
		}
		delete(properties, name)
	}
	for name := range properties {
		t.Errorf("the schema has %q, and no record has", name)
	}
	page, err := os.ReadFile("../../deploy/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), fmt.Sprintf("## The members, version %d\n", broker.RecordVersion))
	table, _, more := strings.Cut(table, "\n## ")
	if !ok || !more {
		t.Fatal("deploy/audit.md has no table of the members of this version")
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(table, -1) {
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented = append(documented, m[1])
		}
	}
	slices.Sort(names)
	slices.Sort(documented)
	if diff := cmp.Diff(names, documented); diff != "" {
		t.Errorf("deploy/audit.md:\n%s", diff)
	}
	if !strings.HasSuffix(document(t)["$id"].(string), fmt.Sprintf(":v%d", broker.RecordVersion)) {
		t.Error("the schema is of another version")
	}
}

// What a member can be is what the program has names for.
func TestTheSchemaHasTheWordsOfTheProgram(t *testing.T) {
	properties := document(t)["properties"].(map[string]any)
	sources := slices.DeleteFunc(broker.Sources(), func(s broker.Source) bool { return s == broker.FromRefresh }) // that is counted, and given from the cache
	for name, want := range map[string]any{
		"action":   []broker.Action{broker.ActionCredentials, broker.ActionGrants, broker.ActionForget, broker.ActionLogout, broker.ActionAudit},
		"decision": []string{broker.Allow, broker.Deny},
		"code":     append(broker.Classes(), "origin_not_allowed", "too_large"), // those of HTTP alone
		"source":   sources,
	} {
		got := fmt.Sprint(properties[name].(map[string]any)["enum"])
		if got != fmt.Sprint(want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// validator is the schema as somebody else's validator understands it.
func validator(t testing.TB) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("record.json", any(document(t))); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("record.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is written when records could not be is a record as well.
func TestTheRecordOfAGapFitsTheSchema(t *testing.T) {
	inBubble(t, func(t *testing.T, d *destination, l *auditlog.Log) {
		d.set(0, nil)
		if l.Record(t.Context(), record("lost")) == nil {
			t.Fatal("it was written")
		}
		d.set(-1, nil)
		<-time.After(time.Second) // of the bubble
		synctest.Wait()
		line, err := jsonschema.UnmarshalJSON(strings.NewReader(d.String()))
		if err != nil {
			t.Fatal(err)
		}
		if err := validator(t).Validate(line); err != nil || line.(map[string]any)["action"] != "audit" {
			t.Errorf("%s: %v", d, err)
		}
	})
}

func TestTheSchemaRefusesWhatIsNoRecord(t *testing.T) {
	s := validator(t)
	validate := func(change func(map[string]any)) error {
		at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
		line, err := broker.Record{
			V: broker.RecordVersion, Time: at, Action: broker.ActionCredentials, Decision: broker.Allow, RequestID: "r", Issuer: "https://a/", Subject: "s", Client: "c",
			Tenant: "t", Grant: "g", RoleARN: "arn:aws:iam::123456789012:role/r", Bucket: "bucket", Prefix: "t/", Access: []string{"read"}, User: "u", SessionName: "cb-x",
			AccessKeyID: "ASIA", Expiration: at, Source: broker.FromSTS, PolicySHA256: strings.Repeat("a", 64), TokenSHA256: strings.Repeat("b", 64), Address: "::1", UserAgent: "x",
		}.Line()
		if err != nil {
			t.Fatal(err)
		}
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(record)
		}
		return s.Validate(record)
	}
	if err := validate(nil); err != nil {
		t.Fatal(err)
	}
	if err := validate(func(r map[string]any) { r["later"] = 1 }); err != nil {
		t.Errorf("a member that is added: %v", err)
	}
	for _, name := range []string{"v", "time", "action", "decision", "request_id", "subject", "tenant", "access_key_id", "session_name", "expiration", "policy_sha256"} {
		if validate(func(r map[string]any) { delete(r, name) }) == nil {
			t.Errorf("without %s it is taken", name)
		}
	}
	for name, change := range map[string]func(map[string]any){
		"another version":     func(r map[string]any) { r["v"] = 2.0 },
		"an unknown action":   func(r map[string]any) { r["action"] = "look" },
		"allowed with a code": func(r map[string]any) { r["code"] = "busy" },
		"denied without a code": func(r map[string]any) {
			r["decision"], r["reason"] = "deny", "x"
			for _, name := range []string{"access_key_id", "expiration", "source"} { // which a denial must not have
				delete(r, name)
			}
		},
		"denied with credentials":    func(r map[string]any) { r["decision"], r["code"], r["reason"] = "deny", "busy", "x" },
		"a token in place of a hash": func(r map[string]any) { r["token_sha256"] = "eyJ" },
		"a local time":               func(r map[string]any) { r["time"] = "2026-11-25T12:00:00+01:00" },
		"an unknown right":           func(r map[string]any) { r["access"] = []any{"fly"} },
	} {
		if validate(change) == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
