package serve_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"credential-broker/broker"
	"credential-broker/broker/auditlog"
)

// fitTheSchema fails unless each of the records is as the documented schema says, to
// the last member, and every member, action, decision, code and source of the schema
// is in one of them.
func fitTheSchema(t testing.TB, records string) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	closed := `{"$ref": "urn:credential-broker:audit-record:v1", "unevaluatedProperties": false}` // here, nothing is passed over
	for name, text := range map[string]string{"urn:credential-broker:audit-record:v1": auditlog.Schema(), "closed.json": closed} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(name, doc); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("closed.json")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for name, p := range schema.Ref.Properties {
		missing[name] = true
		if p.Enum != nil {
			for _, v := range p.Enum.Values {
				missing[fmt.Sprintf("%s=%v", name, v)] = true
			}
		}
	}
	delete(missing, fmt.Sprintf("action=%s", broker.ActionAudit)) // auditlog's own test has it
	delete(missing, "address")                                    // there is no network, and so none
	for line := range strings.Lines(records) {
		record, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if err := schema.Validate(record); err != nil {
			t.Errorf("%s%v", line, err)
		}
		for name, value := range record.(map[string]any) {
			delete(missing, name)
			delete(missing, fmt.Sprintf("%s=%v", name, value))
		}
	}
	delete(missing, "source=shared") // this world has no other replica; replicas_test.go has
	for what := range missing {
		t.Errorf("no record has %s", what)
	}
}
