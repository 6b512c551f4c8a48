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

// Leftovers returns the objects in the scope that a run, this or an earlier one,
// has left there. It needs the right to list.
func Leftovers(ctx context.Context, t Target) ([]string, error) {
	r, err := newRun(t)
	if err != nil {
		return nil, err
	}
	a := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: "list-type=2&prefix=" + url.QueryEscape(r.Scope.Prefix.String()+mark)})
	var list struct{ Contents []struct{ Key string } }
	if err := xml.Unmarshal([]byte(a.body), &list); !a.done() || err != nil {
		return nil, fmt.Errorf("list what is left: %s", a)
	}
	var keys []string
	for _, c := range list.Contents {
		keys = append(keys, c.Key)
	}
	return keys, nil
}

// Put writes an object with a session that may: for seeding.
func Put(ctx context.Context, t Target, v Victim) error {
	a := t.run().s3(ctx, call{method: http.MethodPut, bucket: v.Bucket, path: escapeKey(v.Key), body: v.Text})
	if !a.done() {
		return fmt.Errorf("put %s/%s: %s", v.Bucket, v.Key, a)
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
// policy. Where STS refuses, the session is empty, and the text says how. An
// error means that STS did not answer.
func Assume(ctx context.Context, t Target, role string, token broker.Secret) (Session, string, error) {
	a := t.run().sts(ctx, url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "RoleArn": {role}, "RoleSessionName": {"credential-broker-doctor"}, "DurationSeconds": {"900"},
		"WebIdentityToken": {reveal(token)},
	}, unsigned)
	if a.err != nil || a.status/100 == 5 {
		return Session{}, "", fmt.Errorf("AssumeRoleWithWebIdentity: %s", a)
	}
	if !a.done() {
		return Session{}, a.String(), nil
	}
	var c struct {
		ID     string `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
		Secret string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
		Token  string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
	}
	if err := xml.Unmarshal([]byte(a.body), &c); err != nil || c.ID == "" {
		return Session{}, "", fmt.Errorf("AssumeRoleWithWebIdentity: an answer without credentials: %s", a)
	}
	return Session{AccessKeyID: c.ID, SecretAccessKey: broker.NewSecret(c.Secret), SessionToken: broker.NewSecret(c.Token)}, a.String(), nil
}

// must records what has to work when the scope has the right, and to be refused
// when it has not.
func (r *run) must(right policy.Access, name string, a answer) {
	c := Check{Name: name, Place: "inside", Detail: a.String()}
	switch {
	case r.Scope.Access.Has(right) && a.done(), !r.Scope.Access.Has(right) && a.refused():
		c.Verdict = Held
	case a.status/100 == 4 || a.done():
		c.Verdict = Failed
	}
	if !r.Scope.Access.Has(right) {
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
		written = a.done()
	}
	r.upload(ctx, key, written)
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

// read reads what was written, or what is there, or shows that it may not.
func (r *run) read(ctx context.Context, object func(call) answer, written bool) {
	get := call{method: http.MethodGet}
	if written || !r.Scope.Access.Has(policy.Read) {
		r.must(policy.Read, "GetObject", object(get))
		r.must(policy.Read, "HeadObject", object(call{method: http.MethodHead}))
		return
	}
	key := r.Object
	if key == "" && r.Scope.Access.Has(policy.List) {
		key = r.firstKey(ctx)
	}
	if key == "" {
		a := object(get)
		switch a.status {
		case http.StatusNotFound: // it was looked for
			a.status = http.StatusOK
		case http.StatusForbidden: // so S3 says of what is not there to whoever may not list
			a = answer{err: errors.New("no object is known that could be read")}
		}
		r.must(policy.Read, "GetObject", a)
		return
	}
	a := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), path: escapeKey(key), header: []string{"Range", "bytes=0-0"}})
	if a.status == http.StatusRequestedRangeNotSatisfiable { // an empty object
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

// upload begins an upload, adds a part, and completes it where what comes of it
// can be removed; otherwise it aborts it.
func (r *run) upload(ctx context.Context, key string, complete bool) {
	at := func(method, query, body string) answer {
		return r.s3(ctx, call{method: method, bucket: r.Scope.Bucket.String(), path: key, query: query, body: body})
	}
	a := at(http.MethodPost, "uploads=", "")
	r.must(policy.Write, "CreateMultipartUpload", a)
	id := url.QueryEscape(uploadID(a))
	if id == "" {
		return
	}
	req := r.part(ctx, key, id)
	r.must(policy.Write, "UploadPart", req.answer)
	r.must(policy.Write, "ListParts", at(http.MethodGet, "uploadId="+id, ""))
	if complete && req.done() {
		r.must(policy.Write, "CompleteMultipartUpload", at(http.MethodPost, "uploadId="+id,
			`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>`+req.etag+`</ETag></Part></CompleteMultipartUpload>`))
		a = at(http.MethodPost, "uploads=", "")
		if id = url.QueryEscape(uploadID(a)); id == "" {
			return
		}
	}
	r.must(policy.Write, "AbortMultipartUpload", at(http.MethodDelete, "uploadId="+id, ""))
}

// part adds one part. Its ETag is that of its content: S3's own, or, where the
// bucket is encrypted with a key, one that only ListParts tells.
func (r *run) part(ctx context.Context, key, id string) (p struct {
	answer
	etag string
}) {
	p.answer = r.s3(ctx, call{method: http.MethodPut, bucket: r.Scope.Bucket.String(), path: key, query: "partNumber=1&uploadId=" + id, body: strings.Repeat("x", 16)})
	parts := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), path: key, query: "uploadId=" + id})
	var list struct{ Part []struct{ ETag string } }
	if xml.Unmarshal([]byte(parts.body), &list) == nil && len(list.Part) == 1 {
		p.etag = list.Part[0].ETag
	}
	return p
}
