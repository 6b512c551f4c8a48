package localauth0

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// params are the parameters of a request, each at most once (RFC 6749 §3.1 and §3.2). A parameter without a value
// counts as absent, as the RFC has it.
type params map[string]string

func (p params) scopes() []string { return strings.Fields(p["scope"]) }

// queryParams reads the query of a GET.
func queryParams(r *http.Request) (params, error) {
	if len(r.URL.RawQuery) > maxBody {
		return nil, &oauthError{http.StatusRequestURITooLong, "invalid_request", "the query is too long"}
	}
	return parseForm(r.URL.RawQuery)
}

// formParams reads a form body.
func formParams(r *http.Request) (params, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("want a form body")
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	return parseForm(string(body))
}

// tokenParams reads the body of /oauth/token: a form, or the JSON object that Auth0 takes as well.
func tokenParams(r *http.Request) (params, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return formParams(r)
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	p, err := parseObject(body)
	if err != nil {
		return nil, invalidRequest("want a JSON object of strings: " + err.Error())
	}
	return p, nil
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &oauthError{http.StatusRequestEntityTooLarge, "invalid_request", "the body is too large"}
	}
	if err != nil {
		return nil, invalidRequest("the body cannot be read")
	}
	return body, nil
}

func parseForm(raw string) (params, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalidRequest("malformed parameters")
	}
	p := params{}
	for name, all := range values {
		if len(all) != 1 {
			return nil, invalidRequest(fmt.Sprintf("parameter %q stands twice", name))
		}
		if all[0] != "" {
			p[name] = all[0]
		}
	}
	return p, nil
}

// parseObject reads one flat JSON object of strings, no name twice, nothing behind it.
func parseObject(body []byte) (params, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("no object")
	}
	p, seen := params{}, map[string]bool{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, errors.New("malformed")
		}
		key, _ := name.(string) // a member's name is always a string: the decoder sees to it
		value, err := dec.Token()
		if err != nil {
			return nil, errors.New("malformed")
		}
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("%q is no string", key)
		}
		if seen[key] {
			return nil, fmt.Errorf("%q stands twice", key)
		}
		seen[key] = true
		if text != "" {
			p[key] = text
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("malformed")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return p, nil
}
