package locals3_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// byHost is a client that names the bucket in the host, as the SDK does unless it
// is told otherwise.
func (w *world) byHost(t testing.TB, id string) *s3.Client {
	t.Helper()
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, u.Host)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c := who(id)
	return s3.New(s3.Options{
		Region: region, BaseEndpoint: aws.String("http://s3." + region + ".amazonaws.com:9000"), RetryMaxAttempts: 1,
		HTTPClient:  &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil }),
	})
}

func TestTheHostMayNameTheBucket(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	c := w.byHost(t, "ACME")
	if err := put(t.Context(), c, acme+"a b/é.txt", "by host"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t.Context(), w.sdk("ACME"), acme+"a b/é.txt"); err != nil || got != "by host" {
		t.Errorf("by path: %q, %v", got, err)
	}
	listing, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(acme)})
	if err != nil || len(listing.Contents) != 1 {
		t.Errorf("list: %+v, %v", listing, err)
	}
	if e := w.events[0]; e.Bucket != bucket || e.Key != acme+"a b/é.txt" {
		t.Errorf("%+v", e)
	}
	mustFail(t, put(t.Context(), c, globex+"x", "outside"), http.StatusForbidden, "AccessDenied")
	_, err = c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	mustFail(t, err, http.StatusForbidden, "AccessDenied")
	_, err = c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("none"), Prefix: aws.String(acme)})
	mustFail(t, err, http.StatusForbidden, "AccessDenied")
}
