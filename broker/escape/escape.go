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
	// Also are further scopes that the session has, such as those of the other
	// grants of a role whose session has no policy of its own.
	Also []policy.Scope
	Role string // ARN of the session's role; empty: assuming it once more is not tried
	// Object is an object that is there, inside. Whoever may read, and neither write
	// nor list, shows with it that reading works. May be empty.
	Object string
	// Victims are objects of others that are there. Of any other key S3 says 403 to
	// whoever may not list, even to one who may read it: without a victim nothing
	// is proved of reading.
	Victims []Victim
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

// Kind is what a check is about.
type Kind string

// The kinds.
const (
	KindInside      Kind = "inside"      // what has to work, and what the scope does not give
	KindObject      Kind = "object"      // an object outside
	KindListing     Kind = "listing"     // names outside
	KindMixed       Kind = "mixed"       // a listing that names two prefixes
	KindBucket      Kind = "bucket"      // the bucket, and other buckets
	KindPath        Kind = "path"        // a path that one reader takes for another's
	KindCredentials Kind = "credentials" // credentials that are not whole
	KindSTS         Kind = "sts"         // other credentials of these
	KindAlive       Kind = "alive"       // the session works, before the attempts and after them
	KindCleanup     Kind = "clean-up"    // what was written and could not be removed
)

// Check is one attempt and what came of it. Kind and Name are from a closed set.
type Check struct {
	Kind    Kind
	Name    string // "GetObject", "ListObjectsV2, prefix twice"
	Place   string // "a sibling prefix"; empty where there is none
	Verdict Verdict
	Detail  string // what the server said; holds no secret
}

// ID names the check by its place and name.
func (c Check) ID() string { return strings.TrimPrefix(c.Place+": "+c.Name, ": ") }

// run is one run of the suite.
type run struct {
	Target
	id     string // in every key that is written
	signer *v4.Signer
	upload string // id of an upload that was begun inside, to copy into; see copyInto
	checks []Check
	wrote  []written
}

func newRun(t Target) (*run, error) {
	for _, s := range append([]policy.Scope{t.Scope}, t.Also...) {
		if err := s.Validate(); err != nil {
			return nil, err
		}
	}
	if t.Region == "" || t.Session.AccessKeyID == "" || t.Session.SessionToken.IsZero() {
		return nil, errors.New("escape: a region and a session are needed")
	}
	return t.run(), nil
}

// mark begins the names of everything that is written.
const mark = "credential-broker-doctor"

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
	return &run{Target: t, id: NewName(), signer: newSigner()}
}

// NewName returns a name that nobody has, by which what was written is known.
func NewName() string { return mark + "-" + strings.ToLower(rand.Text()[:10]) }

// Outside tries every way out, one after the other, some hundred requests, and
// returns a check for each. What it wrote where a wall was open it removes, also
// when ctx ends, and what it could not remove is a failed check of KindCleanup.
// An error means that the suite could not run to its end; nothing is proved then.
func Outside(ctx context.Context, t Target) ([]Check, error) {
	return t.examine(ctx, func(r *run) {
		r.alive(ctx, "before")
		places := r.places()
		for _, p := range places {
			r.objects(ctx, p)
		}
		r.listings(ctx, places)
		r.buckets(ctx)
		r.paths(ctx)
		r.tokens(ctx)
		r.chaining(ctx)
		r.alive(ctx, "after")
	})
}

// Inside uses each right of the scope inside it, and tries each that it does not
// have. Clean-up and errors are as Outside's.
func Inside(ctx context.Context, t Target) ([]Check, error) {
	return t.examine(ctx, func(r *run) { r.inside(ctx) })
}

func (t Target) examine(ctx context.Context, try func(*run)) ([]Check, error) {
	r, err := newRun(t)
	if err != nil {
		return nil, err
	}
	try(r)
	left := r.cleanUp(ctx)
	if err := ctx.Err(); err != nil {
		return left, fmt.Errorf("escape: %w", err)
	}
	return append(r.checks, left...), nil
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
