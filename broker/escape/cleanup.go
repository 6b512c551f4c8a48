package escape

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// cleanUpTime bounds the removal of what was written: a few objects, where a wall
// was open. It is counted apart, since whoever interrupts a run wants it tidy too.
const cleanUpTime = 30 * time.Second

// written is what was written, or may have been.
type written struct {
	bucket, path string // as in a call
	upload       string // of an upload that was begun, its id; empty: an object
	sure         bool   // the server said that it was done
}

// note remembers what an attempt to write came to.
func (r *run) note(bucket, path string, a answer) {
	if a.done() || a.err != nil { // an answer that got lost may have been a success
		r.remember(written{bucket: bucket, path: path}, a.done())
	}
}

// remember keeps each thing once: an upload that was aborted, or an object that
// was removed by an attempt, is removed again, which S3 takes.
func (r *run) remember(w written, sure bool) {
	i := slices.IndexFunc(r.wrote, func(o written) bool { return o.bucket == w.bucket && o.path == w.path && o.upload == w.upload })
	if i < 0 {
		i = len(r.wrote)
		r.wrote = append(r.wrote, w)
	}
	r.wrote[i].sure = r.wrote[i].sure || sure
}

// cleanUp removes what was written, and returns a check for each that is still
// there, or may be.
func (r *run) cleanUp(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	var left []Check
	for _, w := range r.wrote {
		remove := call{method: http.MethodDelete, bucket: w.bucket, path: w.path}
		if w.upload != "" {
			remove.query = "uploadId=" + url.QueryEscape(w.upload)
		}
		a := r.s3(ctx, remove)
		if a.done() || a.status == http.StatusNotFound {
			continue
		}
		c := Check{Kind: KindCleanup, Name: "removed", Place: w.bucket + "/" + w.path, Detail: a.String()}
		if w.sure {
			c.Verdict = Failed
		}
		left = append(left, c)
	}
	r.wrote = nil
	return left
}

// Leftovers returns the objects in the scope that a run, this or an earlier one,
// has left there: the first thousand. It needs the right to list.
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
