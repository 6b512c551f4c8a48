package escape

import (
	"context"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"credential-broker/policy"
)

const (
	madeUpUpload = "2~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" // no server has it; whoever may not ask is not told so
	tagging      = `<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>`
)

// mustRefuse records an attempt that is held by nothing but a refusal.
func (r *run) mustRefuse(p place, name string, a answer) {
	c := Check{Name: name, Place: p.name, Detail: a.String()}
	switch {
	case a.refused():
		c.Verdict = Held
	case a.done() || a.status == http.StatusNotFound:
		c.Verdict = Failed
	}
	r.checks = append(r.checks, c)
}

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
	key := escapeKey(p.key)
	try := func(name string, c call) answer {
		c.bucket = p.bucket
		if c.path == "" {
			c.path = key
		}
		a := r.s3(ctx, c)
		r.mustRefuse(p, name, a)
		return a
	}
	from := []string{"X-Amz-Copy-Source", "/" + p.bucket + "/" + key}
	try("GetObject", call{method: http.MethodGet})
	try("GetObject, a range", call{method: http.MethodGet, header: []string{"Range", "bytes=0-0"}})
	try("GetObject, presigned", call{method: http.MethodGet, sign: presigned})
	try("GetObject, a version", call{method: http.MethodGet, query: "versionId=null"})
	try("HeadObject", call{method: http.MethodHead})
	try("GetObjectTagging", call{method: http.MethodGet, query: "tagging="})
	try("GetObjectAcl", call{method: http.MethodGet, query: "acl="})
	try("GetObjectAttributes", call{method: http.MethodGet, query: "attributes=", header: []string{"X-Amz-Object-Attributes", "ETag"}})
	try("ListParts", call{method: http.MethodGet, query: "uploadId=" + madeUpUpload})
	if !r.Scope.Path.IsObject() { // whose object would be lost
		a := r.s3(ctx, call{method: http.MethodPut, bucket: r.Scope.Bucket.String(), path: escapeKey(r.own()), header: from})
		r.mustRefuse(p, "CopyObject from there", a)
		if a.done() {
			r.wrote = append(r.wrote, place{bucket: r.Scope.Bucket.String(), key: r.own()})
		}
	}
	r.mustRefuse(p, "UploadPartCopy from there", r.s3(ctx, call{
		method: http.MethodPut, bucket: r.Scope.Bucket.String(), path: escapeKey(r.own()), query: "partNumber=1&uploadId=" + madeUpUpload, header: from,
	}))
	wrote := false
	write := func(name string, c call) { wrote = try(name, c).done() || wrote }
	if !p.precious {
		write("PutObject", call{method: http.MethodPut, body: "x"})
		write("PutObject, presigned", call{method: http.MethodPut, body: "x", sign: presigned})
		write("CopyObject to there", call{
			method: http.MethodPut, header: []string{"X-Amz-Copy-Source", "/" + r.Scope.Bucket.String() + "/" + escapeKey(r.own())},
		})
		r.begin(ctx, p)
		try("PutObjectTagging", call{method: http.MethodPut, query: "tagging=", body: tagging, header: contentMD5(tagging)})
		try("PutObjectAcl", call{method: http.MethodPut, query: "acl=", header: []string{"X-Amz-Acl", "private"}})
		try("DeleteObjectTagging", call{method: http.MethodDelete, query: "tagging="})
		try("DeleteObject", call{method: http.MethodDelete})
		r.multiDelete(ctx, p)
	}
	try("UploadPart", call{method: http.MethodPut, query: "partNumber=1&uploadId=" + madeUpUpload, body: "x"})
	try("CompleteMultipartUpload", call{
		method: http.MethodPost, query: "uploadId=" + madeUpUpload,
		body: `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`,
	})
	try("AbortMultipartUpload", call{method: http.MethodDelete, query: "uploadId=" + madeUpUpload})
	if wrote {
		r.wrote = append(r.wrote, p)
	}
}

// begin tries to begin an upload outside, and ends it where that worked.
func (r *run) begin(ctx context.Context, p place) {
	a := r.s3(ctx, call{method: http.MethodPost, bucket: p.bucket, path: escapeKey(p.key), query: "uploads="})
	r.mustRefuse(p, "CreateMultipartUpload", a)
	if id := uploadID(a); id != "" {
		r.s3(ctx, call{method: http.MethodDelete, bucket: p.bucket, path: escapeKey(p.key), query: "uploadId=" + url.QueryEscape(id)})
	}
}

func uploadID(a answer) string {
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	_ = xml.Unmarshal([]byte(a.body), &begun) // what is none has no id
	return begun.UploadID
}

// multiDelete is answered with 200 whatever comes of it; the document tells.
func (r *run) multiDelete(ctx context.Context, p place) {
	body := deletion(p.key)
	a := r.s3(ctx, call{method: http.MethodPost, bucket: p.bucket, query: "delete=", body: body, header: contentMD5(body)})
	if a.status == http.StatusOK && strings.Contains(a.body, "<Code>AccessDenied</Code>") && !strings.Contains(a.body, "<Deleted>") {
		a = answer{status: http.StatusForbidden, code: "AccessDenied"}
	}
	r.mustRefuse(p, "DeleteObjects", a)
}

// listings tries every way of seeing names outside.
func (r *run) listings(ctx context.Context, places []place) {
	own := url.QueryEscape(r.Scope.Key())
	base := strings.TrimSuffix(r.Scope.Key(), "/")
	parent := base[:strings.LastIndexByte(base, '/')+1]
	prefixes := []string{"", "/", base, parent, strings.TrimSuffix(parent, "/")}
	for _, p := range places {
		if p.bucket == r.Scope.Bucket.String() {
			prefixes = append(prefixes, p.key[:strings.LastIndexByte(p.key, '/')+1])
		}
	}
	slices.Sort(prefixes)
	prefixes = slices.DeleteFunc(slices.Compact(prefixes), func(p string) bool { return r.Scope.Access.Has(policy.List) && r.within(p) })
	queries := map[string]string{"no prefix": "list-type=2", "no prefix, version 1": "", "no prefix, all versions": "versions=", "uploads": "uploads="}
	for _, p := range prefixes {
		escaped := url.QueryEscape(p)
		queries["prefix "+p] = "list-type=2&prefix=" + escaped
		queries["prefix "+p+", version 1"] = "prefix=" + escaped
		queries["prefix "+p+", folders"] = "delimiter=%2F&list-type=2&prefix=" + escaped
		queries["versions of "+p] = "versions=&prefix=" + escaped
		queries["uploads of "+p] = "uploads=&prefix=" + escaped
	}
	queries["versions of the scope"] = "versions=&prefix=" + own // a right that no scope has
	queries["uploads of the scope"] = "uploads=&prefix=" + own
	for _, name := range sortedKeys(queries) {
		r.mustRefuse(place{}, "list: "+name, r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: queries[name]}))
	}
	r.mixedListings(ctx, own, prefixes)
}

// mixedListings name the scope where a server looks for the permission, and
// another prefix where it might look for what to list. They may be answered; what
// they may not do is to show a name from outside.
func (r *run) mixedListings(ctx context.Context, own string, prefixes []string) {
	try := func(name string, query string, header ...string) {
		a := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: query, header: header})
		if a.done() && !r.showsOutside(a.body) {
			a = answer{status: http.StatusForbidden, code: "nothing from outside"}
		}
		r.mustRefuse(place{}, "list: "+name, a)
	}
	key := r.Scope.Key()
	try("only a capital Prefix", "Prefix="+own+"&list-type=2")
	try("only a header Prefix", "list-type=2", "Prefix", key)
	for _, p := range prefixes {
		other := url.QueryEscape(p)
		try("prefix twice, "+p, "list-type=2&prefix="+own+"&prefix="+other)
		try("prefix twice, own last, "+p, "list-type=2&prefix="+other+"&prefix="+own)
		try("a capital Prefix, "+p, "Prefix="+own+"&list-type=2&prefix="+other)
		try("a capital Prefix of another, "+p, "Prefix="+other+"&list-type=2&prefix="+own)
		try("a header Prefix, "+p, "list-type=2&prefix="+other, "Prefix", key)
		try("a header X-Amz-Prefix, "+p, "list-type=2&prefix="+other, "X-Amz-Prefix", key)
	}
}

// showsOutside reports whether a listing is for, or has names from, outside.
func (r *run) showsOutside(body string) bool {
	var list struct {
		Prefix         string
		Contents       []struct{ Key string }
		CommonPrefixes []struct{ Prefix string }
	}
	if err := xml.Unmarshal([]byte(body), &list); err != nil || !r.Scope.Access.Has(policy.List) {
		return true // not a listing, or one that nobody may see
	}
	outside := !r.within(list.Prefix)
	for _, c := range list.Contents {
		outside = outside || !r.within(c.Key)
	}
	for _, c := range list.CommonPrefixes {
		outside = outside || !r.within(c.Prefix)
	}
	return outside
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// buckets tries to learn of the bucket, and of other buckets.
func (r *run) buckets(ctx context.Context) {
	for _, sub := range []string{"policy", "acl", "cors", "lifecycle", "versioning", "encryption", "tagging", "notification", "logging", "website", "publicAccessBlock", "ownershipControls"} {
		r.mustRefuse(place{}, "bucket: "+sub, r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: sub + "="}))
	}
	r.mustRefuse(place{}, "bucket: HeadBucket", r.s3(ctx, call{method: http.MethodHead, bucket: r.Scope.Bucket.String()}))
	r.mustRefuse(place{}, "ListBuckets", r.s3(ctx, call{method: http.MethodGet}))
}

// paths are ways to write a path that one reader takes for another's. A server
// may refuse them, or take them to the letter; what it may not do is to follow
// them. Only an object that is known shows the difference.
func (r *run) paths(ctx context.Context) {
	own := escapeKey(strings.TrimSuffix(r.Scope.Key(), "/"))
	for _, v := range r.Victims {
		if v.Bucket != r.Scope.Bucket.String() || v.Text == "" {
			continue
		}
		up := strings.Repeat("../", strings.Count(r.Scope.Key(), "/"))
		key := escapeKey(v.Key)
		for name, path := range map[string]string{
			"dot segments":                  own + "/" + up + key,
			"encoded dots":                  own + "/" + strings.ReplaceAll(up, "..", "%2E%2E") + key,
			"encoded dots and slashes":      own + "/" + strings.ReplaceAll(up, "../", "%2E%2E%2F") + strings.ReplaceAll(key, "/", "%2F"),
			"encoded slashes":               own + "/" + strings.ReplaceAll(up+key, "/", "%2F"),
			"dots encoded twice":            own + "/" + strings.ReplaceAll(up, "..", "%252E%252E") + key,
			"a doubled slash":               own + "//" + up + key,
			"a doubled slash in front":      "/" + key,
			"backslashes":                   own + "/" + strings.ReplaceAll(up, "../", "..%5C") + key,
			"a single dot in front":         "./" + key,
			"a question mark, encoded":      own + "%3F/" + up + key,
			"a NUL":                         own + "/%00/" + up + key,
			"a semicolon":                   own + "/;/" + up + key,
			"the victim's path in a header": own + "/" + r.id,
		} {
			header := []string(nil)
			if name == "the victim's path in a header" {
				header = []string{"X-Original-Url", "/" + v.Bucket + "/" + key, "X-Rewrite-Url", "/" + v.Bucket + "/" + key}
			}
			a := r.s3(ctx, call{method: http.MethodGet, bucket: v.Bucket, path: path, header: header})
			c := Check{Name: "path: " + name, Place: "another's object", Verdict: Held, Detail: a.String()}
			switch {
			case a.err != nil || a.status/100 == 5 && a.status != http.StatusNotImplemented:
				c.Verdict = Unclear
			case strings.Contains(a.body, v.Text):
				c.Verdict = Failed
			}
			r.checks = append(r.checks, c)
			if v.Expendable { // followed or not, the victim's words tell afterwards
				r.s3(ctx, call{method: http.MethodPut, bucket: v.Bucket, path: path, header: header, body: "not " + mark})
				r.s3(ctx, call{method: http.MethodDelete, bucket: v.Bucket, path: path, header: header})
			}
		}
	}
}

// tokens tries credentials that are not whole, or mixed.
func (r *run) tokens(ctx context.Context) {
	sessions := r.Session.broken()
	if r.Other != nil {
		maps.Copy(sessions, r.Session.mixed(*r.Other))
	}
	for name, s := range sessions {
		// Inside, so that nothing else refuses it.
		a := r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: "list-type=2&prefix=" + url.QueryEscape(r.Scope.Key()), sign: as(s)})
		r.mustRefuse(place{}, "credentials: "+name, a)
		a = r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), path: escapeKey(r.own()), sign: as(s)})
		r.mustRefuse(place{}, "credentials: "+name+", an object", a)
	}
}

// chaining tries to make other credentials of these.
func (r *run) chaining(ctx context.Context) {
	role := r.roleARN(ctx)
	for name, form := range map[string]url.Values{
		"AssumeRole":         {"Action": {"AssumeRole"}, "RoleArn": {role}, "RoleSessionName": {"escape"}},
		"GetSessionToken":    {"Action": {"GetSessionToken"}},
		"GetFederationToken": {"Action": {"GetFederationToken"}, "Name": {"escape"}},
	} {
		r.mustRefuse(place{}, "STS: "+name, r.sts(ctx, form, nil))
	}
}

// roleARN finds the role as anybody can who has the credentials.
func (r *run) roleARN(ctx context.Context) string {
	arn, err := r.caller(ctx)
	fields := strings.Split(arn, ":")
	if err != nil || len(fields) != 6 {
		return "arn:aws:iam::123456789012:role/unknown"
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(fields[5], "assumed-role/"), "/")
	return "arn:" + fields[1] + ":iam::" + fields[4] + ":role/" + name
}

// takeBack removes what was written where the walls did not hold.
func (r *run) takeBack(ctx context.Context) {
	for _, p := range r.wrote {
		r.s3(ctx, call{method: http.MethodDelete, bucket: p.bucket, path: escapeKey(p.key)})
	}
}
