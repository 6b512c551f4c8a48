package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxHashedBody bounds a body that is hashed before its signature is checked.
const maxHashedBody = 64 << 10

// hashBody returns the hash of the body of a service whose requests do not state
// it, and puts the body back. It has to be short.
func hashBody(r *http.Request) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxHashedBody+1))
	if err != nil || len(data) > maxHashedBody {
		return "", refuse(http.StatusRequestEntityTooLarge, "EntityTooLarge", "the body is too long, or cannot be read")
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// body returns the payload as it was meant, checked while it is read.
func (v Verifier) body(r *http.Request, s signature, key []byte) (io.ReadCloser, error) {
	switch s.payload {
	case "UNSIGNED-PAYLOAD":
		if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
			return nil, refuse(http.StatusBadRequest, "InvalidRequest", "aws-chunked needs a streaming payload")
		}
		return r.Body, nil
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
		length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || length < 0 {
			return nil, refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide x-amz-decoded-content-length.")
		}
		c := newChunks(r.Body, length)
		if s.payload != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
			c.key, c.previous = key, s.hex
			c.prefix = s.at.Format(timeFormat) + "\n" + s.scope + "\n"
		}
		if strings.HasSuffix(s.payload, "-TRAILER") {
			if err := c.expectTrailer(r.Header.Get("X-Amz-Trailer")); err != nil {
				return nil, err
			}
		}
		return c, nil
	default:
		want, err := hex.DecodeString(s.payload)
		if err != nil || len(want) != sha256.Size {
			return nil, refuse(http.StatusBadRequest, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a streaming form or a SHA-256")
		}
		return &hashed{ReadCloser: r.Body, h: sha256.New(), want: want}, nil
	}
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
