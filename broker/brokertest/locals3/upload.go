package locals3

import (
	"crypto/md5" //nolint:gosec // what ETags are made of
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of uploads in parts.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	maxPartNumber = 10_000
	minPart       = 5 << 20 // but for the last part
	// maxUploads bounds what somebody begins and never ends: far above what a demo
	// has under way.
	maxUploads = 1_000
)

type part struct {
	data     []byte
	etag     string
	modified time.Time
}

type upload struct {
	id, bucket, key string
	begun           time.Time
	object          object

	parts map[int]part // :: number → part; guarded by uploads
}

// uploads are those that are under way.
type uploads struct {
	mu   sync.Mutex
	byID map[string]*upload
}

func newUploads() *uploads { return &uploads{byID: map[string]*upload{}} }

// find returns the upload that a request names. It must be of the bucket and the
// key of the request, which are what the permission was for. u.mu is held.
func (u *uploads) find(r *request) (*upload, error) {
	up, ok := u.byID[r.query["uploadId"]]
	if !ok || up.bucket != r.bucket || up.key != r.key {
		return nil, noSuchUpload()
	}
	return up, nil
}

// drop forgets an upload and says how many bytes its parts had. u.mu is held.
func (u *uploads) drop(up *upload) (size int64) {
	delete(u.byID, up.id)
	for _, p := range up.parts {
		size += int64(len(p.data))
	}
	return size
}

func createUpload(s *Server, r *request) (operation, error) {
	type result struct {
		XMLName     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket, Key string
		UploadID    string `xml:"UploadId"`
	}
	return operation{checks: s.newObjectChecks(r), serve: func(w http.ResponseWriter, _ []byte) error {
		up := &upload{id: rand.Text(), bucket: r.bucket, key: r.key, begun: s.cfg.Now().UTC(), object: r.describedBy(), parts: map[int]part{}}
		s.uploads.mu.Lock()
		full := len(s.uploads.byID) >= maxUploads
		if !full {
			s.uploads.byID[up.id] = up
		}
		s.uploads.mu.Unlock()
		if full {
			return refuse(http.StatusInsufficientStorage, "InsufficientStorage", "this local S3 holds %d uploads", maxUploads)
		}
		return sendXML(w, r, http.StatusOK, result{Bucket: r.bucket, Key: r.key, UploadID: up.id})
	}}, nil
}

// partChecks are those of a part, and of putting the parts together. Where the
// bucket is encrypted, both read what was written before them.
func (s *Server) partChecks(r *request) []check {
	return append([]check{r.on("s3:PutObject")}, s.useOfKey(r.bucket, r.key, "kms:GenerateDataKey", "kms:Decrypt")...)
}

func uploadPart(s *Server, r *request) (operation, error) {
	number, err := strconv.Atoi(r.query["partNumber"])
	if err != nil || number < 1 || number > maxPartNumber {
		return operation{}, invalid("Part number must be an integer between 1 and %d, inclusive", maxPartNumber)
	}
	bucket, key, isCopy, err := r.source()
	if err != nil {
		return operation{}, err
	}
	op := operation{checks: s.partChecks(r)}
	if isCopy {
		op.checks = append(op.checks, s.readChecks(bucket, key)...)
		op.serve = func(w http.ResponseWriter, _ []byte) error { return s.uploadPartCopy(w, r, number, bucket, key) }
		return op, nil
	}
	op.stores = true
	op.serve = func(w http.ResponseWriter, body []byte) error {
		tag, err := s.addPart(r, number, body)
		if err != nil {
			return err
		}
		w.Header().Set("ETag", tag)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return op, nil
}

func (s *Server) addPart(r *request, number int, data []byte) (string, error) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	up, err := s.uploads.find(r)
	if err != nil {
		return "", err
	}
	p := part{data: data, etag: etag(data), modified: s.cfg.Now().UTC()}
	s.store.keep(int64(len(data)) - int64(len(up.parts[number].data)))
	up.parts[number] = p
	return p.etag, nil
}

func (s *Server) uploadPartCopy(w http.ResponseWriter, r *request, number int, bucket, key string) error {
	o, contents, err := s.store.get(bucket, key)
	if err != nil {
		return s.hide(r, bucket, key, err)
	}
	first, length := int64(0), o.Size
	if spec := r.header.Get("X-Amz-Copy-Source-Range"); spec != "" {
		from, to, dash := strings.Cut(strings.TrimPrefix(spec, "bytes="), "-")
		a, errA := strconv.ParseUint(from, 10, 62)
		b, errB := strconv.ParseUint(to, 10, 62)
		first, length = int64(a), int64(b)-int64(a)+1
		if !strings.HasPrefix(spec, "bytes=") || !dash || errA != nil || errB != nil || length < 1 || first+length > o.Size {
			return invalid("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
		}
	}
	data, release, err := s.load(contents, first, length)
	if err != nil {
		return err
	}
	defer release()
	tag, err := s.addPart(r, number, data)
	if err != nil {
		return err
	}
	return s.sendCopied(w, r, "CopyPartResult", tag)
}

func abortUpload(s *Server, r *request) (operation, error) {
	return operation{checks: []check{r.on("s3:AbortMultipartUpload")}, serve: func(w http.ResponseWriter, _ []byte) error {
		s.uploads.mu.Lock()
		defer s.uploads.mu.Unlock()
		up, err := s.uploads.find(r)
		if err != nil {
			return err
		}
		s.store.free(s.uploads.drop(up))
		w.WriteHeader(http.StatusNoContent)
		return nil
	}}, nil
}

type completeRequest struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber int
		ETag       string
	} `xml:"Part"`
}

func completeUpload(s *Server, r *request) (operation, error) {
	type result struct {
		XMLName                     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location, Bucket, Key, ETag string
	}
	return operation{checks: s.partChecks(r), serve: func(w http.ResponseWriter, body []byte) error {
		var in completeRequest
		if err := xml.Unmarshal(body, &in); err != nil || len(in.Parts) == 0 {
			return malformedXML()
		}
		s.uploads.mu.Lock()
		defer s.uploads.mu.Unlock()
		up, err := s.uploads.find(r)
		if err != nil {
			return err
		}
		o, size, err := up.assemble(in)
		if err != nil {
			return err
		}
		release, err := s.store.reserve(size) // the parts are held until the object is
		if err != nil {
			return err
		}
		defer release()
		data := make([]byte, 0, size)
		for _, p := range in.Parts {
			data = append(data, up.parts[p.PartNumber].data...)
		}
		if err := r.checkWhole(data); err != nil {
			return err
		}
		if err := s.store.put(r, o, data); err != nil {
			return err
		}
		s.store.free(s.uploads.drop(up))
		return sendXML(w, r, http.StatusOK, result{Location: "http://" + r.Host + r.URL.EscapedPath(), Bucket: r.bucket, Key: r.key, ETag: o.ETag})
	}}, nil
}

// assemble checks the list of parts, and describes what they make.
func (up *upload) assemble(in completeRequest) (object, int64, error) {
	o, size, hashes := up.object, int64(0), md5.New() //nolint:gosec // see above
	for i, named := range in.Parts {
		p, ok := up.parts[named.PartNumber]
		switch {
		case i > 0 && named.PartNumber <= in.Parts[i-1].PartNumber:
			return o, 0, refuse(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.")
		case !ok || strings.Trim(named.ETag, `"`) != strings.Trim(p.etag, `"`):
			return o, 0, refuse(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")
		case i > 0 && o.Parts[i-1] < minPart:
			return o, 0, refuse(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		sum := md5.Sum(p.data)      //nolint:gosec // see above
		_, _ = hashes.Write(sum[:]) // hash.Hash never returns an error
		o.Parts = append(o.Parts, int64(len(p.data)))
		size += int64(len(p.data))
	}
	o.ETag = fmt.Sprintf(`"%s-%d"`, hex.EncodeToString(hashes.Sum(nil)), len(in.Parts))
	return o, size, nil
}

// checkWhole compares the object with what the completion says of it.
func (r *request) checkWhole(data []byte) error {
	if size := r.header.Get("X-Amz-Mp-Object-Size"); size != "" && size != strconv.Itoa(len(data)) {
		return refuse(http.StatusBadRequest, "InvalidRequest", "The provided x-amz-mp-object-size does not match the size of the object")
	}
	if r.header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
		return nil // a checksum of the parts' checksums, which are not kept
	}
	return r.checkChecksums(data)
}
