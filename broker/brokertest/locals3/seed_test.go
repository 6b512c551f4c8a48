package locals3_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"credential-broker/broker/brokertest/locals3"
)

func TestWhatIsSeededIsThere(t *testing.T) {
	w := newWorld(t, func(c *locals3.Config) { c.MaxBytes = 10 }).serve(t, false)
	must(t, w.Seed(bucket, acme+"hello.txt", "text/plain", []byte("hello")))
	out, err := w.sdk("ACME").GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + "hello.txt")})
	must(t, err)
	defer out.Body.Close()
	if aws.ToString(out.ContentType) != "text/plain" || aws.ToInt64(out.ContentLength) != 5 || aws.ToString(out.ETag) == "" {
		t.Errorf("%+v", out)
	}
	// Seeded again, it is one object still: there is room for ten bytes.
	must(t, w.Seed(bucket, acme+"hello.txt", "text/plain", []byte("12345")))
	for name, err := range map[string]error{
		"too much":  w.Seed(bucket, acme+"big", "text/plain", []byte("123456")),
		"no bucket": w.Seed("none", "x", "text/plain", []byte("x")),
		"a dot":     w.Seed(bucket, "../x", "text/plain", []byte("x")),
		"too long":  w.Seed(bucket, strings.Repeat("x", 1025), "text/plain", nil),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
