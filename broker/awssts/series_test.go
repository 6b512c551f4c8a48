package awssts_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"

	"credential-broker/broker/awssts"
)

// Threat case DS17: an event's code and region are of a closed set, whatever STS
// or what stands in its place calls its errors.
func TestWhatSTSInventsMakesNoNewSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSTS{answer: func(call int, form url.Values) (*http.Response, error) {
			return refusal(400+call%100, fmt.Sprint("Invented", call), fmt.Sprint("made up ", call))(call, form)
		}}
		seen := map[awssts.Event]int{}
		c, _ := setup(t, f, func(cfg *awssts.Config) {
			cfg.MaxConcurrent = 1
			cfg.Observe = func(e awssts.Event) {
				e.Duration, e.Attempt = 0, 0
				seen[e]++
			}
		})
		for range 1000 {
			_, _ = c.Issue(t.Context(), order(t, nil))
		}
		delete(seen, awssts.Event{Code: awssts.NoRegion}) // while the breaker is open
		delete(seen, awssts.Event{Code: awssts.Other, Region: "eu-west-1"})
		delete(seen, awssts.Event{Alert: awssts.AlertRejected, Region: "eu-west-1"})
		if len(seen) != 0 || f.calls.Load() < 900 {
			t.Errorf("%d calls: %v", f.calls.Load(), seen)
		}
	})
}
