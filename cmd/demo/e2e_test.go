package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"credential-broker/broker/brokertest"
)

// startStory runs a demo on free ports until the test ends.
func startStory(t testing.TB, change func(*options)) *story {
	t.Helper()
	o := options{
		Broker: "127.0.0.1:0", Issuer: "127.0.0.1:0", AWS: "127.0.0.1:0", Page: "127.0.0.1:0",
		Mode: modeMinted, Headless: true, log: io.Discard,
	}
	if change != nil {
		change(&o)
	}
	s, err := start(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// post sends a form to the local Auth0's token endpoint and returns the access token.
func (s *story) accessToken(t testing.TB, form url.Values) string {
	t.Helper()
	form.Set("audience", s.Audience)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Issuer+"oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("token endpoint: %s, %v", resp.Status, err)
	}
	return answer.AccessToken
}

func (s *story) userToken(t testing.TB, user string) string {
	return s.accessToken(t, url.Values{"grant_type": {"password"}, "username": {user}, "password": {"demo"}})
}

// client is a real S3 client whose SDK fetches its credentials from the broker by itself.
func (s *story) client(token, query string) *s3.Client {
	provider := endpointcreds.New(s.Broker+"/v1/credentials"+query, func(o *endpointcreds.Options) {
		o.AuthorizationToken = "Bearer " + token
	})
	return s.s3Client(aws.NewCredentialsCache(provider))
}

func (s *story) s3Client(creds aws.CredentialsProvider) *s3.Client {
	return s3.New(s3.Options{
		Region: s.Region, BaseEndpoint: aws.String(s.S3), UsePathStyle: true, Credentials: creds, RetryMaxAttempts: 1,
	})
}

func (s *story) userClient(t testing.TB, user string) *s3.Client {
	return s.client(s.userToken(t, user), "")
}

func put(ctx context.Context, c *s3.Client, key, body string) error {
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(brokertest.Bucket), Key: aws.String(key), Body: strings.NewReader(body)})
	return err
}

func get(ctx context.Context, c *s3.Client, key string) (string, error) {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(brokertest.Bucket), Key: aws.String(key)})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	return string(body), err
}

// mustBeDenied wants 403 AccessDenied, said by the server, and nothing else.
func mustBeDenied(t testing.TB, err error) {
	t.Helper()
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	if !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" || !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusForbidden {
		t.Errorf("got %v, want 403 AccessDenied", err)
	}
}

func TestAnSDKUploadsListsReadsAndDeletesInsideItsPrefix(t *testing.T) {
	for _, mode := range []string{modeMinted, modeForwarded} {
		t.Run(mode, func(t *testing.T) {
			s := startStory(t, func(o *options) { o.Mode = mode })
			ctx, c := t.Context(), s.userClient(t, "alice@acme.test")

			big := make([]byte, 20<<20)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(big)
			key := "tenants/org_acme/folder/big file é.bin"
			manager := transfermanager.New(c)
			if _, err := manager.UploadObject(ctx, &transfermanager.UploadObjectInput{
				Bucket: aws.String(s.Bucket), Key: aws.String(key), Body: bytes.NewReader(big),
			}); err != nil {
				t.Fatalf("upload: %v", err)
			}

			listing, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(s.Bucket), Prefix: aws.String("tenants/org_acme/")})
			if err != nil || len(listing.Contents) != 1 || aws.ToString(listing.Contents[0].Key) != key || aws.ToInt64(listing.Contents[0].Size) != int64(len(big)) {
				t.Fatalf("list: %+v, %v", listing, err)
			}
			got, err := get(ctx, c, key)
			if err != nil || sha256.Sum256([]byte(got)) != sha256.Sum256(big) {
				t.Fatalf("read %d bytes, %v", len(got), err)
			}
			if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.Bucket), Key: aws.String(key)}); err != nil {
				t.Fatalf("delete: %v", err)
			}
			var missing *types.NoSuchKey
			if _, err := get(ctx, c, key); !errors.As(err, &missing) {
				t.Errorf("after the delete: %v", err)
			}
		})
	}
}

// unbounded leaves the role's own policy open to the whole bucket. It shows what
// a role that is not bounded by the tag gives away.
func unbounded(o *options) {
	o.change = func(cfg *brokertest.AWSConfig) {
		cfg.Roles[0].Policy = []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":["arn:aws:s3:::acme-uploads","arn:aws:s3:::acme-uploads/*"]}]}`)
	}
}

// wall is what one tenant's credentials may not do to the rest of the bucket.
// Bob's object and upload exist, so that nothing is refused for want of a target.
func wall(ctx context.Context, bobs, uploadID string) map[string]func(*s3.Client) error {
	bucket := aws.String(brokertest.Bucket)
	own := aws.String("tenants/org_acme/copy")
	source := aws.String(brokertest.Bucket + "/" + bobs)
	return map[string]func(*s3.Client) error{
		"get another's object": func(c *s3.Client) error { _, err := get(ctx, c, bobs); return err },
		"put another's object": func(c *s3.Client) error { return put(ctx, c, bobs, "mine now") },
		"delete another's object": func(c *s3.Client) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String(bobs)})
			return err
		},
		"copy from another": func(c *s3.Client) error {
			_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: own, CopySource: source})
			return err
		},
		"begin an upload at another's": func(c *s3.Client) error {
			_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String(bobs)})
			return err
		},
		"add to another's upload": func(c *s3.Client) error {
			_, err := c.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: bucket, Key: aws.String(bobs), UploadId: aws.String(uploadID), PartNumber: aws.Int32(1), Body: strings.NewReader("x"),
			})
			return err
		},
		"see the parts of another's upload": func(c *s3.Client) error {
			_, err := c.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: aws.String(bobs), UploadId: aws.String(uploadID)})
			return err
		},
		"abort another's upload": func(c *s3.Client) error {
			_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: aws.String(bobs), UploadId: aws.String(uploadID)})
			return err
		},
		"put beside the prefix": func(c *s3.Client) error { return put(ctx, c, "tenants/org_acme2/x", "x") },
		"get beside the prefix": func(c *s3.Client) error { _, err := get(ctx, c, "tenants/org_acme2/x"); return err },
		"list beside the prefix": func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("tenants/org_acme2/")})
			return err
		},
		"list the prefix without its slash": func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("tenants/org_acme")})
			return err
		},
		"list the root": func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Delimiter: aws.String("/"), Prefix: aws.String("")})
			return err
		},
		"list without a prefix": func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
			return err
		},
		"list without a prefix, version 1": func(c *s3.Client) error {
			_, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: bucket})
			return err
		},
		"list everybody's uploads": func(c *s3.Client) error {
			_, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: aws.String("tenants/org_acme/")})
			return err
		},
		"list the buckets": func(c *s3.Client) error {
			_, err := c.ListBuckets(ctx, &s3.ListBucketsInput{})
			return err
		},
	}
}

// bobsFiles puts an object and an open multipart upload into the other tenant.
func (s *story) bobsFiles(t testing.TB) (key, uploadID string) {
	t.Helper()
	bob, key := s.userClient(t, "bob@globex.test"), "tenants/org_globex/secret.txt"
	if err := put(t.Context(), bob, key, "bob's"); err != nil {
		t.Fatal(err)
	}
	up, err := bob.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(s.Bucket), Key: aws.String(key)})
	if err != nil {
		t.Fatal(err)
	}
	return key, aws.ToString(up.UploadId)
}

func TestNothingOutsideThePrefixIsReached(t *testing.T) {
	for name, change := range map[string]func(*options){
		"both locks":              func(*options) {},
		"the session policy only": unbounded,
		"forwarded, both locks":   func(o *options) { o.Mode = modeForwarded },
	} {
		t.Run(name, func(t *testing.T) {
			s := startStory(t, change)
			bobs, uploadID := s.bobsFiles(t)
			alice := s.userClient(t, "alice@acme.test")
			for name, try := range wall(t.Context(), bobs, uploadID) {
				t.Run(name, func(t *testing.T) { mustBeDenied(t, try(alice)) })
			}
			t.Run("presigned", func(t *testing.T) {
				signed, err := s3.NewPresignClient(alice).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(s.Bucket), Key: aws.String(bobs)})
				if err != nil {
					t.Fatal(err)
				}
				status, body := fetch(t, signed.URL)
				if status != http.StatusForbidden || !strings.Contains(body, "<Code>AccessDenied</Code>") {
					t.Errorf("%d %s", status, body)
				}
			})
			if got, err := get(t.Context(), s.userClient(t, "bob@globex.test"), bobs); err != nil || got != "bob's" {
				t.Errorf("bob's object is now %q, %v", got, err)
			}
		})
	}
}

func fetch(t testing.TB, address string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// direct makes the call that the broker makes, with the user's own token and
// without a policy: what anybody can do who holds a token and knows the role.
func (s *story) direct(ctx context.Context, token string) (*s3.Client, error) {
	client := sts.New(sts.Options{Region: s.Region, BaseEndpoint: aws.String(s.STS), Credentials: aws.AnonymousCredentials{}})
	out, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(brokertest.RoleARN), RoleSessionName: aws.String("mallory"), WebIdentityToken: aws.String(token),
	})
	if err != nil {
		return nil, err
	}
	c := out.Credentials
	return s.s3Client(credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)), nil
}

func TestTheDirectCallIsRefusedInModeMinted(t *testing.T) {
	for name, change := range map[string]func(*options){"bounded": nil, "unbounded": unbounded} {
		s := startStory(t, change)
		var api smithy.APIError
		if _, err := s.direct(t.Context(), s.userToken(t, "alice@acme.test")); !errors.As(err, &api) || api.ErrorCode() != "InvalidIdentityToken" {
			t.Errorf("%s role: got %v, want InvalidIdentityToken", name, err)
		}
	}
}

func TestTheDirectCallReachesNothingOutsideABoundedRole(t *testing.T) {
	s := startStory(t, func(o *options) { o.Mode = modeForwarded })
	bobs, uploadID := s.bobsFiles(t)
	c, err := s.direct(t.Context(), s.userToken(t, "alice@acme.test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), c, "tenants/org_acme/x", "inside"); err != nil {
		t.Fatalf("inside: %v", err) // else the refusals below prove nothing
	}
	for name, try := range wall(t.Context(), bobs, uploadID) {
		t.Run(name, func(t *testing.T) { mustBeDenied(t, try(c)) })
	}
}

// The danger is real, and the tests above can fail: behind a role that is not
// bounded by the tag, the direct call reads another tenant's file.
func TestTheDirectCallReachesEverythingBehindAnUnboundedRole(t *testing.T) {
	s := startStory(t, func(o *options) { o.Mode = modeForwarded; unbounded(o) })
	bobs, _ := s.bobsFiles(t)
	c, err := s.direct(t.Context(), s.userToken(t, "alice@acme.test"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(t.Context(), c, bobs); err != nil || got != "bob's" {
		t.Errorf("got %q, %v: the case has lost its danger", got, err)
	}
}

func TestAServiceActsForTheTenantItNamesAndForNoOther(t *testing.T) {
	s := startStory(t, nil)
	bobs, _ := s.bobsFiles(t)
	token := s.accessToken(t, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"reports-service"}, "client_secret": {"demo-secret"},
	})
	globex := s.client(token, "?grant=reports&tenant=org_globex")
	if got, err := get(t.Context(), globex, bobs); err != nil || got != "bob's" {
		t.Errorf("for org_globex: %q, %v", got, err)
	}
	mustBeDenied(t, put(t.Context(), globex, "tenants/org_globex/x", "reports are read only"))
	_, err := get(t.Context(), s.client(token, "?grant=reports&tenant=org_acme"), bobs)
	mustBeDenied(t, err)
	if _, err := get(t.Context(), s.client(s.userToken(t, "alice@acme.test"), "?grant=reports&tenant=org_globex"), bobs); err == nil || !strings.Contains(err.Error(), "no_grant") {
		t.Errorf("a user as a service: %v", err)
	}
}
