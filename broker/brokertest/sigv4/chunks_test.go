package sigv4_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"credential-broker/broker/brokertest/sigv4"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

const (
	signedForm   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	trailerForm  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedForm = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// stream is a chunked body before it is framed.
type stream struct {
	form     string
	chunks   []string
	checksum string // in the trailer; "": the right one
	trailer  string // its name
	lf       bool   // the checksum's line ends in LF CRLF
	length   string // announced; "": the true one
	announce string // x-amz-trailer; "": the right one
	edit     func(string) string
	header   http.Header
}

func (s stream) request() *http.Request {
	d := s3Draft()
	whole := strings.Join(s.chunks, "")
	d.header.Set("X-Amz-Content-Sha256", s.form)
	d.header.Set("Content-Encoding", "aws-chunked")
	d.header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(len(whole)))
	if s.length != "" {
		d.header.Set("X-Amz-Decoded-Content-Length", s.length)
	}
	if s.form != signedForm {
		d.header.Set("X-Amz-Trailer", s.trailer)
	}
	if s.announce != "" {
		d.header.Set("X-Amz-Trailer", s.announce)
	}
	for name, values := range s.header {
		d.header[name] = values
	}
	d.body = nil
	_, previous := d.request()
	text := s.frame(d, previous)
	if s.edit != nil {
		text = s.edit(text)
	}
	d.body = []byte(text)
	r, _ := d.request()
	return r
}

// frame writes the chunks, each signed upon the one before.
func (s stream) frame(d *draft, previous string) string {
	var b strings.Builder
	chain := func(kind, rest string) string {
		toSign := "AWS4-HMAC-SHA256-" + kind + "\n" + d.at.Format(stamp) + "\n" + d.trueScope() + "\n" + previous + "\n" + rest
		previous = hexOf(mac(d.signingKey(), toSign))
		return previous
	}
	for _, chunk := range append(s.chunks[:len(s.chunks):len(s.chunks)], "") {
		fmt.Fprintf(&b, "%x", len(chunk))
		if s.form != unsignedForm {
			b.WriteString(";chunk-signature=" + chain("PAYLOAD", sum(nil)+"\n"+sum([]byte(chunk))))
		}
		b.WriteString("\r\n" + chunk)
		if chunk != "" {
			b.WriteString("\r\n")
		}
	}
	if s.form != signedForm {
		value := s.checksum
		if h, ok := sigv4.NewChecksum(strings.TrimPrefix(strings.ToLower(s.trailer), "x-amz-checksum-")); ok && value == "" {
			_, _ = h.Write([]byte(strings.Join(s.chunks, "")))
			value = base64.StdEncoding.EncodeToString(h.Sum(nil))
		}
		line := strings.ToLower(s.trailer) + ":" + value + "\n"
		if s.lf {
			b.WriteString(line + "\r\n")
		} else {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
		}
		if s.form == trailerForm {
			b.WriteString("x-amz-trailer-signature:" + chain("TRAILER", sum([]byte(line))) + "\r\n")
		}
	}
	return b.String() + "\r\n"
}

func good(form string) stream {
	s := stream{form: form, chunks: []string{"hello, ", "world"}}
	if form != signedForm {
		s.trailer = "x-amz-checksum-crc32"
	}
	return s
}

func TestEveryFormOfChunksIsDecoded(t *testing.T) {
	for _, form := range []string{signedForm, trailerForm, unsignedForm} {
		for _, trailer := range []string{"crc32", "crc32c", "crc64nvme", "sha1", "sha256"} {
			for _, lf := range []bool{false, true} {
				for _, chunks := range [][]string{nil, {"x"}, {"hello, ", "world"}, {strings.Repeat("y", 1<<20), strings.Repeat("z", 70_001)}} {
					s := stream{form: form, chunks: chunks, trailer: "X-Amz-Checksum-" + trailer, lf: lf}
					if body, code := verify(t, verifier("s3"), s.request()); code != "" || body != strings.Join(chunks, "") {
						t.Errorf("%s %s lf=%t: %d bytes, %s", form, trailer, lf, len(body), code)
					}
				}
			}
		}
	}
}

func replace(old, text string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("the case changes nothing: " + old)
		}
		return strings.Replace(s, old, text, 1)
	}
}

// flip changes the first hex digit after a mark.
func flip(mark string, nth int) func(string) string {
	return func(s string) string {
		parts := strings.SplitAfter(s, mark)
		digit := byte('0')
		if parts[nth][0] == '0' {
			digit = '1'
		}
		parts[nth] = string(digit) + parts[nth][1:]
		return strings.Join(parts, "")
	}
}

func TestChunksThatBreakOneRuleAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		form string
		f    func(*stream)
		want string
	}{
		"the first chunk's signature": {signedForm, func(s *stream) { s.edit = flip("chunk-signature=", 1) }, "SignatureDoesNotMatch"},
		"the last chunk's signature":  {signedForm, func(s *stream) { s.edit = flip("chunk-signature=", 3) }, "SignatureDoesNotMatch"},
		"no chunk's signature":        {signedForm, func(s *stream) { s.edit = replace("7;chunk-signature=", "7;") }, "SignatureDoesNotMatch"},
		"a chunk's data":              {signedForm, func(s *stream) { s.edit = replace("hello", "hallo") }, "SignatureDoesNotMatch"},
		"chunks in another order": {signedForm, func(s *stream) {
			s.chunks = []string{"one", "two"}
			s.edit = func(text string) string {
				lines := strings.SplitAfter(text, "\r\n")
				lines[0], lines[1], lines[2], lines[3] = lines[2], lines[3], lines[0], lines[1]
				return strings.Join(lines, "")
			}
		}, "SignatureDoesNotMatch"},
		"the trailer's signature":          {trailerForm, func(s *stream) { s.edit = flip("trailer-signature:", 1) }, "SignatureDoesNotMatch"},
		"no trailer's signature":           {trailerForm, func(s *stream) { s.edit = replace("x-amz-trailer-signature:", "") }, "SignatureDoesNotMatch"},
		"the trailer":                      {trailerForm, func(s *stream) { s.edit = flip("crc32:", 1) }, "SignatureDoesNotMatch"},
		"a signed checksum that is wrong":  {trailerForm, func(s *stream) { s.checksum = "AAAAAA==" }, "BadDigest"},
		"a checksum that is wrong":         {unsignedForm, func(s *stream) { s.checksum = "AAAAAA==" }, "BadDigest"},
		"unsigned data":                    {unsignedForm, func(s *stream) { s.edit = replace("hello", "hallo") }, "BadDigest"},
		"another trailer than announced":   {unsignedForm, func(s *stream) { s.announce = "x-amz-checksum-crc32c" }, "MalformedTrailerError"},
		"a trailer without a colon":        {unsignedForm, func(s *stream) { s.edit = replace("crc32:", "crc32") }, "MalformedTrailerError"},
		"no trailer":                       {unsignedForm, func(s *stream) { s.edit = func(t string) string { return t[:strings.Index(t, "x-amz-")] + "\r\n" } }, "MalformedTrailerError"},
		"a trailer that is not known":      {unsignedForm, func(s *stream) { s.trailer = "x-amz-checksum-md5"; s.checksum = "x" }, "InvalidRequest"},
		"a trailer that is no checksum":    {unsignedForm, func(s *stream) { s.trailer, s.announce = "crc32", "crc32" }, "InvalidRequest"},
		"no trailer announced":             {unsignedForm, func(s *stream) { s.header = http.Header{"X-Amz-Trailer": nil} }, "InvalidRequest"},
		"two trailers announced":           {unsignedForm, func(s *stream) { s.header = http.Header{"X-Amz-Trailer": {"x-amz-checksum-crc32", "x"}} }, "InvalidRequest"},
		"a trailer where none may be":      {signedForm, func(s *stream) { s.announce = "x-amz-checksum-crc32" }, "InvalidRequest"},
		"no decoded length":                {signedForm, func(s *stream) { s.header = http.Header{"X-Amz-Decoded-Content-Length": nil} }, "MissingContentLength"},
		"two decoded lengths":              {signedForm, func(s *stream) { s.header = http.Header{"X-Amz-Decoded-Content-Length": {"12", "12"}} }, "MissingContentLength"},
		"a decoded length with a sign":     {signedForm, func(s *stream) { s.length = "+12" }, "MissingContentLength"},
		"more than announced":              {signedForm, func(s *stream) { s.length = "11" }, "IncompleteBody"},
		"less than announced":              {signedForm, func(s *stream) { s.length = "13" }, "IncompleteBody"},
		"a size that is no number":         {unsignedForm, func(s *stream) { s.edit = replace("7\r\n", "g\r\n") }, "IncompleteBody"},
		"a size with a sign":               {unsignedForm, func(s *stream) { s.edit = replace("7\r\n", "+7\r\n") }, "IncompleteBody"},
		"a size that is too large":         {unsignedForm, func(s *stream) { s.edit = replace("7\r\n", "ffffffffffffffff\r\n") }, "IncompleteBody"},
		"an extension where none may be":   {unsignedForm, func(s *stream) { s.edit = replace("7\r\n", "7;x\r\n") }, "IncompleteBody"},
		"a chunk that ends early":          {unsignedForm, func(s *stream) { s.edit = func(t string) string { return t[:6] } }, "IncompleteBody"},
		"a chunk without its end":          {unsignedForm, func(s *stream) { s.edit = replace("hello, \r\n", "hello, \n\r") }, "IncompleteBody"},
		"no last chunk":                    {signedForm, func(s *stream) { s.edit = func(t string) string { return t[:strings.LastIndex(t, "0;")] } }, "IncompleteBody"},
		"a line without CRLF":              {unsignedForm, func(s *stream) { s.edit = replace("7\r\n", "7\n") }, "IncompleteBody"},
		"a line without end":               {unsignedForm, func(s *stream) { s.edit = replace("7\r\n", strings.Repeat("0", 1024)+"7\r\n") }, "IncompleteBody"},
		"no blank line at the end":         {unsignedForm, func(s *stream) { s.edit = func(t string) string { return strings.TrimSuffix(t, "\r\n") } }, "IncompleteBody"},
		"something after the end":          {unsignedForm, func(s *stream) { s.edit = func(t string) string { return t + "x" } }, "IncompleteBody"},
		"a trailer's line that ends in LF": {unsignedForm, func(s *stream) { s.lf = true; s.edit = replace("==\n\r\n", "==\n") }, "IncompleteBody"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good(tc.form)
			tc.f(&s)
			if _, code := verify(t, verifier("s3"), s.request()); code != tc.want {
				t.Errorf("got %q, want %q", code, tc.want)
			}
		})
	}
}

// Whatever the bytes, what is decoded is as long as was announced and is what the
// checksum covers; and what was framed comes back.
func FuzzChunks(f *testing.F) {
	for _, form := range []string{signedForm, trailerForm, unsignedForm} {
		s := good(form)
		d := s3Draft()
		f.Add([]byte(s.frame(d, "")), 12, form == signedForm)
		f.Add([]byte("0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"), 0, false)
	}
	f.Fuzz(func(t *testing.T, framed []byte, length int, signed bool) {
		s := stream{form: unsignedForm, trailer: "x-amz-checksum-crc32", length: strconv.Itoa(length), edit: func(string) string { return string(framed) }}
		if signed {
			s.form = signedForm
		}
		body, code := verify(t, verifier("s3"), s.request())
		if code == "" {
			h, _ := sigv4.NewChecksum("crc32")
			_, _ = h.Write([]byte(body))
			if len(body) != length || signed && len(body) > 0 || !signed && !strings.Contains(string(framed), base64.StdEncoding.EncodeToString(h.Sum(nil))) {
				t.Errorf("%q was taken as %q", framed, body)
			}
		}
		s = stream{form: s.form, trailer: s.trailer, chunks: []string{"a", string(framed) + "b"}}
		if body, code := verify(t, verifier("s3"), s.request()); code != "" || body != "a"+string(framed)+"b" {
			t.Errorf("%q came back as %q, %s", framed, body, code)
		}
	})
}

// What a client signs by the rules is taken, whatever it says; and nothing that
// differs from it by a byte of path, query or header.
func FuzzCanonical(f *testing.F) {
	f.Add("a key", "prefix", "tenants/a b+c/", "value")
	f.Add("é/../%2F//", "a=b&c", "*~'()", "  two  spaces ")
	f.Fuzz(func(t *testing.T, path, name, value, header string) {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-") || strings.ContainsFunc(header, func(r rune) bool { return r < ' ' }) {
			return
		}
		sign := func() *draft {
			d := s3Draft()
			d.path = "/" + strings.ReplaceAll(escape(path), "%2F", "/")
			d.query = map[string][]string{name: {value}, "x-id": {"y"}}
			d.header.Set("X-Amz-Meta-A", strings.Join(strings.FieldsFunc(header, func(r rune) bool { return r == ' ' }), " "))
			return d
		}
		d := sign()
		d.after = func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", header) }
		r, _ := d.request()
		if _, code := verify(t, verifier("s3"), r); code != "" {
			t.Errorf("%s %s: %s", r.URL, header, code)
		}
		for what, after := range map[string]func(*http.Request){
			"path":   func(r *http.Request) { r.URL.Path += "/" },
			"query":  func(r *http.Request) { r.URL.RawQuery += "&x" },
			"value":  func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "x-id=y", "x-id=z", 1) },
			"header": func(r *http.Request) { r.Header.Add("X-Amz-Meta-A", "x") },
		} {
			d := sign()
			d.after = after
			if what == "value" && name == "x-id" {
				continue
			}
			r, _ := d.request()
			if _, code := verify(t, verifier("s3"), r); code != "SignatureDoesNotMatch" {
				t.Errorf("another %s: %q", what, code)
			}
		}
	})
}
