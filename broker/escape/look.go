package escape

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// What is below is for a check that runs every few minutes on a bucket in use:
// whatever the answers are, nothing is left behind, and nothing that is there is
// touched. Of the target it needs where S3 is, the region and the session.

// aByte asks for the first byte of an object: enough to see that it can be read. An
// empty object has none, and was found all the same.
func (r *run) aByte(ctx context.Context, bucket, key string) answer {
	a := r.s3(ctx, call{method: http.MethodGet, bucket: bucket, path: escapeKey(key), header: []string{"Range", "bytes=0-0"}})
	if a.status == http.StatusRequestedRangeNotSatisfiable {
		a.status = http.StatusOK
	}
	return a
}

// aName asks for one name.
func (r *run) aName(ctx context.Context, bucket, prefix string) answer {
	return r.s3(ctx, call{method: http.MethodGet, bucket: bucket, query: "list-type=2&max-keys=1&prefix=" + url.QueryEscape(prefix)})
}

// works is a check of what has to work.
func works(name string, a answer) Check {
	c := Check{Kind: KindInside, Name: name, Place: "inside", Detail: a.String()}
	switch {
	case a.done():
		c.Verdict = Held
	case a.status/100 == 4 && a.status != http.StatusTooManyRequests:
		c.Verdict = Failed
	}
	return c
}

// Read reads a byte of an object, which has to work.
func Read(ctx context.Context, t Target, bucket, key string) Check {
	return works("GetObject", t.run().aByte(ctx, bucket, key))
}

// List asks for a name below a prefix, which has to work. That there is none is
// fine.
func List(ctx context.Context, t Target, bucket, prefix string) Check {
	return works("ListObjectsV2", t.run().aName(ctx, bucket, prefix))
}

// BeginUpload begins an upload of parts and aborts it, which has to work: it needs
// the right to write, and makes no object and no version.
func BeginUpload(ctx context.Context, t Target, bucket, key string) Check {
	r := t.run()
	c := works("CreateMultipartUpload", r.begin(ctx, bucket, key).answer)
	for _, left := range r.cleanUp(ctx) {
		c.Name, c.Verdict, c.Detail = "AbortMultipartUpload", left.Verdict, left.Detail
	}
	return c
}

// Look reads a byte of somebody else's object, and asks for one name in its folder.
// S3 has to deny both: 403 AccessDenied, and nothing else. Held for the object alone
// says little where it may not be there: S3 denies what is not there as well.
func Look(ctx context.Context, t Target, v Victim) []Check {
	r := t.run()
	folder := v.Key[:strings.LastIndexByte(v.Key, '/')+1]
	r.mustDeny(KindObject, "GetObject", r.aByte(ctx, v.Bucket, v.Key))
	r.mustDeny(KindListing, "ListObjectsV2", r.aName(ctx, v.Bucket, folder))
	return r.checks
}

// mustDeny is mustRefuse, held by nothing but S3's own denial. A bucket that is not
// there proves nothing.
func (r *run) mustDeny(k Kind, name string, a answer) {
	if a.code == "NoSuchBucket" {
		r.checks = append(r.checks, Check{Kind: k, Name: name, Place: "another's object", Detail: a.String()})
		return
	}
	r.judge(k, "another's object", name, a, a.status == http.StatusForbidden && a.code == "AccessDenied")
}
