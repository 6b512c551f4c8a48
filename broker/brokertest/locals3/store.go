package locals3

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what ETags are made of
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// store is the backend and how much it holds.
type store struct {
	backend *s3mem.Backend
	now     func() time.Time
	limit   int64

	mu   sync.Mutex // guards used, and makes a write of its look and its leap
	used int64
}

// clock is the time for the backend.
type clock func() time.Time

func (c clock) Now() time.Time                  { return c() }
func (c clock) Since(t time.Time) time.Duration { return c().Sub(t) }
func newStore(now func() time.Time, limit int64) *store {
	return &store{backend: s3mem.New(s3mem.WithTimeSource(clock(now))), now: now, limit: limit}
}

// reserve takes room for n bytes. The function it returns gives back what has not
// been kept; it may be called more than once.
func (s *store) reserve(n int64) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.limit-s.used {
		return nil, refuse(http.StatusInsufficientStorage, "InsufficientStorage", "this local S3 holds %d bytes in all", s.limit)
	}
	s.used += n
	return sync.OnceFunc(func() { s.free(n) }), nil
}

func (s *store) free(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

// keep takes room for what is there for good now, beside any reservation.
func (s *store) keep(n int64) { s.free(-n) }

// object is what is known of an object beside its bytes. The backend keeps it as
// one metadatum: it merges those of an object that is overwritten.
type object struct {
	ETag     string // quoted
	Modified time.Time
	Header   map[string]string // that an answer repeats
	Parts    []int64           `json:",omitempty"` // sizes, of an object that was uploaded in parts
	Size     int64             `json:"-"`
}

const metadatum = "object"

func describe(found *gofakes3.Object) (object, error) {
	var o object
	if err := json.Unmarshal([]byte(found.Metadata[metadatum]), &o); err != nil {
		return o, fmt.Errorf("shouldn't happen: metadata of %s: %w", found.Name, err)
	}
	o.Size = found.Size
	return o, nil
}

// head describes an object; false if there is none.
func (s *store) head(bucket, key string) (object, bool, error) {
	found, err := s.backend.HeadObject(bucket, key)
	switch {
	case gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey):
		return object{}, false, nil
	case gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchBucket):
		return object{}, false, noSuchBucket()
	case err != nil:
		return object{}, false, fmt.Errorf("look at object: %w", err)
	}
	o, err := describe(found)
	return o, err == nil, err
}

// get opens an object, described as it is at this moment.
func (s *store) get(bucket, key string) (object, io.Reader, error) {
	found, err := s.backend.GetObject(bucket, key, nil)
	switch {
	case gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey):
		return object{}, nil, noSuchKey()
	case gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchBucket):
		return object{}, nil, noSuchBucket()
	case err != nil:
		return object{}, nil, fmt.Errorf("get object: %w", err)
	}
	o, err := describe(found)
	return o, found.Contents, err // to be read from memory: closing it does nothing
}

func etag(data []byte) string {
	sum := md5.Sum(data) //nolint:gosec // see above
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// put writes an object if the conditions of the request hold.
func (s *store) put(r *request, o object, data []byte) error {
	o.Modified = s.now().UTC()
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("describe object: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, exists, err := s.head(r.bucket, r.key)
	if err != nil {
		return err
	}
	if match := r.header.Get("If-Match"); match != "" && (!exists || !sameETag(match, old.ETag)) {
		return preconditionFailed()
	}
	if match := r.header.Get("If-None-Match"); match != "" {
		if match != "*" {
			return notImplemented("if-none-match other than *")
		}
		if exists {
			return preconditionFailed()
		}
	}
	meta := map[string]string{metadatum: string(text)}
	if _, err := s.backend.PutObject(r.bucket, r.key, meta, bytes.NewReader(data), int64(len(data)), nil); err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	s.used += int64(len(data)) - old.Size
	return nil
}

func (s *store) remove(bucket, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, _, err := s.head(bucket, key)
	if err != nil {
		return err
	}
	if _, err := s.backend.DeleteObject(bucket, key); err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	s.used -= old.Size
	return nil
}

// sameETag compares one tag, or any of a list, or *, with an object's.
func sameETag(given, tag string) bool {
	for one := range strings.SplitSeq(given, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || strings.Trim(one, `"`) == strings.Trim(tag, `"`) {
			return true
		}
	}
	return false
}
