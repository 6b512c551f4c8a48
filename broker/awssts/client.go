package awssts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// maxAnswerBytes bounds what is read of an answer. A session token has at most
// 4096 bytes, so the whole answer has less than 10 kB.
const maxAnswerBytes = 1 << 20

// newSTS makes the SDK's client. Credentials are anonymous and the files and
// variables that other AWS tools take them from are shut out: a pod's own
// AWS_ROLE_ARN must not become the broker's, and nothing here may ask the
// instance metadata. Of the environment, AWS_CA_BUNDLE and the proxies count.
func newSTS(cfg Config) (*sts.Client, error) {
	shared, err := config.LoadDefaultConfig(context.Background(),
		config.WithRegion(cfg.Region),
		config.WithCredentialsProvider(aws.AnonymousCredentials{}),
		config.WithSharedConfigProfile("default"), // not AWS_PROFILE: there are no files to find it in
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}),
		config.WithDefaultsMode(aws.DefaultsModeStandard), // "auto" asks the instance metadata for 4 s
		config.WithHTTPClient(buildable(cfg.MaxConcurrent)),
		config.WithLogger(logging.Nop{}), // it writes to standard error
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // the attempts are counted here
	)
	if err != nil {
		return nil, err
	}
	transport := cfg.Transport
	if client, ok := shared.HTTPClient.(*awshttp.BuildableClient); ok && transport == nil {
		transport = client.GetTransport() // with the CA bundle in it
	}
	return sts.NewFromConfig(shared, func(o *sts.Options) {
		o.HTTPClient = &http.Client{Transport: limited{transport}, CheckRedirect: refuseRedirect}
		o.BaseEndpoint = nil // not AWS_ENDPOINT_URL from the environment
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		o.ClientLogMode = 0 // it would write tokens
	}), nil
}

// buildable keeps as many connections as there are places: the SDK's default
// keeps ten, and shakes hands again for every burst above.
func buildable(places int) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.DialContext = (&net.Dialer{Timeout: time.Second}).DialContext // within MaxTimeout, so that a second attempt fits
		t.TLSHandshakeTimeout = time.Second
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(places)}
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = places, places, places
		t.MaxResponseHeaderBytes = 64 << 10
	})
}

func refuseRedirect(*http.Request, []*http.Request) error {
	return errors.New("STS redirects, and the token is not sent elsewhere")
}

// limited makes an answer that is too long an error.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxAnswerBytes}
	return resp, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("answer longer than %d bytes", maxAnswerBytes)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// pause is the time between two attempts: short, so that both fit into the
// timeout, and different for each caller.
func pause() time.Duration {
	return 50*time.Millisecond + rand.N(100*time.Millisecond) //nolint:gosec // spreads load, guards nothing
}
