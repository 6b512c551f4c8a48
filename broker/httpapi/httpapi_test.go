package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"credential-broker/broker"
	"credential-broker/broker/httpapi"
	"credential-broker/policy"
)

const (
	token    = "canary-header.canary-payload.canary-signature"
	secret   = "canary/secret+key"
	session  = "canary<session>&token"
	tokenMax = 100
	clientJS = "export const x = 1\n"
)

// exchanger answers as it is told and remembers what it was asked.
type exchanger struct {
	err    error
	panics any
	got    broker.Request
	calls  int
	change func(*broker.Credentials)

	refused  []refused
	auditErr error // of what is refused
}

func (e *exchanger) note(r broker.Request) error {
	e.got = r
	e.calls++
	if e.panics != nil {
		panic(e.panics)
	}
	return e.err
}

func (e *exchanger) Exchange(_ context.Context, r broker.Request) (broker.Credentials, error) {
	if err := e.note(r); err != nil {
		return broker.Credentials{}, err
	}
	c := broker.Credentials{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: broker.NewSecret(secret), SessionToken: broker.NewSecret(session),
		Expiration: time.Date(2026, 11, 24, 22, 0, 0, 5, time.FixedZone("JST", 9*3600)), Scope: scope(), Source: broker.FromSTS,
	}
	if e.change != nil {
		e.change(&c)
	}
	return c, nil
}

func (e *exchanger) Grants(_ context.Context, r broker.Request) ([]broker.Scope, error) {
	return []broker.Scope{scope()}, e.note(r)
}

func (e *exchanger) Forget(_ context.Context, r broker.Request) error { return e.note(r) }

func (e *exchanger) Refuse(_ context.Context, action broker.Action, r broker.Request, err error) error {
	e.refused = append(e.refused, refused{action, r, broker.ClassOf(err), err.Error()})
	if e.auditErr != nil {
		return fmt.Errorf("%w (%w)", err, e.auditErr)
	}
	return err
}

// refused is a request that the broker was told of and not asked for.
type refused struct {
	action  broker.Action
	request broker.Request
	class   broker.Class
	reason  string
}

func scope() broker.Scope {
	tenant, _ := policy.ParseTenant("org_acme")
	template, _ := policy.ParseTemplate("tenants/{tenant}/")
	prefix, _ := template.Render(tenant, policy.User{})
	bucket, _ := policy.ParseBucket("acme-uploads")
	role, _ := broker.ParseRoleARN("arn:aws:iam::123456789012:role/uploads")
	return broker.Scope{
		Grant: "uploads", Tenant: tenant, RoleARN: role, Region: "ap-northeast-1", Duration: time.Hour,
		S3: policy.Scope{Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.List | policy.Read},
	}
}

type harness struct {
	*exchanger
	api *httpapi.API
	log bytes.Buffer
}

func newHarness(t testing.TB, change func(*httpapi.Config)) *harness {
	t.Helper()
	h := &harness{exchanger: &exchanger{}}
	cfg := httpapi.Config{
		Broker: h.exchanger, AllowedOrigins: []string{"https://app.example.com"}, TokenBytes: tokenMax,
		Documents: map[string][]byte{"/.well-known/jwks.json": []byte(`{"keys":[]}`)}, ClientJS: []byte(clientJS),
		Ready: func() error { return nil }, Log: slog.New(slog.NewJSONHandler(&h.log, nil)),
		Now: func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if h.api, err = httpapi.New(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// request is a good request; change makes it another.
func request(method, target, body string, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(r)
	}
	return r
}

func (h *harness) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.api.Handler().ServeHTTP(w, r)
	return w
}

func code(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
	if text, ok := e["message"]; ok && text == e["Message"] { // of /s3/sts; see there
		delete(e, "message")
	}
	if len(e) != 3 || e["Message"] == "" || e["RequestId"] != w.Header().Get("X-Request-Id") {
		t.Errorf("error body %q", w.Body)
	}
	return e["Code"]
}

func TestTheFormatsAreExact(t *testing.T) {
	const scopePart = `"Bucket":"acme-uploads","Region":"ap-northeast-1","Prefix":"tenants/org_acme/","Access":["list","read"],"Grant":"uploads"}`
	container := `{"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"` + secret + `","Token":"` + session + `","Expiration":"2026-11-24T13:00:00Z","AccountId":"123456789012",` + scopePart
	uppy := `{"credentials":{"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"` + secret + `","SessionToken":"` + session + `","Expiration":"2026-11-24T13:00:00Z"},` +
		`"bucket":"acme-uploads","region":"ap-northeast-1","prefix":"tenants/org_acme/"}`
	for target, want := range map[string]string{
		"/v1/credentials":                  container,
		"/v1/credentials?format=container": container,
		"/v1/credentials?format=process":   `{"Version":1,"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"` + secret + `","SessionToken":"` + session + `","Expiration":"2026-11-24T13:00:00Z","AccountId":"123456789012",` + scopePart,
		"/v1/credentials?format=js": `{"credentials":{"accessKeyId":"ASIAEXAMPLE","secretAccessKey":"` + secret + `","sessionToken":"` + session + `","expiration":"2026-11-24T13:00:00Z"},` +
			`"bucket":"acme-uploads","region":"ap-northeast-1","prefix":"tenants/org_acme/","access":["list","read"],"grant":"uploads","serverTime":"2026-11-24T12:00:00Z"}`,
		"/v1/credentials?format=uppy": uppy,
		"/s3/sts":                     uppy,
		"/s3/sts?grant=uploads&access=list&path=x": uppy,
		"/v1/grants": `{"Grants":[{"Grant":"uploads","Bucket":"acme-uploads","Region":"ap-northeast-1","Prefix":"tenants/org_acme/","Access":["list","read"],"Duration":3600}]}`,
	} {
		w := newHarness(t, nil).do(request(http.MethodGet, target, "", nil))
		if diff := cmp.Diff(want, w.Body.String()); diff != "" || w.Code != http.StatusOK {
			t.Errorf("%s: %d\n%s", target, w.Code, diff)
		}
	}
}

// No answer comes in chunks: some clients read none.
func TestTheLengthOfAnAnswerIsSaid(t *testing.T) {
	for _, length := range []int{10, 1700, 1800, 1900, 2100, 5000} {
		h := newHarness(t, nil)
		h.change = func(c *broker.Credentials) { c.SessionToken = broker.NewSecret(strings.Repeat("t", length)) }
		server := httptest.NewServer(h.api.Handler())
		for _, target := range []string{"/v1/credentials", "/healthz"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.ContentLength != int64(len(body)) || len(resp.TransferEncoding) > 0 {
				t.Errorf("%s, a token of %d: %d bytes, said to be %d, %q, %v", target, length, len(body), resp.ContentLength, resp.TransferEncoding, err)
			}
		}
		server.Close()
	}
}

func TestNothingEmptyIsAnsweredWith200(t *testing.T) {
	for name, change := range map[string]func(*broker.Credentials){
		"key":        func(c *broker.Credentials) { c.AccessKeyID = "" },
		"secret":     func(c *broker.Credentials) { c.SecretAccessKey = broker.Secret{} },
		"token":      func(c *broker.Credentials) { c.SessionToken = broker.Secret{} },
		"expiration": func(c *broker.Credentials) { c.Expiration = time.Time{} },
	} {
		h := newHarness(t, nil)
		h.change = change
		if w := h.do(request(http.MethodGet, "/v1/credentials", "", nil)); w.Code != 500 || code(t, w) != "internal" || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestEachRowOfTheErrorTable(t *testing.T) {
	type row struct {
		code      string
		status    int
		challenge string
		retry     string
	}
	const realm = `Bearer realm="credential-broker"`
	for class, want := range map[error]row{
		broker.ErrInvalidRequest:  {"invalid_request", 400, "", ""},
		broker.ErrMissingToken:    {"missing_token", 401, realm, ""},
		broker.ErrInvalidToken:    {"invalid_token", 401, realm + `, error="invalid_token"`, ""},
		broker.ErrExpiredToken:    {"expired_token", 401, realm + `, error="invalid_token"`, ""},
		broker.ErrNoGrant:         {"no_grant", 403, realm + `, error="insufficient_scope"`, ""},
		broker.ErrInvalidTenant:   {"invalid_tenant", 403, realm + `, error="insufficient_scope"`, ""},
		broker.ErrScopeNotAllowed: {"scope_not_allowed", 403, realm + `, error="insufficient_scope"`, ""},
		broker.ErrRevoked:         {"revoked", 403, realm + `, error="insufficient_scope"`, ""},
		broker.ErrRateLimited:     {"rate_limited", 429, "", "5"},
		broker.ErrSTSRejected:     {"sts_rejected", 502, "", ""},
		broker.ErrSTSUnavailable:  {"sts_unavailable", 503, "", "5"},
		broker.ErrKeysUnavailable: {"keys_unavailable", 503, "", "5"},
		broker.ErrBusy:            {"busy", 503, "", "5"},
		broker.ErrInternal:        {"internal", 500, "", ""},
		errors.New("no class"):    {"internal", 500, "", ""},
		broker.WithRetryAfter(broker.ErrBusy, 1200*time.Millisecond): {"busy", 503, "", "2"},
		broker.WithRetryAfter(broker.ErrBusy, -1):                    {"busy", 503, "", "5"},
	} {
		h := newHarness(t, nil)
		h.err = fmt.Errorf("%w: inside story", class)
		w := h.do(request(http.MethodGet, "/v1/credentials", "", nil))
		got := row{code(t, w), w.Code, w.Header().Get("WWW-Authenticate"), w.Header().Get("Retry-After")}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
			t.Errorf("%v:\n%s", class, diff)
		}
		if strings.Contains(w.Body.String(), "inside") {
			t.Errorf("the caller learns the cause: %s", w.Body)
		}
		level := "INFO"
		if want.status >= 500 {
			level = "ERROR"
		}
		if !strings.Contains(h.log.String(), `"level":"`+level+`"`) || strings.Contains(h.log.String(), "inside") != (want.status >= 500) {
			t.Errorf("%v: logged %s", class, &h.log)
		}
	}
}

func TestEveryRoutePassesARefusalOn(t *testing.T) {
	for _, r := range []*http.Request{
		request(http.MethodGet, "/v1/credentials", "", nil), request(http.MethodPost, "/v1/credentials", "", nil),
		request(http.MethodDelete, "/v1/credentials", "", nil), request(http.MethodGet, "/v1/grants", "", nil),
		request(http.MethodGet, "/s3/sts", "", nil),
	} {
		h := newHarness(t, nil)
		h.err = broker.ErrRevoked
		if w := h.do(r); w.Code != 403 || code(t, w) != "revoked" || h.calls != 1 {
			t.Errorf("%s %s: %d %s", r.Method, r.URL, w.Code, w.Body)
		}
	}
}

// An error of the web framework counts where the broker has not said its own
// word, and only for what the router alone refuses; any other is a bug here, and
// is logged as it was.
func TestAnErrorOfTheFrameworkDoesNotStandForTheBrokers(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"with a class": {fmt.Errorf("%w: %w", broker.ErrBusy, echo.ErrNotFound), 503, "busy"},
		"of no class":  {echo.NewHTTPError(http.StatusTeapot, "short and stout"), 500, "internal"},
	} {
		h := newHarness(t, nil)
		h.err = tc.err
		if w := h.do(request(http.MethodGet, "/v1/credentials", "", nil)); w.Code != tc.status || code(t, w) != tc.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if !strings.Contains(h.log.String(), tc.err.Error()) {
			t.Errorf("%s: logged %s", name, &h.log)
		}
	}
}

// brokenPipe takes the header and nothing of the first write.
type brokenPipe struct {
	*httptest.ResponseRecorder
	writes int
}

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.writes++; b.writes == 1 {
		return 0, io.ErrClosedPipe
	}
	return b.ResponseRecorder.Write(p)
}

func TestNothingIsWrittenBehindAnAnswerThatBrokeOff(t *testing.T) {
	h := newHarness(t, nil)
	w := &brokenPipe{ResponseRecorder: httptest.NewRecorder()}
	h.api.Handler().ServeHTTP(w, request(http.MethodGet, "/v1/credentials", "", nil))
	if w.writes != 1 || w.Body.Len() != 0 {
		t.Errorf("%d writes: %q", w.writes, w.Body)
	}
	if !strings.Contains(h.log.String(), `"code":"internal"`) {
		t.Errorf("logged %s", &h.log)
	}
}

func TestWhatTheRouterRefuses(t *testing.T) {
	for _, tc := range []struct {
		method, target string
		status         int
		code           string
	}{
		{http.MethodGet, "/", 404, "not_found"},
		{http.MethodGet, "/v1/credentials/", 404, "not_found"},
		{http.MethodGet, "/V1/credentials", 404, "not_found"},
		{http.MethodGet, "//v1/credentials", 404, "not_found"},
		{http.MethodGet, "/v1/%63redentials/..%2f", 404, "not_found"},
		{http.MethodGet, "/metrics", 404, "not_found"},
		{http.MethodPut, "/v1/credentials", 405, "method_not_allowed"},
		{http.MethodPost, "/v1/grants", 405, "method_not_allowed"},
		{http.MethodPatch, "/healthz", 405, "method_not_allowed"},
		{http.MethodPost, "/s3/sts", 405, "method_not_allowed"},
		{http.MethodGet, "/s3/sts/", 404, "not_found"},
	} {
		h := newHarness(t, nil)
		w := h.do(request(tc.method, tc.target, "", func(r *http.Request) { r.Header.Set("X-HTTP-Method-Override", "GET") }))
		if w.Code != tc.status || code(t, w) != tc.code || h.calls != 0 {
			t.Errorf("%s %s: %d %s", tc.method, tc.target, w.Code, w.Body)
		}
		if tc.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tc.method, tc.target)
		}
	}
	h := newHarness(t, nil)
	if w := h.do(request(http.MethodHead, "/v1/credentials", "", nil)); w.Code != 405 || h.calls != 0 {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestEveryAnswerIsItsOwnersAlone(t *testing.T) {
	h := newHarness(t, nil)
	ids := map[string]bool{}
	for _, r := range []*http.Request{
		request(http.MethodGet, "/v1/credentials", "", nil),
		request(http.MethodGet, "/v1/grants", "", nil),
		request(http.MethodGet, "/s3/sts", "", nil),
		request(http.MethodDelete, "/v1/credentials", "", nil),
		request(http.MethodGet, "/v1/credentials?x=1", "", nil),
		request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Del("Authorization") }),
		request(http.MethodGet, "/nowhere", "", nil),
		request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }),
		request(http.MethodGet, "/healthz", "", nil),
	} {
		r.Header.Set("X-Request-Id", "chosen")
		w := h.do(r)
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Pragma": "no-cache", "Vary": "Authorization, Origin", "X-Content-Type-Options": "nosniff",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s %q", r.Method, r.URL, name, got)
			}
		}
		if ct := w.Header().Get("Content-Type"); ct != "application/json" && w.Code != 204 || w.Code == 204 && w.Body.Len() != 0 {
			t.Errorf("%s %s: %d, type %q", r.Method, r.URL, w.Code, ct)
		}
		if id := w.Header().Get("X-Request-Id"); len(id) != 32 || ids[id] {
			t.Errorf("%s %s: request id %q", r.Method, r.URL, id)
		} else {
			ids[id] = true
		}
	}
}

func TestTheTokenStandsInOneHeaderOnly(t *testing.T) {
	set := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["Authorization"] = values }
	}
	for name, tc := range map[string]struct {
		change func(*http.Request)
		code   string // "" takes it
	}{
		"Bearer":              {set("Bearer " + token), ""},
		"any case":            {set("bEARER " + token), ""},
		"the bare token":      {set(token), ""},
		"as long as may be":   {set("Bearer a." + strings.Repeat("b", tokenMax-4) + ".c"), ""},
		"none":                {set(), "missing_token"},
		"empty":               {set(""), "missing_token"},
		"Bearer alone":        {set("Bearer "), "missing_token"},
		"two":                 {set("Bearer "+token, "Bearer "+token), "invalid_request"},
		"Basic":               {set("Basic " + token), "invalid_token"},
		"two spaces":          {set("Bearer  " + token), "invalid_token"},
		"a space behind":      {set("Bearer " + token + " "), "invalid_token"},
		"a tab":               {set("Bearer\t" + token), "invalid_token"},
		"two in one":          {set("Bearer " + token + ",Bearer " + token), "invalid_token"},
		"opaque":              {set("Bearer opaque"), "invalid_token"},
		"encrypted":           {set("Bearer a.b.c.d.e"), "invalid_token"},
		"too long":            {set("Bearer a." + strings.Repeat("b", tokenMax) + ".c"), "invalid_token"},
		"too long, of spaces": {set("Bearer " + strings.Repeat(" ", tokenMax+1)), "invalid_token"},
		"in a cookie": {func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: "access_token", Value: token})
		}, "missing_token"},
		"in the query": {func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "access_token=" + token
		}, "missing_token"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			w := h.do(request(http.MethodGet, "/v1/credentials", "", tc.change))
			if tc.code == "" {
				if w.Code != 200 || strings.Count(h.got.Token.Reveal(), ".") != 2 || strings.Contains(h.got.Token.Reveal(), " ") {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			if code(t, w) != tc.code || h.calls != 0 {
				t.Errorf("%d %s after %d calls", w.Code, w.Body, h.calls)
			}
			if strings.Contains(h.log.String()+w.Body.String(), "canary") {
				t.Error("the token is seen")
			}
		})
	}
}

func TestParametersAreTakenFromTheQueryOrTheBody(t *testing.T) {
	want := broker.Request{Grant: "uploads", Access: []string{"read", "write"}, Path: "in/", Duration: 20 * time.Minute, Tenant: "org_b"}
	for name, r := range map[string]*http.Request{
		"query":              request(http.MethodGet, "/v1/credentials?grant=uploads&access=read,write&path=in/&duration=1200&tenant=org_b", "", nil),
		"a Go duration":      request(http.MethodGet, "/v1/credentials?grant=uploads&access=read,write&path=in/&duration=20m&tenant=org_b", "", nil),
		"body":               request(http.MethodPost, "/v1/credentials", `{"grant":"uploads","access":["read","write"],"path":"in/","duration":1200,"tenant":"org_b"}`, nil),
		"body, texts":        request(http.MethodPost, "/v1/credentials", `{"grant":"uploads","access":"read,write","path":"in/","duration":"20m","tenant":"org_b"}`, nil),
		"some in each":       request(http.MethodPost, "/v1/credentials?grant=uploads&tenant=org_b", `{"access":["read","write"],"path":"in/","duration":1200}`, nil),
		"body with charset":  request(http.MethodPost, "/v1/credentials?grant=uploads&tenant=org_b", `{"access":["read","write"],"path":"in/","duration":1200}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }),
		"an empty body":      request(http.MethodPost, "/v1/credentials?grant=uploads&access=read,write&path=in/&duration=1200&tenant=org_b", "", nil),
		"a body of no value": request(http.MethodPost, "/v1/credentials?grant=uploads&access=read,write&path=in/&duration=1200&tenant=org_b", "{}", nil),
	} {
		h := newHarness(t, nil)
		if w := h.do(r); w.Code != 200 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		got := broker.Request{Grant: h.got.Grant, Access: h.got.Access, Path: h.got.Path, Duration: h.got.Duration, Tenant: h.got.Tenant}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b broker.Secret) bool { return true })); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestMalformedParametersAreRefused(t *testing.T) {
	post := func(body string) *http.Request { return request(http.MethodPost, "/v1/credentials", body, nil) }
	get := func(query string) *http.Request { return request(http.MethodGet, "/v1/credentials?"+query, "", nil) }
	for name, r := range map[string]*http.Request{
		"unknown":                get("acess=read"),
		"in other case":          get("Access=read"),
		"repeated":               get("access=read&access=write"),
		"empty":                  get("grant="),
		"not decodable":          get("grant=%zz"),
		"a semicolon":            get("grant=a;b=c"),
		"format unknown":         get("format=xml"),
		"format at Uppy's":       request(http.MethodGet, "/s3/sts?format=js", "", nil),
		"unknown at Uppy's":      request(http.MethodGet, "/s3/sts?acess=read", "", nil),
		"duration of no time":    get("duration=0"),
		"duration negative":      get("duration=-900"),
		"duration of words":      get("duration=long"),
		"duration of a fraction": get("duration=900.5"),
		"duration of 1.5 s":      get("duration=1500ms"),
		"duration endless":       get("duration=99999999999999999999"),
		"in both":                request(http.MethodPost, "/v1/credentials?grant=a", `{"grant":"a"}`, nil),
		"unknown in the body":    post(`{"acess":"read"}`),
		"twice in the body":      post(`{"grant":"a","grant":"b"}`),
		"twice, escaped":         post(`{"grant":"a","gr\u0061nt":"b"}`),
		"an array":               post(`["grant"]`),
		"an array of pairs":      post(`["grant","a"]`),
		"an empty array":         post(`[]`),
		"a name that is none":    post(`{grant:"a"}`),
		"a value that is none":   post(`{"grant":tru}`),
		"a text":                 post(`"grant"`),
		"cut off":                post(`{"grant":"a"`),
		"something after":        post(`{"grant":"a"}{}`),
		"a number for text":      post(`{"grant":1}`),
		"null":                   post(`{"grant":null}`),
		"access of numbers":      post(`{"access":[1]}`),
		"access of nothing":      post(`{"access":[]}`),
		"access an object":       post(`{"access":{}}`),
		"duration a fraction":    post(`{"duration":900.5}`),
		"duration huge":          post(`{"duration":1e30}`),
		"duration a list":        post(`{"duration":[900]}`),
		"a form":                 request(http.MethodPost, "/v1/credentials", "grant=a", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }),
		"another type":           request(http.MethodPost, "/v1/credentials", `{"grant":"a"}`, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }),
		"a type cut off":         request(http.MethodPost, "/v1/credentials", `{"grant":"a"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset") }),
		"a body that breaks off": request(http.MethodPost, "/v1/credentials", "", func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }),
		"no type":                request(http.MethodPost, "/v1/credentials", `{"grant":"a"}`, func(r *http.Request) { r.Header.Del("Content-Type") }),
		"any on DELETE":          request(http.MethodDelete, "/v1/credentials?grant=a", "", nil),
		"grant on grants":        request(http.MethodGet, "/v1/grants?grant=a", "", nil),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil)
			if w := h.do(r); w.Code != 400 || code(t, w) != "invalid_request" || h.calls != 0 {
				t.Errorf("%d %s after %d calls", w.Code, w.Body, h.calls)
			}
		})
	}
	h := newHarness(t, nil)
	if w := h.do(post(`{"path":"` + strings.Repeat("a", 16<<10) + `"}`)); w.Code != 413 || code(t, w) != "too_large" || h.calls != 0 {
		t.Errorf("a large body: %d %s", w.Code, w.Body)
	}
}

// Uppy's own client shows the member message and no other, so that this route has
// it besides, with the same words.
func TestARefusalSpeaksToUppyToo(t *testing.T) {
	for target, want := range map[string]bool{"/s3/sts": true, "/v1/credentials?format=uppy": false} {
		h := newHarness(t, nil)
		h.err = broker.ErrInvalidTenant
		w := h.do(request(http.MethodGet, target, "", nil))
		var e map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if w.Code != 403 || e["Code"] != "invalid_tenant" || e["Message"] == "" || (e["message"] == e["Message"]) != want {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

// What a caller did wrong is told to the operator, in words that fit it.
func TestTheReasonOfARefusalIsLogged(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"words":  request(http.MethodGet, "/v1/credentials?duration=long", "", nil),
		"a list": request(http.MethodPost, "/v1/credentials", `{"duration":[900]}`, nil),
	} {
		h := newHarness(t, nil)
		if w := h.do(r); w.Code != 400 || !strings.Contains(h.log.String(), "must be seconds or a duration such as 20m") {
			t.Errorf("%s: %d, logged %s", name, w.Code, &h.log)
		}
	}
}

func TestOnlyTheConfiguredOriginsMayCall(t *testing.T) {
	for origin, allowed := range map[string]bool{
		"https://app.example.com":           true,
		"null":                              false,
		"https://evil.example":              false,
		"http://app.example.com":            false,
		"https://app.example.com:8443":      false,
		"https://app.example.com.evil.test": false,
		"https://x.app.example.com":         false,
		"https://APP.example.com":           false,
		"https://app.example.com/":          false,
		"":                                  false,
	} {
		h := newHarness(t, nil)
		simple := h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Set("Origin", origin) }))
		preflight := h.do(request(http.MethodOptions, "/v1/credentials", "", func(r *http.Request) {
			r.Header.Del("Authorization")
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "GET")
		}))
		for name, w := range map[string]*httptest.ResponseRecorder{"simple": simple, "preflight": preflight} {
			if got := w.Header().Get("Access-Control-Allow-Origin"); (got == origin && origin != "") != allowed || w.Header().Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s, %q: allowed for %q", name, origin, got)
			}
			if !allowed && (w.Code != 403 || code(t, w) != "origin_not_allowed") {
				t.Errorf("%s, %q: %d", name, origin, w.Code)
			}
		}
		if want := map[bool]int{true: 1}[allowed]; h.calls != want {
			t.Errorf("%q: %d calls", origin, h.calls)
		}
		if allowed && (simple.Code != 200 || preflight.Code != 204 || preflight.Header().Get("Access-Control-Allow-Headers") != "authorization, content-type" ||
			preflight.Header().Get("Access-Control-Allow-Methods") != "GET, POST, DELETE") {
			t.Errorf("%d, %d, %v", simple.Code, preflight.Code, preflight.Header())
		}
	}
	h := newHarness(t, nil)
	w := h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) {
		r.Header["Origin"] = []string{"https://app.example.com", "https://evil.example"}
	}))
	if w.Code != 403 || h.calls != 0 {
		t.Errorf("two origins: %d", w.Code)
	}
	// A preflight is an OPTIONS that says for what, and only of what pages call.
	for _, tc := range []struct {
		method, target, asks string
		status               int
		preflight            bool
	}{
		{http.MethodGet, "/v1/credentials", "GET", 200, false},
		{http.MethodOptions, "/v1/credentials", "", 204, false},
		{http.MethodOptions, "/healthz", "GET", 404, false},
		{http.MethodOptions, "/v1/credentials", "GET", 204, true},
		{http.MethodOptions, "/s3/sts", "GET", 204, true},
		{http.MethodOptions, "/s3/stsx", "GET", 404, false},
	} {
		w := newHarness(t, nil).do(request(tc.method, tc.target, "", func(r *http.Request) {
			r.Header.Set("Origin", "https://app.example.com")
			if tc.asks != "" {
				r.Header.Set("Access-Control-Request-Method", tc.asks)
			}
		}))
		if w.Code != tc.status || (w.Header().Get("Access-Control-Allow-Methods") != "") != tc.preflight {
			t.Errorf("%s %s for %q: %d, %v", tc.method, tc.target, tc.asks, w.Code, w.Header())
		}
	}
	// An error is as readable for the page as an answer.
	h.err = broker.ErrNoGrant
	w = h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Set("Origin", "https://app.example.com") }))
	if w.Header().Get("Access-Control-Allow-Origin") == "" || !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Errorf("on an error: %v", w.Header())
	}
}

func TestTheAddressIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	forward := func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		r.Header.Set("X-Real-IP", "203.0.113.9")
	}
	for name, tc := range map[string]struct {
		proxies []netip.Prefix
		peer    string
		want    string
	}{
		"none configured":   {nil, "192.0.2.1:1", "192.0.2.1"},
		"loopback":          {nil, "127.0.0.1:1", "127.0.0.1"},
		"the trusted":       {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "192.0.2.1:1", "203.0.113.9"},
		"another":           {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "198.51.100.1:1", "198.51.100.1"},
		"a private peer":    {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "10.0.0.1:1", "10.0.0.1"},
		"link-local":        {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "169.254.1.1:1", "169.254.1.1"},
		"loopback, trusted": {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "127.0.0.1:1", "127.0.0.1"},
	} {
		h := newHarness(t, func(c *httpapi.Config) { c.TrustedProxies = tc.proxies })
		r := request(http.MethodGet, "/v1/credentials", "", forward)
		r.RemoteAddr = tc.peer
		h.do(r)
		if h.got.Address != tc.want {
			t.Errorf("%s: %q", name, h.got.Address)
		}
	}
}

func TestWhoAskedIsTold(t *testing.T) {
	h := newHarness(t, nil)
	w := h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Set("User-Agent", strings.Repeat("u", 300)) }))
	if h.got.ID != w.Header().Get("X-Request-Id") || h.got.UserAgent != strings.Repeat("u", 256) {
		t.Errorf("%q, %d bytes", h.got.ID, len(h.got.UserAgent))
	}
}

func TestAPanicIsAnInternalErrorAndTellsNothing(t *testing.T) {
	h := newHarness(t, nil)
	h.panics = "canary-panic " + token
	w := h.do(request(http.MethodGet, "/v1/credentials", "", nil))
	if w.Code != 500 || code(t, w) != "internal" || !strings.Contains(h.log.String(), "stack") {
		t.Errorf("%d %s, logged %s", w.Code, w.Body, &h.log)
	}
	if strings.Contains(w.Body.String()+h.log.String(), "canary") {
		t.Error("what it panicked with is seen")
	}
	h.panics = http.ErrAbortHandler
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
	}()
	h.do(request(http.MethodGet, "/v1/credentials", "", nil))
	t.Error("the abort was swallowed")
}

func TestOneEventARequestWithoutASecret(t *testing.T) {
	h := newHarness(t, nil)
	h.do(request(http.MethodGet, "/v1/credentials?path=canary-path/&grant=uploads", "", nil))
	h.do(request("CANARY", "/canary-path", "", nil))
	h.err = fmt.Errorf("%w: story", broker.ErrInternal)
	h.do(request(http.MethodGet, "/v1/credentials", "", nil))
	h.do(request(http.MethodGet, "/v1/credentials?acess=read", "", nil))
	lines := strings.Split(strings.TrimSpace(h.log.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %s", len(lines), &h.log)
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"method": "GET", "route": "/v1/credentials", "status": 200.0, "grant": "uploads", "source": "sts", "address": "192.0.2.1", "level": "INFO",
	} {
		if first[name] != want {
			t.Errorf("%s is %v", name, first[name])
		}
	}
	if strings.Contains(strings.ToLower(h.log.String()), "canary") {
		t.Errorf("logged %s", &h.log)
	}
	// There is no audit record of what never got to the broker.
	if !strings.Contains(lines[3], `unknown parameter \"acess\"`) {
		t.Errorf("the reason is not in %s", lines[3])
	}
}

func TestTheProbes(t *testing.T) {
	var notReady error
	h := newHarness(t, func(c *httpapi.Config) { c.Ready = func() error { return notReady } })
	get := func(handler http.Handler, path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for _, handler := range []http.Handler{h.api.Handler(), h.api.Admin()} {
		notReady = nil
		if status, _ := get(handler, "/readyz"); status != 200 {
			t.Errorf("ready: %d", status)
		}
		notReady = errors.New("no keys of https://issuer.example/")
		if status, _ := get(handler, "/healthz"); status != 200 {
			t.Errorf("alive: %d", status)
		}
		status, body := get(handler, "/readyz")
		if detail := strings.Contains(body, "issuer.example"); status != 503 || detail != (handler == h.api.Admin()) {
			t.Errorf("not ready: %d %s", status, body)
		}
	}
	if status, _ := get(h.api.Admin(), "/v1/credentials"); status != 404 {
		t.Errorf("credentials on the admin port: %d", status)
	}
}

// What the operator is told, the caller is not.
func TestTheAdminPortTellsHowItStands(t *testing.T) {
	at := func(minute int) time.Time {
		return time.Date(2026, 11, 24, 11, minute, 0, 0, time.FixedZone("CET", 3600)).Add(time.Hour)
	}
	var status httpapi.Status
	h := newHarness(t, func(c *httpapi.Config) { c.Status = func() httpapi.Status { return status } })
	for _, tc := range []struct {
		status httpapi.Status
		want   string
	}{
		{httpapi.Status{Revision: "r1", Since: at(0)}, `{"Status":"ready","Revision":"r1","Since":"2026-11-24T11:00:00Z"}`},
		{
			httpapi.Status{
				Revision: "r1", Since: at(0), Reload: &httpapi.Reload{At: at(1), Result: "refused", Problem: errors.New("c.yaml:1:1: lisen: unknown key")},
				Issuers: []httpapi.Issuer{
					{URL: "https://a.example/", Keys: 2, Fetched: at(59), Problem: errors.New("status 500")}, {URL: "https://b.example/"},
				},
			},
			`{"Status":"ready","Revision":"r1","Since":"2026-11-24T11:00:00Z","Reload":{"At":"2026-11-24T11:01:00Z","Result":"refused","Problem":"c.yaml:1:1: lisen: unknown key"},` +
				`"Issuers":[{"Issuer":"https://a.example/","Keys":2,"AgeSeconds":60,"Problem":"status 500"},{"Issuer":"https://b.example/","Keys":0}]}`,
		},
	} {
		status = tc.status
		w := httptest.NewRecorder()
		h.api.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if diff := cmp.Diff(tc.want, w.Body.String()); diff != "" || w.Code != 200 {
			t.Errorf("%d\n%s", w.Code, diff)
		}
		if w := h.do(httptest.NewRequest(http.MethodGet, "/readyz", nil)); w.Body.String() != `{"Status":"ready"}` {
			t.Errorf("on the public port: %s", w.Body)
		}
	}
}

func TestDocumentsMayBeKept(t *testing.T) {
	h := newHarness(t, nil)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := h.do(httptest.NewRequest(method, "/.well-known/jwks.json", nil))
		if w.Code != 200 || w.Header().Get("Cache-Control") != "public, max-age=300" || w.Header().Get("Pragma") != "" ||
			(w.Body.String() == `{"keys":[]}`) != (method == http.MethodGet) {
			t.Errorf("%s: %d %q %v", method, w.Code, w.Body, w.Header())
		}
	}
}

func TestTheModuleMayBeKeptByPagesThatMayCall(t *testing.T) {
	h := newHarness(t, nil)
	ask := func(method, origin, have string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/v1/client.js", nil)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if have != "" {
			r.Header.Set("If-None-Match", have)
		}
		return h.do(r)
	}
	tag := ask(http.MethodGet, "", "").Header().Get("ETag")
	if len(tag) != 34 || tag[0] != '"' || tag[33] != '"' {
		t.Fatalf("the tag is %q", tag)
	}
	const page = "https://app.example.com"
	for name, tc := range map[string]struct {
		method, origin, have string
		status               int
		body                 string
	}{
		"a page":                      {http.MethodGet, page, "", 200, clientJS},
		"no page":                     {http.MethodGet, "", "", 200, clientJS},
		"the header alone":            {http.MethodHead, page, "", 200, ""},
		"a page that has it":          {http.MethodGet, page, tag, 304, ""},
		"a page that has another":     {http.MethodGet, page, `"another"`, 200, clientJS},
		"the header alone, it is had": {http.MethodHead, page, tag, 304, ""},
	} {
		w := ask(tc.method, tc.origin, tc.have)
		if w.Code != tc.status || w.Body.String() != tc.body {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
		want := map[string]string{
			"Cache-Control": "public, max-age=3600", "Vary": "Origin", "Pragma": "", "ETag": tag, "X-Content-Type-Options": "nosniff",
			"Access-Control-Allow-Origin": tc.origin, "Content-Type": "", "Content-Length": "",
		}
		if tc.status == 200 {
			want["Content-Type"], want["Content-Length"] = "text/javascript; charset=utf-8", fmt.Sprint(len(clientJS))
		}
		for header, value := range want {
			if got := w.Header().Get(header); got != value {
				t.Errorf("%s: %s is %q, want %q", name, header, got, value)
			}
		}
	}
	if w := ask(http.MethodGet, "https://evil.example", ""); w.Code != 403 || code(t, w) != "origin_not_allowed" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("another page: %d %v", w.Code, w.Header())
	}
	if w := ask(http.MethodPost, page, ""); w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
	if h.calls != 0 {
		t.Errorf("%d calls of the broker", h.calls)
	}
	other := newHarness(t, func(c *httpapi.Config) { c.ClientJS = []byte(clientJS + "// changed\n") })
	if got := other.do(httptest.NewRequest(http.MethodGet, "/v1/client.js", nil)).Header().Get("ETag"); got == tag {
		t.Errorf("another module has the same tag %s", got)
	}
	without := newHarness(t, func(c *httpapi.Config) { c.ClientJS = nil })
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if w := without.do(httptest.NewRequest(method, "/v1/client.js", nil)); w.Code != 404 {
			t.Errorf("%s without a module: %d", method, w.Code)
		}
	}
}

func TestAnAPIThatIsNotWholeIsNotMade(t *testing.T) {
	for name, change := range map[string]func(*httpapi.Config){
		"no broker":    func(c *httpapi.Config) { c.Broker = nil },
		"no readiness": func(c *httpapi.Config) { c.Ready = nil },
		"no limit":     func(c *httpapi.Config) { c.TokenBytes = 0 },
		"any origin":   func(c *httpapi.Config) { c.AllowedOrigins = []string{"*"} },
		"a wildcard":   func(c *httpapi.Config) { c.AllowedOrigins = []string{"https://*.example.com"} },
		"null":         func(c *httpapi.Config) { c.AllowedOrigins = []string{"null"} },
		"a path":       func(c *httpapi.Config) { c.AllowedOrigins = []string{"https://a.example/"} },
		"a user":       func(c *httpapi.Config) { c.AllowedOrigins = []string{"https://u@a.example"} },
		"no host":      func(c *httpapi.Config) { c.AllowedOrigins = []string{"https://"} },
		"half a host":  func(c *httpapi.Config) { c.AllowedOrigins = []string{"https://[::1"} },
		"no web":       func(c *httpapi.Config) { c.AllowedOrigins = []string{"ftp://a.example"} },
		"no scheme":    func(c *httpapi.Config) { c.AllowedOrigins = []string{"a.example"} },
	} {
		cfg := httpapi.Config{Broker: &exchanger{}, Ready: func() error { return nil }, TokenBytes: 1}
		change(&cfg)
		if _, err := httpapi.New(cfg); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

func TestAnOriginMayBeOfADevelopersOwnMachine(t *testing.T) {
	h := newHarness(t, func(c *httpapi.Config) {
		c.AllowedOrigins = []string{"http://localhost:3000", "https://a.example:8443"}
	})
	for _, origin := range []string{"http://localhost:3000", "https://a.example:8443"} {
		w := h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header.Set("Origin", origin) }))
		if w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s: %d", origin, w.Code)
		}
	}
}

func TestTheServerHasItsLimits(t *testing.T) {
	s := httpapi.NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 || s.ErrorLog == nil {
		t.Errorf("%+v", s)
	}
}

// The AWS SDK for Go, which takes an empty answer for credentials and reads
// errors of the exact type only.
func TestTheSDKsOwnProviderReadsAnswersAndErrors(t *testing.T) {
	h := newHarness(t, nil)
	server := httptest.NewServer(h.api.Handler())
	defer server.Close()
	provider := endpointcreds.New(server.URL+"/v1/credentials", func(o *endpointcreds.Options) { o.AuthorizationToken = "Bearer " + token })
	creds, err := provider.Retrieve(t.Context())
	if err != nil || creds.AccessKeyID != "ASIAEXAMPLE" || creds.SecretAccessKey != secret || creds.SessionToken != session || creds.AccountID != "123456789012" {
		t.Errorf("%+v, %v", creds, err)
	}
	h.err = broker.ErrInvalidTenant
	if _, err := provider.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "invalid_tenant") {
		t.Errorf("the error does not name its code: %v", err)
	}
}

// Whatever the header: what gets through is one compact token, byte for byte a
// part of the header, within the limit.
func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"Bearer " + token, token, "", "Basic x", "Bearer  a.b.c", "bearer a.b.c,d", "Bearer a.b.c d.e.f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		h := newHarness(t, func(c *httpapi.Config) { c.Log = nil })
		w := h.do(request(http.MethodGet, "/v1/credentials", "", func(r *http.Request) { r.Header["Authorization"] = []string{header} }))
		if (w.Code == 200) != (h.calls == 1) {
			t.Fatalf("%q: %d after %d calls", header, w.Code, h.calls)
		}
		if got := h.got.Token.Reveal(); h.calls == 1 && (strings.Count(got, ".") != 2 || len(got) > tokenMax || !strings.HasSuffix(header, got) || strings.ContainsAny(got, " \t,")) {
			t.Fatalf("%q became %q", header, got)
		}
	})
}

// Whatever the body: what gets through is one JSON object of known members.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{}`, `{"grant":"a"}`, `{"access":["read"],"duration":900}`, `{"grant":"a","grant":"b"}`, `{"a":{}}`, `[`, `{"path":"\ud800"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		h := newHarness(t, func(c *httpapi.Config) { c.Log = nil })
		w := h.do(request(http.MethodPost, "/v1/credentials", body, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }))
		if w.Code != 200 && w.Code != 400 && w.Code != 413 {
			t.Fatalf("%q: %d", body, w.Code)
		}
		if w.Code == 200 && strings.TrimSpace(body) != "" {
			dec := json.NewDecoder(strings.NewReader(body))
			var v map[string]any
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("%q is taken: %v", body, err)
			}
			if _, err := dec.Token(); !errors.Is(err, io.EOF) {
				t.Fatalf("%q is taken with something after it", body)
			}
		}
	})
}
