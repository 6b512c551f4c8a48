package sigv4

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxLine bounds a chunk's or a trailer's line: the longest that is known, a
// trailer's signature, has under 100 bytes.
const maxLine = 1024

// chunks decodes aws-chunked: "size;chunk-signature=…\r\n" data "\r\n" …, then a
// chunk of size 0 and, in the -TRAILER forms, a checksum that covers it all. A
// chunk of any size is taken (SDKs send 64 kB, or the whole object as one), since
// its data is passed on while it is hashed; whoever reads must wait for io.EOF.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
type chunks struct {
	source io.Closer
	in     *bufio.Reader
	left   int64 // of the decoded length that was announced

	key      []byte // nil: chunks are not signed
	prefix   string
	previous string // signature, which the next one is chained to

	trailer  string // name of the checksum; empty: there is none
	checksum hash.Hash

	rest  int64     // of the current chunk
	given string    // its extension
	sum   hash.Hash // of its data
	err   error     // sticks
}

func newChunks(body io.ReadCloser, length int64) *chunks {
	return &chunks{source: body, in: bufio.NewReader(body), left: length, sum: sha256.New()}
}

// Close implements io.Closer.
func (c *chunks) Close() error { return c.source.Close() }

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (n int, err error) {
	if c.err == nil && len(p) > 0 {
		n, c.err = c.read(p)
	}
	return n, c.err
}

func (c *chunks) read(p []byte) (int, error) {
	if c.rest == 0 {
		if err := c.open(); err != nil {
			return 0, err
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.rest)])
	if err != nil {
		return n, incomplete("a chunk's data")
	}
	_, _ = c.sum.Write(p[:n]) // hash.Hash never returns an error
	if c.checksum != nil {
		_, _ = c.checksum.Write(p[:n])
	}
	c.rest, c.left = c.rest-int64(n), c.left-int64(n)
	if c.rest > 0 {
		return n, nil
	}
	if err := c.checkChunk(); err != nil {
		return n, err
	}
	return n, c.blank()
}

// open reads the line of the next chunk. After the last, when all that was
// announced has come and the end is right, it returns io.EOF.
func (c *chunks) open() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	text, extension, _ := strings.Cut(line, ";")
	size, err := strconv.ParseUint(text, 16, 63)
	if err != nil {
		return incomplete("a chunk's size")
	}
	c.rest, c.given = int64(size), extension
	switch {
	case c.rest > c.left:
		return incomplete("more than x-amz-decoded-content-length")
	case c.rest > 0:
		return nil
	case c.left > 0:
		return incomplete("less than x-amz-decoded-content-length")
	}
	if err := c.checkChunk(); err != nil {
		return err
	}
	return c.end()
}

// checkChunk checks the signature that chains a chunk to the one before it.
func (c *chunks) checkChunk() error {
	data := c.sum.Sum(nil)
	c.sum.Reset()
	if c.key == nil {
		if c.given != "" {
			return incomplete("a chunk's extension")
		}
		return nil
	}
	given, ok := strings.CutPrefix(c.given, "chunk-signature=")
	empty := sha256.Sum256(nil)
	return c.chain(given, ok, "AWS4-HMAC-SHA256-PAYLOAD\n"+c.prefix+c.previous+"\n"+hex.EncodeToString(empty[:])+"\n"+hex.EncodeToString(data))
}

func (c *chunks) chain(given string, ok bool, toSign string) error {
	want := mac(c.key, toSign)
	if !ok || !sameMAC(given, want) {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "A chunk's signature does not match.")
	}
	c.previous = encodeMAC(want)
	return nil
}

// end reads what follows the last chunk; io.EOF is its success.
func (c *chunks) end() error {
	if c.trailer != "" {
		if err := c.checkTrailer(); err != nil {
			return err
		}
	}
	if err := c.blank(); err != nil {
		return err
	}
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		return incomplete("something after the last chunk")
	}
	return io.EOF
}

func (c *chunks) checkTrailer() error {
	line, err := c.trailerLine()
	if err != nil {
		return err
	}
	name, value, _ := strings.Cut(line, ":")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	if name != c.trailer {
		return refuse(http.StatusBadRequest, "MalformedTrailerError", "The trailer is not the one that was announced.")
	}
	if c.key != nil {
		signature, err := c.line()
		if err != nil {
			return err
		}
		given, ok := strings.CutPrefix(signature, "x-amz-trailer-signature:")
		sum := sha256.Sum256([]byte(name + ":" + value + "\n"))
		toSign := "AWS4-HMAC-SHA256-TRAILER\n" + c.prefix + c.previous + "\n" + hex.EncodeToString(sum[:])
		if err := c.chain(strings.TrimSpace(given), ok, toSign); err != nil {
			return err
		}
	}
	if value != base64.StdEncoding.EncodeToString(c.checksum.Sum(nil)) {
		return refuse(http.StatusBadRequest, "BadDigest", "The checksum in the trailer did not match what we received.")
	}
	return nil
}

// trailerLine reads the checksum. Some clients end it by LF CRLF, as an example
// of the documentation has it, instead of CRLF.
func (c *chunks) trailerLine() (string, error) {
	text, err := c.upToLF()
	if err != nil {
		return "", err
	}
	if line, ok := strings.CutSuffix(text, "\r"); ok {
		return line, nil
	}
	return text, c.blank()
}

// line reads up to CRLF.
func (c *chunks) line() (string, error) {
	text, err := c.upToLF()
	line, ok := strings.CutSuffix(text, "\r")
	if err == nil && !ok {
		err = incomplete("a line without CRLF")
	}
	return line, err
}

func (c *chunks) upToLF() (string, error) {
	var b strings.Builder
	for b.Len() < maxLine {
		ch, err := c.in.ReadByte()
		if err != nil {
			return "", incomplete("a line")
		}
		if ch == '\n' {
			return b.String(), nil
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
