package locals3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

func transports(t *testing.T, f func(t *testing.T, w *world)) {
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) { f(t, newWorld(t, nil).serve(t, secure)) })
	}
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func TestAnSDKWorksInsideItsPrefix(t *testing.T) {
	transports(t, func(t *testing.T, w *world) {
		ctx, c := t.Context(), w.sdk("ACME")
		key := acme + "a folder/é +&=?~'()*!.txt"
		_, err := c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader("hello, world"), ContentType: aws.String("text/plain"),
			CacheControl: aws.String("no-cache"), Metadata: map[string]string{"colour": "blue"},
		})
		must(t, err)
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Range: aws.String("bytes=7-")})
		must(t, err)
		body, err := io.ReadAll(out.Body)
		must(t, err)
		got := []string{string(body), aws.ToString(out.ContentRange), aws.ToString(out.ContentType), aws.ToString(out.CacheControl), out.Metadata["colour"]}
		if diff := cmp.Diff([]string{"world", "bytes 7-11/12", "text/plain", "no-cache", "blue"}, got); diff != "" {
			t.Error(diff)
		}
		must(t, put(ctx, c, key, "again")) // what was said of the old object is gone with it
		head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
		must(t, err)
		if aws.ToInt64(head.ContentLength) != 5 || head.CacheControl != nil || len(head.Metadata) > 0 || aws.ToString(head.ETag) == "" {
			t.Errorf("after another put: %+v", head)
		}
		copied := acme + "copy+of it"
		_, err = c.CopyObject(ctx, &s3.CopyObjectInput{
			Bucket: aws.String(bucket), Key: aws.String(copied),
			CopySource: aws.String(bucket + "/" + strings.ReplaceAll(escape(key), "%2F", "/")),
		})
		must(t, err)
		if text, err := get(ctx, c, copied); err != nil || text != "again" {
			t.Errorf("copy: %q, %v", text, err)
		}
		_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
		must(t, err)
		_, err = get(ctx, c, key)
		mustFail(t, err, http.StatusNotFound, "NoSuchKey")
	})
}

// Over https the SDK sends each part as one chunk, with a trailer.
func TestLargeObjectsGoInPartsAndWhole(t *testing.T) {
	transports(t, func(t *testing.T, w *world) {
		ctx, c, big := t.Context(), w.sdk("ACME"), random(20<<20)
		m := transfermanager.New(c)
		_, err := m.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + "parts"), Body: bytes.NewReader(big)})
		must(t, err)
		_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + "whole"), Body: bytes.NewReader(big)})
		must(t, err)
		for _, key := range []string{"parts", "whole"} {
			if got, err := get(ctx, c, acme+key); err != nil || got != string(big) {
				t.Errorf("%s: %d bytes, %v", key, len(got), err)
			}
			out, err := m.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + key)})
			must(t, err)
			if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, big) {
				t.Errorf("%s by parts: %d bytes, %v", key, len(got), err)
			}
		}
	})
}

func TestListingsPageAndGroup(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	ctx, c := t.Context(), w.sdk("ACME")
	for _, key := range []string{"a", "b/1", "b/2", "c d", "e/x/1", "f"} {
		must(t, put(ctx, c, acme+key, key))
	}
	must(t, put(ctx, w.sdk("GLOBEX"), globex+"secret", "x"))
	prefix, delimiter := aws.String(acme), aws.String("/")
	for _, size := range []int32{1, 2, 1000} {
		var first, second []string
		p := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: prefix, Delimiter: delimiter, MaxKeys: aws.Int32(size)})
		for p.HasMorePages() {
			out, err := p.NextPage(ctx)
			must(t, err)
			second = append(second, names(out.Contents, out.CommonPrefixes)...)
			if int(aws.ToInt32(out.KeyCount)) != len(out.Contents)+len(out.CommonPrefixes) || len(out.Contents)+len(out.CommonPrefixes) > int(size) {
				t.Errorf("a page of %d has %d", size, aws.ToInt32(out.KeyCount))
			}
		}
		for marker := (*string)(nil); ; {
			out, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: aws.String(bucket), Prefix: prefix, Delimiter: delimiter, MaxKeys: aws.Int32(size), Marker: marker})
			must(t, err)
			first = append(first, names(out.Contents, out.CommonPrefixes)...)
			if marker = out.NextMarker; !aws.ToBool(out.IsTruncated) {
				break
			}
		}
		for version, got := range [][]string{first, second} {
			if diff := cmp.Diff([]string{"a", "b/", "c d", "e/", "f"}, sorted(got)); diff != "" {
				t.Errorf("version %d, pages of %d: %s", version+1, size, diff)
			}
		}
	}
	out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: prefix, StartAfter: aws.String(acme + "b/2"), EncodingType: types.EncodingTypeUrl})
	must(t, err)
	if diff := cmp.Diff([]string{"c%20d", "e/x/1", "f"}, names(out.Contents, nil)); diff != "" {
		t.Error(diff)
	}
	out, err = c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: prefix, MaxKeys: aws.Int32(0)})
	if err != nil || len(out.Contents) > 0 || aws.ToBool(out.IsTruncated) {
		t.Errorf("no keys: %+v, %v", out, err)
	}
}

// The backend takes a delimiter for a set of characters to trim: with the right
// ones, a listing of one prefix would show all keys.
func TestNoDelimiterShowsKeysOutsideThePrefix(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	must(t, put(t.Context(), w.sdk("ACME"), acme+"mine", "x"))
	must(t, put(t.Context(), w.sdk("GLOBEX"), globex+"theirs", "x"))
	must(t, put(t.Context(), w.sdk("ADMIN"), "/"+acme+"rooted", "x"))
	for _, delimiter := range []string{"/", "tenants/acme/", "t", "acmetns/", "m", ""} {
		out, err := w.sdk("ACME").ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(acme), Delimiter: aws.String(delimiter)})
		must(t, err)
		got := strings.Join(names(out.Contents, out.CommonPrefixes), " ")
		if got != "mine" && got != strings.SplitAfter("mine", delimiter)[0] {
			t.Errorf("delimiter %q shows %q", delimiter, got)
		}
	}
}

func TestAnUploadCanBeListedCopiedIntoAndAborted(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	ctx, c, part := t.Context(), w.sdk("ACME"), string(random(5<<20))
	must(t, put(ctx, c, acme+"source", part+"tail"))
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(acme + "target"), ContentType: aws.String("text/x")})
	must(t, err)
	copyPart := func(number int32, byteRange string) *string {
		t.Helper()
		out, err := c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
			Bucket: aws.String(bucket), Key: aws.String(acme + "target"), UploadId: up.UploadId, PartNumber: aws.Int32(number),
			CopySource: aws.String(bucket + "/" + acme + "source"), CopySourceRange: aws.String(byteRange),
		})
		must(t, err)
		return out.CopyPartResult.ETag
	}
	first, second := copyPart(1, fmt.Sprintf("bytes=0-%d", 5<<20-1)), copyPart(7, fmt.Sprintf("bytes=%d-%d", 5<<20, 5<<20+3))
	var numbers []int32
	p := s3.NewListPartsPaginator(c, &s3.ListPartsInput{Bucket: aws.String(bucket), Key: aws.String(acme + "target"), UploadId: up.UploadId, MaxParts: aws.Int32(1)})
	for p.HasMorePages() {
		out, err := p.NextPage(ctx)
		must(t, err)
		for _, part := range out.Parts {
			numbers = append(numbers, aws.ToInt32(part.PartNumber))
		}
	}
	if diff := cmp.Diff([]int32{1, 7}, numbers); diff != "" {
		t.Error(diff)
	}
	all, err := w.sdk("ADMIN").ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Prefix: aws.String(acme)})
	if err != nil || len(all.Uploads) != 1 || aws.ToString(all.Uploads[0].UploadId) != aws.ToString(up.UploadId) {
		t.Errorf("uploads: %+v, %v", all, err)
	}
	done, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String(acme + "target"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: first}, {PartNumber: aws.Int32(7), ETag: second}}},
	})
	must(t, err)
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + "target"), PartNumber: aws.Int32(2)})
	must(t, err)
	body, err := io.ReadAll(out.Body)
	if err != nil || string(body) != "tail" || aws.ToInt32(out.PartsCount) != 2 || aws.ToString(out.ETag) != aws.ToString(done.ETag) || aws.ToString(out.ContentType) != "text/x" {
		t.Errorf("part 2 is %q of %+v, %v", body, out, err)
	}
	if whole, err := get(ctx, c, acme+"target"); err != nil || whole != part+"tail" {
		t.Errorf("%d bytes, %v", len(whole), err)
	}
	up, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(acme + "target")})
	must(t, err)
	abort := &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(acme + "target"), UploadId: up.UploadId}
	_, err = c.AbortMultipartUpload(ctx, abort)
	must(t, err)
	_, err = c.AbortMultipartUpload(ctx, abort)
	mustFail(t, err, http.StatusNotFound, "NoSuchUpload")
}

func TestPresignedURLsWorkUntilTheyEndOrAreTouched(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	signer := s3.NewPresignClient(w.sdk("ACME"))
	send := func(method, url, body string, header http.Header) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		must(t, err)
		for name, values := range header {
			if name != "Host" {
				r.Header[name] = values
			}
		}
		resp, err := w.client.Do(r)
		must(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(text)
	}
	upload, err := signer.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + "x")})
	must(t, err)
	if status, text := send("PUT", upload.URL, "by URL", upload.SignedHeader); status != http.StatusOK {
		t.Errorf("put: %d %s", status, text)
	}
	download, err := signer.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(acme + "x")})
	must(t, err)
	if status, text := send("GET", download.URL, "", nil); status != http.StatusOK || text != "by URL" {
		t.Errorf("get: %d %s", status, text)
	}
	for name, url := range map[string]string{
		"another key":     strings.Replace(download.URL, "acme/x", "acme/y", 1),
		"a longer life":   strings.Replace(download.URL, "X-Amz-Expires=900", "X-Amz-Expires=9000", 1),
		"a parameter":     download.URL + "&response-content-type=text/html",
		"another method":  upload.URL,
		"another's token": strings.Replace(download.URL, "token%20of%20ACME", "token%20of%20GLOBEX", 1),
		"no token":        strings.Replace(download.URL, "X-Amz-Security-Token=token%20of%20ACME&", "", 1),
	} {
		if status, _ := send("GET", url, "", nil); status != http.StatusForbidden && status != http.StatusBadRequest || url == download.URL {
			t.Errorf("%s: %d", name, status)
		}
	}
	w.mu.Lock()
	w.ahead = 16 * time.Minute
	w.mu.Unlock()
	if status, text := send("GET", download.URL, "", nil); status != http.StatusForbidden || !strings.Contains(text, "Request has expired") {
		t.Errorf("after its end: %d %s", status, text)
	}
	// A URL is no more than who signed it.
	w.mu.Lock()
	w.ahead = 0
	w.mu.Unlock()
	outside, err := signer.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(globex + "x")})
	must(t, err)
	if status, text := send("GET", outside.URL, "", nil); status != http.StatusForbidden || !strings.Contains(text, "<Code>AccessDenied</Code>") {
		t.Errorf("outside: %d %s", status, text)
	}
}

// outside is what one tenant may not do to the rest of the bucket. What it aims
// at exists, so that nothing is refused for want of a target.
func outside(ctx context.Context, theirs, uploadID string) map[string]func(*s3.Client) error {
	name := aws.String(bucket)
	own, source := aws.String(acme+"own"), aws.String(bucket+"/"+theirs)
	list := func(prefix *string) func(*s3.Client) error {
		return func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: name, Prefix: prefix, Delimiter: aws.String("/")})
			return err
		}
	}
	return map[string]func(*s3.Client) error{
		"get":              func(c *s3.Client) error { _, err := get(ctx, c, theirs); return err },
		"put":              func(c *s3.Client) error { return put(ctx, c, theirs, "x") },
		"put in a sibling": func(c *s3.Client) error { return put(ctx, c, "tenants/acme2/x", "x") },
		"put at the root":  func(c *s3.Client) error { return put(ctx, c, "x", "x") },
		"put in another bucket": func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("other"), Key: own, Body: strings.NewReader("x")})
			return err
		},
		"delete": func(c *s3.Client) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: name, Key: aws.String(theirs)})
			return err
		},
		"copy from": func(c *s3.Client) error {
			_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: name, Key: own, CopySource: source})
			return err
		},
		"copy to": func(c *s3.Client) error {
			_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: name, Key: aws.String(theirs), CopySource: aws.String(bucket + "/" + acme + "own")})
			return err
		},
		"begin an upload": func(c *s3.Client) error {
			_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: name, Key: aws.String(theirs)})
			return err
		},
		"add to an upload": func(c *s3.Client) error {
			_, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: name, Key: aws.String(theirs), UploadId: aws.String(uploadID), PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
			return err
		},
		"copy into an upload from": func(c *s3.Client) error {
			up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: name, Key: own})
			if err != nil {
				return err
			}
			_, err = c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: name, Key: own, UploadId: up.UploadId, PartNumber: aws.Int32(1), CopySource: source})
			return err
		},
		"complete an upload": func(c *s3.Client) error {
			_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: name, Key: aws.String(theirs), UploadId: aws.String(uploadID)})
			return err
		},
		"see the parts": func(c *s3.Client) error {
			_, err := c.ListParts(ctx, &s3.ListPartsInput{Bucket: name, Key: aws.String(theirs), UploadId: aws.String(uploadID)})
			return err
		},
		"abort an upload": func(c *s3.Client) error {
			_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: name, Key: aws.String(theirs), UploadId: aws.String(uploadID)})
			return err
		},
		"list theirs":           list(aws.String(globex)),
		"list a sibling":        list(aws.String("tenants/acme2/")),
		"list without a slash":  list(aws.String("tenants/acme")),
		"list the root":         list(aws.String("")),
		"list without a prefix": list(nil),
		"list, version 1": func(c *s3.Client) error {
			_, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: name})
			return err
		},
		"list versions": func(c *s3.Client) error {
			_, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: name, Prefix: aws.String(acme)})
			return err
		},
		"list uploads": func(c *s3.Client) error {
			_, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: name, Prefix: aws.String(acme)})
			return err
		},
		"list buckets": func(c *s3.Client) error { _, err := c.ListBuckets(ctx, &s3.ListBucketsInput{}); return err },
		"locate": func(c *s3.Client) error {
			_, err := c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: name})
			return err
		},
		"set a public ACL": func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: own, Body: strings.NewReader("x"), ACL: types.ObjectCannedACLPublicRead})
			return err
		},
		"grant somebody": func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: own, Body: strings.NewReader("x"), GrantRead: aws.String("id=1")})
			return err
		},
		"tag": func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: own, Body: strings.NewReader("x"), Tagging: aws.String("a=b")})
			return err
		},
		"read a version": func(c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: name, Key: own, VersionId: aws.String("null")})
			return err
		},
		"change the bucket's policy": func(c *s3.Client) error {
			_, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: name, Policy: aws.String("{}")})
			return err
		},
	}
}

func TestNothingOutsideThePrefixIsReached(t *testing.T) {
	transports(t, func(t *testing.T, w *world) {
		ctx, theirs := t.Context(), globex+"secret"
		must(t, put(ctx, w.sdk("GLOBEX"), theirs, "theirs"))
		must(t, put(ctx, w.sdk("ACME"), acme+"own", "own"))
		up, err := w.sdk("GLOBEX").CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(theirs)})
		must(t, err)
		for name, try := range outside(ctx, theirs, aws.ToString(up.UploadId)) {
			t.Run(name, func(t *testing.T) { mustFail(t, try(w.sdk("ACME")), http.StatusForbidden, "AccessDenied") })
		}
		if text, err := get(ctx, w.sdk("GLOBEX"), theirs); err != nil || text != "theirs" {
			t.Errorf("theirs is %q, %v", text, err)
		}
		if _, err := w.sdk("ACME").HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(theirs)}); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("head: %v", err)
		}
	})
}

func TestAMultiDeleteDecidesAboutEachKey(t *testing.T) {
	w := newWorld(t, nil).serve(t, false)
	ctx := t.Context()
	must(t, put(ctx, w.sdk("ACME"), acme+"mine", "x"))
	must(t, put(ctx, w.sdk("GLOBEX"), globex+"theirs", "x"))
	object := func(key string) types.ObjectIdentifier { return types.ObjectIdentifier{Key: aws.String(key)} }
	version := object(acme + "kept")
	version.VersionId = aws.String("null")
	out, err := w.sdk("ACME").DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{object(acme + "mine"), object(globex + "theirs"), version, object("tenants/acme"), object(acme + "missing")},
	}})
	must(t, err)
	got := map[string]string{}
	for _, d := range out.Deleted {
		got[aws.ToString(d.Key)] = "deleted"
	}
	for _, e := range out.Errors {
		got[aws.ToString(e.Key)] = aws.ToString(e.Code)
	}
	want := map[string]string{
		acme + "mine": "deleted", acme + "missing": "deleted", globex + "theirs": "AccessDenied", acme + "kept": "AccessDenied", "tenants/acme": "AccessDenied",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := get(ctx, w.sdk("GLOBEX"), globex+"theirs"); err != nil {
		t.Error(err)
	}
	_, err = get(ctx, w.sdk("ACME"), acme+"mine")
	mustFail(t, err, http.StatusNotFound, "NoSuchKey")
	for _, e := range w.events {
		if e.Method == "POST" && (e.Allowed || len(e.Actions) != 5) {
			t.Errorf("the event says %+v", e)
		}
	}
}
