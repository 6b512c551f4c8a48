package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

const (
	// maxBodyBytes bounds the JSON of a POST: five short parameters.
	maxBodyBytes = 16 << 10
	// maxUserAgentBytes is what of a User-Agent gets into the audit record.
	maxUserAgentBytes = 256
)

// parameters are what a request may ask for. What each means is in broker.Request.
type parameters struct {
	Grant    string
	Access   []string
	Path     string
	Duration time.Duration
	Tenant   string
	Format   format
}

// known lists the parameters of a route. What is not in it is refused: a
// misspelt "acess" would otherwise give more than was asked for.
func known(c echo.Context) []string {
	switch {
	case c.Path() == "/v1/grants":
		return []string{"tenant"}
	case c.Request().Method == http.MethodDelete:
		return nil
	case c.Path() == uppyPath:
		return []string{"grant", "access", "path", "duration", "tenant"}
	default:
		return []string{"grant", "access", "path", "duration", "tenant", "format"}
	}
}

// request reads a request: the token, and what is asked for.
func (a *API) request(c echo.Context) (broker.Request, format, error) {
	req := &eventOf(c).request
	var err error
	if req.Token, err = bearer(c.Request().Header, a.cfg.TokenBytes); err != nil {
		return broker.Request{}, "", err
	}
	p, err := read(c)
	if errors.Is(err, errTooLarge) {
		return broker.Request{}, "", err
	}
	if err != nil {
		return broker.Request{}, "", fmt.Errorf("%w: %w", broker.ErrInvalidRequest, err)
	}
	req.Grant, req.Access, req.Path, req.Duration, req.Tenant = p.Grant, p.Access, p.Path, p.Duration, p.Tenant
	return *req, p.Format, nil
}

// bearer takes the token out of the one Authorization header: "Bearer" in any
// case, one space, the token (RFC 6750 §2.1); or the bare compact JWT, because
// AWS SDKs send the content of a token file as it is. Never from the query, the
// body or a cookie.
func bearer(h http.Header, maxBytes int) (broker.Secret, error) {
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return broker.Secret{}, fmt.Errorf("%w: no Authorization header", broker.ErrMissingToken)
	case 1:
	default:
		return broker.Secret{}, fmt.Errorf("%w: %d Authorization headers", broker.ErrInvalidRequest, len(values))
	}
	token := values[0]
	if scheme, rest, ok := strings.Cut(token, " "); ok {
		if !strings.EqualFold(scheme, "Bearer") {
			return broker.Secret{}, fmt.Errorf("%w: the scheme of Authorization is not Bearer", broker.ErrInvalidToken)
		}
		token = rest
	}
	switch {
	case token == "":
		return broker.Secret{}, fmt.Errorf("%w: empty Authorization", broker.ErrMissingToken)
	case len(token) > maxBytes:
		return broker.Secret{}, fmt.Errorf("%w: a token of %d bytes, at most %d", broker.ErrInvalidToken, len(token), maxBytes)
	case holds(token, ' ') || holds(token, '\t') || holds(token, ',') || strings.Count(token, ".") != 2:
		return broker.Secret{}, fmt.Errorf("%w: Authorization holds no compact JWT", broker.ErrInvalidToken)
	}
	return broker.NewToken(token), nil
}

// holds is quicker than strings.ContainsAny on what is as long as a token.
func holds(text string, c byte) bool { return strings.IndexByte(text, c) >= 0 }

// read takes the parameters from the query and, on POST, from a JSON body; none
// may stand in both.
func read(c echo.Context) (parameters, error) {
	p := parameters{Format: formatContainer}
	if c.Path() == uppyPath {
		p.Format = formatUppy
	}
	if c.Request().URL.RawQuery == "" && c.Request().Method == http.MethodGet { // as SDKs ask
		return p, nil
	}
	given, err := fromQuery(c.Request().URL.RawQuery)
	if err != nil {
		return parameters{}, err
	}
	if c.Request().Method == http.MethodPost {
		body, err := fromBody(c.Request())
		if err != nil {
			return parameters{}, err
		}
		for name, value := range body {
			if _, twice := given[name]; twice {
				return parameters{}, fmt.Errorf("parameter %q is in the query and in the body", name)
			}
			given[name] = value
		}
	}
	for name, value := range given {
		if !slices.Contains(known(c), name) {
			return parameters{}, fmt.Errorf("unknown parameter %q", name[:min(len(name), 40)])
		}
		if err := p.set(name, value); err != nil {
			return parameters{}, fmt.Errorf("parameter %q: %w", name, err)
		}
	}
	return p, nil
}

func fromQuery(raw string) (map[string]any, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("the query cannot be read")
	}
	given := make(map[string]any, len(values))
	for name, v := range values {
		if len(v) != 1 {
			return nil, fmt.Errorf("parameter %q is given %d times", name[:min(len(name), 40)], len(v))
		}
		given[name] = v[0]
	}
	return given, nil
}

// fromBody reads one JSON object with no member twice and nothing after it.
func fromBody(r *http.Request) (map[string]any, error) {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, errors.New("the body cannot be read")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, errors.New("the body must be application/json")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	given := map[string]any{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("the body is not a JSON object")
		}
		name, _ := t.(string)
		if _, twice := given[name]; twice {
			return nil, fmt.Errorf("member %q twice", name[:min(len(name), 40)])
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("the body is not a JSON object")
		}
		given[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the body is not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands after the JSON object")
	}
	return given, nil
}

// set takes one parameter: a text, or what JSON has for it.
func (p *parameters) set(name string, value any) error {
	text, isText := value.(string)
	switch {
	case isText && text == "":
		return errors.New("empty")
	case name == "access":
		return p.setAccess(value)
	case name == "duration":
		return p.setDuration(value)
	case !isText:
		return errors.New("must be text")
	}
	switch name {
	case "grant":
		p.Grant = text
	case "path":
		p.Path = text
	case "tenant":
		p.Tenant = text
	case "format":
		p.Format = format(text)
		return p.Format.check()
	}
	return nil
}

func (p *parameters) setAccess(value any) error {
	switch v := value.(type) {
	case string:
		p.Access = strings.Split(v, ",")
		return nil
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return errors.New("must be a list of texts")
			}
			p.Access = append(p.Access, s)
		}
		if len(p.Access) == 0 {
			return errors.New("empty")
		}
		return nil
	default:
		return errors.New("must be text or a list of texts")
	}
}

// setDuration takes whole seconds or a Go duration of whole seconds.
func (p *parameters) setDuration(value any) error {
	var d time.Duration
	switch v := value.(type) {
	case float64:
		d = time.Duration(v) * time.Second
		if v != float64(int32(v)) {
			return errors.New("must be whole seconds")
		}
	case string:
		seconds, err := strconv.ParseInt(v, 10, 32)
		d = time.Duration(seconds) * time.Second
		if err != nil {
			if d, err = time.ParseDuration(v); err != nil {
				return errors.New("must be seconds or a duration such as 20m")
			}
		}
	default:
		return errors.New("must be seconds or a duration such as 20m")
	}
	if d <= 0 || d%time.Second != 0 {
		return errors.New("must be positive, in whole seconds")
	}
	p.Duration = d
	return nil
}
