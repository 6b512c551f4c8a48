package limits_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-broker/broker/limits"
)

// What is within the limits here is held against those over all replicas, the
// subject's first; where these are not to be had, the ones here are all there is.
func TestLimitsOverAllReplicas(t *testing.T) {
	for name, tc := range map[string]struct {
		waits   map[limits.Limit]time.Duration
		err     error
		refused limits.Limit
		asked   []string
	}{
		"within both":     {nil, nil, "", []string{"subject 3 i s", "tenant 5 acme"}},
		"the subject":     {map[limits.Limit]time.Duration{limits.OfSubject: time.Second, limits.OfTenant: time.Hour}, nil, limits.OfSubject, []string{"subject 3 i s"}},
		"the tenant":      {map[limits.Limit]time.Duration{limits.OfTenant: time.Second}, nil, limits.OfTenant, []string{"subject 3 i s", "tenant 5 acme"}},
		"nobody can tell": {map[limits.Limit]time.Duration{limits.OfSubject: time.Second, limits.OfTenant: time.Second}, errors.New("down"), "", []string{"subject 3 i s", "tenant 5 acme"}},
	} {
		c := &clock{now: noon}
		var asked []string
		var told []limits.Limit
		i, err := limits.New(limits.Config{
			Issuer: c, Counters: limits.NewCounters(), PerSubject: 3, PerTenant: 5, Now: func() time.Time { return c.now }, Observe: func(l limits.Limit) { told = append(told, l) },
			Shared: func(_ context.Context, perMinute int, of limits.Limit, whose ...string) (time.Duration, error) {
				asked = append(asked, strings.Join(append([]string{string(of), string(rune('0' + perMinute))}, whose...), " "))
				return tc.waits[of], tc.err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		wait := ask(t, i, order(t, "i", "s", "acme"))
		if (wait > 0) != (tc.refused != "") || !slices.Equal(asked, tc.asked) || tc.refused != "" && !slices.Equal(told, []limits.Limit{tc.refused}) {
			t.Errorf("%s: waits %s, asked %q, told %q", name, wait, asked, told)
		}
		for range 3 {
			wait = ask(t, i, order(t, "i", "s", "acme"))
		}
		if n := len(asked); wait == 0 || tc.err != nil && n != 6 {
			t.Errorf("%s: the limit here does not hold: %q", name, asked)
		}
	}
}
