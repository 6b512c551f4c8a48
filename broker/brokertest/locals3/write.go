package locals3

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"
)

// headerChecks are what some headers of a write need on top.
func (r *request) headerChecks() []check {
	var all []check
	for name := range r.Header {
		lower := strings.ToLower(name)
		switch {
		case lower == "x-amz-acl" || strings.HasPrefix(lower, "x-amz-grant-"):
			all = append(all, check{action: "s3:PutObjectAcl", resource: r.objectARN()})
		case lower == "x-amz-tagging":
			all = append(all, check{action: "s3:PutObjectTagging", resource: r.objectARN()})
		case strings.HasPrefix(lower, "x-amz-object-lock-"):
			all = append(all, check{action: "s3:PutObjectRetention", resource: r.objectARN()})
		}
	}
	return all
}

// source reads x-amz-copy-source: where a copy comes from, which must be
// readable. It is decoded once, as S3 does.
func (r *request) source() (bucket, key string, ok bool, err error) {
	values := r.Header.Values("X-Amz-Copy-Source")
	if len(values) == 0 {
		return "", "", false, nil
	}
	invalid := refuse(http.StatusBadRequest, "InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	path, err := url.PathUnescape(values[0])
	if err != nil || len(values) > 1 || strings.Contains(values[0], "?") { // a version is not served here
		return "", "", true, invalid
	}
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "." || segment == ".." {
			return "", "", true, invalid
		}
	}
	if bucket == "" || key == "" {
		return "", "", true, invalid
	}
	return bucket, key, true, nil
}

func putObject(_ *Server, r *request) (operation, error) {
	op := operation{checks: append([]check{{action: "s3:PutObject", resource: r.objectARN()}}, r.headerChecks()...)}
	bucket, key, isCopy, err := r.source()
	if err != nil || !isCopy {
		return op, err
	}
	op.checks = append(op.checks, check{action: "s3:GetObject", resource: arn + bucket + "/" + key})
	// What was checked is what is copied: the store gets it in one spelling.
	r.Header.Set("X-Amz-Copy-Source", (&url.URL{Path: "/" + bucket + "/" + key}).EscapedPath())
	return op, nil
}

func createUpload(_ *Server, r *request) (operation, error) {
	return operation{checks: append([]check{{action: "s3:PutObject", resource: r.objectARN()}}, r.headerChecks()...)}, nil
}

func uploadPart(s *Server, r *request) (operation, error) {
	op, err := onUpload("s3:PutObject")(s, r)
	if err != nil {
		return op, err
	}
	bucket, key, isCopy, err := r.source()
	if err != nil || !isCopy {
		return op, err
	}
	op.checks = append(op.checks, check{action: "s3:GetObject", resource: arn + bucket + "/" + key})
	op.serve = func(w http.ResponseWriter, _ []byte) error { return s.uploadPartCopy(w, r, bucket, key) }
	return op, nil
}

type copyPartResult struct {
	XMLName      xml.Name `xml:"CopyPartResult"`
	ETag         string
	LastModified string
}

// uploadPartCopy is not in the store: it reads the range and uploads it as a part.
func (s *Server) uploadPartCopy(w http.ResponseWriter, r *request, bucket, key string) error {
	object, err := s.backend.GetObject(bucket, key, nil)
	if err != nil {
		return refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	data, err := io.ReadAll(object.Contents)
	if err := errors.Join(err, object.Contents.Close()); err != nil {
		return err
	}
	if spec := r.Header.Get("X-Amz-Copy-Source-Range"); spec != "" {
		var first, last int
		if n, err := fmt.Sscanf(spec, "bytes=%d-%d", &first, &last); n != 2 || err != nil || first < 0 || first > last || last >= len(data) {
			return refuse(http.StatusBadRequest, "InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=first-last")
		}
		data = data[first : last+1]
	}
	if s.stored.Add(int64(len(data))) > maxStored {
		return refuse(http.StatusInsufficientStorage, "InsufficientStorage", "this local S3 is full")
	}
	part := s.plain(r, data)
	part.Header.Del("X-Amz-Copy-Source")
	answer := httptest.NewRecorder()
	s.store.ServeHTTP(answer, part)
	if answer.Code != http.StatusOK {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(answer.Code)
		_, err := w.Write(answer.Body.Bytes())
		return err
	}
	return sendXML(w, http.StatusOK, copyPartResult{
		ETag: answer.Header().Get("ETag"), LastModified: s.cfg.Now().UTC().Format(time.RFC3339),
	}, false)
}

type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct {
		Key       string
		VersionID string `xml:"VersionId"`
	} `xml:"Object"`
}

type deleteResult struct {
	XMLName xml.Name        `xml:"DeleteResult"`
	Deleted []deletedObject `xml:"Deleted"`
	Errors  []deleteError   `xml:"Error"`
}

type deletedObject struct{ Key string }

type deleteError struct{ Key, Code, Message string }

// maxDeletes is how many keys one request may name.
const maxDeletes = 1000

// multiDelete decides about each key by itself, as S3 does: what may be deleted
// is, what may not is named in the answer.
func multiDelete(s *Server, r *request) (operation, error) {
	return operation{serve: func(w http.ResponseWriter, body []byte) error {
		var in deleteRequest
		if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil || len(in.Objects) == 0 || len(in.Objects) > maxDeletes {
			return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
		}
		var out deleteResult
		for _, o := range in.Objects {
			action := "s3:DeleteObject"
			if o.VersionID != "" {
				action = "s3:DeleteObjectVersion"
			}
			if !s.allowed(r, check{action: action, resource: arn + r.bucket + "/" + o.Key}) {
				out.Errors = append(out.Errors, deleteError{o.Key, "AccessDenied", "Access Denied"})
				continue
			}
			if _, err := s.backend.DeleteObject(r.bucket, o.Key); err != nil && !gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey) {
				out.Errors = append(out.Errors, deleteError{o.Key, "InternalError", "We encountered an internal error."})
				continue
			}
			if !in.Quiet {
				out.Deleted = append(out.Deleted, deletedObject{o.Key})
			}
		}
		return sendXML(w, http.StatusOK, out, false)
	}}, nil
}

// hideMissing turns the store's 404 for a key into a 403 for who may not list
// the bucket there: whether a key exists is for those who could see it listed.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
func (s *Server) hideMissing(w http.ResponseWriter, r *request) http.ResponseWriter {
	if r.key == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return w
	}
	return &hiding{ResponseWriter: w, hide: func() bool {
		return !s.allowed(r, check{"s3:ListBucket", r.bucketARN(), map[string]string{"s3:prefix": r.key}})
	}, send: func() { s.sendError(w, r, denied()) }}
}

type hiding struct {
	http.ResponseWriter
	hide   func() bool
	send   func()
	hidden bool
}

func (h *hiding) WriteHeader(status int) {
	if status == http.StatusNotFound && h.hide() {
		h.hidden = true
		h.Header().Del("Content-Length")
		h.send()
		return
	}
	h.ResponseWriter.WriteHeader(status)
}

func (h *hiding) Write(p []byte) (int, error) {
	if h.hidden {
		return len(p), nil // the store's own words
	}
	return h.ResponseWriter.Write(p)
}
