package locals3

import (
	"cmp"
	"encoding/xml"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

func listParts(s *Server, r *request) (operation, error) {
	type line struct {
		PartNumber         int
		LastModified, ETag string
		Size               int
	}
	type result struct {
		XMLName                                xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket, Key                            string
		UploadID                               string `xml:"UploadId"`
		PartNumberMarker, NextPartNumberMarker int
		MaxParts                               int
		IsTruncated                            bool
		Parts                                  []line `xml:"Part"`
	}
	return operation{checks: []check{r.on("s3:ListMultipartUploadParts")}, serve: func(w http.ResponseWriter, _ []byte) error {
		after, errA := r.number("part-number-marker", 0)
		limit, errB := r.number("max-parts", maxPage)
		encode, errC := r.encoder()
		if err := errors.Join(errA, errB, errC); err != nil {
			return err
		}
		s.uploads.mu.Lock()
		defer s.uploads.mu.Unlock()
		up, err := s.uploads.find(r)
		if err != nil {
			return err
		}
		out := result{Bucket: r.bucket, Key: encode(r.key), UploadID: up.id, PartNumberMarker: after, MaxParts: min(limit, maxPage)}
		for _, number := range slices.Sorted(maps.Keys(up.parts)) {
			if number <= after {
				continue
			}
			if len(out.Parts) == out.MaxParts {
				out.IsTruncated = out.MaxParts > 0
				break
			}
			p := up.parts[number]
			out.Parts = append(out.Parts, line{number, p.modified.Format(time.RFC3339), p.etag, len(p.data)})
			out.NextPartNumberMarker = number
		}
		return sendXML(w, r, http.StatusOK, out)
	}}, nil
}

// listUploads shows what is under way, in the order of keys. It takes no
// delimiter.
func listUploads(s *Server, r *request) (operation, error) {
	type line struct {
		Key       string
		UploadID  string `xml:"UploadId"`
		Initiated string
	}
	type result struct {
		XMLName                   xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket, Prefix, KeyMarker string
		UploadIDMarker            string `xml:"UploadIdMarker"`
		NextKeyMarker             string `xml:",omitempty"`
		NextUploadIDMarker        string `xml:"NextUploadIdMarker,omitempty"`
		EncodingType              string `xml:",omitempty"`
		MaxUploads                int
		IsTruncated               bool
		Uploads                   []line `xml:"Upload"`
	}
	c := r.on("s3:ListBucketMultipartUploads")
	c.context = r.listingContext()
	return operation{checks: []check{c}, serve: func(w http.ResponseWriter, _ []byte) error {
		limit, errA := r.number("max-uploads", maxPage)
		encode, errB := r.encoder()
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		prefix, key, id := r.query["prefix"], r.query["key-marker"], r.query["upload-id-marker"]
		out := result{
			Bucket: r.bucket, Prefix: encode(prefix), KeyMarker: encode(key), UploadIDMarker: id,
			EncodingType: r.query["encoding-type"], MaxUploads: min(limit, maxPage),
		}
		for _, up := range s.uploads.sorted(r.bucket) {
			after := up.key > key || up.key == key && id != "" && up.id > id
			if !after || !strings.HasPrefix(up.key, prefix) {
				continue
			}
			if len(out.Uploads) == out.MaxUploads {
				out.IsTruncated = out.MaxUploads > 0
				break
			}
			out.Uploads = append(out.Uploads, line{encode(up.key), up.id, up.begun.Format(time.RFC3339)})
			out.NextKeyMarker, out.NextUploadIDMarker = encode(up.key), up.id
		}
		if !out.IsTruncated {
			out.NextKeyMarker, out.NextUploadIDMarker = "", ""
		}
		return sendXML(w, r, http.StatusOK, out)
	}}, nil
}

// sorted returns the uploads of a bucket by key and id, which do not change.
func (u *uploads) sorted(bucket string) []*upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	var found []*upload
	for _, up := range u.byID {
		if up.bucket == bucket {
			found = append(found, up)
		}
	}
	slices.SortFunc(found, func(a, b *upload) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.id, b.id))
	})
	return found
}
