package awssts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// maxAnswerBytes bounds what is read of an answer. A session token has at most
// 4096 bytes, so the whole answer has less than 10 kB.
const maxAnswerBytes = 1 << 20

// newHTTP makes the HTTP client that all regions share. Of the environment,
// AWS_CA_BUNDLE and the proxies count.
func newHTTP(cfg Config) (*http.Client, error) {
	transport := cfg.Transport
	if transport == nil {
		var err error
		if transport, err = newTransport(cfg.MaxConcurrent, os.Getenv("AWS_CA_BUNDLE")); err != nil {
			return nil, err
		}
	}
	return &http.Client{Transport: limited{transport}, CheckRedirect: refuseRedirect}, nil
}

// newSTS makes the SDK's client for a region. It is put together by hand, and not
// by the SDK's config.LoadDefaultConfig, which would look for credentials, profiles and
// endpoints that are meant for others: a pod's own AWS_ROLE_ARN must not become
// the broker's, and nothing here may ask the instance metadata.
func newSTS(region, endpoint string, client *http.Client) *sts.Client {
	options := sts.Options{
		Region:      region, // its own endpoint; the global one's tokens are not good everywhere
		Credentials: aws.AnonymousCredentials{},
		HTTPClient:  client,
		Retryer:     aws.NopRetryer{}, // the attempts are counted here
		Logger:      logging.Nop{},    // it would write to standard error
	}
	if endpoint != "" {
		options.BaseEndpoint = aws.String(endpoint)
	}
	return sts.New(options)
}

// newTransport keeps as many connections to a region as there are places: the SDK's own
// keeps ten, and shakes hands again for every burst above.
func newTransport(places int, caBundle string) (*http.Transport, error) {
	roots, err := readRoots(caBundle)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, // within MaxTimeout, so that a second attempt fits
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(places),
		},
		TLSHandshakeTimeout: time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        places, MaxIdleConnsPerHost: places, MaxConnsPerHost: places,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// readRoots reads the certificates of AWS_CA_BUNDLE, or gives nil, which stands
// for the system's, where it is not set.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read AWS_CA_BUNDLE: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read AWS_CA_BUNDLE: no certificate in %s", file)
	}
	return roots, nil
}

var errRedirect = errors.New("STS redirects, and the token is not sent elsewhere")

func refuseRedirect(*http.Request, []*http.Request) error { return errRedirect }

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

// CloseIdleConnections is what http.Client looks for.
func (l limited) CloseIdleConnections() {
	if c, ok := l.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
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
