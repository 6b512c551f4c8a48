package escape

import (
	"slices"
	"strings"

	"credential-broker/policy"
)

// place is somewhere outside the scope.
type place struct {
	name        string
	bucket, key string // an object there
	known       bool   // the object is there
	precious    bool   // it is somebody's, and must not be lost
}

// folder returns the key's folder, with its slash; "" at the root.
func (p place) folder() string { return p.key[:strings.LastIndexByte(p.key, '/')+1] }

// places are the objects outside that are tried: next to the scope, above it,
// and those of others.
func (r *run) places() []place {
	key := r.Scope.Key()
	base, parent := r.base()
	in := r.id + "/x"
	all := []place{
		{name: "a sibling prefix", key: base + "2/" + in},
		{name: "the prefix without its slash", key: base + "-" + r.id},
		{name: "a made-up tenant", key: parent + r.id + "/x"},
		{name: "the parent", key: parent + r.id},
		{name: "the root", key: r.id},
		{name: "the other case", key: swapCase(base) + "/" + in},
	}
	if name := base[len(parent):]; len(name) > 1 {
		all = append(all, place{name: "a shorter name", key: base[:len(base)-1] + "/" + in})
	}
	if prefix := r.Scope.Prefix.String(); key != prefix {
		all = append(all, place{name: "above the path", key: prefix + r.id})
	}
	for i := range all {
		all[i].bucket = r.Scope.Bucket.String()
	}
	for _, v := range r.Victims {
		all = append(all, place{name: "another's object", bucket: v.Bucket, key: v.Key, known: true, precious: !v.Expendable})
	}
	return slices.DeleteFunc(all, func(p place) bool { return r.within(p.bucket, p.key) })
}

// base returns the scope's key without its last slash, and the folder above it.
func (r *run) base() (base, parent string) {
	base = strings.TrimSuffix(r.Scope.Key(), "/")
	return base, base[:strings.LastIndexByte(base, '/')+1]
}

// within reports whether a key is one of the session's own.
func (r *run) within(bucket, key string) bool {
	return r.anyScope(func(s policy.Scope) bool { return bucket == s.Bucket.String() && contains(s, key) })
}

// mayList reports whether the session may list under a prefix of its bucket.
func (r *run) mayList(prefix string) bool {
	return r.anyScope(func(s policy.Scope) bool {
		return s.Bucket == r.Scope.Bucket && s.Access.Has(policy.List) && contains(s, prefix)
	})
}

func (r *run) anyScope(holds func(policy.Scope) bool) bool {
	return holds(r.Scope) || slices.ContainsFunc(r.Also, holds)
}

func contains(s policy.Scope, key string) bool {
	if s.Path.IsObject() {
		return key == s.Key()
	}
	return strings.HasPrefix(key, s.Key())
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 'a' + 'A'
		case 'A' <= c && c <= 'Z':
			return c - 'A' + 'a'
		}
		return c
	}, s)
}

// own returns a key inside the scope.
func (r *run) own() string {
	if r.Scope.Path.IsObject() {
		return r.Scope.Key()
	}
	return r.Scope.Key() + r.id + "/x"
}
