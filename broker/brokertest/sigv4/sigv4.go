// Package sigv4 checks AWS Signature Version 4 on the server's side, for the
// local AWS that tests and the demo run against: in the Authorization header and
// in the query, whole payloads and all the chunked forms of S3 with trailers.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	// maxSkew is how far the time of a request may be from ours.
	maxSkew = 15 * time.Minute
	// maxExpires is the longest life of a presigned URL: seven days.
	maxExpires = 604_800
)

// Error is a refusal in the words of S3.
type Error struct {
	Status  int
	Code    string
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) error {
	return &Error{status, code, fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) error {
	return refuse(http.StatusForbidden, "AccessDenied", format, args...)
}

// Credential is what belongs to an access key.
type Credential struct {
	Secret       string
	SessionToken string // must be sent with every request
	Expiration   time.Time
}

// Verifier checks requests to one service in one region. All fields are needed.
// It is safe for concurrent use.
type Verifier struct {
	Region  string
	Service string // "s3", "sts"
	Now     func() time.Time
	Lookup  func(accessKeyID string) (Credential, bool)
}

// signature is what a request says of its own signing.
type signature struct {
	accessKeyID string
	scope       string // date/region/service/aws4_request
	date        string
	headers     []string
	hex         string
	at          time.Time
	presigned   bool
	token       string
	payload     string // x-amz-content-sha256
}

// Verify checks the signature and returns the access key that made it, and the
// body as its owner meant it: decoded from chunks, and failing where it is read
// beyond what was signed. Errors are *Error. The request's own body must not be
// read any more.
func (v Verifier) Verify(r *http.Request) (string, io.ReadCloser, error) {
	s, err := v.parse(r)
	if err != nil {
		return "", nil, err
	}
	cred, ok := v.Lookup(s.accessKeyID)
	if !ok {
		return "", nil, refuse(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
	// The token is bound to the key: neither another's nor none.
	if subtle.ConstantTimeCompare([]byte(s.token), []byte(cred.SessionToken)) != 1 {
		return "", nil, refuse(http.StatusForbidden, "InvalidToken", "The provided token is malformed or otherwise invalid.")
	}
	if !v.Now().Before(cred.Expiration) {
		return "", nil, refuse(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
	}
	if s.payload == "" {
		if v.Service == "s3" {
			return "", nil, refuse(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
		}
		if s.payload, err = hashBody(r); err != nil {
			return "", nil, err
		}
	}
	key := signingKey(cred.Secret, s.date, v.Region, v.Service)
	canonical := v.canonical(r, s)
	sum := sha256.Sum256([]byte(canonical))
	toSign := algorithm + "\n" + s.at.Format(timeFormat) + "\n" + s.scope + "\n" + hex.EncodeToString(sum[:])
	want := hex.EncodeToString(mac(key, toSign))
	if subtle.ConstantTimeCompare([]byte(want), []byte(s.hex)) != 1 {
		return "", nil, refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	}
	body, err := v.body(r, s, key)
	return s.accessKeyID, body, err
}

// parse reads where the signature stands, and checks all that needs no key.
func (v Verifier) parse(r *http.Request) (signature, error) {
	inHeader := r.Header.Values("Authorization")
	query := r.URL.Query()
	inQuery := query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm")
	var s signature
	var err error
	switch {
	case len(inHeader) == 0 && !inQuery:
		return s, denied("Access Denied") // anonymous
	case len(inHeader) > 1 || len(inHeader) == 1 && inQuery:
		return s, refuse(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
	case inQuery:
		s, err = fromQuery(query)
	default:
		s, err = fromHeader(inHeader[0], r.Header)
	}
	if err != nil {
		return s, err
	}
	if err := v.checkScope(&s); err != nil {
		return s, err
	}
	if err := v.checkTime(s, query); err != nil {
		return s, err
	}
	return s, checkSigned(r, s)
}

func fromHeader(value string, h http.Header) (signature, error) {
	malformed := refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
	rest, ok := strings.CutPrefix(value, algorithm+" ")
	if !ok {
		return signature{}, malformed
	}
	s := signature{payload: h.Get("X-Amz-Content-Sha256"), token: h.Get("X-Amz-Security-Token")}
	for _, name := range []string{"X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-Date"} {
		if len(h.Values(name)) > 1 {
			return s, malformed
		}
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(rest, ",") {
		name, v, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || seen[name] {
			return s, malformed
		}
		seen[name] = true
		switch name {
		case "Credential":
			s.accessKeyID, s.scope, _ = strings.Cut(v, "/")
		case "SignedHeaders":
			s.headers = strings.Split(v, ";")
		case "Signature":
			s.hex = v
		default:
			return s, malformed
		}
	}
	if len(seen) != 3 {
		return s, malformed
	}
	var err error
	if s.at, err = time.Parse(timeFormat, h.Get("X-Amz-Date")); err != nil {
		return s, denied("AWS authentication requires a valid Date or x-amz-date header")
	}
	return s, nil
}

func fromQuery(q url.Values) (signature, error) {
	s := signature{presigned: true, payload: "UNSIGNED-PAYLOAD"}
	malformed := refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "Error parsing the X-Amz query parameters")
	for name, values := range q {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-") && len(values) != 1 {
			return s, malformed
		}
	}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return s, malformed
	}
	s.accessKeyID, s.scope, _ = strings.Cut(q.Get("X-Amz-Credential"), "/")
	s.headers = strings.Split(q.Get("X-Amz-SignedHeaders"), ";")
	s.hex, s.token = q.Get("X-Amz-Signature"), q.Get("X-Amz-Security-Token")
	if v := q.Get("X-Amz-Content-Sha256"); v != "" {
		s.payload = v
	}
	var err error
	if s.at, err = time.Parse(timeFormat, q.Get("X-Amz-Date")); err != nil {
		return s, malformed
	}
	return s, nil
}

// checkScope wants the credential's scope to be this day, region and service.
func (v Verifier) checkScope(s *signature) error {
	s.date = s.at.Format("20060102")
	if s.accessKeyID == "" || s.scope != strings.Join([]string{s.date, v.Region, v.Service, "aws4_request"}, "/") {
		return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The credential's scope must be %s/%s/%s/aws4_request", s.date, v.Region, v.Service)
	}
	return nil
}

func (v Verifier) checkTime(s signature, q url.Values) error {
	age := v.Now().Sub(s.at)
	if !s.presigned {
		if age > maxSkew || age < -maxSkew {
			return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
		}
		return nil
	}
	seconds, err := strconv.Atoi(q.Get("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > maxExpires {
		return refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "X-Amz-Expires must be from 1 to %d", maxExpires)
	}
	if age < -maxSkew {
		return denied("Request is not yet valid")
	}
	if age > time.Duration(seconds)*time.Second {
		return denied("Request has expired")
	}
	return nil
}

// checkSigned wants every header that changes what a request means to be signed.
func checkSigned(r *http.Request, s signature) error {
	if !slices.IsSorted(s.headers) || !slices.Contains(s.headers, "host") {
		return denied("The host header must be signed, and signed headers be in order")
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if (strings.HasPrefix(lower, "x-amz-") || lower == "content-md5") && !slices.Contains(s.headers, lower) {
			if s.presigned && lower == "x-amz-content-sha256" {
				continue // it has no say in a presigned request
			}
			return denied("There were headers present in the request which were not signed: %s", lower)
		}
	}
	return nil
}

// canonical writes the canonical request.
func (v Verifier) canonical(r *http.Request, s signature) string {
	path := r.URL.EscapedPath()
	if v.Service == "s3" {
		path = encode(r.URL.Path, true) // S3 encodes once, and does not normalise
	}
	if path == "" {
		path = "/"
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range s.headers {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + s.payload)
	return b.String()
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for name, values := range q {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, encode(name, false)+"="+encode(value, false))
		}
	}
	sort.Strings(pairs)
	return strings.Join(pairs, "&")
}

func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// encode percent-encodes as AWS does: everything but unreserved characters
// (RFC 3986 §2.3), and slashes where they separate.
func encode(s string, keepSlash bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0, c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func signingKey(secret, date, region, service string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, service, "aws4_request"} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text)) // hash.Hash never returns an error
	return h.Sum(nil)
}
