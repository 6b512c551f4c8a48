package sharedcache_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/redis/rueidis"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/localredis"
	"credential-broker/broker/sharedcache"
)

// clustered is a world whose Redis is three masters, with the rights that are
// documented, and a client to each of them that may do anything.
func clustered(t *testing.T) (w *world, c *localredis.Cluster, raw []rueidis.Client, by func(*sharedcache.Config)) {
	t.Helper()
	c = localredis.StartCluster(t, documentedUser(t)...)
	w = worldAround(t, c.Nodes[0])
	for _, n := range c.Nodes {
		raw = append(raw, w.rawTo(n))
	}
	return w, c, raw, func(cfg *sharedcache.Config) { cfg.URL = broker.NewSecret(c.URL("broker:password@")) }
}

// Replicas share through a cluster: an entry and its lock are on one node, each name of
// a limit is asked for by itself, and the log-outs are a stream on one of them.
// Threat cases SC21 and SC23.
func TestACluster(t *testing.T) {
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("moves keys between three Redis: 5 seconds")
	}
	w, c, raw, by := clustered(t)
	all := w.joined(2, by)
	const subjects = 60
	orders := make([]broker.Order, subjects)
	for i := range orders {
		orders[i] = w.order(fmt.Sprint("s", i))
		w.from(all[i%2].shared, orders[i], broker.FromSTS)
		w.from(all[(i+1)%2].shared, orders[i], broker.FromShared)
	}
	on := map[int]int{} // :: node → entries
	for i, r := range raw {
		on[i] = len(w.entries(r))
	}
	if on[0] == 0 || on[1] == 0 || on[2] == 0 || on[0]+on[1]+on[2] != subjects {
		t.Errorf("entries on the nodes: %v", on)
	}
	w.waits(all, raw...)
	all[0].forget.Forget(orders[0].Identity.Issuer, orders[0].Identity.Subject)
	all[1].await(t, sharedcache.Heard, 1)
	w.from(all[1].shared, orders[0], broker.FromSTS)
	for n := range 6 {
		over, wait, err := all[n%2].store.Spend(t.Context(), allowance("subject", "a"), sharedcache.Allowance{PerMinute: 5, Kind: "tenant", Name: []string{"t"}})
		if err != nil || (wait > 0) != (n >= 4) || over != 0 {
			t.Errorf("event %d: over %d, waits %s, %v", n, over, wait, err)
		}
	}

	// Keys move to another node while they are asked for.
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		c.Move(t, 500, 0, 1)
	}()
	for during := true; during; {
		select {
		case <-moved:
			during = false
		default:
		}
		for i, o := range orders[1:] {
			w.issue(all[i%2].shared, o)
		}
	}
	for i, o := range orders[1:] {
		w.issue(all[i%2].shared, o)
		w.from(all[(i+1)%2].shared, o, broker.FromShared)
	}
	w.nothingDenied(raw...)
}

// A node that dies takes its own entries with it; what is on the others is shared all
// the same, if the log-outs are. When it is back, so is everything. Threat case SC23.
func TestANodeOfAClusterDies(t *testing.T) {
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("kills two of three Redis: 5 seconds")
	}
	w, c, raw, by := clustered(t)
	all := w.joined(2, by)
	for journal := range c.Nodes {
		if w.say(raw[journal], "CLUSTER", "COUNTKEYSINSLOT", w.say(raw[journal], "CLUSTER", "KEYSLOT", "cb:journal")) != "0" {
			dies := c.Nodes[(journal+1)%3]
			dies.Kill()
			shared := 0
			for i := range 30 {
				o := w.order(fmt.Sprint("without", i))
				w.issue(all[0].shared, o)
				if w.issue(all[1].shared, o).Source == broker.FromShared {
					shared++
				}
			}
			if shared == 0 || shared == 30 {
				t.Errorf("%d of 30 are shared without a node", shared)
			}
			dies.Again()
			w.sharing(all)

			c.Nodes[journal].Kill()
			for _, r := range all {
				r.await(t, sharedcache.Failed, r.of(sharedcache.Failed)+1)
				for i := range 10 {
					w.from(r.shared, w.order(fmt.Sprint("unheard", i)), broker.FromSTS)
				}
			}
			c.Nodes[journal].Again()
			for _, r := range all {
				r.await(t, sharedcache.Joined, 2)
			}
			o := w.sharing(all)
			all[0].forget.Forget(o.Identity.Issuer, o.Identity.Subject)
			all[1].await(t, sharedcache.Heard, 1)
			return
		}
	}
	t.Error("the journal is nowhere")
}

// say is do for what is answered with a text or a number.
func (w *world) say(c rueidis.Client, words ...string) string {
	w.t.Helper()
	answer, err := w.do(c, words...).ToAny()
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprint(answer)
}
