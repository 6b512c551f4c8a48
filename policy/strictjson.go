package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// This is how Confined reads a document: as strictly as it can be read, since
// what two readers could take for two things proves nothing.

// operators reads a statement's condition: operator → key → values, each at
// least one. Without a condition it is empty.
func operators(members map[string]any) (map[string]map[string][]string, error) {
	all := map[string]map[string][]string{}
	condition, present := members["Condition"]
	if !present {
		return all, nil
	}
	blocks, ok := condition.(map[string]any)
	if !ok || len(blocks) == 0 {
		return nil, fmt.Errorf("an empty condition")
	}
	for operator, block := range blocks {
		keys, ok := block.(map[string]any)
		if !ok || len(keys) == 0 {
			return nil, fmt.Errorf("condition operator %q without a key", operator)
		}
		all[operator] = map[string][]string{}
		for key, values := range keys {
			list, err := texts(values)
			if err != nil {
				return nil, fmt.Errorf("condition %s: %w", key, err)
			}
			all[operator][key] = list
		}
	}
	return all, nil
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
