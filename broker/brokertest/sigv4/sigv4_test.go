package sigv4_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/brokertest/sigv4"
)

func TestWhatIsSignedInTheHeaderOrTheQueryIsTaken(t *testing.T) {
	for name, d := range map[string]*draft{
		"in the header":     s3Draft(),
		"in the query":      presigned(),
		"a long-term key":   change(s3Draft(), func(d *draft) { d.key = "AKIALONG"; d.header.Del("X-Amz-Security-Token") }),
		"an unsigned body":  change(s3Draft(), func(d *draft) { d.header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }),
		"a hash in a query": change(presigned(), func(d *draft) { d.query.Set("X-Amz-Content-Sha256", sum(d.body)) }),
		"a hash in a signed header beside a query": change(presigned(), func(d *draft) { d.header.Set("X-Amz-Content-Sha256", sum(d.body)) }),
		"15 minutes ago":                    change(s3Draft(), dated(-15*time.Minute)),
		"in 15 minutes":                     change(s3Draft(), dated(15*time.Minute)),
		"seven days":                        change(presigned(), func(d *draft) { d.query.Set("X-Amz-Expires", "604800") }),
		"a second before its end":           change(presigned(), dated(-899*time.Second)),
		"unsigned headers that say nothing": change(s3Draft(), func(d *draft) { d.unsigned.Set("User-Agent", "x") }),
		// A sort of "name=value" as a whole puts a-b before a, for '-' is before '='.
		"a name that starts another":    change(s3Draft(), func(d *draft) { d.query = url.Values{"a": {"2", "1"}, "a-b": {"1"}, "a.b": {""}} }),
		"an empty path":                 change(s3Draft(), func(d *draft) { d.method, d.path, d.canonicalPath = "GET", "", "/" }),
		"no normalising":                change(s3Draft(), func(d *draft) { d.path = "/bucket//a/../b%2Bc%3D~" }),
		"what a client need not encode": change(s3Draft(), func(d *draft) { d.path, d.canonicalPath = "/bucket/a(b)!+", "/bucket/a%28b%29%21%2B" }),
		"spaces in a header": change(s3Draft(), func(d *draft) {
			d.header.Set("X-Amz-Meta-A", "a b")
			d.after = func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "  a   b ") }
		}),
		"several values": change(s3Draft(), func(d *draft) { d.header["X-Amz-Meta-A"] = []string{"b", "a"} }),
		"a signed length": change(s3Draft(), func(d *draft) {
			d.header.Set("Content-Length", "5")
			d.after = func(r *http.Request) { r.Header.Del("Content-Length") } // as net/http may
		}),
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := d.request()
			if body, code := verify(t, verifier("s3"), r); code != "" || body != "hello" {
				t.Errorf("got %q, %s", body, code)
			}
		})
	}
}

func change(d *draft, f func(*draft)) *draft {
	f(d)
	return d
}

// dated moves the time of a request, consistently.
func dated(by time.Duration) func(*draft) {
	return func(d *draft) {
		d.at = d.at.Add(by)
		if d.presign {
			d.query.Set("X-Amz-Date", d.at.Format(stamp))
		} else {
			d.header.Set("X-Amz-Date", d.at.Format(stamp))
		}
	}
}

// Each case differs from a good request in one thing, and everything else about
// it, the signature included, is right.
func TestWhatBreaksOneRuleIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		draft *draft
		f     func(*draft)
		want  string
	}{
		"anonymous":                    {s3Draft(), func(d *draft) { d.after = func(r *http.Request) { r.Header.Del("Authorization") } }, "AccessDenied"},
		"two signatures":               {s3Draft(), func(d *draft) { d.unsigned["Authorization"] = []string{"x"}; d.after = twice }, "InvalidArgument"},
		"a token in the query as well": {s3Draft(), func(d *draft) { d.query.Set("X-Amz-Security-Token", token) }, "InvalidArgument"},
		"whatever its case":            {s3Draft(), func(d *draft) { d.query.Set("x-amz-expires", "5") }, "InvalidArgument"},
		"another algorithm":            {s3Draft(), says("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "), "AuthorizationHeaderMalformed"},
		"a part that is not known":     {s3Draft(), says("Signature=", "X=, Signature="), "AuthorizationHeaderMalformed"},
		"a part twice":                 {s3Draft(), func(d *draft) { d.authorization = func(v string) string { return v + v[strings.LastIndex(v, ","):] } }, "AuthorizationHeaderMalformed"},
		"a part without a value":       {s3Draft(), says("Signature=", "Signature, Signature="), "AuthorizationHeaderMalformed"},
		"two parts only":               {s3Draft(), func(d *draft) { d.authorization = func(v string) string { return v[:strings.LastIndex(v, ",")] } }, "AuthorizationHeaderMalformed"},
		"the date twice":               {s3Draft(), func(d *draft) { d.header["X-Amz-Date"] = append(d.header["X-Amz-Date"], "x") }, "AuthorizationHeaderMalformed"},
		"the token twice":              {s3Draft(), func(d *draft) { d.header["X-Amz-Security-Token"] = []string{token, "x"} }, "AuthorizationHeaderMalformed"},
		"no date":                      {s3Draft(), func(d *draft) { d.header.Del("X-Amz-Date") }, "AccessDenied"},
		"a query that cannot be read":  {s3Draft(), func(d *draft) { d.query = nil; d.after = func(r *http.Request) { r.URL.RawQuery = "a=%zz" } }, "InvalidURI"},

		"another day":     {s3Draft(), func(d *draft) { d.scope = strings.Replace(d.trueScope(), "20261124", "20261123", 1) }, "AuthorizationHeaderMalformed"},
		"another region":  {s3Draft(), func(d *draft) { d.scope = strings.Replace(d.trueScope(), region, "us-east-1", 1) }, "AuthorizationHeaderMalformed"},
		"another service": {s3Draft(), func(d *draft) { d.scope = strings.Replace(d.trueScope(), "s3", "sts", 1) }, "AuthorizationHeaderMalformed"},
		"no key":          {s3Draft(), func(d *draft) { d.key = "" }, "AuthorizationHeaderMalformed"},
		"too old":         {s3Draft(), dated(-15*time.Minute - time.Second), "RequestTimeTooSkewed"},
		"too new":         {s3Draft(), dated(15*time.Minute + time.Second), "RequestTimeTooSkewed"},

		"an unknown key":                  {s3Draft(), func(d *draft) { d.key = "ASIAUNKNOWN"; d.secret = "" }, "InvalidAccessKeyId"},
		"a key that is no more":           {s3Draft(), func(d *draft) { d.key = "ASIAREVOKED" }, "InvalidAccessKeyId"},
		"a key without a secret":          {s3Draft(), func(d *draft) { d.key = "ASIANOSECRET"; d.secret = "" }, "InvalidAccessKeyId"},
		"no token":                        {s3Draft(), func(d *draft) { d.header.Del("X-Amz-Security-Token") }, "InvalidToken"},
		"another key's token":             {s3Draft(), func(d *draft) { d.header.Set("X-Amz-Security-Token", "the token of ASIAOTHER") }, "InvalidToken"},
		"a token tampered with":           {s3Draft(), func(d *draft) { d.header.Set("X-Amz-Security-Token", token+"x") }, "InvalidToken"},
		"a token with a long-term key":    {s3Draft(), func(d *draft) { d.key = "AKIALONG" }, "InvalidToken"},
		"an expired token":                {s3Draft(), func(d *draft) { d.key = "ASIAEXPIRED" }, "ExpiredToken"},
		"a credential without expiration": {s3Draft(), func(d *draft) { d.key = "ASIAZERO" }, "ExpiredToken"},

		"host unsigned":             {s3Draft(), leavesOut("host"), "AccessDenied"},
		"the date unsigned":         {s3Draft(), leavesOut("x-amz-date"), "AccessDenied"},
		"an x-amz- header unsigned": {s3Draft(), func(d *draft) { d.unsigned.Set("X-Amz-Acl", "public-read") }, "AccessDenied"},
		"headers out of order":      {s3Draft(), func(d *draft) { d.signed = func(n []string) []string { slices.Reverse(n); return n } }, "AuthorizationHeaderMalformed"},
		"a header twice":            {s3Draft(), func(d *draft) { d.signed = func(n []string) []string { return append(n[:1:1], n...) } }, "AuthorizationHeaderMalformed"},
		"a header in upper case": {s3Draft(), func(d *draft) {
			d.unsigned.Set("Zed", "")
			d.signed = func(n []string) []string { return append([]string{"ZED"}, n...) }
		}, "AuthorizationHeaderMalformed"},
		"a header without a name": {s3Draft(), func(d *draft) { d.signed = func(n []string) []string { return append([]string{""}, n...) } }, "AuthorizationHeaderMalformed"},
		"another secret":          {s3Draft(), func(d *draft) { d.secret = "another" }, "SignatureDoesNotMatch"},
		"the method changed":      {s3Draft(), func(d *draft) { d.after = func(r *http.Request) { r.Method = "POST" } }, "SignatureDoesNotMatch"},
		"the path changed":        {s3Draft(), func(d *draft) { d.after = func(r *http.Request) { r.URL.Path += "x" } }, "SignatureDoesNotMatch"},
		"the query changed":       {s3Draft(), func(d *draft) { d.after = func(r *http.Request) { r.URL.RawQuery += "&acl" } }, "SignatureDoesNotMatch"},
		"a header changed": {s3Draft(), func(d *draft) {
			d.header.Set("X-Amz-Meta-A", "a")
			d.after = func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "b") }
		}, "SignatureDoesNotMatch"},
		"a tab is not a space": {s3Draft(), func(d *draft) {
			d.header.Set("X-Amz-Meta-A", "a b")
			d.after = func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "a\tb") }
		}, "SignatureDoesNotMatch"},
		"the host changed": {s3Draft(), func(d *draft) { d.after = func(r *http.Request) { r.Host = "other.test" } }, "SignatureDoesNotMatch"},
		"a signature in upper case": {s3Draft(), func(d *draft) {
			d.authorization = func(v string) string { i := strings.LastIndex(v, "="); return v[:i] + strings.ToUpper(v[i:]) }
		}, "SignatureDoesNotMatch"},
		"a path that is encoded twice": {s3Draft(), func(d *draft) { d.canonicalPath = "/bucket/a%2520key" }, "SignatureDoesNotMatch"},

		"no hash":                    {s3Draft(), func(d *draft) { d.header.Del("X-Amz-Content-Sha256") }, "InvalidRequest"},
		"something else than a hash": {s3Draft(), func(d *draft) { d.header.Set("X-Amz-Content-Sha256", "abcd") }, "InvalidArgument"},
		"an unknown streaming form":  {s3Draft(), func(d *draft) { d.header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD") }, "InvalidArgument"},
		"the hash twice":             {s3Draft(), func(d *draft) { d.header["X-Amz-Content-Sha256"] = []string{sum(d.body), "x"} }, "AuthorizationHeaderMalformed"},
		"another body":               {s3Draft(), func(d *draft) { d.body = []byte("hallo") }, "XAmzContentSHA256Mismatch"},
		"a shorter body":             {s3Draft(), func(d *draft) { d.body = []byte("hell") }, "XAmzContentSHA256Mismatch"},
		"chunks that are not signed as such": {s3Draft(), func(d *draft) {
			d.header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			d.unsigned.Set("Content-Encoding", "gzip, AWS-chunked")
		}, "InvalidRequest"},

		"presigned: at its end":          {presigned(), dated(-900 * time.Second), "AccessDenied"},
		"presigned: not yet":             {presigned(), dated(15*time.Minute + time.Second), "AccessDenied"},
		"presigned: for no time":         {presigned(), expires("0"), "AuthorizationQueryParametersError"},
		"presigned: for eight days":      {presigned(), expires("604801"), "AuthorizationQueryParametersError"},
		"presigned: with a sign":         {presigned(), expires("+900"), "AuthorizationQueryParametersError"},
		"presigned: without an end":      {presigned(), func(d *draft) { d.query.Del("X-Amz-Expires") }, "AuthorizationQueryParametersError"},
		"presigned: another algorithm":   {presigned(), func(d *draft) { d.query.Set("X-Amz-Algorithm", "x") }, "AuthorizationQueryParametersError"},
		"presigned: no date":             {presigned(), func(d *draft) { d.query.Del("X-Amz-Date") }, "AuthorizationQueryParametersError"},
		"presigned: a parameter twice":   {presigned(), func(d *draft) { d.query["X-Amz-Expires"] = []string{"900", "9000"} }, "AuthorizationQueryParametersError"},
		"presigned: in two cases":        {presigned(), func(d *draft) { d.query.Set("x-amz-expires", "9000") }, "AuthorizationQueryParametersError"},
		"presigned: a token in a header": {presigned(), func(d *draft) { d.header.Set("X-Amz-Security-Token", token) }, "AuthorizationQueryParametersError"},
		"presigned: a date in a header":  {presigned(), func(d *draft) { d.header.Set("X-Amz-Date", now().Format(stamp)) }, "AuthorizationQueryParametersError"},
		"presigned: no token":            {presigned(), func(d *draft) { d.query.Del("X-Amz-Security-Token") }, "InvalidToken"},
		"presigned: another's token":     {presigned(), func(d *draft) { d.query.Set("X-Amz-Security-Token", "x") }, "InvalidToken"},
		"presigned: tampered":            {presigned(), func(d *draft) { d.after = func(r *http.Request) { r.URL.Path = "/bucket/other" } }, "SignatureDoesNotMatch"},
		"presigned: prolonged":           {presigned(), func(d *draft) { d.after = inQuery("X-Amz-Expires", "901") }, "SignatureDoesNotMatch"},
		"presigned: an unsigned header":  {presigned(), func(d *draft) { d.unsigned.Set("X-Amz-Acl", "public-read") }, "AccessDenied"},
		"presigned: chunks":              {presigned(), func(d *draft) { d.query.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER") }, "AuthorizationQueryParametersError"},
		"presigned: two hashes": {presigned(), func(d *draft) {
			d.header.Set("X-Amz-Content-Sha256", sum([]byte("other")))
			d.query.Set("X-Amz-Content-Sha256", sum(d.body))
		}, "AuthorizationQueryParametersError"},
		"presigned: another body": {presigned(), func(d *draft) { d.query.Set("X-Amz-Content-Sha256", sum([]byte("other"))) }, "XAmzContentSHA256Mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := change(tc.draft, tc.f).request()
			if _, code := verify(t, verifier("s3"), r); code != tc.want {
				t.Errorf("got %q, want %q", code, tc.want)
			}
		})
	}
}

func twice(r *http.Request) {
	r.Header["Authorization"] = append(r.Header["Authorization"], r.Header["Authorization"][0])
}

func says(old, text string) func(*draft) {
	return func(d *draft) { d.authorization = func(v string) string { return strings.Replace(v, old, text, 1) } }
}

func leavesOut(name string) func(*draft) {
	return func(d *draft) {
		d.signed = func(all []string) []string { return slices.DeleteFunc(all, func(n string) bool { return n == name }) }
	}
}

func expires(seconds string) func(*draft) {
	return func(d *draft) { d.query.Set("X-Amz-Expires", seconds) }
}

func inQuery(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		q := r.URL.Query()
		q.Set(name, value)
		r.URL.RawQuery = q.Encode()
	}
}

func TestAVerifierThatIsNotCompleteRefuses(t *testing.T) {
	for name, f := range map[string]func(*sigv4.Verifier){
		"no region":  func(v *sigv4.Verifier) { v.Region = "" },
		"no service": func(v *sigv4.Verifier) { v.Service = "" },
		"no clock":   func(v *sigv4.Verifier) { v.Now = nil },
		"no look-up": func(v *sigv4.Verifier) { v.Lookup = nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := verifier("s3")
			f(&v)
			r, _ := s3Draft().request()
			if _, code := verify(t, v, r); code != "InternalError" {
				t.Errorf("got %q", code)
			}
		})
	}
}

func stsDraft() *draft {
	d := s3Draft()
	d.method, d.path, d.service, d.body = "POST", "/", "sts", []byte("Action=GetCallerIdentity&Version=2011-06-15")
	d.query = nil
	d.header.Del("X-Amz-Content-Sha256")
	return d
}

func TestOtherServicesSignTheirBodyAndEncodeTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		f    func(*draft)
		want string
	}{
		"as it is":                {func(*draft) {}, ""},
		"a path is encoded twice": {func(d *draft) { d.path, d.canonicalPath = "/a%20b/", "/a%2520b/" }, ""},
		"and not once":            {func(d *draft) { d.path = "/a%20b/" }, "SignatureDoesNotMatch"},
		"presigned": {func(d *draft) {
			p := presigned()
			d.presign, d.query, d.header, d.method, d.body = true, p.query, p.header, "GET", nil
		}, ""},
		"an empty segment":   {func(d *draft) { d.path = "/a//b" }, "InvalidURI"},
		"a dot segment":      {func(d *draft) { d.path = "/a/./b" }, "InvalidURI"},
		"two dots":           {func(d *draft) { d.path = "/a/../b" }, "InvalidURI"},
		"another body":       {func(d *draft) { d.after = func(r *http.Request) { r.Body = http.NoBody } }, "SignatureDoesNotMatch"},
		"a body without end": {func(d *draft) { d.body = []byte(strings.Repeat("x", 64<<10+1)) }, "EntityTooLarge"},
		"unsigned all the same": {func(d *draft) {
			d.header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			d.after = func(r *http.Request) { r.Body = http.NoBody }
		}, "SignatureDoesNotMatch"},
		"anonymous":         {func(d *draft) { d.after = func(r *http.Request) { r.Header.Del("Authorization") } }, "MissingAuthenticationToken"},
		"an unknown key":    {func(d *draft) { d.key = "ASIAUNKNOWN" }, "InvalidClientTokenId"},
		"another's token":   {func(d *draft) { d.header.Set("X-Amz-Security-Token", "x") }, "InvalidClientTokenId"},
		"an expired token":  {func(d *draft) { d.key = "ASIAEXPIRED" }, "ExpiredToken"},
		"too old":           {dated(-time.Hour), "SignatureDoesNotMatch"},
		"malformed":         {says("SignedHeaders=", "X="), "IncompleteSignature"},
		"a header unsigned": {func(d *draft) { d.unsigned.Set("X-Amz-Acl", "x") }, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			d := change(stsDraft(), tc.f)
			r, _ := d.request()
			body, code := verify(t, verifier("sts"), r)
			if code != tc.want || code == "" && body != string(d.body) {
				t.Errorf("got %q with %q, want %q", code, body, tc.want)
			}
		})
	}
}

func TestARequestWithoutABodyIsOne(t *testing.T) {
	d := s3Draft()
	d.header.Set("X-Amz-Content-Sha256", sum(nil))
	d.after = func(r *http.Request) { r.Body = nil }
	r, _ := d.request()
	if body, code := verify(t, verifier("s3"), r); body != "" || code != "" {
		t.Errorf("got %q, %q", body, code)
	}
}
