package escape

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"credential-broker/broker"
	"credential-broker/policy"
)

// Caller asks STS whose the session is, and returns the ARN.
func Caller(ctx context.Context, t Target) (string, error) {
	r, err := newRun(t)
	if err != nil {
		return "", err
	}
	return r.caller(ctx)
}

func (r *run) caller(ctx context.Context) (string, error) {
	a := r.sts(ctx, url.Values{"Action": {"GetCallerIdentity"}}, nil)
	var who struct {
		Result struct{ Arn string } `xml:"GetCallerIdentityResult"`
	}
	if err := xml.Unmarshal([]byte(a.body), &who); !a.done() || err != nil || who.Result.Arn == "" {
		return "", fmt.Errorf("GetCallerIdentity: %s", a)
	}
	return who.Result.Arn, nil
}

// ErrRefused says that the server did not do it.
var ErrRefused = errors.New("refused")

// Put writes an object with a session that may: for seeding. The error is
// ErrRefused where nothing was written; with another, something may have been.
func Put(ctx context.Context, t Target, v Victim) error {
	a := t.run().s3(ctx, call{method: http.MethodPut, bucket: v.Bucket, path: escapeKey(v.Key), body: v.Text})
	if a.status/100 == 4 {
		return fmt.Errorf("put %s/%s: %w: %s", v.Bucket, v.Key, ErrRefused, a)
	}
	if !a.done() {
		return fmt.Errorf("put %s/%s: %s", v.Bucket, v.Key, a)
	}
	return nil
}

// Remove removes an object with a session that may, also after ctx has ended. An
// object that is not there is removed.
func Remove(ctx context.Context, t Target, bucket, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	a := t.run().s3(ctx, call{method: http.MethodDelete, bucket: bucket, path: escapeKey(key)})
	if !a.done() && a.status != http.StatusNotFound {
		return fmt.Errorf("remove %s/%s: %s", bucket, key, a)
	}
	return nil
}

// Get reads an object with a session that may.
func Get(ctx context.Context, t Target, bucket, key string) (string, error) {
	a := t.run().s3(ctx, call{method: http.MethodGet, bucket: bucket, path: escapeKey(key)})
	if !a.done() {
		return "", fmt.Errorf("get %s/%s: %s", bucket, key, a)
	}
	return a.body, nil
}

// Assume calls AssumeRoleWithWebIdentity as anybody can, without a session
// policy. Where STS denies it, the session is empty, and the text says how. Every
// other answer is an error: it says nothing of what STS would do at another time.
func Assume(ctx context.Context, t Target, role, name string, token broker.Secret) (Session, string, error) {
	a := t.run().sts(ctx, url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "RoleArn": {role}, "RoleSessionName": {name}, "DurationSeconds": {"900"},
		"WebIdentityToken": {reveal(token)},
	}, unsigned)
	noKeys := strings.Contains(a.body, "verification key") // it could not look, and will again
	if a.status/100 == 4 && (a.code == "AccessDenied" || a.code == "InvalidIdentityToken" && !noKeys) {
		return Session{}, a.String(), nil
	}
	var c struct {
		ID     string `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
		Secret string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
		Token  string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
	}
	if err := xml.Unmarshal([]byte(a.body), &c); !a.done() || err != nil || c.ID == "" {
		return Session{}, "", fmt.Errorf("AssumeRoleWithWebIdentity: neither credentials nor a denial: %s", a)
	}
	return Session{AccessKeyID: c.ID, SecretAccessKey: broker.NewSecret(c.Secret), SessionToken: broker.NewSecret(c.Token)}, a.String(), nil
}

// must records what has to work when the scope has the right, and to be denied
// when it has not.
func (r *run) must(right policy.Access, name string, a answer) {
	given := r.Scope.Access.Has(right)
	c := Check{Kind: KindInside, Name: name, Place: "inside", Detail: a.String()}
	switch {
	case given && a.done(), !given && a.denied():
		c.Verdict = Held
	case given && a.status/100 == 4, !given && (a.done() || a.status == http.StatusNotFound):
		c.Verdict = Failed
	}
	if !given {
		c.Name += ", which is not given"
	}
	r.checks = append(r.checks, c)
}

// inside uses each right. Where what was written could not be removed again, an
// upload is begun and aborted in its place: it needs the same right.
func (r *run) inside(ctx context.Context) {
	access, bucket, key := r.Scope.Access, r.Scope.Bucket.String(), escapeKey(r.own())
	object := func(c call) answer {
		c.bucket, c.path = bucket, key
		return r.s3(ctx, c)
	}
	// One object that is a scope of its own may be somebody's: it is not written to.
	scratch := !r.Scope.Path.IsObject()
	written := false
	if scratch && (!access.Has(policy.Write) || access.Has(policy.Delete)) {
		a := object(call{method: http.MethodPut, body: "x"})
		r.must(policy.Write, "PutObject", a)
		r.note(bucket, key, a)
		written = a.done()
	}
	r.multipart(ctx, r.own(), written)
	r.read(ctx, object, written)
	list := func(name, query string) {
		r.must(policy.List, name, r.s3(ctx, call{method: http.MethodGet, bucket: bucket, query: query + "&prefix=" + url.QueryEscape(r.Scope.Key())}))
	}
	list("ListObjectsV2", "list-type=2")
	list("ListObjects", "max-keys=1")
	if scratch {
		r.must(policy.Delete, "DeleteObject", object(call{method: http.MethodDelete}))
	}
}

// read reads what was written, or what is there, or shows that it may not. Where
// nothing is known to be there, a denial says nothing: S3 also denies what is not
// there to whoever may not list it.
func (r *run) read(ctx context.Context, object func(call) answer, written bool) {
	given := r.Scope.Access.Has(policy.Read)
	if written {
		r.must(policy.Read, "GetObject", object(call{method: http.MethodGet}))
		r.must(policy.Read, "HeadObject", object(call{method: http.MethodHead}))
		return
	}
	key := r.Object
	if key == "" && r.Scope.Access.Has(policy.List) {
		key = r.firstKey(ctx)
	}
	if key == "" {
		a := object(call{method: http.MethodGet})
		if given && a.status == http.StatusNotFound { // it was looked for
			a.status = http.StatusOK
		}
		if a.denied() {
			a = answer{err: errors.New("no object is known that could be read")}
		}
		if given || a.err == nil {
			r.must(policy.Read, "GetObject", a)
		}
		return
	}
	a := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), path: escapeKey(key), header: []string{"Range", "bytes=0-0"}})
	if given && a.status == http.StatusRequestedRangeNotSatisfiable { // an empty object
		a.status = http.StatusOK
	}
	r.must(policy.Read, "GetObject", a)
}

// firstKey returns the name of some object of the scope.
func (r *run) firstKey(ctx context.Context) string {
	a := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: "list-type=2&max-keys=1&prefix=" + url.QueryEscape(r.Scope.Key())})
	var list struct{ Contents []struct{ Key string } }
	if err := xml.Unmarshal([]byte(a.body), &list); err != nil || len(list.Contents) == 0 {
		return ""
	}
	return list.Contents[0].Key
}

// multipart begins an upload, adds a part, and completes it where what comes of
// it can be removed; otherwise it aborts it.
func (r *run) multipart(ctx context.Context, key string, complete bool) {
	bucket, path := r.Scope.Bucket.String(), escapeKey(key)
	at := func(method, query, body string) answer {
		return r.s3(ctx, call{method: method, bucket: bucket, path: path, query: query, body: body})
	}
	up := r.begin(ctx, bucket, key)
	r.must(policy.Write, "CreateMultipartUpload", up.answer)
	if up.upload == "" {
		return
	}
	id := url.QueryEscape(up.upload)
	part := at(http.MethodPut, "partNumber=1&uploadId="+id, strings.Repeat("x", 16))
	r.must(policy.Write, "UploadPart", part)
	parts := at(http.MethodGet, "uploadId="+id, "")
	r.must(policy.Write, "ListParts", parts)
	if complete && part.done() {
		a := at(http.MethodPost, "uploadId="+id,
			`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>`+etag(parts)+`</ETag></Part></CompleteMultipartUpload>`)
		r.must(policy.Write, "CompleteMultipartUpload", a)
		r.note(bucket, path, a)
		if id = url.QueryEscape(r.begin(ctx, bucket, key).upload); id == "" {
			return
		}
	}
	r.must(policy.Write, "AbortMultipartUpload", at(http.MethodDelete, "uploadId="+id, ""))
}

// etag reads the ETag of the one part: S3's own, or, where the bucket is encrypted
// with a key, one that only ListParts tells.
func etag(parts answer) string {
	var list struct{ Part []struct{ ETag string } }
	if xml.Unmarshal([]byte(parts.body), &list) != nil || len(list.Part) != 1 {
		return ""
	}
	return list.Part[0].ETag
}
