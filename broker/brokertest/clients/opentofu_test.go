package clients_test

import (
	"os"
	"path/filepath"
	"testing"
)

// OpenTofu takes four minutes to build: where it is built already, its state goes
// below the prefix. Nothing is installed for this test alone, so it is skipped
// without it, in CI too.
func TestTheStateOfOpenTofuIsBelowThePrefix(t *testing.T) {
	asked(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tofu := filepath.Join(cache, "credential-broker", "peers", "tofu")
	if _, err := os.Stat(tofu); err != nil {
		t.Skip("OpenTofu is not here: its backend is not tried")
	}
	w := newWorld(t, "http://127.0.0.1:1", 0)
	f := w.front(t, nil)
	c := newCall(t, w, "tofu", inside, w.token(t, "tofu", nil), large, f)
	c.snippet(t, "opentofu/backend.tf")
	c.write(t, "main.tf", "output \"one\" {\n  value = 1\n}\n")
	env := c.environment(t, "env/token.env", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	for _, args := range [][]string{{"init", "-input=false"}, {"apply", "-input=false", "-auto-approve"}, {"output", "one"}} {
		if out := c.process(t, env, tofu, args...); !out.ok {
			t.Fatalf("tofu %v: %s", args, out.said)
		}
	}
	written := false
	for _, e := range w.events(inside) {
		if e.status == 403 {
			t.Errorf("refused: %+v", e)
		}
		written = written || e.method == "PUT" && e.status == 200
	}
	if !written {
		t.Error("the state is not in the bucket")
	}
}
