package sigv4

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // a checksum that S3 clients may choose, not a signature
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strings"
)

// maxHashedBody bounds a body that is hashed before its signature is checked:
// that of a service with short forms. STS takes a token of 20,000 and a policy of
// 2,048 characters, encoded.
const maxHashedBody = 64 << 10

// The payloads that S3 knows besides a hash.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
const (
	unsignedPayload   = "UNSIGNED-PAYLOAD"
	signedChunks      = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedAndTrailer  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedWithChunk = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// NewChecksum returns one of the checksums that S3 knows by the names that follow
// "x-amz-checksum-" (crc32, crc32c, crc64nvme, sha1, sha256), or false.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
func NewChecksum(name string) (hash.Hash, bool) {
	switch name {
	case "crc32":
		return crc32.NewIEEE(), true
	case "crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli)), true
	case "crc64nvme":
		return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)), true // the NVMe polynomial, reflected
	case "sha1":
		return sha1.New(), true //nolint:gosec // see above
	case "sha256":
		return sha256.New(), true
	}
	return nil, false
}

// hashBody returns the hash of the body of a service whose requests do not state
// it, and puts the body back.
func hashBody(r *http.Request) (string, *Error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxHashedBody+1))
	if err != nil || len(data) > maxHashedBody {
		return "", refuse(http.StatusRequestEntityTooLarge, "EntityTooLarge", "the body is longer than %d bytes, or cannot be read", maxHashedBody)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// payload returns the body as it was meant, checked while it is read.
func payload(r *http.Request, s signature, key []byte) (io.ReadCloser, *Error) {
	switch s.payload {
	case "":
		return nil, refuse(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	case signedChunks, signedAndTrailer, unsignedWithChunk:
		return chunked(r, s, key)
	}
	if strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ",")), "aws-chunked") {
		return nil, refuse(http.StatusBadRequest, "InvalidRequest", "aws-chunked needs a streaming payload")
	}
	if s.payload == unsignedPayload {
		return r.Body, nil
	}
	want, err := hex.DecodeString(s.payload)
	if err != nil || len(want) != sha256.Size {
		return nil, refuse(http.StatusBadRequest, "InvalidArgument",
			"x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a streaming form or a SHA-256 in hex")
	}
	return &hashed{ReadCloser: r.Body, h: sha256.New(), want: want}, nil
}

// chunked sets up the decoder of the streaming forms.
func chunked(r *http.Request, s signature, key []byte) (io.ReadCloser, *Error) {
	announced, _ := one(r.Header, "X-Amz-Decoded-Content-Length") // several are as good as none
	length, isNumber := digits(announced)
	if !isNumber {
		return nil, refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide x-amz-decoded-content-length.")
	}
	c := newChunks(r.Body, length)
	if s.payload != unsignedWithChunk {
		c.key, c.previous = key, s.hex
		c.prefix = s.at.Format(timeFormat) + "\n" + s.scope + "\n"
	}
	trailer, _ := one(r.Header, "X-Amz-Trailer")
	hasTrailer := s.payload != signedChunks
	if hasTrailer != (trailer != "") {
		return nil, refuse(http.StatusBadRequest, "InvalidRequest", "x-amz-trailer must name one trailer, and where there is one")
	}
	if hasTrailer {
		name, isChecksum := strings.CutPrefix(strings.ToLower(trailer), "x-amz-checksum-")
		sum, known := NewChecksum(name)
		if !isChecksum || !known {
			return nil, refuse(http.StatusBadRequest, "InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
		}
		c.trailer, c.checksum = strings.ToLower(trailer), sum
	}
	return c, nil
}

// hashed fails at its end unless what was read has the hash that was signed.
type hashed struct {
	io.ReadCloser
	h    hash.Hash
	want []byte
}

func (b *hashed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	_, _ = b.h.Write(p[:n]) // hash.Hash never returns an error
	if err == io.EOF && !bytes.Equal(b.h.Sum(nil), b.want) {
		return n, refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return n, err
}
