package escape

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"credential-broker/policy"
)

// buckets tries to learn of the bucket, and of other buckets.
func (r *run) buckets(ctx context.Context) {
	for _, sub := range []string{"policy", "acl", "cors", "lifecycle", "versioning", "encryption", "tagging", "notification", "logging", "website", "publicAccessBlock", "ownershipControls"} {
		r.mustRefuse(KindBucket, "the bucket", "its "+sub, r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), query: sub + "="}))
	}
	r.mustRefuse(KindBucket, "the bucket", "HeadBucket", r.s3(ctx, call{method: http.MethodHead, bucket: r.Scope.Bucket.String()}))
	r.mustRefuse(KindBucket, "the account", "ListBuckets", r.s3(ctx, call{method: http.MethodGet}))
}

// paths are ways to write a path that one reader takes for another's. A server
// may refuse them, or take them to the letter; what it may not do is to follow
// them. Only an object that is known shows the difference.
func (r *run) paths(ctx context.Context) {
	own := escapeKey(strings.TrimSuffix(r.Scope.Key(), "/"))
	// To the letter, some are keys inside.
	removable := r.Scope.Access.Has(policy.Delete) || !r.Scope.Access.Has(policy.Write)
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
			c := Check{Kind: KindPath, Name: name, Place: "another's object", Detail: a.String()}
			switch {
			case strings.Contains(a.body, v.Text):
				c.Verdict = Failed
			case a.done(), a.status/100 == 3, a.status == http.StatusNotFound, a.unlike():
				c.Verdict = Held
			}
			r.checks = append(r.checks, c)
			if v.Expendable && removable { // followed or not, the victim's words tell afterwards
				r.note(v.Bucket, path, r.s3(ctx, call{method: http.MethodPut, bucket: v.Bucket, path: path, header: header, body: "not " + mark}))
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
		r.judge(KindCredentials, "a listing", name, a, a.unproven())
		a = r.s3(ctx, call{method: http.MethodGet, bucket: r.Scope.Bucket.String(), path: escapeKey(r.own()), sign: as(s)})
		r.judge(KindCredentials, "an object", name, a, a.unproven())
	}
}

// chaining tries to make other credentials of these. Of a role that is not there
// a refusal would say nothing; the session's own is there.
func (r *run) chaining(ctx context.Context) {
	forms := map[string]url.Values{
		"GetSessionToken":    {"Action": {"GetSessionToken"}},
		"GetFederationToken": {"Action": {"GetFederationToken"}, "Name": {"escape"}},
	}
	if r.Role != "" {
		forms["AssumeRole"] = url.Values{"Action": {"AssumeRole"}, "RoleArn": {r.Role}, "RoleSessionName": {"escape"}}
	}
	// Where the session's signature is known to be good, "the signature does not
	// match" means that the server takes the action for another service's: it has
	// no such one.
	known := r.sts(ctx, url.Values{"Action": {"GetCallerIdentity"}}, nil).done()
	for name, form := range forms {
		a := r.sts(ctx, form, nil)
		r.judge(KindSTS, "STS", name, a, a.denied() || known && a.code == "SignatureDoesNotMatch")
	}
}

// alive shows that the session works, so that it is not for its own sake that
// what follows, or what came before, was refused.
func (r *run) alive(ctx context.Context, when string) {
	bucket := r.Scope.Bucket.String()
	var a answer
	switch access := r.Scope.Access; {
	case access.Has(policy.List):
		a = r.s3(ctx, call{method: http.MethodGet, bucket: bucket, query: "list-type=2&max-keys=1&prefix=" + url.QueryEscape(r.Scope.Key())})
	case access.Has(policy.Write) && !r.Scope.Path.IsObject():
		a = r.begin(ctx, bucket, r.own()).answer
	case access.Has(policy.Delete) && !r.Scope.Path.IsObject(): // of what is not there: done, too
		a = r.s3(ctx, call{method: http.MethodDelete, bucket: bucket, path: escapeKey(r.own())})
	case access.Has(policy.Read) && r.Object != "":
		a = r.s3(ctx, call{method: http.MethodHead, bucket: bucket, path: escapeKey(r.Object)})
	default:
		a = r.sts(ctx, url.Values{"Action": {"GetCallerIdentity"}}, nil)
	}
	c := Check{Kind: KindAlive, Place: "inside", Name: "the session works " + when, Detail: a.String()}
	if a.done() {
		c.Verdict = Held
	}
	r.checks = append(r.checks, c)
}
