package escape

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"

	"credential-broker/policy"
)

const (
	madeUpUpload = "2~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" // no server has it; whoever may not ask is not told so
	tagging      = `<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>`
)

// deletion is the body of a multi-delete.
func deletion(key string) string {
	var b strings.Builder
	b.WriteString(`<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>`)
	_ = xml.EscapeText(&b, []byte(key)) // a strings.Builder takes everything
	b.WriteString(`</Key></Object></Delete>`)
	return b.String()
}

// objects tries everything on one object outside. The order is so that what
// reads comes first and what removes last.
func (r *run) objects(ctx context.Context, p place) {
	r.reads(ctx, p)
	r.copies(ctx, p)
	if !p.precious {
		r.writes(ctx, p)
	}
	r.try(ctx, p, "UploadPart", call{method: http.MethodPut, query: "partNumber=1&uploadId=" + madeUpUpload, body: "x"})
	r.try(ctx, p, "CompleteMultipartUpload", call{
		method: http.MethodPost, query: "uploadId=" + madeUpUpload,
		body: `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`,
	})
	r.try(ctx, p, "AbortMultipartUpload", call{method: http.MethodDelete, query: "uploadId=" + madeUpUpload})
	r.try(ctx, p, "ListParts", call{method: http.MethodGet, query: "uploadId=" + madeUpUpload})
}

// try makes an attempt whose denial proves something whether or not the object
// is there.
func (r *run) try(ctx context.Context, p place, name string, c call) answer {
	a := r.at(ctx, p, c)
	r.mustRefuse(KindObject, p.name, name, a)
	return a
}

// tryKnown makes an attempt on what is there. Where that is not known, a denial
// says nothing and is not counted: S3 also denies what is not there to whoever
// may not list it.
func (r *run) tryKnown(ctx context.Context, p place, name string, c call) {
	r.known(p, name, r.at(ctx, p, c))
}

func (r *run) known(p place, name string, a answer) {
	if p.known || !a.denied() {
		r.mustRefuse(KindObject, p.name, name, a)
	}
}

func (r *run) at(ctx context.Context, p place, c call) answer {
	c.bucket, c.path = p.bucket, escapeKey(p.key)
	return r.s3(ctx, c)
}

func (r *run) reads(ctx context.Context, p place) {
	for _, try := range []struct {
		name string
		call call
	}{
		{"GetObject", call{method: http.MethodGet}},
		{"GetObject, a range", call{method: http.MethodGet, header: []string{"Range", "bytes=0-0"}}},
		{"GetObject, presigned", call{method: http.MethodGet, sign: presigned}},
		{"GetObject, a version", call{method: http.MethodGet, query: "versionId=null"}},
		{"HeadObject", call{method: http.MethodHead}},
		{"GetObjectTagging", call{method: http.MethodGet, query: "tagging="}},
		{"GetObjectAcl", call{method: http.MethodGet, query: "acl="}},
		{"GetObjectAttributes", call{method: http.MethodGet, query: "attributes=", header: []string{"X-Amz-Object-Attributes", "ETag"}}},
	} {
		r.tryKnown(ctx, p, try.name, try.call)
	}
}

// copies tries to bring the object into the scope.
func (r *run) copies(ctx context.Context, p place) {
	bucket, own := r.Scope.Bucket.String(), escapeKey(r.own())
	from := []string{"X-Amz-Copy-Source", "/" + p.bucket + "/" + escapeKey(p.key)}
	if !r.Scope.Path.IsObject() { // whose object would be lost
		a := r.s3(ctx, call{method: http.MethodPut, bucket: bucket, path: own, header: from})
		r.known(p, "CopyObject from there", a)
		r.note(bucket, own, a)
	}
	r.known(p, "UploadPartCopy from there", r.s3(ctx, call{
		method: http.MethodPut, bucket: bucket, path: own, query: "partNumber=1&uploadId=" + url.QueryEscape(r.copyInto(ctx)), header: from,
	}))
}

// copyInto returns an upload inside: one that was begun, so that it is the source
// that is refused and not the upload, or one that nobody has.
func (r *run) copyInto(ctx context.Context) string {
	if r.upload == "" {
		r.upload = madeUpUpload
		if r.Scope.Access.Has(policy.Write) && !r.Scope.Path.IsObject() {
			if id := r.begin(ctx, r.Scope.Bucket.String(), r.own()).upload; id != "" {
				r.upload = id
			}
		}
	}
	return r.upload
}

func (r *run) writes(ctx context.Context, p place) {
	write := func(name string, c call) { r.note(p.bucket, escapeKey(p.key), r.try(ctx, p, name, c)) }
	write("PutObject", call{method: http.MethodPut, body: "x"})
	write("PutObject, presigned", call{method: http.MethodPut, body: "x", sign: presigned})
	write("CopyObject to there", call{
		method: http.MethodPut, header: []string{"X-Amz-Copy-Source", "/" + r.Scope.Bucket.String() + "/" + escapeKey(r.own())},
	})
	r.mustRefuse(KindObject, p.name, "CreateMultipartUpload", r.begin(ctx, p.bucket, p.key).answer)
	r.tryKnown(ctx, p, "PutObjectTagging", call{method: http.MethodPut, query: "tagging=", body: tagging, header: contentMD5(tagging)})
	r.tryKnown(ctx, p, "PutObjectAcl", call{method: http.MethodPut, query: "acl=", header: []string{"X-Amz-Acl", "private"}})
	r.tryKnown(ctx, p, "DeleteObjectTagging", call{method: http.MethodDelete, query: "tagging="})
	r.try(ctx, p, "DeleteObject", call{method: http.MethodDelete})
	r.multiDelete(ctx, p)
}

// begun is the answer to the beginning of an upload.
type begun struct {
	answer
	upload string // its id; empty: none was begun
}

// begin begins an upload, and remembers it.
func (r *run) begin(ctx context.Context, bucket, key string) begun {
	a := r.s3(ctx, call{method: http.MethodPost, bucket: bucket, path: escapeKey(key), query: "uploads="})
	var doc struct {
		UploadID string `xml:"UploadId"`
	}
	_ = xml.Unmarshal([]byte(a.body), &doc) // what is none has no id
	if doc.UploadID != "" {
		r.remember(written{bucket: bucket, path: escapeKey(key), upload: doc.UploadID}, true)
	}
	return begun{a, doc.UploadID}
}

// multiDelete is answered with 200 whatever comes of it; the document tells.
func (r *run) multiDelete(ctx context.Context, p place) {
	body := deletion(p.key)
	a := r.s3(ctx, call{method: http.MethodPost, bucket: p.bucket, query: "delete=", body: body, header: contentMD5(body)})
	if a.status == http.StatusOK && strings.Contains(a.body, "<Code>AccessDenied</Code>") && !strings.Contains(a.body, "<Deleted>") {
		a = answer{status: http.StatusForbidden, code: "AccessDenied"}
	}
	r.mustRefuse(KindObject, p.name, "DeleteObjects", a)
}
