package awssts_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/awssts"
	"credential-broker/policy"
)

const (
	canaryToken   = "canary-token.x.y"
	canarySecret  = "canary-secret-key"
	canarySession = "canary-session-token"
)

// fakeSTS is STS as a RoundTripper: what it answers, and what it was asked.
type fakeSTS struct {
	mu     sync.Mutex
	forms  []url.Values
	hosts  []string
	answer func(call int, form url.Values) (*http.Response, error)
	calls  atomic.Int64
}

func (f *fakeSTS) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.forms, f.hosts = append(f.forms, form), append(f.hosts, r.URL.Scheme+"://"+r.URL.Host)
	if r.Header.Get("Authorization") != "" {
		panic("the call is signed")
	}
	f.mu.Unlock()
	n := int(f.calls.Add(1))
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := f.answer(n, form)
		done <- result{resp, err}
	}()
	select {
	case got := <-done:
		return got.resp, got.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func response(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {"text/xml"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1,
	}
}

// fields are what a good answer says; a test changes one.
type fields struct {
	accessKey, secret, session, expiration, arn, subject, audience, provider, source string
	omit                                                                             string // an element that is left out whole
}

func goodFields(form url.Values) fields {
	seconds, _ := time.ParseDuration(form.Get("DurationSeconds") + "s")
	return fields{
		accessKey: "ASIAEXAMPLE", secret: canarySecret, session: canarySession,
		expiration: time.Now().Add(seconds).UTC().Format(time.RFC3339),
		arn:        "arn:aws:sts::123456789012:assumed-role/uploads/" + form.Get("RoleSessionName"),
		subject:    "user1", audience: "sts.amazonaws.com", provider: "arn:aws:iam::123456789012:oidc-provider/broker.example", source: "user1",
	}
}

func (f fields) xml() string {
	element := func(name, value string) string {
		if value == "" {
			return ""
		}
		return "<" + name + ">" + value + "</" + name + ">"
	}
	group := func(name string, of ...string) string {
		if name == f.omit {
			return ""
		}
		return "<" + name + ">" + strings.Join(of, "") + "</" + name + ">"
	}
	return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
		element("SubjectFromWebIdentityToken", f.subject) + element("Audience", f.audience) + element("Provider", f.provider) + element("SourceIdentity", f.source) +
		group("AssumedRoleUser", element("Arn", f.arn), element("AssumedRoleId", "AROA:x")) +
		group("Credentials", element("AccessKeyId", f.accessKey), element("SecretAccessKey", f.secret), element("SessionToken", f.session), element("Expiration", f.expiration)) +
		`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
}

func good(_ int, form url.Values) (*http.Response, error) {
	return response(http.StatusOK, goodFields(form).xml()), nil
}

func refusal(status int, code, message string) func(int, url.Values) (*http.Response, error) {
	body := fmt.Sprintf(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, code, message)
	return func(int, url.Values) (*http.Response, error) { return response(status, body), nil }
}

func assert(callersOwn bool) func(context.Context, broker.Order) (broker.Assertion, error) {
	return func(context.Context, broker.Order) (broker.Assertion, error) {
		return broker.Assertion{
			Token: broker.NewSecret(canaryToken), Issuer: "https://broker.example", Subject: "user1",
			Audiences: []string{"sts.amazonaws.com"}, SourceIdentity: "user1", CallersOwn: callersOwn,
		}, nil
	}
}

// setup is a client before its fake; change changes the configuration.
func setup(t testing.TB, f *fakeSTS, change func(*awssts.Config)) (*awssts.Client, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cfg := awssts.Config{
		Region: "eu-west-1", MaxConcurrent: 2, Assert: assert(false), Transport: f, Log: slog.New(slog.NewJSONHandler(&log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := awssts.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, &log
}

func order(t testing.TB, change func(*broker.Order)) broker.Order {
	t.Helper()
	tenant, err := policy.ParseTenant("org_acme")
	if err != nil {
		t.Fatal(err)
	}
	template, _ := policy.ParseTemplate("tenants/{tenant}/")
	bucket, _ := policy.ParseBucket("acme-uploads")
	prefix, _ := template.Render(tenant, policy.User{})
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/path/uploads")
	if err != nil {
		t.Fatal(err)
	}
	s3 := policy.Scope{Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.Read}
	document, err := policy.Generate(s3)
	if err != nil {
		t.Fatal(err)
	}
	o := broker.Order{
		Scope:    broker.Scope{Tenant: tenant, RoleARN: role, S3: s3, Duration: time.Hour},
		Document: document, SessionName: "cb-session", Lifetime: time.Hour,
	}
	if change != nil {
		change(&o)
	}
	return o
}

func TestTheCallIsWhatWasOrdered(t *testing.T) {
	f := &fakeSTS{answer: good}
	c, log := setup(t, f, nil)
	o := order(t, nil)
	creds, err := c.Issue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "DurationSeconds": {"3600"}, "Policy": {o.Document.String()},
		"RoleArn": {"arn:aws:iam::123456789012:role/path/uploads"}, "RoleSessionName": {"cb-session"}, "WebIdentityToken": {canaryToken},
	}
	if got := f.forms[0]; got.Encode() != want.Encode() {
		t.Errorf("sent %v", got)
	}
	if f.hosts[0] != "https://sts.eu-west-1.amazonaws.com" {
		t.Errorf("asked %s", f.hosts[0])
	}
	if creds.AccessKeyID != "ASIAEXAMPLE" || creds.SecretAccessKey.Reveal() != canarySecret || creds.SessionToken.Reveal() != canarySession ||
		creds.Scope != o.Scope || creds.SessionName != o.SessionName || creds.Source != broker.FromSTS || !creds.Fresh(time.Now()) {
		t.Errorf("got %+v", creds)
	}
	if log.Len() != 0 {
		t.Errorf("logged %s", log)
	}
}

func TestTheEnvironmentGivesNeitherCredentialsNorAnEndpoint(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env", "AWS_ENDPOINT_URL": "https://env.example", "AWS_ENDPOINT_URL_STS": "https://env.example",
		"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/env", "AWS_WEB_IDENTITY_TOKEN_FILE": "/dev/null", "AWS_PROFILE": "env", "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_DEFAULTS_MODE": "auto",
	} {
		t.Setenv(name, value)
	}
	f := &fakeSTS{answer: good}
	c, _ := setup(t, f, nil)
	if _, err := c.Issue(t.Context(), order(t, nil)); err != nil {
		t.Fatal(err)
	}
	if f.hosts[0] != "https://sts.eu-west-1.amazonaws.com" {
		t.Errorf("asked %s", f.hosts[0])
	}
}

func TestABundleOfRootsIsReadOrSaid(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, goodFields(r.PostForm).xml())
	}))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := awssts.Config{Region: "eu-west-1", MaxConcurrent: 1, Assert: assert(false), Endpoint: server.URL}
	for file, want := range map[string]broker.Class{bundle: "", "": broker.ErrSTSUnavailable} {
		t.Setenv("AWS_CA_BUNDLE", file)
		c, err := awssts.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Issue(t.Context(), order(t, nil)); broker.ClassOf(err) != want {
			t.Errorf("bundle %q: %v", file, err)
		}
	}
	for file, want := range map[string]string{"/nonexistent": "no such file", "/dev/null": "no certificate in"} {
		t.Setenv("AWS_CA_BUNDLE", file)
		if _, err := awssts.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bundle %q: %v", file, err)
		}
	}
}

// What the SDK cannot read of the environment it says, where it would otherwise
// go on with what it had read until then.
func TestAnEnvironmentThatCannotBeReadIsSaid(t *testing.T) {
	cfg := awssts.Config{Region: "eu-west-1", MaxConcurrent: 1, Assert: assert(false)}
	if _, err := awssts.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_MAX_ATTEMPTS", "many")
	if _, err := awssts.New(cfg); err == nil || !strings.Contains(err.Error(), "AWS_MAX_ATTEMPTS") {
		t.Errorf("got %v", err)
	}
}

func TestAnOwnEndpointIsAsked(t *testing.T) {
	f := &fakeSTS{answer: good}
	c, _ := setup(t, f, func(cfg *awssts.Config) { cfg.Endpoint = "http://127.0.0.1:9000" })
	if _, err := c.Issue(t.Context(), order(t, nil)); err != nil || f.hosts[0] != "http://127.0.0.1:9000" {
		t.Errorf("%v, %v", f.hosts, err)
	}
}

func TestAClientThatIsNotWholeIsNotMade(t *testing.T) {
	for name, change := range map[string]func(*awssts.Config){
		"no region":       func(c *awssts.Config) { c.Region = "" },
		"nothing to show": func(c *awssts.Config) { c.Assert = nil },
		"no places":       func(c *awssts.Config) { c.MaxConcurrent = 0 },
		"too patient":     func(c *awssts.Config) { c.Timeout = awssts.MaxTimeout + 1 },
		"negative":        func(c *awssts.Config) { c.Timeout = -1 },
	} {
		cfg := awssts.Config{Region: "eu-west-1", MaxConcurrent: 1, Assert: assert(false)}
		change(&cfg)
		if _, err := awssts.New(cfg); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// The last gate: nothing of this gets as far as STS.
func TestWhatIsNotProvedIsNotSent(t *testing.T) {
	for name, change := range map[string]func(*broker.Order){
		"no document":          func(o *broker.Order) { o.Document = policy.Document{} },
		"another's document":   func(o *broker.Order) { o.Scope.S3.Bucket, _ = policy.ParseBucket("other-bucket") },
		"more than the scope":  func(o *broker.Order) { o.Scope.S3.Access = policy.List },
		"no scope":             func(o *broker.Order) { o.Scope.S3 = policy.Scope{} },
		"no session name":      func(o *broker.Order) { o.SessionName = "" },
		"a session of one":     func(o *broker.Order) { o.SessionName = "a" },
		"an illegal session":   func(o *broker.Order) { o.SessionName = "auth0|alice" },
		"a session too long":   func(o *broker.Order) { o.SessionName = strings.Repeat("a", 65) },
		"a life too short":     func(o *broker.Order) { o.Lifetime = 899 * time.Second },
		"a life too long":      func(o *broker.Order) { o.Lifetime = 12*time.Hour + time.Second },
		"a life of a fraction": func(o *broker.Order) { o.Lifetime = time.Hour + time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeSTS{answer: good}
			c, log := setup(t, f, nil)
			creds, err := c.Issue(t.Context(), order(t, change))
			if broker.ClassOf(err) != broker.ErrInternal || creds != (broker.Credentials{}) || f.calls.Load() != 0 {
				t.Errorf("%d calls, %v", f.calls.Load(), err)
			}
			if !strings.Contains(log.String(), `"level":"ERROR"`) {
				t.Errorf("logged %q", log)
			}
		})
	}
}

// CC11: what is missing, past or not what was asked for.
func TestAnAnswerThatIsNotWhatWasAskedIsDiscarded(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for name, change := range map[string]func(*fields){
		"no credentials":     func(f *fields) { f.omit = "Credentials" },
		"no assumed role":    func(f *fields) { f.omit = "AssumedRoleUser" },
		"no access key":      func(f *fields) { f.accessKey = "" },
		"no secret key":      func(f *fields) { f.secret = "" },
		"no session token":   func(f *fields) { f.session = "" },
		"no expiration":      func(f *fields) { f.expiration = "" },
		"ended already":      func(f *fields) { f.expiration = at(-time.Second) },
		"ends too late":      func(f *fields) { f.expiration = at(time.Hour + 6*time.Minute) },
		"another session":    func(f *fields) { f.arn = "arn:aws:sts::123456789012:assumed-role/uploads/other" },
		"another role":       func(f *fields) { f.arn = "arn:aws:sts::123456789012:assumed-role/admin/cb-session" },
		"another account":    func(f *fields) { f.arn = "arn:aws:sts::210987654321:assumed-role/uploads/cb-session" },
		"no role":            func(f *fields) { f.arn = "" },
		"another subject":    func(f *fields) { f.subject = "user2" },
		"no subject":         func(f *fields) { f.subject = "" },
		"another audience":   func(f *fields) { f.audience = "other" },
		"another provider":   func(f *fields) { f.provider = "arn:aws:iam::123456789012:oidc-provider/evil.example" },
		"no provider":        func(f *fields) { f.provider = "" },
		"another's identity": func(f *fields) { f.source = "user2" },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeSTS{answer: func(_ int, form url.Values) (*http.Response, error) {
				answer := goodFields(form)
				change(&answer)
				return response(http.StatusOK, answer.xml()), nil
			}}
			c, log := setup(t, f, nil)
			creds, err := c.Issue(t.Context(), order(t, nil))
			if broker.ClassOf(err) != broker.ErrInternal || creds != (broker.Credentials{}) || f.calls.Load() != 1 {
				t.Errorf("%d calls, %v", f.calls.Load(), err)
			}
			if !strings.Contains(log.String(), "did not do what it was asked") {
				t.Errorf("logged %q", log)
			}
			mustHoldNoSecret(t, log.String(), err)
		})
	}
}

// A server that knows no source identities answers without one; and one that a
// caller's own token carries is not known here.
func TestASourceIdentityIsComparedWhereBothSidesHaveOne(t *testing.T) {
	for name, tc := range map[string]struct{ answered, showed string }{
		"not answered": {"", "user1"}, "not known": {"user2", ""},
	} {
		f := &fakeSTS{answer: func(_ int, form url.Values) (*http.Response, error) {
			answer := goodFields(form)
			answer.source = tc.answered
			return response(http.StatusOK, answer.xml()), nil
		}}
		c, _ := setup(t, f, func(c *awssts.Config) {
			c.Assert = func(ctx context.Context, o broker.Order) (broker.Assertion, error) {
				a, err := assert(true)(ctx, o)
				a.SourceIdentity = tc.showed
				return a, err
			}
		})
		if _, err := c.Issue(t.Context(), order(t, nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProvidersAreNamedInTwoWays(t *testing.T) {
	for _, provider := range []string{"arn:aws:iam::123456789012:oidc-provider/broker.example", "arn:aws:iam::123456789012:oidc-provider/broker.example/", "https://broker.example", "https://broker.example/"} {
		f := &fakeSTS{answer: func(_ int, form url.Values) (*http.Response, error) {
			answer := goodFields(form)
			answer.provider = provider
			return response(http.StatusOK, answer.xml()), nil
		}}
		c, _ := setup(t, f, nil)
		if _, err := c.Issue(t.Context(), order(t, nil)); err != nil {
			t.Errorf("%s: %v", provider, err)
		}
	}
}

func TestErrorsAreClassifiedByCodeAndOnlyThePassingOnesRetried(t *testing.T) {
	for _, tc := range []struct {
		status     int
		code, text string
		callersOwn bool
		class      broker.Class
		calls      int64
		alert      bool
	}{
		{400, "IDPCommunicationError", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "Throttling", "Rate exceeded", false, broker.ErrSTSUnavailable, 2, false},
		{400, "ThrottlingException", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "RequestLimitExceeded", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "TooManyRequestsException", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "InternalFailure", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "InternalError", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "ServiceUnavailable", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "RequestTimeout", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "RequestTimeoutException", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "InvalidIdentityToken", "Couldn&#39;t retrieve verification key from your identity provider", false, broker.ErrSTSUnavailable, 2, false},
		{500, "InternalFailure", "", false, broker.ErrSTSUnavailable, 2, false},
		{503, "ServiceUnavailable", "", false, broker.ErrSTSUnavailable, 2, false},
		{502, "SomethingElse", "", false, broker.ErrSTSUnavailable, 2, false},
		{400, "InvalidIdentityToken", "Incorrect token audience", false, broker.ErrSTSRejected, 1, true},
		{403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", false, broker.ErrSTSRejected, 1, true},
		{403, "RegionDisabledException", "", false, broker.ErrSTSRejected, 1, true},
		{500, "AccessDenied", "", false, broker.ErrSTSRejected, 1, true}, // the code counts, whatever the status
		{500, "RegionDisabledException", "", false, broker.ErrSTSRejected, 1, true},
		{400, "SomethingNew", "", false, broker.ErrSTSRejected, 1, true},
		{400, "ExpiredTokenException", "", true, broker.ErrExpiredToken, 1, false},
		{403, "IDPRejectedClaim", "", true, broker.ErrExpiredToken, 1, false},
		{400, "ExpiredTokenException", "", false, broker.ErrSTSRejected, 1, true}, // a token made here a moment ago
		{400, "MalformedPolicyDocument", "", false, broker.ErrInternal, 1, true},
		{400, "PackedPolicyTooLarge", "", false, broker.ErrInternal, 1, true},
		{400, "ValidationError", "", false, broker.ErrInternal, 1, true},
	} {
		t.Run(fmt.Sprint(tc.status, " ", tc.code, " ", tc.text), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSTS{answer: refusal(tc.status, tc.code, tc.text)}
				c, log := setup(t, f, func(cfg *awssts.Config) { cfg.Assert = assert(tc.callersOwn) })
				creds, err := c.Issue(t.Context(), order(t, nil))
				if got := broker.ClassOf(err); got != tc.class || f.calls.Load() != tc.calls || creds != (broker.Credentials{}) {
					t.Errorf("class %q after %d calls, want %q after %d: %v", got, f.calls.Load(), tc.class, tc.calls, err)
				}
				if after, ok := broker.RetryAfter(err); ok != (tc.class == broker.ErrSTSUnavailable) {
					t.Errorf("retry after %s, %t", after, ok)
				}
				if alert := strings.Contains(log.String(), `"level":"ERROR"`); alert != tc.alert {
					t.Errorf("logged %q", log)
				}
				mustHoldNoSecret(t, log.String(), err)
			})
		})
	}
}

func TestWhatPassesOnTheSecondAttemptIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{}
		f.answer = func(call int, form url.Values) (*http.Response, error) {
			if call == 1 {
				return refusal(400, "Throttling", "")(call, form)
			}
			return good(call, form)
		}
		c, _ := setup(t, f, nil)
		if _, err := c.Issue(t.Context(), order(t, nil)); err != nil {
			t.Error(err)
		}
	})
}

func TestAnSTSThatAnswersNothingOfUseIsUnavailable(t *testing.T) {
	for name, answer := range map[string]func(int, url.Values) (*http.Response, error){
		"not XML":       func(int, url.Values) (*http.Response, error) { return response(200, "<html>"), nil },
		"a wrong root":  func(int, url.Values) (*http.Response, error) { return response(200, "<a></a>"), nil },
		"no connection": func(int, url.Values) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"an endless answer": func(int, url.Values) (*http.Response, error) {
			r := response(200, "")
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(endless{}, 100<<20)), -1
			return r, nil
		},
		"a redirect": func(int, url.Values) (*http.Response, error) {
			r := response(302, "")
			r.Header.Set("Location", "https://evil.example/")
			return r, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeSTS{answer: answer}
			c, log := setup(t, f, nil)
			creds, err := c.Issue(t.Context(), order(t, nil))
			class := broker.ClassOf(err)
			if class != broker.ErrSTSUnavailable && (class != broker.ErrSTSRejected || name != "a redirect") || creds != (broker.Credentials{}) {
				t.Errorf("class %q: %v", class, err)
			}
			for _, host := range f.hosts {
				if strings.Contains(host, "evil") {
					t.Error("the token was sent elsewhere")
				}
			}
			mustHoldNoSecret(t, log.String(), err)
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// CC15
func TestAnSTSThatHangsCostsNoMoreThanTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(int, url.Values) (*http.Response, error) {
			<-time.After(time.Minute)
			return nil, io.EOF
		}}
		c, _ := setup(t, f, nil)
		begin := time.Now()
		_, err := c.Issue(t.Context(), order(t, nil))
		if took := time.Since(begin); took > awssts.MaxTimeout || broker.ClassOf(err) != broker.ErrSTSUnavailable {
			t.Errorf("after %s: %v", took, err)
		}
		<-time.After(time.Minute) // the fake's own goroutine
	})
}

// CC18
func TestNoMoreOrdersAreUnderWayThanThereArePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(int, url.Values) (*http.Response, error) {
			<-time.After(time.Minute)
			return nil, io.EOF
		}}
		c, _ := setup(t, f, nil) // two places
		var unavailable, busy atomic.Int64
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, err := c.Issue(t.Context(), order(t, nil))
				_, retry := broker.RetryAfter(err)
				switch class := broker.ClassOf(err); {
				case class == broker.ErrBusy && retry:
					busy.Add(1)
				case class == broker.ErrSTSUnavailable && retry:
					unavailable.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if unavailable.Load() != 2 || busy.Load() != 3 || f.calls.Load() != 2 {
			t.Errorf("%d unavailable, %d busy, %d calls", unavailable.Load(), busy.Load(), f.calls.Load())
		}
		<-time.After(time.Minute) // the fake's own goroutines
	})
}

func TestWhoGoesAwayDoesNotWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
			<-time.After(time.Second)
			return good(call, form)
		}}
		var asserted atomic.Int64
		c, _ := setup(t, f, func(cfg *awssts.Config) {
			cfg.MaxConcurrent = 1
			cfg.Assert = func(ctx context.Context, o broker.Order) (broker.Assertion, error) {
				asserted.Add(1)
				return assert(false)(ctx, o)
			}
		})
		var first sync.WaitGroup
		first.Go(func() {
			if _, err := c.Issue(t.Context(), order(t, nil)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // the place is taken
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		begin := time.Now()
		creds, err := c.Issue(ctx, order(t, nil))
		if took := time.Since(begin); took != 100*time.Millisecond || broker.ClassOf(err) != broker.ErrBusy || creds != (broker.Credentials{}) {
			t.Errorf("after %s: %v", took, err)
		}
		first.Wait()
		if f.calls.Load() != 1 || asserted.Load() != 1 { // no token is made for who is gone, either
			t.Errorf("%d calls, %d tokens", f.calls.Load(), asserted.Load())
		}
	})
}

// The timeout ends in the pause between two attempts: no second one is made, and
// the answer is that of the first.
func TestThePauseBetweenAttemptsEndsWithTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
			<-time.After(awssts.MaxTimeout - 10*time.Millisecond) // no pause is as short as what is left
			return refusal(400, "Throttling", "Rate exceeded")(call, form)
		}}
		c, _ := setup(t, f, nil)
		begin := time.Now()
		_, err := c.Issue(t.Context(), order(t, nil))
		if took := time.Since(begin); took != awssts.MaxTimeout || f.calls.Load() != 1 {
			t.Errorf("after %s and %d calls", took, f.calls.Load())
		}
		if broker.ClassOf(err) != broker.ErrSTSUnavailable || !strings.Contains(err.Error(), "Rate exceeded") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhoWaitedForAPlaceIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
			<-time.After(500 * time.Millisecond)
			return good(call, form)
		}}
		c, _ := setup(t, f, nil) // two places
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if _, err := c.Issue(t.Context(), order(t, nil)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestWithoutATokenNothingIsAsked(t *testing.T) {
	f := &fakeSTS{answer: good}
	c, _ := setup(t, f, func(cfg *awssts.Config) {
		cfg.Assert = func(context.Context, broker.Order) (broker.Assertion, error) { return broker.Assertion{}, io.EOF }
	})
	if _, err := c.Issue(t.Context(), order(t, nil)); broker.ClassOf(err) != broker.ErrInternal || f.calls.Load() != 0 {
		t.Errorf("%d calls, %v", f.calls.Load(), err)
	}
}

func mustHoldNoSecret(t testing.TB, log string, err error) {
	t.Helper()
	for _, secret := range []string{canaryToken, canarySecret, canarySession} {
		if strings.Contains(log, secret) || err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q is in the log or the error", secret)
		}
	}
}
