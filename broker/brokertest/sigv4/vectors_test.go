package sigv4_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/brokertest/sigv4"
)

// The examples of the documentation, which no code of ours has made.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleScope  = exampleKey + "/20130524/us-east-1/s3/aws4_request"
	emptyHash     = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func exampleVerifier() sigv4.Verifier {
	at := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	return sigv4.Verifier{Region: "us-east-1", Service: "s3", Now: func() time.Time { return at }, Lookup: func(id string) (sigv4.Credential, bool) {
		return sigv4.Credential{Secret: exampleSecret, Expiration: at.Add(time.Hour)}, id == exampleKey
	}}
}

func example(method, target, body, signed, signature string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if signature != "" {
		r.Header.Set("X-Amz-Date", "20130524T000000Z")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleScope+",SignedHeaders="+signed+",Signature="+signature)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestTheExamplesOfTheDocumentationAreTaken(t *testing.T) {
	const host = "http://examplebucket.s3.amazonaws.com/"
	chunk := strings.Repeat("a", 65536)
	stream := "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + chunk +
		"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + chunk[:1024] +
		"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	withTrailer := "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + chunk +
		"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + chunk[:1024] +
		"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
	const signedStream = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class"
	for name, tc := range map[string]struct {
		r    *http.Request
		want string
	}{
		"GET with a range": {example("GET", host+"test.txt", "", "host;range;x-amz-content-sha256;x-amz-date",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", "Range", "bytes=0-9", "X-Amz-Content-Sha256", emptyHash), ""},
		"PUT": {example("PUT", host+"test$file.text", "Welcome to Amazon S3.", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", "Date", "Fri, 24 May 2013 00:00:00 GMT",
			"X-Amz-Storage-Class", "REDUCED_REDUNDANCY", "X-Amz-Content-Sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"), "Welcome to Amazon S3."},
		"GET lifecycle": {example("GET", host+"?lifecycle", "", "host;x-amz-content-sha256;x-amz-date",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", "X-Amz-Content-Sha256", emptyHash), ""},
		"list": {example("GET", host+"?max-keys=2&prefix=J", "", "host;x-amz-content-sha256;x-amz-date",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", "X-Amz-Content-Sha256", emptyHash), ""},
		"presigned": {example("GET", host+"test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+strings.ReplaceAll(exampleScope, "/", "%2F")+
			"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"+
			"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", "", "", ""), ""},
		"chunks": {example("PUT", "http://s3.amazonaws.com/examplebucket/chunkObject.txt", stream, signedStream,
			"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", "Content-Encoding", "aws-chunked", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY",
			"X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "X-Amz-Decoded-Content-Length", "66560"), chunk + chunk[:1024]},
		"chunks and a trailer": {example("PUT", "http://s3.amazonaws.com/examplebucket/chunkObject.txt", withTrailer,
			"content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
			"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", "Content-Encoding", "aws-chunked", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY",
			"X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length", "66560", "X-Amz-Trailer", "x-amz-checksum-crc32c"), chunk + chunk[:1024]},
	} {
		t.Run(name, func(t *testing.T) {
			if body, code := verify(t, exampleVerifier(), tc.r); code != "" || body != tc.want {
				t.Errorf("got %d bytes, %s", len(body), code)
			}
		})
	}
}

// The check values of the catalogue of CRCs, and of FIPS 180.
func TestTheChecksumsAreTheKnownOnes(t *testing.T) {
	for name, want := range map[string]string{
		"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888", "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
		"sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	} {
		h, ok := sigv4.NewChecksum(name)
		if !ok {
			t.Fatalf("%s is not known", name)
		}
		_, _ = h.Write([]byte("123456789"))
		if got := hexOf(h.Sum(nil)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if _, ok := sigv4.NewChecksum("md5"); ok {
		t.Error("md5 is no checksum of S3")
	}
}
