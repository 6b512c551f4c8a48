package clients_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// openTofu is what `make tofu` builds: minutes, so that without it the test is skipped,
// and fails in CI.
func openTofu(t *testing.T) string {
	t.Helper()
	asked(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "credential-broker", "peers", "tofu-v*"))
	if err != nil || len(found) == 0 {
		need(t, "OpenTofu, which `make tofu` builds,")
	}
	return found[len(found)-1]
}

// tofu runs the snippet, with the key of the state below the prefix or where it is moved to.
func (c call) tofu(t *testing.T, program, key string, commands ...string) outcome {
	t.Helper()
	text := c.text(t, "opentofu/backend.tf")
	if !strings.Contains(text, inside) {
		t.Fatalf("the snippet is not about %s:\n%s", inside, text)
	}
	c.write(t, "backend.tf", strings.ReplaceAll(text, inside, key))
	c.write(t, "main.tf", "output \"one\" {\n  value = 1\n}\n")
	env := c.environment(t, "env/token.env", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "AWS_ENDPOINT_URL_STS="+c.w.s3)
	for _, command := range commands {
		if out := c.process(t, env, program, strings.Fields(command)...); !out.ok {
			return out
		}
	}
	return outcome{ok: true}
}

func TestTheStateOfOpenTofuIsBelowThePrefix(t *testing.T) {
	program := openTofu(t)
	w := newWorld(t, "http://127.0.0.1:1", 0)
	f := w.front(t, nil)
	c := newCall(t, w, "tofu", inside, w.token(t, "tofu", nil), large, f)
	const initialise, apply = "init -no-color -input=false", "apply -no-color -input=false -auto-approve"
	if out := c.tofu(t, program, inside, initialise, apply, "output one", "workspace new other", apply, "workspace list"); !out.ok {
		t.Fatal(out.said)
	}
	written := 0
	for _, e := range w.events("") {
		if e.status == 403 {
			t.Errorf("refused: %+v", e)
		}
		if e.method == "PUT" && e.status == 200 && strings.HasPrefix(e.target, inside) && strings.Contains(e.target, ".tfstate") && !strings.Contains(e.target, ".tflock") {
			written++
		}
	}
	if written < 2 { // of two workspaces
		t.Errorf("%d states are in the bucket: %v", written, w.events(""))
	}

	t.Run("outside", func(t *testing.T) {
		c := newCall(t, w, "tofu-outside", inside, w.token(t, "tofu-outside", nil), 1000, w.front(t, nil))
		if out := c.tofu(t, program, outside, initialise, apply); out.ok || !strings.Contains(out.said, "StatusCode: 403") { // of a HEAD, which has no words
			t.Errorf("%+v", out)
		}
		for _, e := range w.events(outside) {
			if e.status < 400 {
				t.Errorf("S3 allowed %+v", e)
			}
		}
	})
	var all sync.WaitGroup
	for _, fault := range faults() {
		want := map[string]struct {
			says string
			most int
		}{
			"401": {"The token has expired", 1}, "403": {"names no usable tenant", 1}, "429": {"Too many requests", 3}, "503": {"AWS cannot be asked now", 3},
			"dead": {"reset by peer", 3},
		}[fault.name]
		f := w.front(t, &fault)
		c := newCall(t, w, "tofu-"+fault.name, inside, w.token(t, "tofu-"+fault.name, fault.token), 1000, f)
		all.Go(func() {
			out := c.tofu(t, program, inside, initialise)
			if out.ok || !strings.Contains(strings.Join(strings.Fields(out.said), " "), want.says) {
				t.Errorf("%s: %v, want %q in\n%s", fault.name, out.ok, want.says, out.said)
			}
			if n := f.count(); n == 0 || n > want.most {
				t.Errorf("%s: the broker was asked %d times, at most %d", fault.name, n, want.most)
			}
		})
	}
	all.Wait()
}
