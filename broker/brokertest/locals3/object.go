package locals3

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

func listBuckets(s *Server, r *request) (operation, error) {
	type bucket struct{ Name, CreationDate string }
	return operation{
		checks: []check{{action: "s3:ListAllMyBuckets", resource: "*"}},
		serve: func(w http.ResponseWriter, _ []byte) error {
			found, err := s.store.backend.ListBuckets()
			if err != nil {
				return fmt.Errorf("list buckets: %w", err)
			}
			out := struct {
				XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
				Buckets []bucket `xml:"Buckets>Bucket"`
			}{}
			for _, b := range found {
				out.Buckets = append(out.Buckets, bucket{b.Name, b.CreationDate.UTC().Format(time.RFC3339)})
			}
			return sendXML(w, r, http.StatusOK, out)
		},
	}, nil
}

func headBucket(s *Server, r *request) (operation, error) {
	return operation{checks: []check{r.on("s3:ListBucket")}, serve: func(w http.ResponseWriter, _ []byte) error {
		w.Header().Set("X-Amz-Bucket-Region", s.cfg.Region)
		w.WriteHeader(http.StatusOK)
		return nil
	}}, nil
}

func location(s *Server, r *request) (operation, error) {
	return operation{checks: []check{r.on("s3:GetBucketLocation")}, serve: func(w http.ResponseWriter, _ []byte) error {
		out := struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
			Region  string   `xml:",chardata"`
		}{Region: s.cfg.Region}
		if out.Region == "us-east-1" { // which has no name here
			out.Region = ""
		}
		return sendXML(w, r, http.StatusOK, out)
	}}, nil
}

// hide turns a missing key into a refusal for who may not list the bucket there:
// whether a key exists is for those who could see it listed.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_Permissions
func (s *Server) hide(r *request, bucket, key string, err error) error {
	c := check{action: "s3:ListBucket", resource: arn + bucket, context: map[string]string{"s3:prefix": key}, quiet: true}
	if statusOf(err) == http.StatusNotFound && !s.allowed(r, c) {
		return denied()
	}
	return err
}

// readChecks are those of whoever reads an object.
func (s *Server) readChecks(bucket, key string) []check {
	return append([]check{{action: "s3:GetObject", resource: arn + bucket + "/" + key}}, s.useOfKey(bucket, key, "kms:Decrypt")...)
}

func getObject(s *Server, r *request) (operation, error) {
	return operation{checks: s.readChecks(r.bucket, r.key), serve: func(w http.ResponseWriter, _ []byte) error {
		o, contents, err := s.store.get(r.bucket, r.key)
		if err != nil {
			return s.hide(r, r.bucket, r.key, err)
		}
		first, length, status, err := r.part(o)
		if err != nil {
			return err
		}
		h := w.Header()
		h.Set("ETag", o.ETag)
		h.Set("Last-Modified", o.Modified.Format(http.TimeFormat))
		h.Set("Accept-Ranges", "bytes")
		if err := r.readConditions(o); err != nil {
			return err
		}
		for name, value := range o.Header {
			h.Set(name, value)
		}
		for name, value := range r.query {
			if header, ok := strings.CutPrefix(name, "response-"); ok {
				h.Set(header, value)
			}
		}
		if status == http.StatusPartialContent {
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, o.Size))
		}
		if len(o.Parts) > 0 && r.query["partNumber"] != "" {
			h.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(o.Parts)))
		}
		h.Set("Content-Length", strconv.FormatInt(length, 10))
		w.WriteHeader(status)
		if r.Method == http.MethodHead {
			return nil
		}
		if _, err := io.CopyN(io.Discard, contents, first); err == nil {
			_, _ = io.CopyN(w, contents, length) // who is gone need not hear
		}
		return nil
	}}, nil
}

// readConditions are RFC 9110 §13 as far as S3 has it.
func (r *request) readConditions(o object) error {
	since := func(name string) (time.Time, bool) {
		t, err := http.ParseTime(r.header.Get(name))
		return t, err == nil
	}
	if match := r.header.Get("If-Match"); match != "" {
		if !sameETag(match, o.ETag) {
			return preconditionFailed()
		}
	} else if t, ok := since("If-Unmodified-Since"); ok && o.Modified.Truncate(time.Second).After(t) {
		return preconditionFailed()
	}
	unchanged := false
	if match := r.header.Get("If-None-Match"); match != "" {
		unchanged = sameETag(match, o.ETag)
	} else if t, ok := since("If-Modified-Since"); ok {
		unchanged = !o.Modified.Truncate(time.Second).After(t)
	}
	if unchanged {
		return refuse(http.StatusNotModified, "NotModified", "Not Modified")
	}
	return nil
}

// part is which bytes of an object are asked for, by range or by part number.
func (r *request) part(o object) (first, length int64, status int, err error) {
	number, byNumber := r.query["partNumber"]
	ranges := r.header.Values("Range")
	switch {
	case byNumber && len(ranges) > 0:
		return 0, 0, 0, refuse(http.StatusBadRequest, "InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
	case byNumber:
		n, err := strconv.Atoi(number)
		if sizes := o.Parts; err == nil && n >= 1 && n <= len(sizes) {
			for _, size := range sizes[:n-1] {
				first += size
			}
			return first, sizes[n-1], http.StatusPartialContent, nil
		}
		if err != nil || n != 1 || len(o.Parts) > 0 {
			return 0, 0, 0, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber", "The requested partnumber is not satisfiable")
		}
	case len(ranges) == 1:
		if first, last, ok := parseRange(ranges[0], o.Size); ok {
			if first > last {
				return 0, 0, 0, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
			}
			return first, last - first + 1, http.StatusPartialContent, nil
		}
	}
	return 0, o.Size, http.StatusOK, nil
}

// parseRange reads one range of bytes; first is after last if it has none. False
// is a header to be ignored, as several ranges are (RFC 9110 §14.2).
func parseRange(header string, size int64) (first, last int64, ok bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, 0, false
	}
	a, errA := strconv.ParseUint(from, 10, 62)
	b, errB := strconv.ParseUint(to, 10, 62)
	first, last = int64(a), int64(b)
	switch {
	case from == "" && errB == nil:
		first, last = max(size-last, 0), size-1
	case to == "" && errA == nil:
		last = size - 1
	case errA != nil || errB != nil || first > last:
		return 0, 0, false
	}
	return first, min(last, size-1), true
}

// describedBy is what a write's headers say of the new object.
func (r *request) describedBy() object {
	o := object{Header: map[string]string{}}
	for name, values := range r.header {
		lower := strings.ToLower(name)
		switch {
		case lower == "content-encoding":
			if rest := withoutChunks(values); rest != "" {
				o.Header[name] = rest
			}
		case lower == "content-type", lower == "cache-control", lower == "content-disposition", lower == "content-language", lower == "expires",
			strings.HasPrefix(lower, "x-amz-meta-"), strings.HasPrefix(lower, "x-amz-server-side-encryption") && !strings.HasSuffix(lower, "-context"):
			o.Header[name] = values[0]
		}
	}
	if o.Header["Content-Type"] == "" {
		o.Header["Content-Type"] = "binary/octet-stream"
	}
	return o
}

// withoutChunks drops the encoding that was undone when the signature was checked.
func withoutChunks(encodings []string) string {
	var rest []string
	for e := range strings.SplitSeq(strings.Join(encodings, ","), ",") {
		if e = strings.TrimSpace(e); e != "" && !strings.EqualFold(e, "aws-chunked") {
			rest = append(rest, e)
		}
	}
	return strings.Join(rest, ",")
}

func putObject(s *Server, r *request) (operation, error) {
	bucket, key, isCopy, err := r.source()
	if err != nil {
		return operation{}, err
	}
	if isCopy {
		return copyObject(s, r, bucket, key)
	}
	return operation{checks: s.newObjectChecks(r), stores: true, serve: func(w http.ResponseWriter, body []byte) error {
		o := r.describedBy()
		o.ETag = etag(body)
		if err := s.store.put(r, o, body); err != nil {
			return err
		}
		w.Header().Set("ETag", o.ETag)
		w.WriteHeader(http.StatusOK)
		return nil
	}}, nil
}

func deleteObject(s *Server, r *request) (operation, error) {
	return operation{checks: []check{r.on("s3:DeleteObject")}, serve: func(w http.ResponseWriter, _ []byte) error {
		if err := s.store.remove(r.bucket, r.key); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}}, nil
}

// source reads x-amz-copy-source: where a copy comes from, which must be
// readable. It is decoded once, as S3 does, and never written again: what is
// checked is what is read.
func (r *request) source() (bucket, key string, ok bool, err error) {
	value := r.header.Get("X-Amz-Copy-Source")
	if value == "" {
		if len(r.header.Values("X-Amz-Copy-Source")) > 0 {
			err = invalid("x-amz-copy-source is empty")
		}
		return "", "", false, err
	}
	path, err := url.PathUnescape(value)
	if err != nil || strings.Contains(value, "?") { // a version is not served here
		return "", "", true, invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if bucket == "" || key == "" {
		return "", "", true, invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	return bucket, key, true, checkKey(key)
}
