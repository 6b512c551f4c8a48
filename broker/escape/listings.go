package escape

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"credential-broker/policy"
)

// prefix is one to list under.
type prefix struct{ name, bucket, text string }

// prefixes are those that the session may not list, by the places where they
// are; "no prefix" has its own queries.
func (r *run) prefixes(places []place) []prefix {
	bucket := r.Scope.Bucket.String()
	base, parent := r.base()
	all := []prefix{
		{"an empty prefix", bucket, ""}, {"a slash", bucket, "/"}, {"the prefix without its slash", bucket, base},
		{"the parent", bucket, parent}, {"the parent without its slash", bucket, strings.TrimSuffix(parent, "/")},
	}
	for _, p := range places {
		all = append(all, prefix{p.name, p.bucket, p.folder()})
	}
	seen := map[prefix]bool{}
	return slices.DeleteFunc(all, func(p prefix) bool {
		key := prefix{"", p.bucket, p.text}
		twice := seen[key]
		seen[key] = true
		return twice || p.bucket == bucket && r.mayList(p.text)
	})
}

// listings tries every way of seeing names outside.
func (r *run) listings(ctx context.Context, places []place) {
	list := func(place, name, bucket, query string) {
		r.mustRefuse(KindListing, place, name, r.s3(ctx, call{method: http.MethodGet, bucket: bucket, query: query}))
	}
	prefixes := r.prefixes(places)
	buckets := []string{r.Scope.Bucket.String()}
	for _, p := range prefixes {
		escaped := url.QueryEscape(p.text)
		list(p.name, "ListObjectsV2", p.bucket, "list-type=2&prefix="+escaped)
		list(p.name, "ListObjects", p.bucket, "prefix="+escaped)
		list(p.name, "ListObjectsV2, folders", p.bucket, "delimiter=%2F&list-type=2&prefix="+escaped)
		list(p.name, "ListObjectVersions", p.bucket, "versions=&prefix="+escaped)
		list(p.name, "ListMultipartUploads", p.bucket, "uploads=&prefix="+escaped)
		if !slices.Contains(buckets, p.bucket) {
			buckets = append(buckets, p.bucket)
		}
	}
	for i, bucket := range buckets {
		place := "no prefix"
		if i > 0 {
			place = "no prefix, another's bucket"
		}
		list(place, "ListObjectsV2", bucket, "list-type=2")
		list(place, "ListObjects", bucket, "")
		list(place, "ListObjectVersions", bucket, "versions=")
		list(place, "ListMultipartUploads", bucket, "uploads=")
	}
	own := url.QueryEscape(r.Scope.Key()) // rights that no scope has
	list("the scope", "ListObjectVersions", buckets[0], "versions=&prefix="+own)
	list("the scope", "ListMultipartUploads", buckets[0], "uploads=&prefix="+own)
	r.mixedListings(ctx, own, prefixes)
}

// mixedListings name the scope where a server looks for the permission, and
// another prefix where it might look for what to list. They may be answered; what
// they may not do is to show a name from outside.
func (r *run) mixedListings(ctx context.Context, own string, prefixes []prefix) {
	bucket := r.Scope.Bucket.String()
	try := func(place, name, query string, header ...string) {
		a := r.s3(ctx, call{method: http.MethodGet, bucket: bucket, query: query, header: header})
		r.judge(KindMixed, place, name, a, a.unlike() || a.done() && !r.showsOutside(a.body))
	}
	key := r.Scope.Key()
	try("no prefix", "ListObjectsV2, only a capital Prefix", "Prefix="+own+"&list-type=2")
	try("no prefix", "ListObjectsV2, only a header Prefix", "list-type=2", "Prefix", key)
	for _, p := range prefixes {
		if p.bucket != bucket {
			continue
		}
		other := url.QueryEscape(p.text)
		try(p.name, "ListObjectsV2, prefix twice", "list-type=2&prefix="+own+"&prefix="+other)
		try(p.name, "ListObjectsV2, prefix twice, own last", "list-type=2&prefix="+other+"&prefix="+own)
		try(p.name, "ListObjectsV2, a capital Prefix", "Prefix="+own+"&list-type=2&prefix="+other)
		try(p.name, "ListObjectsV2, a capital Prefix of another", "Prefix="+other+"&list-type=2&prefix="+own)
		try(p.name, "ListObjectsV2, a header Prefix", "list-type=2&prefix="+other, "Prefix", key)
		try(p.name, "ListObjectsV2, a header X-Amz-Prefix", "list-type=2&prefix="+other, "X-Amz-Prefix", key)
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
	outside := !r.mayList(list.Prefix)
	for _, c := range list.Contents {
		outside = outside || !r.mayList(c.Key)
	}
	for _, c := range list.CommonPrefixes {
		outside = outside || !r.mayList(c.Prefix)
	}
	return outside
}
