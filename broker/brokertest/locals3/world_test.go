package locals3_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"credential-broker/broker/brokertest/locals3"
)

const (
	region = "eu-test-1"
	bucket = "files"
	acme   = "tenants/acme/"
	globex = "tenants/globex/"
	page   = "https://app.test"
)

// world is a server and who may do what on it.
type world struct {
	*locals3.Server
	url    string
	client *http.Client

	mu     sync.Mutex // guards what is below
	ahead  time.Duration
	events []locals3.Event
	asked  []question
	grants map[string]func(action, resource string, context map[string][]string) bool
}

type question struct {
	action, resource string
	context          map[string][]string
}

// who is an access key: tests know the secret and the token from the id.
func who(id string) aws.Credentials {
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: "secret of " + id, SessionToken: "token of " + id}
}

// wall allows objects below a prefix, and listings of it: the wall that the tests
// run against.
func wall(prefix string) func(string, string, map[string][]string) bool {
	return func(action, resource string, context map[string][]string) bool {
		switch action {
		case "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts":
			return strings.HasPrefix(resource, "arn:aws:s3:::"+bucket+"/"+prefix)
		case "s3:ListBucket":
			asked := context["s3:prefix"]
			return resource == "arn:aws:s3:::"+bucket && len(asked) == 1 && strings.HasPrefix(asked[0], prefix)
		}
		return false
	}
}

func anything(string, string, map[string][]string) bool { return true }

func newWorld(t testing.TB, change func(*locals3.Config)) *world {
	t.Helper()
	w := &world{grants: map[string]func(string, string, map[string][]string) bool{
		"ACME": wall(acme), "GLOBEX": wall(globex), "ADMIN": anything, "NOBODY": nil,
		"NOLIST": func(action, _ string, _ map[string][]string) bool { return action != "s3:ListBucket" },
	}}
	cfg := locals3.Config{
		Region: region, Buckets: []locals3.Bucket{{Name: bucket, AllowedOrigins: []string{page}}, {Name: "other"}},
		Lookup: w.lookup, Now: w.now, Observe: w.observe,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.Server, err = locals3.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

func (w *world) observe(e locals3.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *world) lookup(id string) (locals3.Principal, bool) {
	grant, ok := w.grants[id]
	p := locals3.Principal{Secret: who(id).SecretAccessKey, SessionToken: who(id).SessionToken, Expiration: w.now().Add(time.Hour)}
	if id == "EXPIRED" {
		return locals3.Principal{Secret: p.Secret, SessionToken: p.SessionToken, Expiration: w.now(), Authorize: anything}, true
	}
	if grant != nil {
		p.Authorize = func(action, resource string, context map[string][]string) bool {
			w.mu.Lock()
			w.asked = append(w.asked, question{action, resource, context})
			w.mu.Unlock()
			return grant(action, resource, context)
		}
	}
	return p, ok
}

// serve listens, with TLS or without: the SDK sends other bodies over either.
func (w *world) serve(t testing.TB, secure bool) *world {
	server := httptest.NewUnstartedServer(w)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	w.url, w.client = server.URL, server.Client()
	return w
}

func (w *world) sdk(id string) *s3.Client {
	c := who(id)
	return s3.New(s3.Options{
		Region: region, BaseEndpoint: aws.String(w.url), UsePathStyle: true, RetryMaxAttempts: 1, HTTPClient: w.client,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken),
	})
}

func put(ctx context.Context, c *s3.Client, key, body string) error {
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader(body)})
	return err
}

func get(ctx context.Context, c *s3.Client, key string) (string, error) {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	return string(body), err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mustFail wants the status and the code, said by the server.
func mustFail(t testing.TB, err error, status int, code string) {
	t.Helper()
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	if !errors.As(err, &api) || api.ErrorCode() != code || !errors.As(err, &response) || response.HTTPStatusCode() != status {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func hash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// signed is a request as the server reads it, path and query to the letter.
func signed(t testing.TB, id, method, target, body string, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, "http://s3.test"+target, strings.NewReader(body))
	payload := hash(body)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "X-Amz-Content-Sha256" {
			payload = headers[i+1]
		}
	}
	r.Header.Set("X-Amz-Content-Sha256", payload)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	must(t, signer.SignHTTP(t.Context(), who(id), r, payload, "s3", region, time.Now()))
	return r
}

// presigned turns a request into one that is signed in its query.
func presigned(t testing.TB, id, method, target, body string, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, "http://s3.test"+target, nil)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	q := r.URL.Query()
	q.Set("X-Amz-Expires", "900")
	r.URL.RawQuery = q.Encode()
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	unhoisted := func(o *v4.SignerOptions) { o.DisableHeaderHoisting = len(headers) > 0 }
	url, header, err := signer.PresignHTTP(t.Context(), who(id), r, "UNSIGNED-PAYLOAD", "s3", region, time.Now(), unhoisted)
	must(t, err)
	sent := httptest.NewRequest(method, url, strings.NewReader(body))
	for name, values := range header {
		if name != "Host" {
			sent.Header[name] = values
		}
	}
	return sent
}

type answer struct {
	*httptest.ResponseRecorder
	code string // of an error
}

func (w *world) do(r *http.Request) answer {
	a := answer{ResponseRecorder: httptest.NewRecorder()}
	w.ServeHTTP(a, r)
	var e struct {
		XMLName                            xml.Name `xml:"Error"`
		Code, Message, Resource, RequestId string
	}
	if xml.Unmarshal(a.Body.Bytes(), &e) == nil {
		a.code = e.Code
	}
	return a
}

// try sends one signed request and returns its status and code.
func (w *world) try(t testing.TB, id, method, target, body string, headers ...string) answer {
	t.Helper()
	return w.do(signed(t, id, method, target, body, headers...))
}

func (a answer) is(t testing.TB, status int, code string) {
	t.Helper()
	if a.Code != status || a.code != code {
		t.Errorf("got %d %s, want %d %s; %s", a.Code, a.code, status, code, a.Body.String())
	}
}
