package sharedcache_test

import (
	"fmt"
	"testing"

	"credential-broker/broker"
)

// What an answer costs: from the replica's own cache, from another replica's entry,
// and one that STS has to be asked for (which takes no time here) and that is shared.
func BenchmarkIssue(b *testing.B) {
	w := newWorld(b)
	r := w.joined(1)[0]
	o := w.order("s")
	w.issue(r.cache, o)
	bench := func(name string, i broker.Issuer, next func(int) broker.Order) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if _, err := i.Issue(b.Context(), next(n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	same := func(int) broker.Order { return o }
	round := 0
	fresh := func(n int) broker.Order {
		if n == 0 {
			round++
		}
		c := o
		c.Identity.Subject = fmt.Sprint(round, "-", n)
		return c
	}
	bench("own", r.cache, same)
	bench("shared", r.shared, same)
	bench("miss, shared", r.shared, fresh)
	bench("miss, alone", w.sts, fresh)
}
