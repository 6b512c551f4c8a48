package escape

import (
	"context"
	"crypto/md5" //nolint:gosec // Content-MD5 is what S3 asks for
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxAnswer bounds what is read of an answer: a page of a listing has less.
const maxAnswer = 2 << 20

// call is one request, to the letter: nothing is cleaned, sorted or encoded.
type call struct {
	method string
	bucket string // empty: the service itself
	path   string // of the key, escaped, without the first slash
	query  string // raw
	header []string
	body   string
	sign   func(*run, *http.Request, string) error // nil: the session, in the header
}

// s3URL addresses a bucket, or the service.
func (r *run) s3URL(bucket, path string) string {
	switch {
	case r.S3 != "" && bucket != "":
		return strings.TrimSuffix(r.S3, "/") + "/" + bucket + "/" + path
	case r.S3 != "":
		return strings.TrimSuffix(r.S3, "/") + "/"
	case bucket != "":
		return "https://" + bucket + ".s3." + r.Region + "." + r.Scope.Partition.Domain() + "/" + path
	default:
		return "https://s3." + r.Region + "." + r.Scope.Partition.Domain() + "/"
	}
}

// s3 makes a request to S3.
func (r *run) s3(ctx context.Context, c call) answer {
	return r.send(ctx, c, r.s3URL(c.bucket, c.path), "s3")
}

// send signs and sends. What was asked for stays as it was written, the order of
// parameters too: a signature covers them sorted.
func (r *run) send(ctx context.Context, c call, address, service string) answer {
	req, err := http.NewRequestWithContext(ctx, c.method, address, strings.NewReader(c.body))
	if err != nil {
		return answer{err: err}
	}
	req.URL.RawQuery = c.query
	for i := 0; i+1 < len(c.header); i += 2 {
		req.Header.Set(c.header[i], c.header[i+1])
	}
	sum := sha256.Sum256([]byte(c.body))
	payload := hex.EncodeToString(sum[:])
	if service == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", payload)
	}
	if c.sign != nil {
		err = c.sign(r, req, payload)
	} else {
		region := map[string]string{"s3": r.Region, "sts": r.STSRegion}[service]
		err = r.signer.SignHTTP(ctx, r.Session.aws(), req, payload, service, region, time.Now())
		req.URL.RawQuery = c.query
	}
	if err != nil {
		return answer{err: err}
	}
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{err: err}
	}
	return answer{status: resp.StatusCode, code: errorCode(body), body: string(body), head: c.method == http.MethodHead}
}

// as signs with another session. The signer is a new one: it remembers the key
// that it derived by the access key alone, and would go on with the right secret.
func as(s Session) func(*run, *http.Request, string) error {
	return func(r *run, req *http.Request, payload string) error {
		return newSigner().SignHTTP(req.Context(), s.aws(), req, payload, "s3", r.Region, time.Now())
	}
}

func newSigner() *v4.Signer {
	return v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
}

// presigned signs in the query, as for a link that is handed on.
func presigned(r *run, req *http.Request, _ string) error {
	query := req.URL.Query()
	query.Set("X-Amz-Expires", "60")
	req.URL.RawQuery = query.Encode()
	req.Header.Del("X-Amz-Content-Sha256")
	signed, header, err := r.signer.PresignHTTP(req.Context(), r.Session.aws(), req, "UNSIGNED-PAYLOAD", "s3", r.Region, time.Now())
	if err != nil {
		return err
	}
	u, err := url.Parse(signed)
	if err != nil {
		return err
	}
	req.URL = u
	for name, values := range header {
		if !strings.EqualFold(name, "Host") {
			req.Header[name] = values
		}
	}
	return nil
}

// unsigned leaves a request as it is.
func unsigned(*run, *http.Request, string) error { return nil }

// sts makes a request to STS.
func (r *run) sts(ctx context.Context, form url.Values, sign func(*run, *http.Request, string) error) answer {
	address := r.STS
	if address == "" {
		address = "https://sts." + r.STSRegion + "." + r.Scope.Partition.Domain()
	}
	form.Set("Version", "2011-06-15")
	return r.send(ctx, call{
		method: http.MethodPost, body: form.Encode(), header: []string{"Content-Type", "application/x-www-form-urlencoded"}, sign: sign,
	}, strings.TrimSuffix(address, "/")+"/", "sts")
}

// contentMD5 is the header that some requests need.
func contentMD5(body string) []string {
	sum := md5.Sum([]byte(body)) //nolint:gosec // see above
	return []string{"Content-Md5", base64.StdEncoding.EncodeToString(sum[:])}
}

// escapeKey writes a key into a path, byte by byte, slashes as they are.
func escapeKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		c := key[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~/", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
