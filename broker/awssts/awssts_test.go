package awssts_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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
	times  []time.Time
	under  int // calls that are under way
	peak   int
	answer func(call int, form url.Values) (*http.Response, error)
	at     map[string]func(call int, form url.Values) (*http.Response, error) // :: region → what it answers instead
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
	f.forms, f.hosts, f.times = append(f.forms, form), append(f.hosts, r.URL.Scheme+"://"+r.URL.Host), append(f.times, time.Now())
	if r.Header.Get("Authorization") != "" {
		panic("the call is signed")
	}
	answer := f.answer
	if a, ok := f.at[strings.TrimSuffix(strings.TrimPrefix(r.URL.Host, "sts."), ".amazonaws.com")]; ok {
		answer = a
	}
	f.under++
	f.peak = max(f.peak, f.under)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.under--
		f.mu.Unlock()
	}()
	n := int(f.calls.Add(1))
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := answer(n, form)
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
		Region: "eu-west-1", MaxConcurrent: 2, PerSecond: 1000, Assert: assert(false), Transport: f, Log: slog.New(slog.NewJSONHandler(&log, nil)),
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

// Threat cases ST01 and ST19: the duration is the order's, which the caller can
// only shorten.
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
	cfg := awssts.Config{Region: "eu-west-1", MaxConcurrent: 1, PerSecond: 100, Assert: assert(false), Endpoint: server.URL}
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

// What the environment says to other programs of the SDK is not read, and cannot stop
// the broker where it cannot be.
func TestTheRestOfTheEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "many")
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "perhaps")
	if _, err := awssts.New(awssts.Config{Region: "eu-west-1", MaxConcurrent: 1, PerSecond: 100, Assert: assert(false)}); err != nil {
		t.Error(err)
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
		"no other region": func(c *awssts.Config) { c.FallbackRegions = []string{"eu-west-2", ""} },
		"one endpoint for two regions": func(c *awssts.Config) {
			c.Endpoint, c.FallbackRegions = "https://sts.example", []string{"eu-west-2"}
		},
		"nothing to show": func(c *awssts.Config) { c.Assert = nil },
		"no places":       func(c *awssts.Config) { c.MaxConcurrent = 0 },
		"no calls":        func(c *awssts.Config) { c.PerSecond = 0 },
		"too patient":     func(c *awssts.Config) { c.Timeout = awssts.MaxTimeout + 1 },
		"negative":        func(c *awssts.Config) { c.Timeout = -1 },
	} {
		cfg := awssts.Config{Region: "eu-west-1", MaxConcurrent: 1, PerSecond: 100, Assert: assert(false)}
		change(&cfg)
		if _, err := awssts.New(cfg); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// Threat cases ST18 and ST19. The last gate: nothing of this gets as far as STS.
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
			wantAlert(t, log.String(), awssts.AlertUnproved, 1)
		})
	}
}

// Threat cases CC11, ST16 and ST17.
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
		"ends in 36 hours":   func(f *fields) { f.expiration = at(36 * time.Hour) },
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
			wantAlert(t, log.String(), awssts.AlertAnswer, 1)
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

// Threat cases ST02 to ST11. The list asks for 401 where STS refuses a token; what
// STS refuses here was verified before, so it is our configuration, and an alert.
func TestErrorsAreClassifiedByCodeAndOnlyThePassingOnesRetried(t *testing.T) {
	const noKey = "Couldn&#39;t retrieve verification key from your identity provider"
	for _, tc := range []struct {
		threat     string
		status     int
		code, text string
		callersOwn bool
		class      broker.Class
		calls      int64
		alert      awssts.Alert
	}{
		{"ST02", 400, "InvalidIdentityToken", "Incorrect token audience", false, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"ST02", 400, "InvalidIdentityToken", "No OpenIDConnect provider found. Couldn&#39;t retrieve verification key", true, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"ST02", 400, "InvalidIdentityToken", noKey, false, broker.ErrSTSUnavailable, 2, ""},
		{"ST03", 400, "ExpiredTokenException", "", true, broker.ErrExpiredToken, 1, ""},
		{"ST03", 400, "ExpiredTokenException", "", false, broker.ErrSTSRejected, 1, awssts.AlertClock}, // a token made here a moment ago
		{"ST03", 400, "ExpiredToken", "", true, broker.ErrSTSRejected, 1, awssts.AlertRejected},        // S3's code, not STS's
		{"ST04", 403, "IDPRejectedClaim", "", true, broker.ErrExpiredToken, 1, ""},
		{"ST04", 403, "IDPRejectedClaim", "", false, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"ST05", 400, "IDPCommunicationError", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST06", 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", false, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"ST06", 500, "AccessDenied", "", false, broker.ErrSTSRejected, 1, awssts.AlertRejected}, // the code counts, whatever the status
		{"ST07", 400, "MalformedPolicyDocument", "", false, broker.ErrInternal, 1, awssts.AlertPolicy},
		{"ST08", 400, "PackedPolicyTooLarge", "", false, broker.ErrInternal, 1, awssts.AlertPolicy},
		{"ST09", 400, "ValidationError", "1 validation error detected: Value at &#39;policy&#39;", false, broker.ErrInternal, 1, awssts.AlertPolicy},
		{"ST10", 400, "Throttling", "Rate exceeded", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "ThrottlingException", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "ThrottledException", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "RequestThrottled", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "RequestThrottledException", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "RequestLimitExceeded", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "TooManyRequestsException", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 400, "SlowDown", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST10", 429, "SomethingElse", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 500, "InternalFailure", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 503, "ServiceUnavailable", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 400, "InternalFailure", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 400, "InternalError", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 400, "ServiceUnavailable", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 400, "RequestTimeout", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 400, "RequestTimeoutException", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 502, "SomethingElse", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"ST11", 500, "SomethingElse", "", false, broker.ErrSTSUnavailable, 2, ""},
		{"", 499, "SomethingElse", "", false, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"", 428, "SomethingElse", "", false, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"", 430, "SomethingElse", "", false, broker.ErrSTSRejected, 1, awssts.AlertRejected},
		{"ST20", 403, "RegionDisabledException", "", false, broker.ErrSTSRejected, 1, awssts.AlertRegion},
		{"ST20", 500, "RegionDisabledException", "", false, broker.ErrSTSRejected, 1, awssts.AlertRegion},
	} {
		t.Run(fmt.Sprint(tc.threat, " ", tc.status, " ", tc.code, " ", tc.callersOwn, " ", tc.text), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSTS{answer: refusal(tc.status, tc.code, tc.text)}
				var told []awssts.Alert
				c, log := setup(t, f, func(cfg *awssts.Config) {
					cfg.Assert = assert(tc.callersOwn)
					cfg.Observe = func(e awssts.Event) {
						if e.Alert != "" {
							told = append(told, e.Alert)
						}
					}
				})
				creds, err := c.Issue(t.Context(), order(t, nil))
				if got := broker.ClassOf(err); got != tc.class || f.calls.Load() != tc.calls || creds != (broker.Credentials{}) {
					t.Errorf("class %q after %d calls, want %q after %d: %v", got, f.calls.Load(), tc.class, tc.calls, err)
				}
				if after, ok := broker.RetryAfter(err); ok != (tc.class == broker.ErrSTSUnavailable) || ok && after != 2*time.Second {
					t.Errorf("retry after %s, %t", after, ok)
				}
				if tc.alert == "" {
					if log.Len() != 0 || told != nil {
						t.Errorf("alerts %q, logged %s", told, log)
					}
				} else {
					wantAlert(t, log.String(), tc.alert, 1)
					if !slices.Equal(told, []awssts.Alert{tc.alert}) {
						t.Errorf("alerts %q", told)
					}
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

// Threat cases ST12, ST14 and ST15: no answer, or none that can be read.
func TestAnSTSThatAnswersNothingOfUseIsUnavailable(t *testing.T) {
	for name, answer := range map[string]answerer{
		"ST12 no connection": refusedConnection,
		"ST12 no name": func(int, url.Values) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "sts.eu-west-1.amazonaws.com", IsNotFound: true}
		},
		"ST14 an endless answer": func(int, url.Values) (*http.Response, error) {
			r := response(200, "")
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(endless{}, 100<<20)), -1
			return r, nil
		},
		"ST15 not XML":          func(int, url.Values) (*http.Response, error) { return response(200, "<html>"), nil },
		"ST15 a wrong root":     func(int, url.Values) (*http.Response, error) { return response(200, "<a></a>"), nil },
		"ST15 a proxy's answer": func(int, url.Values) (*http.Response, error) { return response(502, "<html>Bad Gateway</html>"), nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fakeSTS{answer: answer}
				c, log := setup(t, f, nil)
				_, err := issue(t, c)
				if broker.ClassOf(err) != broker.ErrSTSUnavailable || retryAfter(err) != 2*time.Second || f.calls.Load() != 2 {
					t.Errorf("%d calls: %v", f.calls.Load(), err)
				}
				mustHoldNoSecret(t, log.String(), err)
			})
		})
	}
}

// real is a client that has its own transport, and an STS on this machine.
func real(t testing.TB, endpoint string) (*awssts.Client, *bytes.Buffer) {
	t.Helper()
	return setup(t, nil, func(cfg *awssts.Config) { cfg.Transport, cfg.Endpoint, cfg.Timeout = nil, endpoint, time.Second })
}

// Threat case ST12, over the network.
func TestWhoIsNotThereOrIsSomebodyElseIsUnavailable(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c, log := real(t, "http://"+l.Addr().String())
	if _, err := issue(t, c); broker.ClassOf(err) != broker.ErrSTSUnavailable || !strings.Contains(err.Error(), "refused") || log.Len() != 0 {
		t.Errorf("%v, logged %s", err, log)
	}
	// A certificate that is not STS's does not pass by itself.
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	c, log = real(t, server.URL)
	if _, err := issue(t, c); broker.ClassOf(err) != broker.ErrSTSUnavailable || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	wantAlert(t, log.String(), awssts.AlertEndpoint, 2)
}

// Threat case ST13: a redirect that keeps the body would carry the token along.
func TestARedirectIsNotFollowedWithTheToken(t *testing.T) {
	var elsewhere, here atomic.Int64
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer evil.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		here.Store(0)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			here.Add(1)
			http.Redirect(w, r, evil.URL, status)
		}))
		c, log := real(t, server.URL)
		_, err := issue(t, c)
		if broker.ClassOf(err) != broker.ErrSTSRejected || here.Load() != 1 || elsewhere.Load() != 0 {
			t.Errorf("%d: %d and %d calls: %v", status, here.Load(), elsewhere.Load(), err)
		}
		wantAlert(t, log.String(), awssts.AlertEndpoint, 1)
		mustHoldNoSecret(t, log.String(), err)
		server.Close()
	}
}

// Threat case ST14: an answer that drips.
func TestASlowAnswerIsCutOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}))
	defer server.Close()
	c, _ := setup(t, nil, func(cfg *awssts.Config) {
		cfg.Transport, cfg.Endpoint, cfg.Timeout = nil, server.URL, 200*time.Millisecond
	})
	if took, err := issue(t, c); broker.ClassOf(err) != broker.ErrSTSUnavailable || took > time.Second {
		t.Errorf("after %s: %v", took, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestWhoGoesAwayDoesNotWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
			<-time.After(900 * time.Millisecond)
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
