package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
	"credential-broker/broker/webidentity"
)

// described loads the document as the server serves it.
func described(t testing.TB) *openapi3.T {
	t.Helper()
	w := newHarness(t, nil).do(httptest.NewRequest(http.MethodGet, "/openapi.yaml", nil))
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestTheDescriptionIsServed(t *testing.T) {
	want, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, nil)
	w := h.do(httptest.NewRequest(http.MethodGet, "/openapi.yaml", nil))
	tag := w.Header().Get("ETag")
	if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), want) || w.Header().Get("Content-Type") != "application/yaml" || w.Header().Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for name, tc := range map[string]struct {
		header, value string
		status        int
	}{
		"had": {"If-None-Match", tag, 304}, "another is had": {"If-None-Match", `"x"`, 200}, "a part": {"Range", "bytes=0-1", 200},
		"another is wanted": {"If-Match", `"x"`, 200},
	} {
		r := httptest.NewRequest(http.MethodGet, "/openapi.yaml", nil)
		r.Header.Set(tc.header, tc.value)
		if w := h.do(r); w.Code != tc.status || tc.status == 200 && w.Body.Len() != len(want) {
			t.Errorf("%s: %d, %d bytes", name, w.Code, w.Body.Len())
		}
	}
}

// linter is where `make peers` installs it.
const linter = "../brokertest/peers/redocly"

func TestTheDescriptionPassesTheLinter(t *testing.T) {
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(linter, "node_modules", ".package-lock.json"))
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("the linter is not here; `make peers` installs it: %v", err)
	}
	if err != nil {
		t.Skip("the linter is not here; `make peers` installs it, for Node.js")
	}
	bad := filepath.Join(t.TempDir(), "openapi.yaml")
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, bytes.Replace(text, []byte("      operationId: listGrants\n"), nil, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, good := range map[string]bool{"openapi.yaml": true, bad: false} { // the second shows that the first is looked at
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a hundred times what it takes
		cmd := exec.CommandContext(ctx, node, filepath.Join(linter, "node_modules", "@redocly", "cli", "bin", "cli.js"), "lint", "--config", filepath.Join(linter, "redocly.yaml"), file)
		cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "CI=true")
		out, err := cmd.CombinedOutput()
		cancel()
		if (err == nil) != good || !good && !bytes.Contains(out, []byte("operationId")) {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// Both ways, on both ports.
func TestTheRoutesAreTheDescribedOnes(t *testing.T) {
	doc := described(t)
	h := newHarness(t, whole(t))
	for port, routes := range h.api.Routes() {
		got, want := []string{}, []string{}
		for _, r := range routes {
			got = append(got, r.Method+" "+r.Path)
		}
		for path, item := range doc.Paths.Map() {
			ports, ok := item.Extensions["x-ports"].([]any)
			if !ok {
				t.Fatalf("%s does not say on which port", path)
			}
			if !slices.Contains(ports, any(port)) {
				continue
			}
			for method := range item.Operations() {
				want = append(want, method+" "+path)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s port, described and there:\n%s", port, diff)
		}
	}
}

// published are the documents of mode minted, with a key of each kind; made once.
var published = sync.OnceValue(func() map[string][]byte {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	var keys []broker.Secret
	for _, key := range []any{ecKey, rsaKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		keys = append(keys, broker.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))))
	}
	minter, err := webidentity.NewMinter(webidentity.Config{Issuer: "https://broker.example", Audience: "sts.amazonaws.com", Keys: keys})
	if err != nil {
		panic(err)
	}
	return minter.Documents()
})

// whole makes a harness with every route.
func whole(t testing.TB) func(*httpapi.Config) {
	t.Helper()
	documents := published()
	return func(c *httpapi.Config) {
		c.Documents = documents
		c.Addresses = strict{}
		c.Logout = (&outs{}).logout
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
			_, _ = io.WriteString(w, "up 1\n")
		})
	}
}

// strict refuses one address.
type strict struct{}

func (strict) Check(a netip.Addr) error {
	if a == netip.MustParseAddr("203.0.113.1") {
		return broker.WithRetryAfter(broker.ErrRateLimited, time.Minute)
	}
	return nil
}

func (strict) Failed(netip.Addr) {}

// checker holds answers against the document and notes what it has seen.
type checker struct {
	*testing.T
	doc  *openapi3.T
	seen map[string]bool // :: "GET /path 200", or with a code behind → it was answered
}

func (c *checker) check(what string, r *http.Request, status int, header http.Header, body []byte) {
	c.Helper()
	item := c.doc.Paths.Value(r.URL.Path)
	if item == nil || item.GetOperation(r.Method) == nil {
		c.Fatalf("%s: %s %s is not described", what, r.Method, r.URL.Path)
	}
	operation := item.GetOperation(r.Method)
	route := &routers.Route{Spec: c.doc, Path: r.URL.Path, PathItem: item, Method: r.Method, Operation: operation}
	answer := operation.Responses.Status(status)
	if answer == nil {
		c.Errorf("%s: %s %s: %d %s is not described", what, r.Method, r.URL.Path, status, body)
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route},
		Status:                 status, Header: header, Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(c.Context(), input.SetBodyBytes(body)); err != nil {
		c.Errorf("%s: %s %s: %d %s: %v", what, r.Method, r.URL.Path, status, body, err)
	}
	for name, h := range answer.Value.Headers { // the library looks at none for HEAD and for 304
		if h.Value.Required && header.Get(name) == "" {
			c.Errorf("%s: %s %s: %d without %s", what, r.Method, r.URL.Path, status, name)
		}
	}
	if len(answer.Value.Content) == 0 && len(body) != 0 && r.Method != http.MethodHead {
		c.Errorf("%s: %s %s: %d has a body that is not described: %s", what, r.Method, r.URL.Path, status, body)
	}
	at := fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, status)
	c.seen[at] = true
	media := answer.Value.Content.Get("application/json")
	if media == nil || r.Method == http.MethodHead {
		return
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		c.Errorf("%s: %v", what, err)
		return
	}
	c.members(media.Schema, value)
	if object, ok := value.(map[string]any); ok {
		if code, ok := object["Code"].(string); ok {
			c.seen[at+" "+code] = true
		}
	}
}

// members notes which members of the described ones are there.
func (c *checker) members(ref *openapi3.SchemaRef, value any) {
	schema := ref.Value
	for _, part := range slices.Concat(schema.AllOf, schema.OneOf) {
		if len(schema.OneOf) == 0 || part.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()) == nil {
			c.members(part, value)
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for name, member := range schema.Properties {
			if got, ok := v[name]; ok {
				c.seen[fmt.Sprintf("%p.%s", schema, name)] = true
				c.members(member, got)
			}
		}
	case []any:
		for _, element := range v {
			if schema.Items != nil {
				c.members(schema.Items, element)
			}
		}
	}
}

// every calls f for each schema in an answer of the document.
func (c *checker) every(f func(where string, s *openapi3.Schema)) {
	done := map[*openapi3.Schema]bool{}
	var walk func(string, *openapi3.SchemaRef)
	walk = func(where string, ref *openapi3.SchemaRef) {
		if ref == nil || done[ref.Value] {
			return
		}
		done[ref.Value] = true
		f(where, ref.Value)
		for _, part := range slices.Concat(ref.Value.AllOf, ref.Value.OneOf) {
			walk(where, part)
		}
		for name, member := range ref.Value.Properties {
			walk(where+"."+name, member)
		}
		walk(where+"[]", ref.Value.Items)
	}
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status, answer := range operation.Responses.Map() {
				if media := answer.Value.Content.Get("application/json"); media != nil {
					walk(method+" "+path+" "+status, media.Schema)
				}
			}
		}
	}
}

// Every status, code and member that is described is answered, and nothing else is.
func TestTheAnswersAreTheDescribedOnes(t *testing.T) {
	openapi3filter.RegisterBodyDecoder("text/javascript", openapi3filter.PlainBodyDecoder) // which it does not know
	c := &checker{t, described(t), map[string]bool{}}
	c.answers()
	c.logouts()
	c.assets()
	c.probes()
	c.longHeaders()
	c.missing()
}

// answers makes each answer of the routes that need a token.
func (c *checker) answers() {
	fails := func(err error) func(*harness) { return func(h *harness) { h.err = err } }
	routes := []*http.Request{
		request(http.MethodGet, "/v1/credentials", "", nil), request(http.MethodPost, "/v1/credentials", "", nil),
		request(http.MethodDelete, "/v1/credentials", "", nil), request(http.MethodGet, "/v1/grants", "", nil), request(http.MethodGet, "/s3/sts", "", nil),
	}
	for _, r := range routes {
		again := func(change func(*http.Request)) *http.Request { return request(r.Method, r.URL.Path, "", change) }
		c.ask("good", again(nil), nil)
		c.ask("no token", again(func(r *http.Request) { r.Header.Del("Authorization") }), nil)
		c.ask("an unknown parameter", again(func(r *http.Request) { r.URL.RawQuery = "x=1" }), nil)
		c.ask("another origin", again(func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }), nil)
		c.ask("an address", again(func(r *http.Request) { r.RemoteAddr = "203.0.113.1:1" }), nil)
		operation := c.doc.Paths.Value(r.URL.Path).GetOperation(r.Method)
		for _, class := range httpapi.Classes() {
			// What the broker says to each route is a matter of the broker; here, that each is
			// answered as it is described.
			if slices.Contains(codesOf(operation), class) && !slices.Contains([]string{"origin_not_allowed", "too_large"}, class) {
				c.ask(class, again(nil), fails(broker.Class(class)))
			}
		}
	}
	for _, format := range []string{"container", "process", "js", "uppy"} {
		c.ask(format, request(http.MethodGet, "/v1/credentials?format="+format, "", nil), nil)
	}
	c.ask("a long body", request(http.MethodPost, "/v1/credentials", `{"path":"`+strings.Repeat("a", 16<<10)+`"}`, nil), nil)
}

// ask asks a harness that prepare has changed.
func (c *checker) ask(what string, r *http.Request, prepare func(*harness)) {
	c.Helper()
	h := newHarness(c, func(cfg *httpapi.Config) {
		whole(c)(cfg)
	})
	if prepare != nil {
		prepare(h)
	}
	w := h.do(r)
	c.check(what, r, w.Code, w.Result().Header, w.Body.Bytes())
}

// codesOf are the codes that are described for an operation.
func codesOf(o *openapi3.Operation) []string {
	var codes []string
	for status := range o.Responses.Map() {
		codes = append(codes, codesAt(o, status)...)
	}
	return codes
}

// codesAt are those of one status.
func codesAt(o *openapi3.Operation, status string) []string {
	var codes []string
	media := o.Responses.Value(status).Value.Content.Get("application/json")
	if media == nil || len(media.Schema.Value.AllOf) == 0 {
		return nil
	}
	for _, code := range media.Schema.Value.AllOf[1].Value.Properties["Code"].Value.Enum {
		codes = append(codes, fmt.Sprint(code))
	}
	return codes
}

// logouts makes each answer of the log-out.
func (c *checker) logouts() {
	c.ask("good", form("logout_token="+token, nil), nil)
	c.ask("none", form("", nil), nil)
	c.ask("another origin", form("", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }), nil)
	c.ask("an address", form("", func(r *http.Request) { r.RemoteAddr = "203.0.113.1:1" }), nil)
	o := &outs{err: broker.ErrKeysUnavailable}
	h := newHarness(c, func(cfg *httpapi.Config) { cfg.Logout = o.logout })
	r := form("logout_token="+token, nil)
	w := h.do(r)
	c.check("keys are not to be had", r, w.Code, w.Result().Header, w.Body.Bytes())
	if !strings.Contains(w.Body.String(), "temporarily_unavailable") {
		c.Errorf("answered %s", w.Body)
	}
}

// assets makes each answer of what anybody may read.
func (c *checker) assets() {
	for _, path := range []string{"/v1/client.js", "/openapi.yaml", "/.well-known/openid-configuration", "/.well-known/jwks.json"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			ask := func(name, value string) http.Header {
				r := httptest.NewRequest(method, path, nil)
				r.Header.Set(name, value)
				w := newHarness(c, whole(c)).do(r)
				c.check(name, r, w.Code, w.Result().Header, w.Body.Bytes())
				return w.Result().Header
			}
			tag := ask("Accept", "*/*").Get("ETag")
			ask("Origin", "https://evil.example")
			ask("If-None-Match", tag)
		}
	}
}

// probes makes each answer of the probes, on both ports.
func (c *checker) probes() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	status := httpapi.Status{
		Revision: "r1", Since: now, Reload: &httpapi.Reload{At: now, Result: "refused", Problem: errors.New("why")},
		Issuers: []httpapi.Issuer{{URL: "https://a.example/", Keys: 2, Fetched: now, Problem: errors.New("why")}, {URL: "https://b.example/"}},
	}
	for _, problem := range []error{nil, errors.New("why")} {
		h := newHarness(c, func(cfg *httpapi.Config) {
			whole(c)(cfg)
			cfg.Ready = func() error { return problem }
			cfg.Status = func() httpapi.Status { return status }
		})
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			for _, handler := range []http.Handler{h.api.Handler(), h.api.Admin()} {
				if path == "/metrics" && handler == h.api.Handler() {
					continue // it is of the admin port alone
				}
				for _, origin := range []string{"", "https://evil.example"} {
					r, w := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
					if origin != "" {
						r.Header.Set("Origin", origin)
					}
					handler.ServeHTTP(w, r)
					c.check("probe", r, w.Code, w.Result().Header, w.Body.Bytes())
				}
			}
		}
	}
}

// longHeaders sends a header that net/http refuses by itself.
func (c *checker) longHeaders() {
	server := httptest.NewUnstartedServer(nil)
	server.Config = httpapi.NewServer(newHarness(c, whole(c)).api.Handler(), slog.New(slog.DiscardHandler))
	server.Start()
	defer server.Close()
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Responses.Value("431") == nil {
				continue
			}
			r, err := http.NewRequestWithContext(c.Context(), method, server.URL+path, nil)
			if err != nil {
				c.Fatal(err)
			}
			r.Header.Set("Authorization", strings.Repeat("a", 40<<10))
			response, err := server.Client().Do(r)
			if err != nil {
				c.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil {
				c.Fatal(err)
			}
			response.Body.Close()
			c.check("a long header", r, response.StatusCode, response.Header, body)
		}
	}
}

// missing tells what is described and has not been answered.
func (c *checker) missing() {
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				at := method + " " + path + " " + status
				if !c.seen[at] {
					c.Errorf("%s is described and not answered", at)
				}
				for _, code := range codesAt(operation, status) {
					if !c.seen[at+" "+code] {
						c.Errorf("%s %s is described and not answered", at, code)
					}
				}
			}
		}
	}
	c.every(func(where string, s *openapi3.Schema) {
		for name := range s.Properties {
			if !c.seen[fmt.Sprintf("%p.%s", s, name)] {
				c.Errorf("%s.%s is described and not answered", where, name)
			}
		}
		if s.Type.Is("object") && (s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has) {
			c.Errorf("%s may have other members", where)
		}
	})
}

// What the router refuses has no operation, and the same shape.
func TestTheErrorTableIsTheDescribedOne(t *testing.T) {
	problem := described(t).Components.Schemas["Problem"].Value
	var codes []string
	for _, code := range problem.Properties["Code"].Value.Enum {
		codes = append(codes, fmt.Sprint(code))
	}
	want := httpapi.Classes()
	slices.Sort(codes)
	slices.Sort(want)
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Error(diff)
	}
	for _, r := range []*http.Request{request(http.MethodGet, "/nowhere", "", nil), request(http.MethodPut, "/v1/credentials", "", nil)} {
		w := newHarness(t, nil).do(r)
		var value any
		if err := json.Unmarshal(w.Body.Bytes(), &value); err != nil {
			t.Fatal(err)
		}
		if err := problem.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%d %s: %v", w.Code, w.Body, err)
		}
	}
}

// What is described is taken, and what is not is refused.
func TestTheRequestsAreTheDescribedOnes(t *testing.T) {
	doc := described(t)
	get := func(query string) *http.Request { return request(http.MethodGet, "/v1/credentials"+query, "", nil) }
	post := func(body string) *http.Request { return request(http.MethodPost, "/v1/credentials", body, nil) }
	for name, tc := range map[string]struct {
		r    *http.Request
		good bool
	}{
		"nothing":               {get(""), true},
		"all":                   {get("?grant=uploads&access=list,read&path=in/&duration=20m&tenant=org_a&format=js"), true},
		"seconds":               {get("?duration=1200"), true},
		"another access":        {get("?format=xml"), false},
		"an empty grant":        {get("?grant="), false},
		"a body":                {post(`{"grant":"uploads","access":["list","read"],"path":"in/","duration":1200,"tenant":"org_a","format":"js"}`), true},
		"a body of texts":       {post(`{"access":"list,read","duration":"20m"}`), true},
		"an empty body":         {post(`{}`), true},
		"a member unknown":      {post(`{"acess":"read"}`), false},
		"no access":             {post(`{"access":[]}`), false},
		"a number for a text":   {post(`{"grant":1}`), false},
		"half a second":         {post(`{"duration":900.5}`), false},
		"a format of its own":   {post(`{"format":"xml"}`), false},
		"an array":              {post(`[]`), false},
		"the form of a log-out": {form("logout_token="+token, nil), true},
		"a form without it":     {form("a=b", nil), false},
	} {
		item := doc.Paths.Value(tc.r.URL.Path)
		body, err := io.ReadAll(tc.r.Body)
		if err != nil {
			t.Fatal(err)
		}
		tc.r.Body = io.NopCloser(bytes.NewReader(body))
		err = openapi3filter.ValidateRequest(t.Context(), &openapi3filter.RequestValidationInput{
			Request: tc.r, Route: &routers.Route{Spec: doc, Path: tc.r.URL.Path, PathItem: item, Method: tc.r.Method, Operation: item.GetOperation(tc.r.Method)},
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
		})
		tc.r.Body = io.NopCloser(bytes.NewReader(body))
		w := newHarness(t, whole(t)).do(tc.r)
		if (err == nil) != tc.good || (w.Code == 200) != tc.good {
			t.Errorf("%s: %d %s; described: %v", name, w.Code, w.Body, err)
		}
	}
}
