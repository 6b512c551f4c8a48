// Package locals3 is an AWS S3 for tests and the demo that enforces what the
// real one does: signatures, session tokens, permissions for each action that a
// request amounts to, CORS. Objects live in memory, in the backend of
// johannesboyne/gofakes3, which enforces nothing; no part of gofakes3 reads a
// request here.
//
// Each request is mapped to actions by an allow-list (operation.go); one that is
// on no list, has a parameter or an x-amz-* header that is not known or given
// twice, or a dot segment in its path, is refused before the store sees it.
//
// It is NOT SAFE FOR PRODUCTION USE and is meant for loopback: it speaks plain
// http, keeps secrets in memory, and does not listen by itself.
package locals3

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"

	"credential-broker/broker/brokertest/sigv4"
)

const (
	// defaultMaxBytes bounds what is held in all, so that a demo that is left
	// running does not fill the machine's memory: a laptop's share.
	defaultMaxBytes = 1 << 30
	// maxDocument bounds an XML body: 10,000 parts of an upload need 1.5 MB, and
	// 1,000 keys of a multi-delete a little less.
	maxDocument = 4 << 20
)

// Bucket is one bucket.
type Bucket struct {
	Name           string
	AllowedOrigins []string // of its CORS configuration, exact
	KMSKey         string   // ARN of the key with which its objects are encrypted; empty: S3's own
	BucketKey      bool     // S3 Bucket Keys: the key is asked for the bucket, not for the object
}

// Principal is who an access key stands for. Zero values refuse.
type Principal struct {
	Secret       string
	SessionToken string // empty: a long-term key
	Expiration   time.Time
	// Authorize decides about one action on one resource (an ARN) under the
	// condition keys that the request brings.
	Authorize func(action, resource string, context map[string][]string) bool
}

// Event is what one request came to, for those who watch.
type Event struct {
	Method, Bucket, Key string
	AccessKeyID         string   // empty: the request was not authenticated
	Actions             []string // that were asked about, in order
	Allowed             bool     // all of them were
	Status              int
	Bytes               int64 // of the body that came in, decoded

	At         time.Time
	RequestID  string
	RemoteAddr string
	URI        string // as it was asked for, query included
	UserAgent  string
	Code       string // of a refusal
	Sent       int64  // bytes of the answer's body
}

// Config is the buckets of one account. All fields but the last two are needed.
type Config struct {
	Region   string
	Buckets  []Bucket
	Lookup   func(accessKeyID string) (Principal, bool)
	Now      func() time.Time
	Observe  func(Event) // nil: nobody watches; called after the answer, concurrently
	MaxBytes int64       // of objects and parts in all; 0: 1 GiB
}

// Server answers for the buckets, by path and by host. It is safe for concurrent use.
type Server struct {
	cfg     Config
	buckets map[string]Bucket // :: name → bucket
	store   *store
	uploads *uploads
}

// New makes empty buckets.
func New(cfg Config) (*Server, error) {
	if cfg.Region == "" || len(cfg.Buckets) == 0 || cfg.Lookup == nil || cfg.Now == nil || cfg.MaxBytes < 0 {
		return nil, errors.New("a region, a bucket, a look-up and a clock are needed")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	s := &Server{cfg: cfg, buckets: map[string]Bucket{}, store: newStore(cfg.Now, cfg.MaxBytes), uploads: newUploads()}
	for _, b := range cfg.Buckets {
		if err := gofakes3.ValidateBucketName(b.Name); err != nil {
			return nil, fmt.Errorf("name of bucket %q: %w", b.Name, err)
		}
		if err := s.store.backend.CreateBucket(b.Name); err != nil {
			return nil, fmt.Errorf("make bucket %s: %w", b.Name, err)
		}
		s.buckets[b.Name] = b
	}
	return s, nil
}

// request is one request on its way.
type request struct {
	*http.Request
	bucket, key string
	query       map[string]string // without what belongs to the signature
	header      http.Header       // with what a presigned URL had in its query
	principal   Principal
	event       Event
	id          string
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := &request{Request: r, id: rand.Text()[:16]}
	req.bucket, req.key = s.address(r)
	w.Header().Set("X-Amz-Request-Id", req.id)
	out := &answer{ResponseWriter: w}
	if !s.cors(out, req) {
		if err := s.serve(out, req); err != nil {
			sendError(out, req, err)
		}
	}
	if s.cfg.Observe != nil {
		e := &req.event
		e.Method, e.Bucket, e.Key, e.Status, e.Sent = r.Method, req.bucket, req.key, out.status, out.sent
		e.At, e.RequestID, e.RemoteAddr, e.URI, e.UserAgent = s.cfg.Now(), req.id, r.RemoteAddr, r.RequestURI, r.UserAgent()
		s.cfg.Observe(*e)
	}
}

// address tells the bucket and the key of a request: the bucket is a part of the
// host's name, as SDKs write it by themselves, or else the first of the path.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
func (s *Server) address(r *http.Request) (bucket, key string) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if bucket, ok := strings.CutSuffix(host, ".s3."+s.cfg.Region+".amazonaws.com"); ok {
		return bucket, path
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// serve checks a request from the outside in, and then lets the store answer.
func (s *Server) serve(w http.ResponseWriter, r *request) error {
	if err := r.readURL(); err != nil {
		return err
	}
	body, err := s.authenticate(r)
	if err != nil {
		return err
	}
	if err := r.hoist(); err != nil {
		return err
	}
	op, err := s.operation(r)
	if err != nil {
		return err
	}
	r.event.Allowed = true
	for _, c := range op.checks {
		if !s.allowed(r, c) {
			return denied()
		}
	}
	if _, ok := s.buckets[r.bucket]; !ok && r.bucket != "" {
		return noSuchBucket()
	}
	data, release, err := s.read(r, op, body)
	if err != nil {
		return err
	}
	defer release()
	return op.serve(w, data)
}

// authenticate finds who signed the request. The principal is looked up once, so
// that what is verified and what decides are the same.
func (s *Server) authenticate(r *request) (io.ReadCloser, error) {
	verifier := sigv4.Verifier{Region: s.cfg.Region, Service: "s3", Now: s.cfg.Now, Lookup: func(id string) (sigv4.Credential, bool) {
		var ok bool
		r.principal, ok = s.cfg.Lookup(id)
		return sigv4.Credential{Secret: r.principal.Secret, SessionToken: r.principal.SessionToken, Expiration: r.principal.Expiration}, ok
	}}
	accessKeyID, body, err := verifier.Verify(r.Request)
	r.event.AccessKeyID = accessKeyID
	return body, err
}

// conditionHeaders are the headers that are condition keys as well, as
// "s3:" and their name.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html#amazons3-policy-keys
func conditionHeaders() []string {
	return []string{
		"x-amz-acl", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
		"x-amz-content-sha256", "x-amz-copy-source", "x-amz-metadata-directive",
	}
}

// allowed asks the principal's policies about one check.
func (s *Server) allowed(r *request, c check) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	context := map[string][]string{
		"aws:SourceIp": {host}, "aws:SecureTransport": {strconv.FormatBool(r.TLS != nil)},
		"aws:CurrentTime": {s.cfg.Now().UTC().Format(time.RFC3339)},
	}
	if strings.HasPrefix(c.action, "kms:") {
		delete(context, "aws:SourceIp") // it is S3 that asks
	}
	for key, value := range c.context {
		context[key] = []string{value}
	}
	for _, name := range conditionHeaders() {
		if v := r.header.Values(name); len(v) > 0 {
			context["s3:"+name] = slices.Clone(v)
		}
	}
	ok := r.principal.Authorize != nil && r.principal.Authorize(c.action, c.resource, context)
	if !c.quiet {
		r.event.Actions = append(r.event.Actions, c.action)
		r.event.Allowed = r.event.Allowed && ok
	}
	return ok
}
