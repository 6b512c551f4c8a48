package locals3_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"credential-broker/broker/brokertest/locals3"
)

const kmsKey = "arn:aws:kms:eu-test-1:123456789012:key/x"

// A bucket that is encrypted with a key asks for the key, in the caller's name,
// for the object or, with a bucket key, for the bucket.
func TestAnEncryptedBucketAsksForItsKey(t *testing.T) {
	upload := func(ctx context.Context, c *s3.Client, key string) error {
		in := &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(key)}
		up, err := c.CreateMultipartUpload(ctx, in)
		if err != nil {
			return err
		}
		part, err := c.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x"),
		})
		if err != nil {
			return err
		}
		_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
		})
		return err
	}
	duplicate := func(ctx context.Context, c *s3.Client, key string) error {
		_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String(key + "2"), CopySource: aws.String(bucket + "/" + key)})
		return err
	}
	read := func(ctx context.Context, c *s3.Client, key string) error { _, err := get(ctx, c, key); return err }
	write := func(ctx context.Context, c *s3.Client, key string) error { return put(ctx, c, key, "x") }
	const key = acme + "a"
	for name, tc := range map[string]struct {
		do   func(context.Context, *s3.Client, string) error
		need []string
	}{
		"put":    {write, []string{"kms:GenerateDataKey"}},
		"get":    {read, []string{"kms:Decrypt"}},
		"copy":   {duplicate, []string{"kms:GenerateDataKey", "kms:Decrypt"}},
		"upload": {upload, []string{"kms:GenerateDataKey", "kms:Decrypt"}},
	} {
		for _, bucketKey := range []bool{false, true} {
			without := "" // the action on the key that is not allowed
			w := newWorld(t, func(cfg *locals3.Config) {
				cfg.Buckets[0].KMSKey, cfg.Buckets[0].BucketKey = kmsKey, bucketKey
			})
			w.grants["KEY"] = func(action, _ string, _ map[string][]string) bool { return action != without }
			c := w.serve(t, false).sdk("KEY")
			if err := put(t.Context(), c, key, "x"); err != nil {
				t.Fatal(err)
			}
			w.asked = nil
			if err := tc.do(t.Context(), c, key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, q := range w.asked {
				if !strings.HasPrefix(q.action, "kms:") {
					continue
				}
				object := q.context["kms:EncryptionContext:aws:s3:arn"]
				fits := len(object) == 1 && (object[0] == "arn:aws:s3:::"+bucket) == bucketKey && strings.HasPrefix(object[0], "arn:aws:s3:::"+bucket)
				if q.resource != kmsKey || !slices.Equal(q.context["kms:ViaService"], []string{"s3.eu-test-1.amazonaws.com"}) || !fits || q.context["aws:SourceIp"] != nil {
					t.Errorf("%s: asked %+v", name, q)
				}
			}
			for _, without = range tc.need {
				mustFail(t, tc.do(t.Context(), c, key), 403, "AccessDenied")
			}
		}
	}
}
