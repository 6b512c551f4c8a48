// Package escape tries to get out of a scope with the credentials that were
// given for it, in every way that is known to have worked somewhere, and shows
// first that they work inside. It is what `credential-broker doctor` runs on an
// operator's account, and what the tests run on three servers.
//
// It means no harm where the walls do not hold: it writes under names of its own
// only, takes back what it wrote, and changes no configuration of a bucket.
package escape

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"credential-broker/policy"
)

// Victim is an object of somebody else, with a text in it by which it is known.
type Victim struct {
	Bucket, Key string
	Text        string
	// Expendable lets it be written to and removed, if the walls do not hold.
	Expendable bool
}

// Target is what is tried, and where.
type Target struct {
	S3        string // the endpoint, addressed path-style; empty: AWS's own, virtual-hosted
	STS       string // the endpoint; empty: AWS's own
	Region    string // of the bucket
	STSRegion string // empty: the bucket's
	Session   Session
	Scope     policy.Scope
	// Object is an object that is there, inside. Whoever may read, and neither write
	// nor list, shows with it that reading works. May be empty.
	Object  string
	Victims []Victim   // may be empty: then others' objects are only tried under made-up names
	Other   *Session   // of somebody else, to mix with; may be nil
	HTTP    HTTPClient // nil: one that follows no redirects
}

// HTTPClient sends requests; *http.Client is one. It should not follow redirects.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// Verdict is what came of one check. The zero value proves nothing.
type Verdict int

// The verdicts.
const (
	Unclear Verdict = iota // neither done nor refused: nothing is proved
	Held                   // what must be refused was, and what must work did
	Failed                 // a way out, or a way in that is closed
)

// String returns the verdict's name.
func (v Verdict) String() string { return [...]string{"unclear", "held", "failed"}[v] }

// Check is one attempt and what came of it.
type Check struct {
	Name    string // "GetObject", "ListObjectsV2, prefix twice"
	Place   string // "a sibling prefix"; empty where there is none
	Verdict Verdict
	Detail  string // what the server said; holds no secret
}

// ID names the check by its name and place.
func (c Check) ID() string { return strings.TrimPrefix(c.Place+": "+c.Name, ": ") }

// run is one run of the suite.
type run struct {
	Target
	id     string // in every key that is written
	signer *v4.Signer
	checks []Check
	wrote  []place // outside, where the walls did not hold
}

func newRun(t Target) (*run, error) {
	if err := t.Scope.Validate(); err != nil {
		return nil, err
	}
	if t.Region == "" || t.Session.AccessKeyID == "" || t.Session.SessionToken.IsZero() {
		return nil, errors.New("escape: a region and a session are needed")
	}
	return t.run(), nil
}

// mark begins the names of everything that is written.
const mark = "credential-broker-doctor-"

func (t Target) run() *run {
	if t.STSRegion == "" {
		t.STSRegion = t.Region
	}
	if t.HTTP == nil {
		t.HTTP = &http.Client{
			Timeout:       30 * time.Second, // a request is a few bytes; what takes longer proves nothing
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &run{Target: t, id: mark + strings.ToLower(rand.Text()[:10]), signer: newSigner()}
}

// Outside tries every way out, and returns one check for each. An error means
// that the suite could not run; nothing is proved then.
func Outside(ctx context.Context, t Target) ([]Check, error) {
	r, err := newRun(t)
	if err != nil {
		return nil, err
	}
	places := r.places()
	for _, p := range places {
		r.objects(ctx, p)
	}
	r.listings(ctx, places)
	r.buckets(ctx)
	r.paths(ctx)
	r.tokens(ctx)
	r.chaining(ctx)
	r.takeBack(ctx)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("escape: %w", err)
	}
	return r.checks, nil
}

// Inside uses each right of the scope inside it, and tries each that it does not
// have. What it writes, it removes.
func Inside(ctx context.Context, t Target) ([]Check, error) {
	r, err := newRun(t)
	if err != nil {
		return nil, err
	}
	r.inside(ctx)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("escape: %w", err)
	}
	return r.checks, nil
}

// Count returns how many checks have the verdict.
func Count(checks []Check, v Verdict) int {
	n := 0
	for _, c := range checks {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// place is somewhere outside the scope.
type place struct {
	name        string
	bucket, key string // an object there
	precious    bool   // it is somebody's, and must not be lost
}

// places are the objects outside that are tried: next to the scope, above it,
// and those of others.
func (r *run) places() []place {
	key := r.Scope.Key()
	base := strings.TrimSuffix(key, "/")
	parent := base[:strings.LastIndexByte(base, '/')+1]
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
		all = append(all, place{name: "another's object", bucket: v.Bucket, key: v.Key, precious: !v.Expendable})
	}
	return slices.DeleteFunc(all, func(p place) bool { return p.bucket == r.Scope.Bucket.String() && r.within(p.key) })
}

// within reports whether a key is the scope's own.
func (r *run) within(key string) bool {
	if r.Scope.Path.IsObject() {
		return key == r.Scope.Key()
	}
	return strings.HasPrefix(key, r.Scope.Key())
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
