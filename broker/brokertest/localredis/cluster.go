package localredis

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Cluster is three masters that divide the keys.
type Cluster struct{ Nodes []*Server }

// StartCluster starts one, as redis-cli makes it. A node that is killed finds its place
// again, and has forgotten its keys.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{}
	for range 3 {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		bus := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		c.Nodes = append(c.Nodes, Start(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus),
			"--cluster-require-full-coverage", "no", // a node that is gone takes its own keys with it
		}, args...)...))
	}
	c.cli(t, append(append([]string{"--cluster", "create"}, c.addresses()...), "--cluster-yes")...)
	for _, n := range c.Nodes { // which may not have heard of each other yet
		for !strings.Contains(c.cli(t, "-p", strconv.Itoa(n.Port), "CLUSTER", "INFO"), "cluster_state:ok") {
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	return c
}

// Move moves so many of the 16,384 slots from one node to another, while it serves.
func (c *Cluster) Move(t testing.TB, slots, from, to int) {
	t.Helper()
	id := func(node int) string {
		return strings.TrimSpace(c.cli(t, "-p", strconv.Itoa(c.Nodes[node].Port), "CLUSTER", "MYID"))
	}
	c.cli(t, "--cluster", "reshard", c.addresses()[0], "--cluster-from", id(from), "--cluster-to", id(to), "--cluster-slots", strconv.Itoa(slots), "--cluster-yes")
}

func (c *Cluster) cli(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "redis-cli", args...).CombinedOutput() //nolint:gosec // a test's own
	if err != nil {
		t.Errorf("redis-cli %s: %v\n%s", args, err, out)
	}
	return string(out)
}

func (c *Cluster) addresses() []string {
	var all []string
	for _, n := range c.Nodes {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", n.Port))
	}
	return all
}

// URL is where it is, for a user ("name:password@") or, if that is empty, for anybody.
func (c *Cluster) URL(user string) string {
	all := c.addresses()
	return "redis://" + user + all[0] + "/?addr=" + strings.Join(all[1:], "&addr=")
}
