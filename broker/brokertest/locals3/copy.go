package locals3

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"credential-broker/broker/brokertest/sigv4"
)

func statusOf(err error) int {
	var known *sigv4.Error
	if errors.As(err, &known) {
		return known.Status
	}
	return http.StatusInternalServerError
}

// load reads length bytes of an object into memory that is reserved.
func (s *Server) load(contents io.Reader, first, length int64) (data []byte, release func(), err error) {
	release, err = s.store.reserve(length)
	if err != nil {
		return nil, func() {}, err
	}
	data = make([]byte, length)
	if _, err = io.CopyN(io.Discard, contents, first); err == nil {
		_, err = io.ReadFull(contents, data)
	}
	if err != nil {
		release()
		return nil, func() {}, fmt.Errorf("read object: %w", err)
	}
	return data, release, nil
}

type copyResult struct {
	XMLName      xml.Name
	ETag         string
	LastModified string
}

func (s *Server) sendCopied(w http.ResponseWriter, r *request, element, etag string) error {
	return sendXML(w, r, http.StatusOK, copyResult{
		XMLName: xml.Name{Space: namespace, Local: element}, ETag: etag, LastModified: s.cfg.Now().UTC().Format(time.RFC3339),
	})
}

// copyObject needs to read the source and to write the target.
func copyObject(s *Server, r *request, bucket, key string) (operation, error) {
	replace := false
	switch directive := r.header.Get("X-Amz-Metadata-Directive"); directive {
	case "", "COPY":
	case "REPLACE":
		replace = true
	default:
		return operation{}, invalid("Unknown metadata directive.")
	}
	op := operation{checks: append(s.newObjectChecks(r), s.readChecks(bucket, key)...)}
	op.serve = func(w http.ResponseWriter, _ []byte) error {
		if !replace && bucket == r.bucket && key == r.key {
			return refuse(http.StatusBadRequest, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata.")
		}
		from, contents, err := s.store.get(bucket, key)
		if err != nil {
			return s.hide(r, bucket, key, err)
		}
		data, release, err := s.load(contents, 0, from.Size)
		if err != nil {
			return err
		}
		defer release()
		to := object{ETag: etag(data), Header: from.Header}
		if replace {
			to.Header = r.describedBy().Header
		}
		if err := s.store.put(r, to, data); err != nil {
			return err
		}
		return s.sendCopied(w, r, "CopyObjectResult", to.ETag)
	}
	return op, nil
}

type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct {
		Key       string
		VersionID string `xml:"VersionId"`
		ETag      string
	} `xml:"Object"`
}

type deleteResult struct {
	XMLName xml.Name        `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedObject `xml:"Deleted"`
	Errors  []deleteError   `xml:"Error"`
}

type deletedObject struct{ Key string }

type deleteError struct{ Key, Code, Message string }

// maxDeletes is how many keys one request may name.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
const maxDeletes = 1000

// multiDelete decides about each key by itself, as S3 does: what may be deleted
// is, what may not is named in the answer.
func multiDelete(s *Server, r *request) (operation, error) {
	return operation{serve: func(w http.ResponseWriter, body []byte) error {
		var in deleteRequest
		if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil || len(in.Objects) == 0 || len(in.Objects) > maxDeletes {
			return malformedXML()
		}
		var out deleteResult
		for _, o := range in.Objects {
			action := "s3:DeleteObject"
			if o.VersionID != "" {
				action = "s3:DeleteObjectVersion"
			}
			err := denied()
			if s.allowed(r, check{action: action, resource: arn + r.bucket + "/" + o.Key}) {
				err = s.deleteOne(r.bucket, o.Key, o.VersionID+o.ETag)
			}
			if err == nil {
				out.Deleted = append(out.Deleted, deletedObject{o.Key})
				continue
			}
			known := &sigv4.Error{Code: "InternalError", Message: "We encountered an internal error."}
			_ = errors.As(err, &known)
			out.Errors = append(out.Errors, deleteError{o.Key, known.Code, known.Message})
		}
		if in.Quiet {
			out.Deleted = nil
		}
		return sendXML(w, r, http.StatusOK, out)
	}}, nil
}

// deleteOne takes no condition: there are no versions, and what is asked for with
// an ETag must not happen without it.
func (s *Server) deleteOne(bucket, key, condition string) error {
	if condition != "" {
		return notImplemented("a version or an ETag in a multi-delete")
	}
	if key == "" {
		return refuse(http.StatusBadRequest, "UserKeyMustBeSpecified", "The bucket POST must contain the specified field name.")
	}
	return s.store.remove(bucket, key)
}
