package iam

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrMalformed is wrapped by every error of Parse: AWS's MalformedPolicyDocument.
var ErrMalformed = errors.New("malformed policy document")

// Parse reads a policy. Members that are unknown or occur twice, operators that
// are unknown, and anything after the document are refused.
func Parse(text []byte) (Document, error) {
	root, err := parseJSON(text)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	d, err := document(root)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return d, nil
}

func document(root any) (Document, error) {
	members, ok := root.(map[string]any)
	if !ok {
		return Document{}, errors.New("not an object")
	}
	d := Document{}
	var statements []any
	for name, v := range members {
		switch name {
		case "Version":
			if v != "2012-10-17" && v != "2008-10-17" {
				return d, fmt.Errorf("version %v", v)
			}
			d.variables = v == "2012-10-17"
		case "Id":
			if _, ok := v.(string); !ok {
				return d, errors.New("id is not a string")
			}
		case "Statement":
			if statements, ok = v.([]any); !ok {
				statements = []any{v}
			}
		default:
			return d, fmt.Errorf("unknown member %q", name)
		}
	}
	if len(statements) == 0 {
		return d, errors.New("no statement")
	}
	for i, v := range statements {
		s, err := parseStatement(v)
		if err != nil {
			return d, fmt.Errorf("statement %d: %w", i, err)
		}
		d.statements = append(d.statements, s)
	}
	return d, nil
}

func parseStatement(v any) (statement, error) {
	var s statement
	members, ok := v.(map[string]any)
	if !ok {
		return s, errors.New("not an object")
	}
	for name, v := range members {
		var err error
		switch name {
		case "Sid":
			if _, ok := v.(string); !ok {
				err = errors.New("not a string")
			}
		case "Effect":
			s.deny = v == "Deny"
			if v != "Allow" && v != "Deny" {
				err = fmt.Errorf("%v", v)
			}
		case "Action":
			s.actions, err = actions(v)
		case "NotAction":
			s.notActions, err = actions(v)
		case "Resource":
			s.resources, err = resources(v)
		case "NotResource":
			s.notResources, err = resources(v)
		case "Principal":
			s.principals, err = principals(v)
		case "Condition":
			s.conditions, err = conditions(v)
		default:
			err = errors.New("unknown member")
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
	}
	_, hasEffect := members["Effect"]
	if !hasEffect || (len(s.actions) == 0) == (len(s.notActions) == 0) || len(s.resources) > 0 && len(s.notResources) > 0 {
		return s, errors.New("needs an effect, an action or its negation, and at most one of resource and its negation")
	}
	return s, nil
}

func actions(v any) ([]string, error) {
	all, err := texts(v)
	for _, a := range all {
		if service, name, ok := strings.Cut(a, ":"); a != "*" && (!ok || service == "" || name == "" || strings.ContainsAny(service, "*?")) {
			return nil, fmt.Errorf("%q", a)
		}
	}
	return all, err
}

func resources(v any) ([]string, error) {
	all, err := texts(v)
	for _, r := range all {
		if r != "*" && (!strings.HasPrefix(r, "arn:") || strings.Count(r, ":") < 5) {
			return nil, fmt.Errorf("%q", r)
		}
		// A variable without an end would be text to one reader and none to another.
		if strings.Count(r, "${") != strings.Count(r, "}") {
			return nil, fmt.Errorf("%q", r)
		}
	}
	return all, err
}

func principals(v any) ([]principal, error) {
	if v == "*" {
		return []principal{{"*", "*"}}, nil
	}
	kinds, ok := v.(map[string]any)
	if !ok || len(kinds) == 0 {
		return nil, errors.New("neither \"*\" nor an object")
	}
	var all []principal
	for kind, names := range kinds {
		if kind != "AWS" && kind != "Federated" {
			return nil, fmt.Errorf("kind %q", kind)
		}
		list, err := texts(names)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			all = append(all, principal{kind, n})
		}
	}
	return all, nil
}

func conditions(v any) ([]condition, error) {
	operators, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	var all []condition
	for operator, v := range operators {
		keys, ok := v.(map[string]any)
		if !ok || len(keys) == 0 {
			return nil, fmt.Errorf("%s: not an object of keys", operator)
		}
		for key, v := range keys {
			values, err := conditionValues(v)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", operator, key, err)
			}
			c, err := newCondition(operator, key, values)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// conditionValues takes texts, and booleans and numbers as IAM does.
func conditionValues(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	all := make([]string, 0, len(list))
	for _, e := range list {
		switch e := e.(type) {
		case string:
			all = append(all, e)
		case bool:
			all = append(all, fmt.Sprint(e))
		case json.Number:
			all = append(all, e.String())
		default:
			return nil, errors.New("neither text, boolean nor number")
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no values")
	}
	return all, nil
}

func texts(v any) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("neither a string nor a list of strings")
	}
	all := make([]string, len(list))
	for i, e := range list {
		if all[i], ok = e.(string); !ok {
			return nil, errors.New("an element is not a string")
		}
	}
	return all, nil
}

// parseJSON reads one value with no member twice and nothing after it.
func parseJSON(text []byte) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	v, err := value(dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands after the document")
	}
	return v, nil
}

func value(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := value(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	case json.Delim('{'):
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
			if object[name], err = value(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return object, err
	default:
		return t, nil
	}
}
