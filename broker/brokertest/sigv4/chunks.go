package sigv4

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // a checksum that S3 clients may choose, not a signature
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	maxChunk = 16 << 20 // SDKs send 64 kB to 8 MB; a chunk is held until its signature is checked
	maxLine  = 1024     // of a chunk's or a trailer's line
)

// chunks decodes aws-chunked: "size;chunk-signature=…\r\n" data "\r\n" …, then a
// chunk of size 0 and, in the -TRAILER forms, a checksum that covers it all.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
type chunks struct {
	source io.Closer
	in     *bufio.Reader
	left   int64 // of the decoded length that was announced

	key      []byte // nil: chunks are not signed
	prefix   string
	previous string

	trailer  string // name of the checksum; empty: there is none
	checksum hash.Hash

	current []byte // checked and not yet read
	err     error  // sticks
}

func newChunks(body io.ReadCloser, length int64) *chunks {
	return &chunks{source: body, in: bufio.NewReader(body), left: length}
}

// Close implements io.Closer.
func (c *chunks) Close() error { return c.source.Close() }

// expectTrailer reads the name of the checksum that x-amz-trailer announces.
func (c *chunks) expectTrailer(name string) error {
	sums := map[string]func() hash.Hash{
		"x-amz-checksum-crc32":  func() hash.Hash { return crc32.NewIEEE() },
		"x-amz-checksum-crc32c": func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
		"x-amz-checksum-crc64nvme": func() hash.Hash {
			return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) // the NVMe polynomial, reflected
		},
		"x-amz-checksum-sha1":   sha1.New,
		"x-amz-checksum-sha256": sha256.New,
	}
	newSum, ok := sums[strings.ToLower(name)]
	if !ok {
		return refuse(http.StatusBadRequest, "InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
	}
	c.trailer, c.checksum = strings.ToLower(name), newSum()
	return nil
}

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.current) == 0 && c.err == nil {
		c.current, c.err = c.next()
	}
	if len(c.current) > 0 {
		n := copy(p, c.current)
		c.current = c.current[n:]
		return n, nil
	}
	return 0, c.err
}

// next reads, checks and returns one chunk; io.EOF after the last, when all that
// was announced has come.
func (c *chunks) next() ([]byte, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	sizeText, extension, _ := strings.Cut(line, ";")
	size, err := strconv.ParseInt(sizeText, 16, 64)
	if err != nil || size < 0 || size > maxChunk || sizeText[0] == '+' {
		return nil, incomplete("a chunk's size")
	}
	if size > c.left {
		return nil, incomplete("more than x-amz-decoded-content-length")
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(c.in, data); err != nil {
		return nil, incomplete("a chunk's data")
	}
	if err := c.checkChunk(extension, data); err != nil {
		return nil, err
	}
	c.left -= size
	if c.checksum != nil {
		_, _ = c.checksum.Write(data) // hash.Hash never returns an error
	}
	if size > 0 {
		return data, c.blank()
	}
	if c.left != 0 {
		return nil, incomplete("less than x-amz-decoded-content-length")
	}
	return nil, c.end()
}

// checkChunk checks the signature that chains a chunk to the one before it.
func (c *chunks) checkChunk(extension string, data []byte) error {
	if c.key == nil {
		if extension != "" {
			return incomplete("a chunk's extension")
		}
		return nil
	}
	given, ok := strings.CutPrefix(extension, "chunk-signature=")
	empty, sum := sha256.Sum256(nil), sha256.Sum256(data)
	toSign := "AWS4-HMAC-SHA256-PAYLOAD\n" + c.prefix + c.previous + "\n" + hex.EncodeToString(empty[:]) + "\n" + hex.EncodeToString(sum[:])
	return c.chain(given, ok, toSign)
}

func (c *chunks) chain(given string, ok bool, toSign string) error {
	want := hex.EncodeToString(mac(c.key, toSign))
	if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(want)) != 1 {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "A chunk's signature does not match.")
	}
	c.previous = want
	return nil
}

// end reads what follows the last chunk.
func (c *chunks) end() error {
	if c.trailer == "" {
		if err := c.blank(); err != nil {
			return err
		}
		return c.nothingMore()
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	name, value, ok := strings.Cut(line, ":")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	if !ok || name != c.trailer {
		return refuse(http.StatusBadRequest, "MalformedTrailerError", "The trailer is not the one that was announced.")
	}
	if value != base64.StdEncoding.EncodeToString(c.checksum.Sum(nil)) {
		return refuse(http.StatusBadRequest, "BadDigest", "The checksum in the trailer did not match what we received.")
	}
	if c.key != nil {
		sum := sha256.Sum256([]byte(name + ":" + value + "\n"))
		signatureLine, err := c.line()
		if err != nil {
			return err
		}
		given, ok := strings.CutPrefix(signatureLine, "x-amz-trailer-signature:")
		toSign := "AWS4-HMAC-SHA256-TRAILER\n" + c.prefix + c.previous + "\n" + hex.EncodeToString(sum[:])
		if err := c.chain(strings.TrimSpace(given), ok, toSign); err != nil {
			return err
		}
	}
	if err := c.blank(); err != nil {
		return err
	}
	return c.nothingMore()
}

func (c *chunks) nothingMore() error {
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		return incomplete("something after the last chunk")
	}
	return io.EOF
}

// line reads up to CRLF.
func (c *chunks) line() (string, error) {
	var b strings.Builder
	for b.Len() < maxLine {
		ch, err := c.in.ReadByte()
		if err != nil {
			return "", incomplete("a line")
		}
		if ch == '\n' {
			line, ok := strings.CutSuffix(b.String(), "\r")
			if !ok || line == "" {
				return "", incomplete("a line")
			}
			return line, nil
		}
		b.WriteByte(ch)
	}
	return "", incomplete("a line: too long")
}

// blank reads the CRLF that ends a chunk's data and the whole.
func (c *chunks) blank() error {
	var end [2]byte
	if _, err := io.ReadFull(c.in, end[:]); err != nil || string(end[:]) != "\r\n" {
		return incomplete("the end of a chunk")
	}
	return nil
}

func incomplete(what string) error {
	return refuse(http.StatusBadRequest, "IncompleteBody", "The request body is not well-formed aws-chunked: %s.", what)
}
