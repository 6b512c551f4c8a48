package locals3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"credential-broker/broker/brokertest/sigv4"
)

// namespace of the answers of S3.
const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

func refuse(status int, code, format string, args ...any) error {
	return &sigv4.Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// The refusals that several places give, in the words of S3.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func denied() error { return refuse(http.StatusForbidden, "AccessDenied", "Access Denied") }
func noSuchKey() error {
	return refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
}
func noSuchBucket() error {
	return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
}
func noSuchUpload() error {
	return refuse(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
}
func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "InvalidArgument", format, args...)
}
func malformedXML() error {
	return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
}
func notImplemented(what string) error {
	return refuse(http.StatusNotImplemented, "NotImplemented", "A header, a parameter or a method that you provided implies functionality that is not implemented: %s", what)
}
func preconditionFailed() error {
	return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
}

// answer remembers the status, and at the last moment lets a page of an allowed
// origin read the headers of S3.
type answer struct {
	http.ResponseWriter
	status int
	sent   int64
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status = status
	if h := a.Header(); h.Get("Access-Control-Allow-Origin") != "" {
		exposed := []string{"ETag", "Content-Range", "Accept-Ranges"}
		for name := range h {
			if strings.HasPrefix(name, "X-Amz-") {
				exposed = append(exposed, strings.ToLower(name))
			}
		}
		slices.Sort(exposed)
		h.Set("Access-Control-Expose-Headers", strings.Join(exposed, ", "))
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	n, err := a.ResponseWriter.Write(p)
	a.sent += int64(n)
	return n, err
}

// corsMethods are what any bucket's CORS configuration here allows.
func corsMethods() []string { return []string{"GET", "PUT", "POST", "DELETE", "HEAD"} }

// cors answers a preflight and gives the headers that a page of an allowed
// origin needs, on refusals too. It reports whether the request is answered.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html
func (s *Server) cors(w http.ResponseWriter, r *request) bool {
	origin, preflight := r.Header.Get("Origin"), r.Method == http.MethodOptions
	allowed := origin != "" && slices.Contains(s.buckets[r.bucket].AllowedOrigins, origin)
	h := w.Header()
	h.Set("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
	if allowed {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	if !preflight {
		return false
	}
	if !allowed || !slices.Contains(corsMethods(), r.Header.Get("Access-Control-Request-Method")) {
		h.Del("Access-Control-Allow-Origin")
		sendError(w, r, refuse(http.StatusForbidden, "AccessForbidden", "CORSResponse: This CORS request is not allowed."))
		return true
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(corsMethods(), ", "))
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600") // short: a demo's origins change
	w.WriteHeader(http.StatusOK)
	return true
}

type errorBody struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

func sendError(w http.ResponseWriter, r *request, err error) {
	var known *sigv4.Error
	if !errors.As(err, &known) {
		known = &sigv4.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: "We encountered an internal error."}
	}
	r.event.Code = known.Code
	_ = sendXML(w, r, known.Status, errorBody{Code: known.Code, Message: known.Message, Resource: r.URL.Path, RequestID: r.id})
}

// sendXML answers; on HEAD there is no body, and on 304 there may be none.
func sendXML(w http.ResponseWriter, r *request, status int, v any) error {
	text, err := xml.Marshal(v)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	text = append([]byte(xml.Header), text...)
	if r.Method == http.MethodHead || status == http.StatusNotModified {
		w.WriteHeader(status)
		return nil
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // who is gone need not hear
	return nil
}
