package limits_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/limits"
)

// What is within the limits here is held against those over all replicas, the
// subject's first; where these are not to be had, the ones here are all there is.
// Threat cases SC18 and SC19.
func TestLimitsOverAllReplicas(t *testing.T) {
	both := []string{"subject 3 i s, tenant 5 acme"}
	for name, tc := range map[string]struct {
		over    int
		wait    time.Duration
		err     error
		refused limits.Limit
	}{
		"within both":     {0, 0, nil, ""},
		"the subject":     {0, time.Second, nil, limits.OfSubject},
		"the tenant":      {1, time.Second, nil, limits.OfTenant},
		"nobody can tell": {0, time.Second, errors.New("down"), ""},
	} {
		c := &clock{now: noon}
		var asked []string
		var told []limits.Limit
		i, err := limits.New(limits.Config{
			Issuer: c, Counters: limits.NewCounters(), PerSubject: 3, PerTenant: 5, Now: func() time.Time { return c.now }, Observe: func(l limits.Limit) { told = append(told, l) },
			Shared: func(_ context.Context, of ...limits.Allowance) (int, time.Duration, error) {
				var all []string
				for _, a := range of {
					all = append(all, strings.Join(append([]string{string(a.Of), strconv.Itoa(a.PerMinute)}, a.Whose...), " "))
				}
				asked = append(asked, strings.Join(all, ", "))
				return tc.over, tc.wait, tc.err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		wait := ask(t, i, order(t, "i", "s", "acme"))
		if wait != tc.wait && tc.refused != "" || (wait > 0) != (tc.refused != "") || !slices.Equal(asked, both) || tc.refused != "" && !slices.Equal(told, []limits.Limit{tc.refused}) {
			t.Errorf("%s: waits %s, asked %q, told %q", name, wait, asked, told)
		}
		for range 3 {
			wait = ask(t, i, order(t, "i", "s", "acme"))
		}
		if n := len(asked); wait == 0 || tc.err != nil && n != 3 {
			t.Errorf("%s: the limit here does not hold: %q", name, asked)
		}
	}
}
