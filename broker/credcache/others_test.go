package credcache_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/broker"
	"credential-broker/broker/credcache"
)

// CC32: an answer from the cache is quicker than one from STS, which tells the
// caller something. What it tells is of the caller alone: whether it is quick is
// decided by what this very caller asked for before, whoever else asks for what.
func TestWhetherAnAnswerIsHeldDependsOnTheCallerAlone(t *testing.T) {
	var o []broker.Order
	for _, subject := range []string{"alice", "bob", "carol"} {
		for _, tenant := range []string{"org_acme", "org_globex"} {
			o = append(o, order(t, subject, ofTenant(t, tenant)))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		c, err := credcache.New(credcache.Config{Issuer: &issuer{}, Entries: 100})
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		var asked []int
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, len(o)-1), 1, 30).Draw(rt, "who asks") {
			got, err := c.Issue(t.Context(), o[n])
			if err != nil {
				rt.Fatal(err)
			}
			if held := got.Source == broker.FromCache; held != slices.Contains(asked, n) {
				rt.Fatalf("held is %t for %s, after %v", held, o[n].SessionName, asked)
			}
			asked = append(asked, n)
		}
	})
}
