package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"credential-broker/broker"
)

// Threat case DS17: whatever ten thousand callers invent, what an event says by
// way of method, route, status, code, grant and source is of a small closed set.
// It is these that metrics have for labels.
func TestWhatCallersInventMakesNoNewSeries(t *testing.T) {
	h := newHarness(t, nil)
	errs := []error{nil, broker.ErrInvalidToken, broker.ErrNoGrant, broker.ErrSTSUnavailable, fmt.Errorf("no class")}
	series := func() map[string]bool {
		seen := map[string]bool{}
		for line := range strings.Lines(h.log.String()) {
			var e struct {
				Method, Route, Code, Grant, Source string
				Status                             int
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			seen[fmt.Sprint(e.Method, " ", e.Route, " ", e.Status, " ", e.Code, " ", e.Grant, " ", e.Source)] = true
		}
		return seen
	}
	ask := func(n int) {
		h.err = errs[n%len(errs)]
		mark := fmt.Sprint("made-up-", n)
		for _, r := range []*http.Request{
			request(http.MethodGet, "/v1/credentials?path="+mark+"/", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+mark+".b.c") }),
			request(http.MethodGet, "/v1/credentials?grant="+mark, "", nil),
			request(http.MethodGet, "/v1/credentials?"+mark+"=x", "", nil),
			request(http.MethodGet, "/v1/"+mark, "", nil),
			request(http.MethodGet, "/v1/grants", "", func(r *http.Request) { r.Header.Set("Origin", "https://"+mark+".example") }),
			request("M"+fmt.Sprint(n), "/v1/credentials", "", nil),
		} {
			r.Header.Set("User-Agent", mark)
			h.do(r)
		}
	}
	for n := range len(errs) {
		ask(n)
	}
	few := series()
	h.log.Reset()
	for n := range 10_000 / 6 {
		ask(n + len(errs))
	}
	many := series()
	if len(few) < len(errs) || len(few) > 20 {
		t.Errorf("%d series at first: %v", len(few), few)
	}
	for s := range many {
		if !few[s] {
			t.Errorf("%q is new", s)
		}
	}
}
