package sigv4

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// canonical writes the canonical request.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html#create-canonical-request
func (v Verifier) canonical(r *http.Request, s signature) (string, *Error) {
	path, refused := v.canonicalPath(r.URL)
	if refused != nil {
		return "", refused
	}
	query := maps.Clone(s.query)
	query.Del("X-Amz-Signature") // a presigned URL's; others are refused with one
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(query) + "\n")
	for _, name := range s.headers {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + s.payload)
	return b.String(), nil
}

// canonicalPath is the path as it was sent, each byte encoded once for S3: its
// keys may hold empty and dot segments, so nothing is normalised. Other services
// normalise and encode twice; a path that there is anything to normalise about
// is refused instead.
func (v Verifier) canonicalPath(u *url.URL) (string, *Error) {
	if v.Service == serviceS3 {
		if u.Path == "" {
			return "/", nil
		}
		return encode(u.Path, true), nil
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	segments := strings.Split(path, "/")
	for _, segment := range segments[1 : len(segments)-1] {
		if segment == "" {
			return "", refuse(http.StatusBadRequest, "InvalidURI", "an empty segment in the path")
		}
	}
	if slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return "", refuse(http.StatusBadRequest, "InvalidURI", "a dot segment in the path")
	}
	return encode(path, true), nil
}

// canonicalQuery sorts by name and then by value, both encoded.
func canonicalQuery(q url.Values) string {
	type pair struct{ name, value string }
	var pairs []pair
	for name, values := range q {
		for _, value := range values {
			pairs = append(pairs, pair{encode(name, false), encode(value, false)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String()
}

// headerValue is a header's values, each without spaces around it and with one
// space where there are several, joined by commas.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length": // net/http keeps the number, not always the header
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		v = strings.Trim(v, " ")
		for strings.Contains(v, "  ") {
			v = strings.ReplaceAll(v, "  ", " ")
		}
		values[i] = v
	}
	return strings.Join(values, ",")
}

// encode percent-encodes as AWS does: everything but unreserved characters
// (RFC 3986 §2.3), and slashes where they separate.
func encode(s string, keepSlash bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0, c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
