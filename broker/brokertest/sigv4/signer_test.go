package sigv4_test

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/brokertest/sigv4"
)

const (
	region = "eu-test-1"
	key    = "ASIATEST"
	secret = "a secret"
	token  = "the token of ASIATEST"
	stamp  = "20060102T150405Z"
)

func now() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

// lookup knows one key of every kind.
func lookup(id string) (sigv4.Credential, bool) {
	c := sigv4.Credential{Secret: secret, SessionToken: token, Expiration: now().Add(time.Hour)}
	switch id {
	case key, "":
	case "ASIAOTHER":
		c.SessionToken = "the token of ASIAOTHER"
	case "AKIALONG":
		c.SessionToken = ""
	case "ASIANOSECRET":
		c.Secret = ""
	case "ASIAEXPIRED":
		c.Expiration = now()
	case "ASIAZERO":
		c.Expiration = time.Time{}
	case "ASIAREVOKED":
		return c, false
	default:
		return sigv4.Credential{}, false
	}
	return c, true
}

func verifier(service string) sigv4.Verifier {
	return sigv4.Verifier{Region: region, Service: service, Now: now, Lookup: lookup}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// draft is a request before it is signed. What it signs is consistent whatever
// is changed, so that a refusal is the rule's and not the signature's.
type draft struct {
	method, path, host string
	query              url.Values
	header             http.Header
	unsigned           http.Header // sent as well
	body               []byte

	key, secret, service string
	at                   time.Time
	scope                string                  // what is said; the key is made of the true one
	signed               func([]string) []string // what is said of the signed headers
	authorization        func(string) string
	presign              bool
	canonicalPath        string // "": the path
	after                func(*http.Request)
}

func s3Draft() *draft {
	return &draft{
		method: "PUT", path: "/bucket/a%20key", host: "s3.test", query: url.Values{"x-id": {"PutObject"}}, unsigned: http.Header{},
		header: http.Header{"X-Amz-Date": {now().Format(stamp)}, "X-Amz-Security-Token": {token}, "X-Amz-Content-Sha256": {sum([]byte("hello"))}},
		body:   []byte("hello"), key: key, secret: secret, service: "s3", at: now(),
	}
}

func presigned() *draft {
	d := s3Draft()
	d.header, d.presign = http.Header{}, true
	d.query = url.Values{"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Date": {now().Format(stamp)}, "X-Amz-Expires": {"900"}, "X-Amz-Security-Token": {token}}
	return d
}

func (d *draft) trueScope() string {
	return d.at.Format("20060102") + "/" + region + "/" + d.service + "/aws4_request"
}

func (d *draft) signingKey() []byte {
	k := []byte("AWS4" + d.secret)
	for _, part := range strings.Split(d.trueScope(), "/") {
		k = mac(k, part)
	}
	return k
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// request signs the draft; it returns the signature too, which chunks follow.
func (d *draft) request() (*http.Request, string) {
	scope := d.scope
	if scope == "" {
		scope = d.trueScope()
	}
	names, headers := []string{"host"}, map[string]string{"host": d.host}
	for name, values := range d.header {
		lower := strings.ToLower(name)
		names, headers[lower] = append(names, lower), strings.Join(values, ",")
	}
	slices.Sort(names)
	if d.signed != nil {
		names = d.signed(names)
	}
	payload := "UNSIGNED-PAYLOAD"
	switch given := d.query.Get("X-Amz-Content-Sha256"); {
	case d.service != "s3":
		payload = sum(d.body)
	case given != "":
		payload = given
	case len(d.header["X-Amz-Content-Sha256"]) > 0:
		payload = d.header["X-Amz-Content-Sha256"][0]
	case !d.presign:
		payload = ""
	}
	query := url.Values{}
	for name, values := range d.query {
		query[name] = values
	}
	if d.presign {
		query.Set("X-Amz-Credential", d.key+"/"+scope)
		query.Set("X-Amz-SignedHeaders", strings.Join(names, ";"))
	}
	var pairs [][2]string
	for name, values := range query {
		for _, v := range values {
			pairs = append(pairs, [2]string{escape(name), escape(v)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	joined := make([]string, len(pairs))
	for i, p := range pairs {
		joined[i] = p[0] + "=" + p[1]
	}
	path := d.canonicalPath
	if path == "" {
		path = d.path
	}
	canonical := d.method + "\n" + path + "\n" + strings.Join(joined, "&") + "\n"
	for _, name := range names {
		canonical += name + ":" + headers[strings.ToLower(name)] + "\n"
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + payload
	toSign := "AWS4-HMAC-SHA256\n" + d.at.Format(stamp) + "\n" + scope + "\n" + sum([]byte(canonical))
	signature := hex.EncodeToString(mac(d.signingKey(), toSign))
	if d.presign {
		query.Set("X-Amz-Signature", signature)
	}

	r := httptest.NewRequest(d.method, "http://"+d.host+d.path, bytes.NewReader(d.body))
	r.URL.RawQuery = query.Encode()
	for _, header := range []http.Header{d.header, d.unsigned} {
		for name, values := range header {
			r.Header[name] = append(r.Header[name], values...)
		}
	}
	if !d.presign {
		value := fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", d.key, scope, strings.Join(names, ";"), signature)
		if d.authorization != nil {
			value = d.authorization(value)
		}
		r.Header.Set("Authorization", value)
	}
	if d.after != nil {
		d.after(r)
	}
	return r, signature
}

// verify reads the body too; the code of the refusal is empty if there is none.
func verify(t testing.TB, v sigv4.Verifier, r *http.Request) (body, code string) {
	t.Helper()
	_, reader, err := v.Verify(r)
	if err == nil {
		var data []byte
		data, err = io.ReadAll(reader)
		body = string(data)
		if closing := reader.Close(); closing != nil {
			t.Error(closing)
		}
	}
	if err == nil {
		return body, ""
	}
	var known *sigv4.Error
	if !errors.As(err, &known) {
		t.Fatalf("error %v is no *sigv4.Error", err)
	}
	if known.Status < 400 || known.Message == "" {
		t.Errorf("%+v says nothing", known)
	}
	return body, known.Code
}
