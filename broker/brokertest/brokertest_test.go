package brokertest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"credential-broker/broker/brokertest"
	"credential-broker/policy"
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
	cfg := account(t, policy.Trust{
		Provider: "arn:aws:iam::123456789012:oidc-provider/" + l.Addr().String() + "/", Host: l.Addr().String() + "/",
		ClientIDs: []string{"demo-spa"}, Audiences: []string{brokertest.Audience}, Tags: []string{policy.TagTenant},
	})
	cfg.Providers = []brokertest.Provider{{URL: issuer, ClientIDs: []string{"demo-spa"}}}
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

// account has one bucket and one role, bounded by the tenant's tag.
func account(t *testing.T, trust policy.Trust) brokertest.AWSConfig {
	t.Helper()
	bucket, err1 := policy.ParseBucketTemplate(brokertest.Bucket)
	prefix, err2 := policy.ParseTemplate("tenants/{tenant}/")
	own, err3 := policy.RoleDocument(policy.AWS, brokertest.Account, []policy.RoleGrant{{
		Layout: policy.Layout{Bucket: bucket, Prefix: prefix}, Access: policy.List | policy.Read | policy.Write | policy.Delete,
	}})
	trusted, err4 := policy.TrustDocument([]policy.Trust{trust})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return brokertest.AWSConfig{
		Roles:   []brokertest.Role{{Name: "tenant-uploads", TrustPolicy: []byte(trusted), Policy: []byte(own)}},
		Buckets: []brokertest.LocalBucket{{Name: brokertest.Bucket}},
	}
}

func (w world) sts(creds aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{Region: brokertest.Region, BaseEndpoint: &w.url, Credentials: creds, RetryMaxAttempts: 1})
}

func (w world) assume(ctx context.Context, token string) (aws.CredentialsProvider, error) {
	return w.limited(ctx, token, "")
}

// limited opens a session under a session policy, or under none.
func (w world) limited(ctx context.Context, token, document string) (aws.CredentialsProvider, error) {
	var limit *string
	if document != "" {
		limit = &document
	}
	out, err := w.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(brokertest.RoleARN), RoleSessionName: aws.String("session"), WebIdentityToken: aws.String(token),
		Policy: limit,
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

// A page's preflight is answered by the service that it is about: STS lets any
// page ask, S3's own address, which is no bucket's, lets none.
func TestAPreflightIsForTheServiceItIsAbout(t *testing.T) {
	w := newWorld(t, func(c *brokertest.AWSConfig) { c.Buckets[0].AllowedOrigins = []string{"https://page.test"} })
	for _, tc := range []struct {
		method, path, want string
	}{{"POST", "/", "*"}, {"GET", "/", ""}, {"GET", "/" + brokertest.Bucket, "https://page.test"}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, w.url+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", "https://page.test")
		r.Header.Set("Access-Control-Request-Method", tc.method)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != tc.want {
			t.Errorf("%s %s: allows %q, want %q", tc.method, tc.path, got, tc.want)
		}
	}
}

// What must turn checks red does so: each way of being broken gives away what the
// good account keeps.
func TestAnAccountCanBeBroken(t *testing.T) {
	const session = "arn:aws:sts::123456789012:assumed-role/tenant-uploads/session"
	allow := func(principal string) []byte {
		return []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"s3:*","Resource":"arn:aws:s3:::acme-uploads/*"}]}`)
	}
	for name, tc := range map[string]struct {
		change func(*brokertest.AWSConfig)
		opens  []string // keys that a session limited to tenants/org_acme/a/ can write
	}{
		"not at all": {nil, nil},
		"session policies are ignored": {
			func(c *brokertest.AWSConfig) { c.IgnoreSessionPolicies = true }, []string{"tenants/org_acme/b/x"},
		},
		"nothing is enforced": {
			func(c *brokertest.AWSConfig) { c.EnforceNothing = true }, []string{"tenants/org_acme/b/x", "tenants/org_globex/x"},
		},
		"the bucket's policy names the session": {
			func(c *brokertest.AWSConfig) { c.BucketPolicies = map[string][]byte{brokertest.Bucket: allow(session)} },
			[]string{"tenants/org_acme/b/x", "tenants/org_globex/x"},
		},
		"the bucket's policy names another session": {
			func(c *brokertest.AWSConfig) {
				c.BucketPolicies = map[string][]byte{brokertest.Bucket: allow(session + "2")}
			}, nil,
		},
		"the bucket's policy names the role": { // which the session policy limits
			func(c *brokertest.AWSConfig) {
				c.BucketPolicies = map[string][]byte{brokertest.Bucket: allow(brokertest.RoleARN)}
			}, nil,
		},
	} {
		w := newWorld(t, tc.change)
		creds, err := w.limited(t.Context(), w.token("alice@acme.test"), `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::acme-uploads/tenants/org_acme/a/*"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		client := s3.New(s3.Options{Region: brokertest.Region, BaseEndpoint: &w.url, UsePathStyle: true, Credentials: creds, RetryMaxAttempts: 1})
		for _, key := range []string{"tenants/org_acme/a/x", "tenants/org_acme/b/x", "tenants/org_globex/x"} {
			_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(brokertest.Bucket), Key: aws.String(key), Body: strings.NewReader("x")})
			want := slices.Contains(tc.opens, key) || key == "tenants/org_acme/a/x"
			if want && err != nil || !want && errorCode(err) != "AccessDenied" {
				t.Errorf("%s: %s: %v", name, key, err)
			}
		}
	}
}

func TestABucketsPolicyMustBeOne(t *testing.T) {
	for _, text := range []string{"x", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`} {
		cfg := account(t, policy.Trust{Provider: "p", Host: "h", ClientIDs: []string{"c"}, Tags: []string{"tenant"}})
		cfg.BucketPolicies = map[string][]byte{brokertest.Bucket: []byte(text)}
		if _, err := brokertest.NewAWS(cfg); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestTheTrustPolicyHoldsWhoMayAssumeTheRole(t *testing.T) {
	replace := func(old, with string) func(*brokertest.AWSConfig) {
		return func(c *brokertest.AWSConfig) {
			if !strings.Contains(string(c.Roles[0].TrustPolicy), old) {
				t.Fatalf("%s is not in %s", old, c.Roles[0].TrustPolicy)
			}
			c.Roles[0].TrustPolicy = []byte(strings.ReplaceAll(string(c.Roles[0].TrustPolicy), old, with))
		}
	}
	for name, tc := range map[string]struct {
		change func(*brokertest.AWSConfig)
		user   string
		code   string
	}{
		"as it is":               {nil, "alice@acme.test", ""},
		"without a tenant's tag": {nil, "mallory@nowhere.test", "AccessDenied"},
		"another API's token":    {replace(brokertest.Audience, "https://other"), "alice@acme.test", "AccessDenied"},
		"another client's token": {func(c *brokertest.AWSConfig) { c.Providers[0].ClientIDs = []string{"other"} }, "alice@acme.test", "InvalidIdentityToken"},
		"another issuer":         {func(c *brokertest.AWSConfig) { c.Providers[0].URL = "https://other.example/" }, "alice@acme.test", "InvalidIdentityToken"},
		"no tags allowed":        {replace("sts:TagSession", "sts:AssumeRole"), "alice@acme.test", "AccessDenied"},
	} {
		w := newWorld(t, tc.change)
		if _, err := w.assume(t.Context(), w.token(tc.user)); errorCode(err) != tc.code || (err == nil) != (tc.code == "") {
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
