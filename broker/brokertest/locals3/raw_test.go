package locals3_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/locals3"
)

const object = "/" + bucket + "/" + acme + "x"

// The administrator may do everything: what is refused here is refused whatever
// the policies say.
func TestWhatIsNotKnownIsRefusedBeforeTheStore(t *testing.T) {
	for name, tc := range map[string]struct {
		method, target string
		headers        []string
		status         int
		code           string
	}{
		"a parameter twice":                 {"GET", "/files?prefix=a&prefix=b", nil, 400, "InvalidArgument"},
		"twice, once encoded":               {"GET", "/files?prefix=a&%70refix=b", nil, 400, "InvalidArgument"},
		"a parameter in capitals":           {"GET", "/files?Prefix=a", nil, 501, "NotImplemented"},
		"both ways":                         {"GET", "/files?prefix=a&Prefix=b", nil, 501, "NotImplemented"},
		"an unknown parameter":              {"GET", object + "?torrent", nil, 501, "NotImplemented"},
		"one of another kind of request":    {"GET", object + "?prefix=a", nil, 501, "NotImplemented"},
		"two sub-resources":                 {"GET", "/files?uploads&location", nil, 501, "NotImplemented"},
		"a sub-resource and another method": {"DELETE", object + "?uploads", nil, 501, "NotImplemented"},
		"an unknown method":                 {"PATCH", object, nil, 501, "NotImplemented"},
		"POST of a form":                    {"POST", "/files", nil, 501, "NotImplemented"},
		"PUT at the root":                   {"PUT", "/", nil, 501, "NotImplemented"},
		"an unknown list-type":              {"GET", "/files?list-type=3", nil, 400, "InvalidArgument"},
		"an unknown header":                 {"PUT", object, []string{"X-Amz-Website-Redirect-Location", "/x"}, 501, "NotImplemented"},
		"a header of another request":       {"GET", object, []string{"X-Amz-Copy-Source", "/files/x"}, 501, "NotImplemented"},
		"a key of the customer":             {"GET", object, []string{"X-Amz-Server-Side-Encryption-Customer-Key", "x"}, 501, "NotImplemented"},
		"a condition on the source":         {"PUT", object, []string{"X-Amz-Copy-Source", "/files/x", "X-Amz-Copy-Source-If-Match", "x"}, 501, "NotImplemented"},
		"a condition on a delete":           {"DELETE", object, []string{"If-Match", "x"}, 501, "NotImplemented"},
		"a signature's parameter alone":     {"GET", object + "?X-Amz-Content-Sha256=x", nil, 501, "NotImplemented"},
		"a header in the query, unsigned":   {"PUT", object + "?x-amz-acl=private", nil, 501, "NotImplemented"},
		"a dot segment":                     {"GET", "/files/tenants/acme/./x", nil, 400, "InvalidURI"},
		"two dots":                          {"GET", "/files/tenants/acme/../globex/x", nil, 400, "InvalidURI"},
		"two dots, encoded":                 {"GET", "/files/tenants/acme/%2e%2E/globex/x", nil, 400, "InvalidURI"},
		"two dots and a slash, encoded":     {"GET", "/files/tenants/acme/..%2fglobex/x", nil, 400, "InvalidURI"},
		"an encoded slash":                  {"GET", "/files/tenants%2Facme/x", nil, 400, "InvalidURI"},
		"a dot segment at the end":          {"GET", "/files/tenants/acme/..", nil, 400, "InvalidURI"},
		"no bucket":                         {"GET", "//files/tenants/acme/x", nil, 400, "InvalidURI"},
		"a key that is not UTF-8":           {"GET", "/files/%ff", nil, 400, "InvalidURI"},
		"a key with a control character":    {"GET", "/files/a%00b", nil, 400, "InvalidURI"},
		"a key that XML cannot hold":        {"GET", "/files/%EF%BF%BF", nil, 400, "InvalidURI"},
		"a key that is too long":            {"GET", "/files/" + strings.Repeat("k", 1025), nil, 400, "KeyTooLongError"},
		"a source that cannot be read":      {"PUT", object, []string{"X-Amz-Copy-Source", "/files/%zz"}, 400, "InvalidArgument"},
		"a source with a version":           {"PUT", object, []string{"X-Amz-Copy-Source", "/files/x?versionId=1"}, 400, "InvalidArgument"},
		"a source without a key":            {"PUT", object, []string{"X-Amz-Copy-Source", "/files"}, 400, "InvalidArgument"},
		"a source without a bucket":         {"PUT", object, []string{"X-Amz-Copy-Source", "//x"}, 400, "InvalidArgument"},
		"an empty source":                   {"PUT", object, []string{"X-Amz-Copy-Source", ""}, 400, "InvalidArgument"},
		"a source with dots":                {"PUT", object, []string{"X-Amz-Copy-Source", "files/tenants/acme/%2e%2e/globex/x"}, 400, "InvalidURI"},
		"an unknown directive":              {"PUT", object, []string{"X-Amz-Copy-Source", "files/x", "X-Amz-Metadata-Directive", "MERGE"}, 400, "InvalidArgument"},
		"no part number":                    {"PUT", object + "?uploadId=x", nil, 400, "InvalidArgument"},
		"part number 0":                     {"PUT", object + "?uploadId=x&partNumber=0", nil, 400, "InvalidArgument"},
		"part number 10001":                 {"PUT", object + "?uploadId=x&partNumber=10001", nil, 400, "InvalidArgument"},
		"an upload that is not":             {"PUT", object + "?uploadId=x&partNumber=1", nil, 404, "NoSuchUpload"},
		"an empty upload id":                {"DELETE", object + "?uploadId=", nil, 404, "NoSuchUpload"},
		"max-keys that is no number":        {"GET", "/files?max-keys=-1", nil, 400, "InvalidArgument"},
		"an unknown encoding":               {"GET", "/files?encoding-type=xml", nil, 400, "InvalidArgument"},
		"a token that is none":              {"GET", "/files?list-type=2&continuation-token=!", nil, 400, "InvalidArgument"},
		"a listing of a bucket that is not": {"GET", "/nowhere", nil, 404, "NoSuchBucket"},
		"an upload to a bucket that is not": {"POST", "/nowhere/x?uploads", nil, 404, "NoSuchBucket"},
		"a bucket that is not":              {"GET", "/nowhere/x", nil, 404, "NoSuchBucket"},
		"a source's bucket that is not":     {"PUT", object, []string{"X-Amz-Copy-Source", "nowhere/x"}, 404, "NoSuchBucket"},
		"a new bucket":                      {"PUT", "/other", nil, 501, "NotImplemented"},
		"a bucket less":                     {"DELETE", "/other", nil, 501, "NotImplemented"},
	} {
		t.Run(name, func(t *testing.T) {
			newWorld(t, nil).try(t, "ADMIN", tc.method, tc.target, "", tc.headers...).is(t, tc.status, tc.code)
		})
	}
}

func TestAQueryThatReadersDisagreeAboutIsRefused(t *testing.T) {
	for _, query := range []string{"prefix=a;prefix=b", "prefix=%zz", "prefix=a&%"} {
		w := newWorld(t, nil)
		r := signed(t, "ADMIN", "GET", "/files", "") // whoever signs writes the query anew
		r.URL.RawQuery = query
		w.do(r).is(t, 400, "InvalidURI")
	}
}

func TestAPathBeginsWithASlash(t *testing.T) {
	w := newWorld(t, nil)
	r := signed(t, "ADMIN", "GET", "/files", "")
	r.URL.Path = "files" // as of an opaque or asterisk form
	w.do(r).is(t, 400, "InvalidURI")
}

func TestAHeaderTwiceIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	r := signed(t, "ADMIN", "PUT", object, "")
	r.Header["If-Match"] = []string{"a", "b"}
	w.do(r).is(t, 400, "InvalidArgument")
}

func TestOnlyWhoIsKnownAndCurrentIsHeard(t *testing.T) {
	w := newWorld(t, nil)
	strip := func(r *http.Request) *http.Request { r.Header.Del("Authorization"); return r }
	swap := func(header, value string) *http.Request {
		r := signed(t, "ADMIN", "GET", object, "")
		r.Header.Set(header, value)
		return r
	}
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
		code   string
	}{
		"anonymous":        {strip(signed(t, "ADMIN", "GET", object, "")), 403, "AccessDenied"},
		"unknown":          {signed(t, "STRANGER", "GET", object, ""), 403, "InvalidAccessKeyId"},
		"expired":          {signed(t, "EXPIRED", "GET", object, ""), 400, "ExpiredToken"},
		"swapped token":    {swap("X-Amz-Security-Token", "token of ACME"), 400, "InvalidToken"},
		"tampered token":   {swap("X-Amz-Security-Token", "token of ADMIN."), 400, "InvalidToken"},
		"no token":         {swap("X-Amz-Security-Token", ""), 400, "InvalidToken"},
		"tampered date":    {swap("X-Amz-Date", "20261124T120000Z"), 403, "RequestTimeTooSkewed"},
		"tampered hash":    {swap("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), 403, "SignatureDoesNotMatch"},
		"without policies": {signed(t, "NOBODY", "GET", object, ""), 403, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "tampered date" {
				tc.r.Header.Set("X-Amz-Date", "20200101T000000Z")
				tc.r.Header.Set("Authorization", strings.Replace(tc.r.Header.Get("Authorization"), w.now().UTC().Format("20060102"), "20200101", 1))
			}
			a := w.do(tc.r)
			a.is(t, tc.status, tc.code)
			if strings.Contains(a.Body.String(), "oken of") {
				t.Error("the answer repeats a token")
			}
		})
	}
}

func TestBodiesAreWhatTheirDigestsSay(t *testing.T) {
	md := func(s string) string { sum := md5.Sum([]byte(s)); return base64.StdEncoding.EncodeToString(sum[:]) }
	crc := func(s string) string {
		h := crc32.NewIEEE()
		_, _ = h.Write([]byte(s))
		return base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	chunked := []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Trailer", "x-amz-checksum-crc32", "X-Amz-Decoded-Content-Length", "5", "Content-Encoding", "aws-chunked"}
	framed := "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + crc("hello") + "\r\n\r\n"
	for name, tc := range map[string]struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		"Content-MD5":             {"hello", []string{"Content-Md5", md("hello")}, 200, ""},
		"another Content-MD5":     {"hello", []string{"Content-Md5", md("hallo")}, 400, "BadDigest"},
		"a short Content-MD5":     {"hello", []string{"Content-Md5", "AAAA"}, 400, "InvalidDigest"},
		"no Content-MD5":          {"hello", []string{"Content-Md5", "x"}, 400, "InvalidDigest"},
		"checksum":                {"hello", []string{"X-Amz-Checksum-Crc32", crc("hello")}, 200, ""},
		"another checksum":        {"hello", []string{"X-Amz-Checksum-Crc32", crc("hallo")}, 400, "BadDigest"},
		"another hash":            {"hello", []string{"X-Amz-Content-Sha256", hash("hallo")}, 400, "XAmzContentSHA256Mismatch"},
		"chunks":                  {framed, append(chunked, "Content-Md5", md("hello")), 200, ""},
		"a trailer tampered with": {strings.Replace(framed, "hello", "hallo", 1), chunked, 400, "BadDigest"},
		"chunks that end early":   {framed[:8], chunked, 400, "IncompleteBody"},
		"more than is announced":  {"hello", []string{"X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "X-Amz-Decoded-Content-Length", "4"}, 400, "IncompleteBody"},
		"less than is announced":  {"hello", []string{"X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "X-Amz-Decoded-Content-Length", "6"}, 400, "IncompleteBody"},
		"no length at all":        {"hello", []string{"X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "X-Amz-Decoded-Content-Length", "-1"}, 411, "MissingContentLength"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.try(t, "ACME", "PUT", object, tc.body, tc.headers...).is(t, tc.status, tc.code)
			got := w.try(t, "ACME", "GET", object, "")
			if stored := got.Code == 200; stored != (tc.status == 200) || stored && (got.Body.String() != "hello" || got.Header().Get("Content-Encoding") != "") {
				t.Errorf("then it is %d %q %q", got.Code, got.Body, got.Header().Get("Content-Encoding"))
			}
		})
	}
}

func TestAPresignerCannotHideHeadersInTheQuery(t *testing.T) {
	w := newWorld(t, nil)
	w.do(presigned(t, "ACME", "PUT", object, "x")).is(t, 200, "")
	w.do(presigned(t, "ACME", "PUT", object+"?x-amz-acl=public-read", "x")).is(t, 403, "AccessDenied")
	w.do(presigned(t, "ADMIN", "PUT", object+"?x-amz-acl=public-read", "x")).is(t, 200, "")
	w.do(presigned(t, "ACME", "PUT", object+"?x-amz-copy-source=files%2Ftenants%2Fglobex%2Fx", "")).is(t, 403, "AccessDenied")
	w.do(presigned(t, "ADMIN", "PUT", object+"?x-amz-checksum-crc32=AAAAAA==", "x")).is(t, 400, "BadDigest")
	w.do(presigned(t, "ADMIN", "PUT", object+"?x-amz-acl=private", "x", "X-Amz-Acl", "public-read")).is(t, 400, "InvalidArgument")
	w.do(presigned(t, "ADMIN", "PUT", object+"?x-amz-website-redirect-location=x", "x")).is(t, 501, "NotImplemented")
}

func TestAMissingKeyIsForThoseWhoMayList(t *testing.T) {
	w := newWorld(t, nil)
	for _, method := range []string{"HEAD", "GET"} {
		code := map[string]string{"HEAD": "", "GET": "NoSuchKey"}[method]
		w.try(t, "ACME", method, object, "").is(t, 404, code)
		w.try(t, "NOLIST", method, object, "").is(t, 403, strings.Replace(code, "NoSuchKey", "AccessDenied", 1))
	}
	w.try(t, "NOLIST", "PUT", object, "", "X-Amz-Copy-Source", "files/none").is(t, 403, "AccessDenied")
	w.try(t, "ADMIN", "PUT", object, "", "X-Amz-Copy-Source", "files/none").is(t, 404, "NoSuchKey")
}

// What is checked is what is read: '+' in a source is a '+'.
func TestACopyReadsTheKeyThatWasChecked(t *testing.T) {
	w := newWorld(t, nil)
	w.try(t, "ADMIN", "PUT", "/files/a%2Bb", "plus").is(t, 200, "")
	w.try(t, "ADMIN", "PUT", "/files/a%20b", "space").is(t, 200, "")
	for source, want := range map[string]string{"files/a+b": "plus", "files/a%2Bb": "plus", "/files/a%20b": "space"} {
		w.try(t, "ADMIN", "PUT", object, "", "X-Amz-Copy-Source", source).is(t, 200, "")
		if got := w.try(t, "ADMIN", "GET", object, "").Body.String(); got != want {
			t.Errorf("%s copies %q", source, got)
		}
		last := w.asked[len(w.asked)-2]
		if read := strings.NewReplacer("plus", "a+b", "space", "a b").Replace(want); last.action != "s3:GetObject" || last.resource != "arn:aws:s3:::files/"+read {
			t.Errorf("%s asks %+v", source, last)
		}
	}
}

func TestAnUploadBelongsToItsKeyAndBucket(t *testing.T) {
	w := newWorld(t, nil)
	var up struct{ UploadId string }
	if err := xml.Unmarshal(w.try(t, "GLOBEX", "POST", "/files/"+globex+"x?uploads", "").Body.Bytes(), &up); err != nil || up.UploadId == "" {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"another key": object, "another bucket": "/other/" + globex + "x"} {
		for _, method := range []string{"PUT", "DELETE", "GET", "POST"} {
			query, body := "?uploadId="+up.UploadId, ""
			if method == "PUT" {
				query += "&partNumber=1"
			}
			if method == "POST" {
				body = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"
			}
			t.Run(name+" "+method, func(t *testing.T) { w.try(t, "ADMIN", method, target+query, body).is(t, 404, "NoSuchUpload") })
		}
	}
}

func TestACompletionNamesItsParts(t *testing.T) {
	w := newWorld(t, nil)
	var up struct{ UploadId string }
	must(t, xml.Unmarshal(w.try(t, "ACME", "POST", object+"?uploads", "").Body.Bytes(), &up))
	at := object + "?uploadId=" + up.UploadId
	first := w.try(t, "ACME", "PUT", at+"&partNumber=1", "one").Header().Get("ETag")
	second := w.try(t, "ACME", "PUT", at+"&partNumber=2", "two").Header().Get("ETag")
	part := func(number, etag string) string {
		return "<Part><PartNumber>" + number + "</PartNumber><ETag>" + strings.Trim(etag, `"`) + "</ETag></Part>"
	}
	list := func(parts ...string) string {
		return "<CompleteMultipartUpload>" + strings.Join(parts, "") + "</CompleteMultipartUpload>"
	}
	for name, tc := range map[string]struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		"no XML":             {"x", nil, 400, "MalformedXML"},
		"no part":            {list(), nil, 400, "MalformedXML"},
		"another ETag":       {list(part("1", second)), nil, 400, "InvalidPart"},
		"a part that is not": {list(part("3", first)), nil, 400, "InvalidPart"},
		"no part, no ETag":   {list(part("3", "")), nil, 400, "InvalidPart"},
		"a part twice":       {list(part("2", second), part("2", second)), nil, 400, "InvalidPartOrder"},
		"a small first part": {list(part("1", first), part("2", second)), nil, 400, "EntityTooSmall"},
		"another size":       {list(part("1", first)), []string{"X-Amz-Mp-Object-Size", "4"}, 400, "InvalidRequest"},
		"another checksum":   {list(part("1", first)), []string{"X-Amz-Checksum-Type", "FULL_OBJECT", "X-Amz-Checksum-Crc32", "AAAAAA=="}, 400, "BadDigest"},
		"a condition":        {list(part("1", first)), []string{"If-Match", "x"}, 412, "PreconditionFailed"},
	} {
		t.Run(name, func(t *testing.T) { w.try(t, "ACME", "POST", at, tc.body, tc.headers...).is(t, tc.status, tc.code) })
	}
	w.try(t, "ACME", "POST", at, list(part("1", first)), "X-Amz-Mp-Object-Size", "3", "X-Amz-Checksum-Crc32", "of the parts").is(t, 200, "")
	if got := w.try(t, "ACME", "GET", object, "").Body.String(); got != "one" {
		t.Errorf("got %q", got)
	}
	w.try(t, "ACME", "GET", at, "").is(t, 404, "NoSuchUpload")
}

func TestAMultiDeleteIsBoundedAndUnconditional(t *testing.T) {
	w := newWorld(t, nil)
	w.try(t, "ADMIN", "PUT", "/files/a", "x").is(t, 200, "")
	ask := func(objects string) answer {
		return w.try(t, "ADMIN", "POST", "/files?delete", "<Delete>"+objects+"</Delete>")
	}
	ask("").is(t, 400, "MalformedXML")
	ask(strings.Repeat("<Object><Key>a</Key></Object>", 1001)).is(t, 400, "MalformedXML")
	w.try(t, "ADMIN", "POST", "/files?delete", "<Other/>").is(t, 400, "MalformedXML")
	for object, code := range map[string]string{
		"<Key>a</Key><VersionId>null</VersionId>": "NotImplemented", "<Key>a</Key><ETag>x</ETag>": "NotImplemented", "<Key></Key>": "UserKeyMustBeSpecified",
	} {
		if got := ask("<Object>" + object + "</Object>"); got.Code != 200 || !strings.Contains(got.Body.String(), "<Code>"+code+"</Code>") || strings.Contains(got.Body.String(), "<Deleted>") {
			t.Errorf("%s: %d %s", object, got.Code, got.Body)
		}
	}
	w.try(t, "ADMIN", "GET", "/files/a", "").is(t, 200, "")
	if got := ask("<Quiet>true</Quiet><Object><Key>a</Key></Object>").Body.String(); strings.Contains(got, "<Deleted>") {
		t.Errorf("quietly: %s", got)
	}
	w.try(t, "ADMIN", "GET", "/files/a", "").is(t, 404, "NoSuchKey")
}

// begin starts an upload of the object and returns its target.
func (w *world) begin(t *testing.T, target string) string {
	t.Helper()
	var up struct{ UploadId string }
	must(t, xml.Unmarshal(w.try(t, "ADMIN", "POST", target+"?uploads", "").Body.Bytes(), &up))
	return target + "?uploadId=" + up.UploadId
}

func TestACopiedPartIsWhatTheRangeSays(t *testing.T) {
	w := newWorld(t, nil)
	w.try(t, "ADMIN", "PUT", "/files/source", "hello").is(t, 200, "")
	at := w.begin(t, object) + "&partNumber=1"
	for spec, code := range map[string]string{
		"bytes=0-4": "", "bytes=4-4": "", "bytes=0-5": "InvalidArgument", "bytes=3-2": "InvalidArgument", "bytes=3-1": "InvalidArgument",
		"0-1": "InvalidArgument", "bytes=0": "InvalidArgument", "bytes=-1": "InvalidArgument", "bytes=1-": "InvalidArgument", "bytes=0-0,2-2": "InvalidArgument",
	} {
		if got := w.try(t, "ADMIN", "PUT", at, "", "X-Amz-Copy-Source", "files/source", "X-Amz-Copy-Source-Range", spec); got.code != code {
			t.Errorf("%s: %d %s", spec, got.Code, got.Body)
		}
	}
	w.try(t, "NOLIST", "PUT", at, "", "X-Amz-Copy-Source", "files/none").is(t, 403, "AccessDenied")
	w.try(t, "ADMIN", "PUT", at, "", "X-Amz-Copy-Source", "files/none").is(t, 404, "NoSuchKey")
}

func TestListsOfUploadsAndPartsPage(t *testing.T) {
	w := newWorld(t, nil)
	for _, target := range []string{"/files/b", "/files/a/1", "/files/a/1", "/files/a/2", "/other/a/9"} {
		w.begin(t, target)
	}
	var got []string
	for marker, pages := "", 0; pages < 9; pages++ {
		var out struct {
			IsTruncated                       bool
			NextKeyMarker, NextUploadIdMarker string
			Upload                            []struct{ Key string }
		}
		must(t, xml.Unmarshal(w.try(t, "ADMIN", "GET", "/files?uploads&max-uploads=1&prefix=a"+marker, "").Body.Bytes(), &out))
		for _, u := range out.Upload {
			got = append(got, u.Key)
		}
		if len(out.Upload) > 1 {
			t.Errorf("a page of %d", len(out.Upload))
		}
		if marker = "&key-marker=" + out.NextKeyMarker + "&upload-id-marker=" + out.NextUploadIdMarker; !out.IsTruncated {
			break
		}
	}
	if diff := cmp.Diff([]string{"a/1", "a/1", "a/2"}, got); diff != "" {
		t.Error(diff)
	}
	at := w.begin(t, object)
	for _, number := range []string{"3", "1", "2"} {
		w.try(t, "ADMIN", "PUT", at+"&partNumber="+number, number).is(t, 200, "")
	}
	var out struct {
		IsTruncated          bool
		NextPartNumberMarker int
		Part                 []struct{ PartNumber int }
	}
	must(t, xml.Unmarshal(w.try(t, "ADMIN", "GET", at+"&max-parts=1&part-number-marker=1", "").Body.Bytes(), &out))
	if len(out.Part) != 1 || out.Part[0].PartNumber != 2 || !out.IsTruncated || out.NextPartNumberMarker != 2 {
		t.Errorf("got %+v", out)
	}
	// Far beyond the last part there is nothing, and no panic.
	w.try(t, "ADMIN", "GET", at+"&part-number-marker=99999", "").is(t, 200, "")
}

func TestUploadsUnderWayAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for range 1000 {
		w.begin(t, object)
	}
	w.try(t, "ADMIN", "POST", object+"?uploads", "").is(t, 507, "InsufficientStorage")
}

func TestAnUploadIsCountedOnce(t *testing.T) {
	w := newWorld(t, func(c *locals3.Config) { c.MaxBytes = 10 })
	at := w.begin(t, object)
	etag := ""
	for range 3 { // one part in another's place
		a := w.try(t, "ADMIN", "PUT", at+"&partNumber=1", "12345")
		a.is(t, 200, "")
		etag = a.Header().Get("ETag")
	}
	w.try(t, "ADMIN", "POST", at, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+strings.Trim(etag, `"`)+"</ETag></Part></CompleteMultipartUpload>").is(t, 200, "")
	w.try(t, "ADMIN", "PUT", "/files/a", "123456").is(t, 507, "InsufficientStorage")
	w.try(t, "ADMIN", "PUT", "/files/a", "12345").is(t, 200, "")
}

func TestConditionsAndRanges(t *testing.T) {
	w := newWorld(t, nil)
	etag := w.try(t, "ACME", "PUT", object, "hello").Header().Get("ETag")
	for name, tc := range map[string]struct {
		method  string
		query   string
		headers []string
		status  int
		body    string // of a success
	}{
		"first bytes":           {"GET", "", []string{"Range", "bytes=0-1"}, 206, "he"},
		"last bytes":            {"GET", "", []string{"Range", "bytes=-2"}, 206, "lo"},
		"more than there is":    {"GET", "", []string{"Range", "bytes=3-99"}, 206, "lo"},
		"the last 99":           {"GET", "", []string{"Range", "bytes=-99"}, 206, "hello"},
		"beyond the end":        {"GET", "", []string{"Range", "bytes=5-"}, 416, ""},
		"no last bytes":         {"GET", "", []string{"Range", "bytes=-0"}, 416, ""},
		"several ranges":        {"GET", "", []string{"Range", "bytes=0-0,2-2"}, 200, "hello"},
		"backwards":             {"GET", "", []string{"Range", "bytes=3-2"}, 200, "hello"},
		"other units":           {"GET", "", []string{"Range", "lines=0-1"}, 200, "hello"},
		"HEAD of a range":       {"HEAD", "", []string{"Range", "bytes=0-1"}, 206, ""},
		"part 1":                {"GET", "?partNumber=1", nil, 200, "hello"},
		"part 2":                {"GET", "?partNumber=2", nil, 416, ""},
		"part and range":        {"GET", "?partNumber=1", []string{"Range", "bytes=0-1"}, 400, ""},
		"if it is this":         {"GET", "", []string{"If-Match", etag}, 200, "hello"},
		"if it is another":      {"GET", "", []string{"If-Match", `"x"`}, 412, ""},
		"if it is not this":     {"GET", "", []string{"If-None-Match", etag}, 304, ""},
		"if changed since":      {"GET", "", []string{"If-Modified-Since", "Fri, 01 Jan 2038 00:00:00 GMT"}, 304, ""},
		"if unchanged since":    {"GET", "", []string{"If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"}, 412, ""},
		"put if there is none":  {"PUT", "", []string{"If-None-Match", "*"}, 412, ""},
		"put if it is another":  {"PUT", "", []string{"If-Match", `"x"`}, 412, ""},
		"put unless it is that": {"PUT", "", []string{"If-None-Match", `"x"`}, 501, ""},
		"copy onto itself":      {"PUT", "", []string{"X-Amz-Copy-Source", object}, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.try(t, "ACME", tc.method, object+tc.query, "", tc.headers...)
			if got.Code != tc.status || tc.status < 300 && got.Body.String() != tc.body {
				t.Errorf("got %d %q", got.Code, got.Body)
			}
		})
	}
	w.try(t, "ACME", "PUT", object+"2", "", "If-Match", "*").is(t, 412, "PreconditionFailed")
	w.try(t, "ACME", "PUT", object, "", "X-Amz-Copy-Source", object, "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-A", "b").is(t, 200, "")
	got := w.try(t, "ACME", "GET", object+"?response-content-type=text/css", "").Header()
	if diff := cmp.Diff([]string{"b", "text/css", "5"}, []string{got.Get("X-Amz-Meta-A"), got.Get("Content-Type"), got.Get("Content-Length")}); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsLookLikeThoseOfS3(t *testing.T) {
	a := newWorld(t, nil).try(t, "ACME", "GET", "/files/"+globex+"x", "")
	id := a.Header().Get("X-Amz-Request-Id")
	want := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message><Resource>/files/tenants/globex/x</Resource><RequestId>" + id + "</RequestId></Error>"
	if a.Body.String() != want || id == "" || a.Header().Get("Content-Type") != "application/xml" || a.Code != 403 {
		t.Errorf("got %d %v %s", a.Code, a.Header(), a.Body)
	}
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	w := newWorld(t, func(c *locals3.Config) { c.MaxBytes = 10 })
	put := func(target, body string, status int) {
		t.Helper()
		if got := w.try(t, "ADMIN", "PUT", target, body); got.Code != status {
			t.Errorf("%s: %d %s", target, got.Code, got.Body)
		}
	}
	put("/files/a", "123456", 200)
	put("/files/b", "12345", 507)
	put("/files/b", "1234", 200)
	put("/files/c", "1", 507)
	w.try(t, "ADMIN", "DELETE", "/files/b", "").is(t, 204, "")
	w.try(t, "ADMIN", "DELETE", "/files/b", "").is(t, 204, "") // gives back once
	put("/files/b", "12345", 507)
	put("/files/b", "1234", 200)
	w.try(t, "ADMIN", "DELETE", "/files/a", "").is(t, 204, "")
	put("/files/b", "123456", 200) // an object in another's place counts once
	put("/files/c", "1234", 200)
	w.try(t, "ADMIN", "PUT", "/files/d", "", "X-Amz-Copy-Source", "files/c").is(t, 507, "InsufficientStorage")
	w.try(t, "ADMIN", "DELETE", "/files/b", "").is(t, 204, "")
	var up struct{ UploadId string }
	must(t, xml.Unmarshal(w.try(t, "ADMIN", "POST", "/files/u?uploads", "").Body.Bytes(), &up))
	put("/files/u?partNumber=1&uploadId="+up.UploadId, "123456", 200)
	put("/files/e", "1", 507)
	w.try(t, "ADMIN", "DELETE", "/files/u?uploadId="+up.UploadId, "").is(t, 204, "")
	w.try(t, "ADMIN", "PUT", "/files/e", "1", "Content-Md5", "AAAAAAAAAAAAAAAAAAAAAA==").is(t, 400, "BadDigest") // what fails gives back
	put("/files/e", "123456", 200)
	w.try(t, "ADMIN", "POST", "/files?delete", strings.Repeat(" ", 4<<20+1)).is(t, 400, "MaxMessageLengthExceeded")
}

func TestALengthMustBeKnownBeforeMemoryIsTaken(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	r := signed(t, "ACME", "PUT", object, "", "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader("x"))
	w.do(r).is(t, 411, "MissingContentLength")
}

func TestCORSIsForExactOriginsAlsoOnErrors(t *testing.T) {
	w := newWorld(t, nil)
	preflight := func(target, origin, method string) answer {
		r := httptest.NewRequest("OPTIONS", "http://s3.test"+target, nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", method)
		r.Header.Set("Access-Control-Request-Headers", "authorization,x-amz-date,x-amz-meta-a")
		return w.do(r)
	}
	ok := preflight(object, page, "PUT")
	ok.is(t, 200, "")
	if h := ok.Header(); h.Get("Access-Control-Allow-Origin") != page || h.Get("Access-Control-Allow-Methods") != "GET, PUT, POST, DELETE, HEAD" || h.Get("Access-Control-Allow-Headers") != "authorization,x-amz-date,x-amz-meta-a" {
		t.Errorf("got %v", h)
	}
	for name, a := range map[string]answer{
		"another origin":       preflight(object, "https://evil.test", "PUT"),
		"one that starts so":   preflight(object, page+".evil.test", "PUT"),
		"another scheme":       preflight(object, "http://app.test", "PUT"),
		"another case":         preflight(object, strings.ToUpper(page), "PUT"),
		"no origin":            preflight(object, "", "PUT"),
		"another method":       preflight(object, page, "PATCH"),
		"a bucket without any": preflight("/other/x", page, "PUT"),
	} {
		t.Run(name, func(t *testing.T) {
			a.is(t, 403, "AccessForbidden")
			if a.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("it is allowed")
			}
		})
	}
	for target, status := range map[string]int{object: 404, "/files/" + globex + "x": 403} {
		refused := w.try(t, "ACME", "GET", target, "", "Origin", page)
		if refused.Code != status || refused.Header().Get("Access-Control-Allow-Origin") != page || !strings.Contains(refused.Header().Get("Access-Control-Expose-Headers"), "x-amz-request-id") {
			t.Errorf("%s: %d %v", target, refused.Code, refused.Header())
		}
	}
	w.try(t, "ACME", "PUT", object, "x", "X-Amz-Meta-A", "b").is(t, 200, "")
	got := w.try(t, "ACME", "GET", object, "", "Origin", page).Header()
	if got.Get("Access-Control-Expose-Headers") != "Accept-Ranges, Content-Range, ETag, x-amz-meta-a, x-amz-request-id" || !strings.HasPrefix(got.Get("Vary"), "Origin") {
		t.Errorf("got %v", got)
	}
	if got := w.try(t, "ACME", "GET", object, "", "Origin", "https://evil.test"); got.Header().Get("Access-Control-Allow-Origin") != "" || got.Code != 200 {
		t.Errorf("a foreign page: %d %v", got.Code, got.Header())
	}
}
