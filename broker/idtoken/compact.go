package idtoken

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// compact is a JWS in compact serialisation (RFC 7515 §7.1), decoded.
type compact struct {
	signed    string // the first two segments as they stand: what the signature is over
	header    []byte
	payload   []byte
	signature []byte
}

// parseCompact takes a token apart. No other serialisation exists here: in the
// JSON one, members that nobody signed stand beside the signed ones, and a JWE
// has five segments. token must be bounded by the caller.
func parseCompact(token string) (compact, error) {
	if strings.Count(token, ".") != 2 {
		return compact{}, errors.New("not three segments")
	}
	end := strings.LastIndexByte(token, '.')
	header, payload, _ := strings.Cut(token[:end], ".")
	c := compact{signed: token[:end]}
	for _, s := range []struct {
		name string
		text string
		to   *[]byte
	}{{"header", header, &c.header}, {"payload", payload, &c.payload}, {"signature", token[end+1:], &c.signature}} {
		decoded, err := decodeBase64(s.text)
		if err != nil {
			return compact{}, fmt.Errorf("%s segment: %w", s.name, err)
		}
		*s.to = decoded
	}
	return c, nil
}

// decodeBase64 decodes unpadded base64url (RFC 7515 §2) in its one canonical
// spelling, so that one token cannot be written in two ways. It is never empty.
// Errors do not repeat what was decoded.
func decodeBase64(text string) ([]byte, error) {
	if text == "" {
		return nil, errors.New("empty")
	}
	if strings.ContainsAny(text, "\r\n") { // encoding/base64 skips them
		return nil, errors.New("line break")
	}
	// Strict: the unused bits of the last character are zero.
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("not canonical base64url")
	}
	return decoded, nil
}
