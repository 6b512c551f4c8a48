// Package sigv4 checks AWS Signature Version 4 on the server's side, for the
// local AWS that tests and the demo run against: in the Authorization header and
// in the query, whole payloads and all the chunked forms of S3 with trailers.
//
// What it does not know it refuses: an unsigned x-amz-* header, a second
// signature, a parameter given twice, a streaming payload in a presigned URL.
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
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	serviceS3  = "s3"
	// maxSkew is how far the time of a request may be from ours, either way.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationTimeStamp
	maxSkew = 15 * time.Minute
	// maxExpires is the longest life of a presigned URL in seconds: seven days.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
	maxExpires = 604_800
)

// Error is a refusal in the words of the service: of S3, or of the query
// protocol for others.
type Error struct {
	Status  int
	Code    string
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) *Error {
	return &Error{status, code, fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) *Error {
	return refuse(http.StatusForbidden, "AccessDenied", format, args...)
}

// Credential is what belongs to an access key. An empty secret and a zero
// expiration refuse. An empty session token is that of a long-term key, with
// which no token may be sent.
type Credential struct {
	Secret       string
	SessionToken string
	Expiration   time.Time
}

// Verifier checks requests to one service in one region. All fields are needed;
// without one of them every request is refused. It is safe for concurrent use if
// its functions are.
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
	query       url.Values
	presigned   bool
	expires     time.Duration // of a presigned request
	token       string
	payload     string // x-amz-content-sha256
}

// Verify checks the signature and returns the access key that made it, and the
// body as its owner meant it: decoded from chunks, and failing where it is not
// what was signed or announced. The body may be acted upon only once it has been
// read to io.EOF; what comes before another error is not to be trusted. Errors,
// also those of the body, are *Error unless the transport failed. The request's
// own body must not be read any more.
func (v Verifier) Verify(r *http.Request) (accessKeyID string, body io.ReadCloser, err error) {
	if v.Region == "" || v.Service == "" || v.Now == nil || v.Lookup == nil {
		return "", nil, refuse(http.StatusInternalServerError, "InternalError", "the verifier is not complete")
	}
	accessKeyID, body, refused := v.verify(r)
	if refused != nil {
		return "", nil, v.inWordsOf(refused)
	}
	return accessKeyID, body, nil
}

func (v Verifier) verify(r *http.Request) (string, io.ReadCloser, *Error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	s, refused := v.parse(r)
	if refused != nil {
		return "", nil, refused
	}
	cred, refused := v.credential(s)
	if refused != nil {
		return "", nil, refused
	}
	if v.Service != serviceS3 { // other services sign the hash of what is there
		if s.payload, refused = hashBody(r); refused != nil {
			return "", nil, refused
		}
	}
	key := signingKey(cred.Secret, s.date, v.Region, v.Service)
	canonical, refused := v.canonical(r, s)
	if refused != nil {
		return "", nil, refused
	}
	sum := sha256.Sum256([]byte(canonical))
	want := mac(key, algorithm+"\n"+s.at.Format(timeFormat)+"\n"+s.scope+"\n"+hex.EncodeToString(sum[:]))
	if !sameMAC(s.hex, want) {
		return "", nil, refuse(http.StatusForbidden, "SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	}
	body, refused := payload(r, s, key)
	if refused != nil {
		return "", nil, refused
	}
	return s.accessKeyID, body, nil
}

// credential finds what belongs to the key. The token is bound to it: neither
// another's nor none will do.
func (v Verifier) credential(s signature) (Credential, *Error) {
	cred, ok := v.Lookup(s.accessKeyID)
	if !ok || cred.Secret == "" {
		return Credential{}, refuse(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
	if subtle.ConstantTimeCompare([]byte(s.token), []byte(cred.SessionToken)) != 1 {
		return Credential{}, refuse(http.StatusBadRequest, "InvalidToken", "The provided token is malformed or otherwise invalid.")
	}
	if !v.Now().Before(cred.Expiration) {
		return Credential{}, refuse(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
	}
	return cred, nil
}

// inWordsOf translates a refusal for services of the query protocol, whose codes
// for the same things are others than those of S3.
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
func (v Verifier) inWordsOf(e *Error) *Error {
	if v.Service == serviceS3 {
		if e.Code == anonymous {
			return denied("Access Denied")
		}
		return e
	}
	switch e.Code {
	case "InvalidAccessKeyId", "InvalidToken":
		return refuse(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid")
	case "ExpiredToken":
		return refuse(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
	case "RequestTimeTooSkewed", "SignatureDoesNotMatch":
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "%s", e.Message)
	case "InvalidArgument", "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError":
		return refuse(http.StatusBadRequest, "IncompleteSignature", "%s", e.Message)
	case anonymous:
		return refuse(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	return e
}

// encodeMAC is a signature as it is written.
func encodeMAC(sum []byte) string { return hex.EncodeToString(sum) }

// sameMAC compares in constant time. The hex of a signature is lower case.
func sameMAC(given string, want []byte) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(encodeMAC(want))) == 1
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
