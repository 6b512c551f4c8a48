package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Confined proves, from its text alone, that a session policy lets nobody reach
// an object or a listing outside the scope. It returns nil for a document that is
// proved, and otherwise the first thing that is in the way of the proof.
//
// It is a closed world: what it does not know, it refuses. Every Allow must name
// actions of a closed list, exactly; every object pattern must begin, before its
// first wildcard, with the scope's bucket and key; every listing must be
// conditioned on a prefix that begins with the scope's key. A pattern whose
// literal head is shorter than that key admits a key outside for some request,
// and one whose head is as long admits none: the test is sound and complete for
// all keys, where sampling finds only what it thinks of.
//
// It shares no code with what writes documents.
func Confined(document string, scope Scope) error {
	if err := scope.Validate(); err != nil {
		return fmt.Errorf("not confined: %w", err)
	}
	judge := judge{
		bucket:  "arn:" + string(scope.Partition) + ":s3:::" + scope.Bucket.String(),
		key:     scope.Prefix.String() + scope.Path.String(),
		access:  scope.Access,
		oneOnly: scope.Path.IsObject(),
	}
	if err := judge.document(document); err != nil {
		return fmt.Errorf("not confined: %w", err)
	}
	return nil
}

// judge holds what a scope comes down to in the words of a policy.
type judge struct {
	bucket  string // ARN
	key     string // what every key must begin with, or be
	access  Access
	oneOnly bool // the key is one object, not a folder
}

// rights is the closed list of actions on objects. A right that is not in the
// scope's access is not granted by it.
func (j judge) mayDo(action string) bool {
	switch action {
	case "s3:GetObject":
		return j.access.Has(Read)
	case "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts":
		return j.access.Has(Write)
	case "s3:DeleteObject":
		return j.access.Has(Delete)
	default:
		return false
	}
}

func (j judge) document(text string) error {
	if len(text) > 2048 { // the limit of STS for an inline session policy
		return fmt.Errorf("%d bytes, more than STS takes", len(text))
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return fmt.Errorf("byte %d is not printable ASCII", i)
		}
	}
	root, err := parseStrict(text)
	if err != nil {
		return err
	}
	doc, ok := root.(map[string]any)
	if !ok || len(doc) != 2 {
		return fmt.Errorf("not an object of Version and Statement")
	}
	// Without this version, variables are text and the rules are those of 2008.
	if doc["Version"] != "2012-10-17" {
		return fmt.Errorf("version %v", doc["Version"])
	}
	statements, ok := doc["Statement"].([]any)
	if !ok || len(statements) == 0 {
		return fmt.Errorf("no statements")
	}
	for i, s := range statements {
		if err := j.statement(s); err != nil {
			return fmt.Errorf("statement %d: %w", i, err)
		}
	}
	return nil
}

func (j judge) statement(s any) error {
	members, ok := s.(map[string]any)
	if !ok {
		return fmt.Errorf("not an object")
	}
	for name := range members {
		if !slices.Contains([]string{"Sid", "Effect", "Action", "Resource", "Condition"}, name) {
			return fmt.Errorf("unknown member %q", name) // NotAction, NotResource, Principal among them
		}
	}
	if members["Effect"] != "Allow" {
		return fmt.Errorf("effect %v", members["Effect"])
	}
	actions, err := texts(members["Action"])
	if err != nil {
		return fmt.Errorf("action: %w", err)
	}
	resources, err := texts(members["Resource"])
	if err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	condition, conditioned := members["Condition"]
	if slices.Equal(actions, []string{"s3:ListBucket"}) {
		return j.listing(resources, condition)
	}
	if conditioned {
		return fmt.Errorf("a condition on objects")
	}
	return j.objects(actions, resources)
}

func (j judge) objects(actions, resources []string) error {
	for _, a := range actions {
		if !j.mayDo(a) {
			return fmt.Errorf("action %q", a)
		}
	}
	for _, r := range resources {
		key, ok := strings.CutPrefix(r, j.bucket+"/")
		if !ok {
			return fmt.Errorf("resource %q is not in the bucket", r)
		}
		if err := j.within(key); err != nil {
			return fmt.Errorf("resource: %w", err)
		}
	}
	return nil
}

func (j judge) listing(resources []string, condition any) error {
	if !j.access.Has(List) { // which no scope of one object has
		return fmt.Errorf("a listing, which the scope does not give")
	}
	for _, r := range resources {
		if r != j.bucket {
			return fmt.Errorf("listing of %q", r)
		}
	}
	operators, ok := condition.(map[string]any)
	if !ok || len(operators) != 1 {
		return fmt.Errorf("a listing needs one condition operator")
	}
	for operator, operands := range operators {
		// Not ...IfExists and not ForAllValues: both hold where there is no prefix.
		if operator != "StringLike" && operator != "StringEquals" {
			return fmt.Errorf("condition operator %q", operator)
		}
		keys, ok := operands.(map[string]any)
		if !ok || len(keys) != 1 {
			return fmt.Errorf("a listing needs one condition key")
		}
		prefixes, err := texts(keys["s3:prefix"])
		if err != nil {
			return fmt.Errorf("s3:prefix: %w", err)
		}
		for _, p := range prefixes {
			if err := j.within(p); err != nil {
				return fmt.Errorf("s3:prefix: %w", err)
			}
		}
	}
	return nil
}

// within reports whether every key that the pattern matches begins with the
// scope's key, or is it where the scope is one object.
func (j judge) within(pattern string) error {
	if strings.Contains(pattern, "$") {
		return fmt.Errorf("%q has a policy variable or an escape", pattern)
	}
	if j.oneOnly {
		if pattern != j.key {
			return fmt.Errorf("%q is not the scope's object", pattern)
		}
		return nil
	}
	// The key has no wildcard: a pattern that begins with it has its own behind it.
	if !strings.HasPrefix(pattern, j.key) {
		return fmt.Errorf("%q reaches beyond %q", pattern, j.key)
	}
	return nil
}

// texts reads a string or a list of at least one.
func texts(v any) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("neither a string nor a list of strings")
	}
	all := make([]string, len(list))
	for i, item := range list {
		all[i], _ = item.(string) // what is none becomes "", which is nowhere allowed
	}
	return all, nil
}

// parseStrict reads one JSON value and nothing after it. A member name that
// occurs twice is refused: which of the two counts differs between readers.
func parseStrict(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	v, err := parseValue(dec)
	if err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("JSON: something after the document")
	}
	return v, nil
}

func parseValue(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return parseObject(dec)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := parseValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token() // the closing bracket
		return list, err
	default:
		return t, nil
	}
}

func parseObject(dec *json.Decoder) (any, error) {
	object := map[string]any{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if _, twice := object[name]; !ok || twice {
			return nil, fmt.Errorf("member %q twice", name)
		}
		if object[name], err = parseValue(dec); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token() // the closing brace
	return object, err
}
