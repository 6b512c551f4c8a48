package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// AppendJSON appends a text as encoding/json writes it, without escaping for HTML,
// which what is written here never is. It is for what is written at every request.
func AppendJSON(to []byte, text string) []byte {
	if plain(text) {
		to = append(to, '"')
		to = append(to, text...)
		return append(to, '"')
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a text can always be written
	return append(to, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

// The bytes of a word, all alike.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain reports whether every byte of a text stands for itself in JSON: ASCII, no
// control character, neither quotation mark nor backslash. A word of eight is looked
// at at a time. What is found where a byte before it was found may be none; that is
// no matter.
func plain(text string) bool {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		w := uint64(text[i]) | uint64(text[i+1])<<8 | uint64(text[i+2])<<16 | uint64(text[i+3])<<24 |
			uint64(text[i+4])<<32 | uint64(text[i+5])<<40 | uint64(text[i+6])<<48 | uint64(text[i+7])<<56
		quote, backslash := w^(ones*'"'), w^(ones*'\\')
		// Subtracting borrows from a byte's highest bit where the byte is too small.
		if (w|(w-ones*' ')|(quote-ones)&^quote|(backslash-ones)&^backslash)&highs != 0 {
			return false
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendTime appends a time as time.Time's MarshalJSON writes it.
func appendTime(to []byte, t time.Time) ([]byte, error) {
	if y := t.Year(); y < 0 || y > 9999 { // RFC 3339 §1
		return to, errors.New("year outside of 0 to 9999")
	}
	to = append(to, '"')
	to = t.AppendFormat(to, time.RFC3339Nano)
	return append(to, '"'), nil
}
