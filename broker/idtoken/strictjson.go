package idtoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// parseObject decodes exactly one JSON object, as encoding/json with UseNumber
// would into a map, but refuses what two parsers could read differently: names
// that stand twice at any level, text that is not valid Unicode, and bytes before
// or after the object. data must be bounded by the caller; errors hold no more of
// it than a shortened, quoted name.
//
// What is JSON and what is not, encoding/json decides, before anything is read here.
// Its Decoder could do the rest too, token by token, and takes several times as long.
func parseObject(data []byte) (map[string]any, error) {
	r := &reader{text: data}
	if r.next() != '{' {
		return nil, errors.New("not a JSON object")
	}
	if !json.Valid(data) {
		return nil, malformed(data)
	}
	return r.members(1)
}

// malformed says what is wrong with data that is not one JSON value.
func malformed(data []byte) error {
	var none json.RawMessage
	var syntax *json.SyntaxError
	if errors.As(json.Unmarshal(data, &none), &syntax) && json.Valid(data[:max(syntax.Offset, 1)-1]) {
		return errors.New("bytes after the JSON object")
	}
	return errors.New("malformed JSON")
}

// reader reads a text that is valid JSON, and relies on that: what must come next is
// not looked for.
type reader struct {
	text   []byte
	at     int // what stands before has been read
	values int
}

// next passes over space, and returns the byte after it, or 0 at the end.
func (r *reader) next() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\r', '\n': // RFC 8259 §2: no other
		default:
			return c
		}
	}
	return 0
}

// more steps over the bracket that opens or the comma, whichever is next, and reports
// whether something follows; else it steps over the bracket that closes.
func (r *reader) more(closing byte) bool {
	if r.next() != closing {
		r.at++
	}
	if r.next() != closing {
		return true
	}
	r.at++
	return false
}

// members reads an object, inside of so many objects and arrays, itself one of them.
func (r *reader) members(depth int) (map[string]any, error) {
	object := map[string]any{}
	for r.more('}') {
		if err := r.count(); err != nil {
			return nil, err
		}
		name, err := r.string()
		if err != nil {
			return nil, err
		}
		if _, ok := object[name]; ok {
			return nil, fmt.Errorf("member %s stands twice", quote(name))
		}
		r.next()
		r.at++ // the colon
		if object[name], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// elements reads an array.
func (r *reader) elements(depth int) ([]any, error) {
	array := []any{}
	for r.more(']') {
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	return array, nil
}

// value reads one value inside of so many objects and arrays.
func (r *reader) value(depth int) (any, error) {
	if err := r.count(); err != nil {
		return nil, err
	}
	switch c := r.next(); c {
	case '{', '[':
		if depth == maxDepth {
			return nil, fmt.Errorf("JSON nested deeper than %d", maxDepth)
		}
		if c == '{' {
			return r.members(depth + 1)
		}
		return r.elements(depth + 1)
	case '"':
		return r.string()
	}
	word := r.word()
	switch word {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "null":
		return nil, nil
	}
	return json.Number(word), nil
}

// count counts a name or a value.
func (r *reader) count() error {
	if r.values++; r.values > maxValues {
		return fmt.Errorf("JSON of more than %d names and values", maxValues)
	}
	return nil
}

// word reads what stands without quotes.
func (r *reader) word() string {
	rest := r.text[r.at:]
	if end := bytes.IndexAny(rest, ",]} \t\r\n"); end >= 0 {
		rest = rest[:end]
	}
	r.at += len(rest)
	return string(rest)
}

// string reads a string.
func (r *reader) string() (string, error) {
	r.next()
	begin, plain := r.at, true
	for r.at++; r.text[r.at] != '"'; r.at++ {
		switch c := r.text[r.at]; {
		case c == '\\':
			plain = false
			r.at++ // and over what it escapes: it may be a quote
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	r.at++
	quoted := r.text[begin:r.at]
	if plain { // ASCII that stands for itself
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "", errors.New("shouldn't happen: valid JSON with a string that is not")
	}
	// encoding/json puts U+FFFD for invalid UTF-8 and for lone surrogates. One
	// that was there before tells of a repair elsewhere: what it stood for is
	// lost, and two names may have become one.
	if strings.ContainsRune(text, utf8.RuneError) {
		return "", errors.New("text that is not valid Unicode, or was repaired (U+FFFD)")
	}
	return text, nil
}
