package clients_test

import (
	"os"
	"path/filepath"
	"testing"
)

// OpenTofu takes three minutes to build. It is tried where it is built already; in CI,
// too, the test is skipped without it.
func TestTheStateOfOpenTofuIsBelowThePrefix(t *testing.T) {
	asked(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "credential-broker", "peers", "tofu-v*"))
	if err != nil || len(found) == 0 {
		t.Skip("OpenTofu is not here, which `make terraform` builds: its backend is not tried")
	}
	tofu := found[len(found)-1]
	w := newWorld(t, "http://127.0.0.1:1", 0)
	f := w.front(t, nil)
	c := newCall(t, w, "tofu", inside, w.token(t, "tofu", nil), large, f)
	c.snippet(t, "opentofu/backend.tf")
	c.write(t, "main.tf", "output \"one\" {\n  value = 1\n}\n")
	env := c.environment(t, "env/token.env", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "AWS_ENDPOINT_URL_STS="+w.s3)
	for _, args := range [][]string{{"init", "-input=false"}, {"apply", "-input=false", "-auto-approve"}, {"output", "one"}, {"workspace", "list"}} {
		if out := c.process(t, env, tofu, args...); !out.ok {
			t.Fatalf("tofu %v: %s", args, out.said)
		}
	}
	written := false
	for _, e := range w.events("") {
		if e.status == 403 {
			t.Errorf("refused: %+v", e)
		}
		written = written || e.method == "PUT" && e.status == 200
	}
	if !written {
		t.Error("the state is not in the bucket")
	}
}
