package brokertest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"credential-broker/broker/brokertest"
)

// world is a local Auth0 and an account that trusts its tokens.
type world struct {
	token func(email string) string
	aws   *brokertest.AWS
	url   string
}

func newWorld(t *testing.T, change func(*brokertest.AWSConfig)) world {
	t.Helper()
	l, err := brokertest.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + l.Addr().String() + "/"
	auth0, err := brokertest.NewAuth0(issuer, "", true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- brokertest.Serve(ctx, l, brokertest.TrimSlashes(auth0)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	cfg := brokertest.AWSConfig{Trust: brokertest.Trust{Issuer: issuer, ClientIDs: []string{"demo-spa"}, Audience: brokertest.Audience}}
	if change != nil {
		change(&cfg)
	}
	account, err := brokertest.NewAWS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	return world{aws: account, url: server.URL, token: func(email string) string {
		token, err := auth0.UserToken(email)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}}
}

func (w world) sts(creds aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{Region: brokertest.Region, BaseEndpoint: &w.url, Credentials: creds, RetryMaxAttempts: 1})
}

func (w world) assume(ctx context.Context, token string) (aws.CredentialsProvider, error) {
	out, err := w.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(brokertest.RoleARN), RoleSessionName: aws.String("session"), WebIdentityToken: aws.String(token),
	})
	if err != nil {
		return nil, err
	}
	return credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken), nil
}

func errorCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func TestOneAddressIsSTSAndS3(t *testing.T) {
	w := newWorld(t, nil)
	creds, err := w.assume(t.Context(), w.token("alice@acme.test"))
	if err != nil {
		t.Fatal(err)
	}
	who, err := w.sts(creds).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || aws.ToString(who.Arn) != "arn:aws:sts::123456789012:assumed-role/tenant-uploads/session" {
		t.Errorf("%v, %v", who, err)
	}
	client := s3.New(s3.Options{Region: brokertest.Region, BaseEndpoint: &w.url, UsePathStyle: true, Credentials: creds, RetryMaxAttempts: 1})
	put := func(key string) error {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(brokertest.Bucket), Key: aws.String(key), Body: strings.NewReader("x")})
		return err
	}
	if err := put("tenants/org_acme/x"); err != nil {
		t.Errorf("inside: %v", err)
	}
	if err := put("tenants/org_globex/x"); errorCode(err) != "AccessDenied" {
		t.Errorf("outside: %v", err)
	}
	if _, err := client.ListBuckets(t.Context(), &s3.ListBucketsInput{}); errorCode(err) != "AccessDenied" {
		t.Errorf("buckets: %v", err)
	}
}

func TestTheRoleIsBoundedByTheTagUnlessItIsNot(t *testing.T) {
	w := newWorld(t, func(c *brokertest.AWSConfig) { c.Unbounded = true })
	creds, err := w.assume(t.Context(), w.token("alice@acme.test"))
	if err != nil {
		t.Fatal(err)
	}
	client := s3.New(s3.Options{Region: brokertest.Region, BaseEndpoint: &w.url, UsePathStyle: true, Credentials: creds})
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(brokertest.Bucket), Key: aws.String("tenants/org_globex/x"), Body: strings.NewReader("x")}); err != nil {
		t.Errorf("an unbounded role is bounded: %v", err)
	}
}

func TestTheTrustPolicyHoldsWhoMayAssumeTheRole(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*brokertest.AWSConfig)
		user   string
		code   string
	}{
		"without a tenant's tag": {nil, "mallory@nowhere.test", "AccessDenied"},
		"another API's token":    {func(c *brokertest.AWSConfig) { c.Trust.Audience = "https://other" }, "alice@acme.test", "AccessDenied"},
		"another client's token": {func(c *brokertest.AWSConfig) { c.Trust.ClientIDs = []string{"other"} }, "alice@acme.test", "InvalidIdentityToken"},
		"another issuer":         {func(c *brokertest.AWSConfig) { c.Trust.Issuer = "https://other.example/" }, "alice@acme.test", "InvalidIdentityToken"},
	} {
		w := newWorld(t, tc.change)
		if _, err := w.assume(t.Context(), w.token(tc.user)); errorCode(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:80"} {
		if l, err := brokertest.Listen(t.Context(), addr); err == nil {
			t.Errorf("%s is listened on as %s", addr, l.Addr())
			_ = l.Close()
		}
	}
	l, err := brokertest.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := brokertest.Listen(t.Context(), l.Addr().String()); err == nil {
		t.Error("an address is listened on twice")
	}
}

func TestAnIssuersSlashMayStandTwice(t *testing.T) {
	h := brokertest.TrimSlashes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	for path, want := range map[string]string{"//oauth/token": "/oauth/token", "/oauth/token": "/oauth/token", "/a//b": "/a//b"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: mustURL(path)})
		if w.Body.String() != want {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

func mustURL(path string) *url.URL { return &url.URL{Path: path} }
