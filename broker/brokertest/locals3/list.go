package locals3

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"
)

// maxPage is how many entries one answer holds.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
const maxPage = 1000

// listingContext is the condition keys of a listing: each only where the request
// has the parameter, so that a condition on s3:prefix refuses one without it.
func (r *request) listingContext() map[string]string {
	context := map[string]string{}
	for _, name := range []string{"prefix", "delimiter", "max-keys"} {
		if value, ok := r.query[name]; ok {
			context["s3:"+name] = value
		}
	}
	return context
}

// number reads a parameter that bounds an answer.
func (r *request) number(name string, otherwise int) (int, error) {
	text, ok := r.query[name]
	if !ok || text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, invalid("Provided %s not an integer or within integer range", name)
	}
	return int(n), nil
}

// encoder is how names are written: as they are, or encoded for XML's sake.
func (r *request) encoder() (func(string) string, error) {
	switch r.query["encoding-type"] {
	case "":
		return func(s string) string { return s }, nil
	case "url":
		return func(s string) string {
			return strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(s))
		}, nil
	}
	return nil, invalid("Invalid Encoding Method specified in Request")
}

type listResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name         string
	Prefix       string
	Delimiter    string `xml:",omitempty"`
	EncodingType string `xml:",omitempty"`
	MaxKeys      int
	Marker       *string `xml:",omitempty"` // version 1
	NextMarker   string  `xml:",omitempty"`
	KeyCount     *int    `xml:",omitempty"` // version 2
	StartAfter   string  `xml:",omitempty"`

	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`

	IsTruncated    bool
	Contents       []listedObject
	CommonPrefixes []commonPrefix
}

type listedObject struct {
	Key, LastModified, ETag string
	Size                    int64
	StorageClass            string
}

type commonPrefix struct{ Prefix string }

// listObjects is both versions of the listing. The store is asked for keys by
// their prefix only: what it makes of a delimiter shows keys outside the prefix.
func listObjects(s *Server, r *request) (operation, error) {
	c := r.on("s3:ListBucket")
	c.context = r.listingContext()
	return operation{checks: []check{c}, serve: func(w http.ResponseWriter, _ []byte) error {
		out, after, limit, err := r.listing()
		if err != nil {
			return err
		}
		encode, err := r.encoder()
		if err != nil {
			return err
		}
		prefix := gofakes3.NewPrefix(&out.Prefix, nil)
		found, err := s.store.backend.ListBucket(r.bucket, &prefix, gofakes3.ListBucketPage{})
		if err != nil {
			return fmt.Errorf("list bucket: %w", err)
		}
		keys := make([]string, len(found.Contents))
		for i, o := range found.Contents {
			keys[i] = o.Key
		}
		entries, truncated := page(keys, out.Prefix, out.Delimiter, after, limit)
		for _, e := range entries {
			if e.group {
				out.CommonPrefixes = append(out.CommonPrefixes, commonPrefix{encode(e.name)})
				continue
			}
			o, ok, err := s.store.head(r.bucket, e.name)
			if err != nil {
				return err
			}
			if ok { // else it was deleted since
				out.Contents = append(out.Contents, listedObject{encode(e.name), o.Modified.Format(time.RFC3339), o.ETag, o.Size, "STANDARD"})
			}
		}
		out.finish(entries, truncated, encode)
		return sendXML(w, r, http.StatusOK, out)
	}}, nil
}

// listing reads the parameters of either version.
func (r *request) listing() (out listResult, after string, limit int, err error) {
	out = listResult{Name: r.bucket, Prefix: r.query["prefix"], Delimiter: r.query["delimiter"], EncodingType: r.query["encoding-type"]}
	if limit, err = r.number("max-keys", maxPage); err != nil {
		return out, "", 0, err
	}
	limit = min(limit, maxPage)
	out.MaxKeys = limit
	version, isSecond := r.query["list-type"]
	if !isSecond {
		marker := r.query["marker"]
		out.Marker = &marker
		return out, marker, limit, nil
	}
	if version != "2" {
		return out, "", 0, invalid("list-type must be 2")
	}
	out.KeyCount, out.StartAfter = new(int), r.query["start-after"]
	after = out.StartAfter
	if token, ok := r.query["continuation-token"]; ok {
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(text) == 0 {
			return out, "", 0, invalid("The continuation token provided is incorrect")
		}
		out.ContinuationToken, after = token, string(text)
	}
	return out, after, limit, nil
}

func (out *listResult) finish(entries []entry, truncated bool, encode func(string) string) {
	last := ""
	if truncated {
		last = entries[len(entries)-1].name
	}
	out.IsTruncated = truncated
	if out.KeyCount != nil {
		*out.KeyCount = len(out.Contents) + len(out.CommonPrefixes)
		out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(last))
	} else {
		marker := encode(*out.Marker)
		out.Marker = &marker
		if out.Delimiter != "" { // only then, says its documentation
			out.NextMarker = encode(last)
		}
	}
	out.Prefix, out.Delimiter, out.StartAfter = encode(out.Prefix), encode(out.Delimiter), encode(out.StartAfter)
}

// entry is one line of a listing: a key, or what several have in common.
type entry struct {
	name  string
	group bool
}

// page takes what comes after a name from sorted keys that have the prefix,
// gathering those that share what stands between prefix and delimiter.
func page(keys []string, prefix, delimiter, after string, limit int) (entries []entry, truncated bool) {
	for _, key := range keys {
		e := entry{name: key}
		if delimiter != "" {
			if head, _, ok := strings.Cut(key[len(prefix):], delimiter); ok {
				e = entry{name: prefix + head + delimiter, group: true}
			}
		}
		if e.name <= after || len(entries) > 0 && entries[len(entries)-1] == e {
			continue
		}
		if len(entries) == limit {
			return entries, limit > 0
		}
		entries = append(entries, e)
	}
	return entries, false
}
