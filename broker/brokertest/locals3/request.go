package locals3

import (
	"crypto/md5" //nolint:gosec // Content-MD5 and ETag are what they are
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"credential-broker/broker/brokertest/sigv4"
)

// maxKey is how many bytes a key may have.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
const maxKey = 1024

// readURL refuses what readers of a URL understand in different ways.
func (r *request) readURL() error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !strings.HasPrefix(r.URL.Path, "/") || strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") {
		return refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	r.query = map[string]string{}
	for name, values := range query {
		if len(values) != 1 {
			return invalid("the parameter %q is given %d times", name, len(values))
		}
		r.query[name] = values[0]
	}
	return checkKey(r.key)
}

// checkKey refuses keys that some reader would take for another (dot segments),
// and those that XML cannot carry. The real S3 takes both.
func checkKey(key string) error {
	if len(key) > maxKey {
		return refuse(http.StatusBadRequest, "KeyTooLongError", "Your key is too long")
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "." || segment == ".." {
			return refuse(http.StatusBadRequest, "InvalidURI", "a dot segment in the path")
		}
	}
	unprintable := func(c rune) bool { return c < ' ' || c == 0xFFFE || c == 0xFFFF }
	if !utf8.ValidString(key) || strings.ContainsFunc(key, unprintable) {
		return refuse(http.StatusBadRequest, "InvalidURI", "the key is not UTF-8 without control characters")
	}
	return nil
}

// signing reports whether a parameter belongs to the signature of a presigned URL.
func signing(name string) bool {
	return slices.Contains([]string{
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
		"X-Amz-Security-Token", "X-Amz-Content-Sha256",
	}, name)
}

// hoist makes headers of what a presigner moved from the headers to the query.
// Without it, an x-amz-acl in a presigned URL would pass unseen.
func (r *request) hoist() error {
	r.header = r.Header.Clone()
	_, presigned := r.query["X-Amz-Signature"]
	for name, value := range r.query {
		switch {
		case !strings.HasPrefix(strings.ToLower(name), "x-amz-"):
		case !presigned:
			return notImplemented(name)
		case signing(name):
			delete(r.query, name)
		default:
			if len(r.header.Values(name)) > 0 {
				return invalid("%s stands in a header and in the query", name)
			}
			r.header.Set(name, value)
			delete(r.query, name)
		}
	}
	return nil
}

// read takes the whole body in, so that what is not what was signed never gets to
// the store. Room for what will be stored is taken before the first byte; release
// gives back what was not stored in the end.
func (s *Server) read(r *request, op operation, body io.ReadCloser) (data []byte, release func(), err error) {
	release = func() {}
	if !op.stores {
		data, err = io.ReadAll(io.LimitReader(body, maxDocument+1))
		if err == nil && len(data) > maxDocument {
			err = refuse(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too large.")
		}
	} else {
		length := r.ContentLength
		if v := r.header.Get("X-Amz-Decoded-Content-Length"); v != "" {
			if length, err = strconv.ParseInt(v, 10, 64); err != nil {
				return nil, release, invalid("x-amz-decoded-content-length")
			}
		}
		if length < 0 {
			return nil, release, refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
		}
		if release, err = s.store.reserve(length); err != nil {
			return nil, func() {}, err
		}
		data, err = readExactly(body, length)
	}
	r.event.Bytes = int64(len(data))
	if err == nil {
		err = r.checkDigests(data)
	}
	if err != nil {
		release()
		return nil, func() {}, asIncomplete(err)
	}
	return data, release, nil
}

// readExactly reads up to io.EOF, which is where a signature's last check is.
func readExactly(body io.Reader, length int64) ([]byte, error) {
	data := make([]byte, length)
	if _, err := io.ReadFull(body, data); err != nil && length > 0 {
		return nil, err
	}
	var more [1]byte
	switch _, err := io.ReadFull(body, more[:]); {
	case errors.Is(err, io.EOF):
		return data, nil
	case err != nil:
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

func asIncomplete(err error) error {
	var known *sigv4.Error
	if errors.As(err, &known) {
		return err
	}
	return refuse(http.StatusBadRequest, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
}

// checkDigests compares the body with what headers say of it. The checksums of a
// completed upload are of the object and not of the body.
func (r *request) checkDigests(data []byte) error {
	if given := r.header.Values("Content-Md5"); len(given) > 0 {
		want, err := base64.StdEncoding.DecodeString(given[0])
		if err != nil || len(want) != md5.Size || len(given) > 1 {
			return refuse(http.StatusBadRequest, "InvalidDigest", "The Content-MD5 you specified is not valid.")
		}
		if sum := md5.Sum(data); string(sum[:]) != string(want) { //nolint:gosec // see above
			return refuse(http.StatusBadRequest, "BadDigest", "The Content-MD5 you specified did not match what we received.")
		}
	}
	if _, completes := r.query["uploadId"]; completes && r.Method == http.MethodPost {
		return nil
	}
	return r.checkChecksums(data)
}

// checkChecksums compares data with the x-amz-checksum-* headers.
func (r *request) checkChecksums(data []byte) error {
	for _, header := range checksumHeaders() {
		given := r.header.Get(header)
		if given == "" {
			continue
		}
		sum, _ := sigv4.NewChecksum(strings.TrimPrefix(header, "x-amz-checksum-"))
		_, _ = sum.Write(data) // hash.Hash never returns an error
		if given != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
			return refuse(http.StatusBadRequest, "BadDigest", "The %s you specified did not match the calculated checksum.", header)
		}
	}
	return nil
}
