// Package locals3 is an AWS S3 for tests and the demo that enforces what the
// real one does, in front of a store that does not: signatures, session tokens,
// permissions for each action a request amounts to, CORS. Objects live in memory.
//
// Each request is mapped to actions by an allow-list (see operation.go); one that
// is on no list, has a parameter that is not known or given twice, or a dot
// segment in its path, is refused before the store sees it.
//
// It is NOT SAFE FOR PRODUCTION USE and is meant for loopback.
package locals3

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"credential-broker/broker/brokertest/sigv4"
)

// maxStored bounds what is written in all, so that a demo that is left running
// does not fill the machine's memory. Deleting does not give room back.
const maxStored = 4 << 30

// Bucket is one bucket.
type Bucket struct {
	Name           string
	AllowedOrigins []string // of its CORS configuration, exact
}

// Principal is who an access key stands for.
type Principal struct {
	Secret       string
	SessionToken string
	Expiration   time.Time
	// Authorize decides about one action on one resource under the condition keys
	// that the request brings.
	Authorize func(action, resource string, context map[string][]string) bool
}

// Event is what one request came to, for those who watch.
type Event struct {
	Method, Bucket, Key string
	AccessKeyID         string
	Actions             []string
	Status              int
	Bytes               int64 // of the body that came in
}

// Config is the buckets of one account. All fields but Observe are needed.
type Config struct {
	Region  string
	Buckets []Bucket
	Lookup  func(accessKeyID string) (Principal, bool)
	Now     func() time.Time
	Observe func(Event) // nil: nobody watches
}

// Server answers for the buckets, path-style. It is safe for concurrent use.
type Server struct {
	cfg      Config
	origins  map[string][]string // :: bucket → allowed origins
	verifier sigv4.Verifier
	backend  *s3mem.Backend
	store    http.Handler
	stored   atomic.Int64
}

// New makes empty buckets.
func New(cfg Config) (*Server, error) {
	if cfg.Region == "" || len(cfg.Buckets) == 0 || cfg.Lookup == nil || cfg.Now == nil {
		return nil, errors.New("a region, a bucket, a look-up and a clock are needed")
	}
	s := &Server{cfg: cfg, origins: map[string][]string{}, backend: s3mem.New()}
	for _, b := range cfg.Buckets {
		if err := s.backend.CreateBucket(b.Name); err != nil {
			return nil, fmt.Errorf("make bucket %s: %w", b.Name, err)
		}
		s.origins[b.Name] = b.AllowedOrigins
	}
	s.verifier = sigv4.Verifier{Region: cfg.Region, Service: "s3", Now: cfg.Now, Lookup: s.credential}
	s.store = gofakes3.New(s.backend, gofakes3.WithTimeSkewLimit(0), gofakes3.WithoutVersioning()).Server()
	return s, nil
}

func (s *Server) credential(accessKeyID string) (sigv4.Credential, bool) {
	p, ok := s.cfg.Lookup(accessKeyID)
	return sigv4.Credential{Secret: p.Secret, SessionToken: p.SessionToken, Expiration: p.Expiration}, ok
}

func refuse(status int, code, format string, args ...any) error {
	return &sigv4.Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func denied() error { return refuse(http.StatusForbidden, "AccessDenied", "Access Denied") }

// request is one request on its way.
type request struct {
	*http.Request
	bucket, key string
	op          operation
	principal   Principal
	event       Event
	id          string
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := &request{Request: r, id: rand.Text()[:16]}
	req.bucket, req.key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	w.Header().Set("x-amz-request-id", req.id)
	out := &recorder{ResponseWriter: w}
	if !s.cors(out, req) {
		if err := s.serve(out, req); err != nil {
			s.sendError(out, req, err)
		}
	}
	if s.cfg.Observe != nil {
		e := req.event
		e.Method, e.Bucket, e.Key, e.Status, e.Actions = r.Method, req.bucket, req.key, out.status, req.op.actions()
		s.cfg.Observe(e)
	}
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// cors answers a preflight and gives the headers that a page of an allowed
// origin needs, on refusals too. It reports whether the request is answered.
func (s *Server) cors(w http.ResponseWriter, r *request) bool {
	origin, preflight := r.Header.Get("Origin"), r.Method == http.MethodOptions
	allowed := origin != "" && slices.Contains(s.origins[r.bucket], origin)
	if allowed {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "ETag, x-amz-request-id, x-amz-error-code, Content-Range, Accept-Ranges")
		h.Set("Vary", "Origin")
		if preflight {
			h.Set("Access-Control-Allow-Methods", "GET, PUT, POST, DELETE, HEAD")
			h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
			h.Set("Access-Control-Max-Age", "600")
		}
	}
	if !preflight {
		return false
	}
	if !allowed || !slices.Contains([]string{"GET", "PUT", "POST", "DELETE", "HEAD"}, r.Header.Get("Access-Control-Request-Method")) {
		s.sendError(w, r, refuse(http.StatusForbidden, "AccessForbidden", "CORSResponse: This CORS request is not allowed."))
		return true
	}
	w.WriteHeader(http.StatusOK)
	return true
}

// serve checks a request from the outside in, and then lets the store answer.
func (s *Server) serve(w http.ResponseWriter, r *request) error {
	if err := checkURL(r.Request); err != nil {
		return err
	}
	accessKeyID, body, err := s.verifier.Verify(r.Request)
	if err != nil {
		return err
	}
	r.event.AccessKeyID = accessKeyID
	r.principal, _ = s.cfg.Lookup(accessKeyID)
	if r.op, err = s.operation(r); err != nil {
		return err
	}
	for _, c := range r.op.checks {
		if !s.allowed(r, c) {
			return denied()
		}
	}
	data, err := s.read(r, body)
	if err != nil {
		return err
	}
	if r.op.serve != nil {
		return r.op.serve(w, data)
	}
	if _, ok := s.origins[r.bucket]; !ok && r.bucket != "" {
		return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	}
	s.store.ServeHTTP(s.hideMissing(w, r), s.plain(r, data))
	return nil
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
	for key, value := range c.context {
		context[key] = []string{value}
	}
	for _, name := range []string{"x-amz-acl", "x-amz-server-side-encryption", "x-amz-content-sha256"} {
		if v := r.Header.Values(name); len(v) > 0 {
			context["s3:"+name] = v
		}
	}
	return r.principal.Authorize(c.action, c.resource, context)
}

// read takes the whole body in, so that what is not what was signed never gets
// to the store.
func (s *Server) read(r *request, body io.ReadCloser) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxStored))
	if err != nil {
		var known *sigv4.Error
		if errors.As(err, &known) {
			return nil, err
		}
		return nil, refuse(http.StatusBadRequest, "IncompleteBody", "The request body terminated unexpectedly")
	}
	r.event.Bytes = int64(len(data))
	if s.stored.Add(int64(len(data))) > maxStored {
		return nil, refuse(http.StatusInsufficientStorage, "InsufficientStorage", "this local S3 takes %d bytes in all", int64(maxStored))
	}
	return data, nil
}

// plain is the request as the store gets it: without signature and framing, with
// nothing that was not understood here.
func (s *Server) plain(r *request, data []byte) *http.Request {
	plain := r.Clone(r.Context())
	plain.Body, plain.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	for name := range plain.Header {
		lower := strings.ToLower(name)
		keep := strings.HasPrefix(lower, "x-amz-meta-") || slices.Contains([]string{"x-amz-copy-source", "x-amz-metadata-directive"}, lower)
		if lower == "authorization" || lower == "origin" || strings.HasPrefix(lower, "x-amz-") && !keep {
			plain.Header.Del(name)
		}
	}
	if encodings := r.Header.Get("Content-Encoding"); strings.Contains(encodings, "aws-chunked") {
		var rest []string
		for e := range strings.SplitSeq(encodings, ",") {
			if e = strings.TrimSpace(e); e != "aws-chunked" && e != "" {
				rest = append(rest, e)
			}
		}
		plain.Header.Del("Content-Encoding")
		if len(rest) > 0 {
			plain.Header.Set("Content-Encoding", strings.Join(rest, ","))
		}
	}
	plain.Header.Set("Content-Length", strconv.Itoa(len(data)))
	query := plain.URL.Query()
	for name := range query {
		if strings.HasPrefix(name, "X-Amz-") || name == "x-id" {
			query.Del(name)
		}
	}
	plain.URL.RawQuery = query.Encode()
	return plain
}

type errorBody struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

func (s *Server) sendError(w http.ResponseWriter, r *request, err error) {
	var known *sigv4.Error
	if !errors.As(err, &known) {
		known = &sigv4.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: "We encountered an internal error."}
	}
	_ = sendXML(w, known.Status, errorBody{Code: known.Code, Message: known.Message, Resource: r.URL.Path, RequestID: r.id}, r.Method == http.MethodHead)
}

func sendXML(w http.ResponseWriter, status int, v any, head bool) error {
	text, err := xml.Marshal(v)
	if err != nil {
		return err
	}
	text = append([]byte(xml.Header), text...)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if head {
		return nil
	}
	_, err = w.Write(text)
	return err
}
