package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// anonymous stands for a request without any signature until the service's own
// word for it is known.
const anonymous = "anonymous"

// queryParameters are those of a presigned URL.
func queryParameters() []string {
	return []string{
		"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature", "x-amz-security-token",
	}
}

// parse reads where the signature stands, and checks all that needs no key.
func (v Verifier) parse(r *http.Request) (signature, *Error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return signature{}, refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	inHeader, inQuery := r.Header.Values("Authorization"), false
	for name := range query { // whatever its case: one that is misspelt is still meant
		inQuery = inQuery || slices.Contains(queryParameters(), strings.ToLower(name))
	}
	var s signature
	var refused *Error
	switch {
	case len(inHeader) == 0 && !inQuery:
		return s, refuse(http.StatusForbidden, anonymous, "Access Denied")
	case len(inHeader) > 1 || len(inHeader) == 1 && inQuery:
		return s, refuse(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
	case inQuery:
		s, refused = fromQuery(query, r.Header)
	default:
		s, refused = fromHeader(inHeader[0], r.Header)
	}
	if refused != nil {
		return s, refused
	}
	s.query = query
	if refused := v.checkScope(&s); refused != nil {
		return s, refused
	}
	if refused := v.checkTime(s); refused != nil {
		return s, refused
	}
	return s, checkSigned(r, s)
}

// one returns the only value of a header; more than one is an error, none is "".
func one(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	if len(values) > 1 {
		return "", false
	}
	return h.Get(name), true
}

func fromHeader(value string, h http.Header) (signature, *Error) {
	malformed := refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
	rest, ok := strings.CutPrefix(value, algorithm+" ")
	if !ok {
		return signature{}, malformed
	}
	var s signature
	var date string
	for name, to := range map[string]*string{"X-Amz-Content-Sha256": &s.payload, "X-Amz-Security-Token": &s.token, "X-Amz-Date": &date} {
		if *to, ok = one(h, name); !ok {
			return s, malformed
		}
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(rest, ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(part), "=") // an empty value is refused where it is used
		if seen[name] {
			return s, malformed
		}
		seen[name] = true
		switch name {
		case "Credential":
			s.accessKeyID, s.scope, _ = strings.Cut(v, "/")
		case "SignedHeaders":
			s.headers = strings.Split(v, ";")
		case "Signature":
			s.hex = v
		default:
			return s, malformed
		}
	}
	if len(seen) != 3 {
		return s, malformed
	}
	var err error
	if s.at, err = time.Parse(timeFormat, date); err != nil {
		return s, denied("AWS authentication requires a valid x-amz-date header")
	}
	return s, nil
}

func fromQuery(q url.Values, h http.Header) (signature, *Error) {
	s := signature{presigned: true, payload: "UNSIGNED-PAYLOAD"}
	malformed := refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "Error parsing the X-Amz query parameters.")
	seen := map[string]bool{}
	for name, values := range q {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-") {
			continue
		}
		if len(values) != 1 || seen[lower] {
			return s, malformed
		}
		seen[lower] = true
	}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return s, malformed
	}
	// What stands in the query stands there alone.
	if len(h.Values("X-Amz-Security-Token")) > 0 || len(h.Values("X-Amz-Date")) > 0 {
		return s, malformed
	}
	s.accessKeyID, s.scope, _ = strings.Cut(q.Get("X-Amz-Credential"), "/")
	s.headers = strings.Split(q.Get("X-Amz-SignedHeaders"), ";")
	s.hex, s.token = q.Get("X-Amz-Signature"), q.Get("X-Amz-Security-Token")
	header, ok := one(h, "X-Amz-Content-Sha256")
	inQuery := q.Get("X-Amz-Content-Sha256")
	switch {
	case !ok || header != "" && inQuery != "" && header != inQuery:
		return s, malformed
	case header != "":
		s.payload = header
	case inQuery != "":
		s.payload = inQuery
	}
	if strings.HasPrefix(s.payload, "STREAMING-") {
		return s, malformed // nothing documents how chunks would follow a signature in the query
	}
	seconds, ok := digits(q.Get("X-Amz-Expires"))
	if !ok || seconds < 1 || seconds > maxExpires {
		return s, refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "X-Amz-Expires must be from 1 to %d", maxExpires)
	}
	s.expires = time.Duration(seconds) * time.Second
	var err error
	if s.at, err = time.Parse(timeFormat, q.Get("X-Amz-Date")); err != nil {
		return s, malformed
	}
	return s, nil
}

// digits reads a number that is written in digits only, without sign or space.
func digits(s string) (int64, bool) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// checkScope wants the credential's scope to be this day, region and service.
func (v Verifier) checkScope(s *signature) *Error {
	s.date = s.at.Format("20060102")
	if s.accessKeyID == "" || s.scope != strings.Join([]string{s.date, v.Region, v.Service, "aws4_request"}, "/") {
		return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed",
			"The credential's scope must be %s/%s/%s/aws4_request", s.date, v.Region, v.Service)
	}
	return nil
}

func (v Verifier) checkTime(s signature) *Error {
	age := v.Now().Sub(s.at)
	switch {
	case !s.presigned && (age > maxSkew || age < -maxSkew):
		return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case s.presigned && age < -maxSkew:
		return denied("Request is not yet valid")
	case s.presigned && age >= s.expires:
		return denied("Request has expired")
	}
	return nil
}

// checkSigned wants every header that changes what a request means to be signed:
// host, and all x-amz-* (x-amz-date, where it stands in a header, among them).
func checkSigned(r *http.Request, s signature) *Error {
	for i, name := range s.headers {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= s.headers[i-1] {
			return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "SignedHeaders must be lower case, in order, and each once")
		}
	}
	if !slices.Contains(s.headers, "host") {
		return denied("The host header must be signed")
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(s.headers, lower) {
			return denied("There were headers present in the request which were not signed: %s", lower)
		}
	}
	return nil
}
