package idtoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of objects and arrays, and with it the recursion
// here. AWS's tags claim is four deep and each actor of a chain of `act` claims
// (RFC 8693 §4.1) adds one; 16 is well above what an issuer sends.
const maxDepth = 16

// maxValues bounds the names and values of a document. Twenty keys with a dozen
// members each have 500, a token of 8 KiB has room for 3,000; but a key set as long
// as may be has room for half a million, which would take a hundred times its size.
const maxValues = 10_000

// reader is a decoder that counts.
type reader struct {
	*json.Decoder
	values int
}

// parseObject decodes exactly one JSON object, as encoding/json with UseNumber
// would into a map, but refuses what two parsers could read differently: names
// that stand twice at any level, text that is not valid Unicode, and bytes before
// or after the object. data must be bounded by the caller; errors hold no more of
// it than a shortened, quoted name.
func parseObject(data []byte) (map[string]any, error) {
	d := &reader{Decoder: json.NewDecoder(bytes.NewReader(data))}
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	object, err := parseMembers(d, 1)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("bytes after the JSON object")
	}
	return object, nil
}

// parseMembers decodes the rest of an object whose brace has been read.
func parseMembers(d *reader, depth int) (map[string]any, error) {
	object := map[string]any{}
	for d.More() {
		name, err := parseValue(d, depth)
		if err != nil {
			return nil, err
		}
		text, ok := name.(string)
		if !ok {
			return nil, errors.New("shouldn't happen: a member without a name")
		}
		if _, ok := object[text]; ok {
			return nil, fmt.Errorf("member %s stands twice", quote(text))
		}
		if object[text], err = parseValue(d, depth); err != nil {
			return nil, err
		}
	}
	return object, closeBracket(d)
}

// parseElements decodes the rest of an array whose bracket has been read.
func parseElements(d *reader, depth int) ([]any, error) {
	array := []any{}
	for d.More() {
		v, err := parseValue(d, depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	return array, closeBracket(d)
}

// parseValue decodes one value, or a name, inside depth objects and arrays.
func parseValue(d *reader, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, errors.New("malformed JSON")
	}
	if d.values++; d.values > maxValues {
		return nil, fmt.Errorf("JSON of more than %d names and values", maxValues)
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == maxDepth {
			return nil, fmt.Errorf("JSON nested deeper than %d", maxDepth)
		}
		if t == '{' {
			return parseMembers(d, depth+1)
		}
		return parseElements(d, depth+1)
	case string:
		// encoding/json puts U+FFFD for invalid UTF-8 and for lone surrogates. One
		// that was there before tells of a repair elsewhere: what it stood for is
		// lost, and two names may have become one.
		if strings.ContainsRune(t, utf8.RuneError) {
			return nil, errors.New("text that is not valid Unicode, or was repaired (U+FFFD)")
		}
	}
	return t, nil
}

// closeBracket reads the delimiter at which More has stopped.
func closeBracket(d *reader) error {
	if _, err := d.Token(); err != nil {
		return errors.New("malformed JSON")
	}
	return nil
}
