// Package tofu runs OpenTofu on deploy/terraform, for tests: offline, without a
// cloud and without the providers, which a test cannot have. In their place is a
// stub (peers/tofu/stub) that knows the providers' schemas and keeps resources in
// the state alone. So names, types, blocks, references, validations and every
// document that a module writes are real; what a cloud makes of them is not.
//
// Everything runs in a copy of deploy, so that nothing is left there.
package tofu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// version is that of OpenTofu in peers/tofu/go.mod, which the Makefile builds.
const version = "v1.12.6"

// Workspace is a copy of deploy with one folder of it chosen. It is not safe for
// concurrent use.
type Workspace struct {
	Deploy string // the copy
	Dir    string // the chosen folder in it

	t       testing.TB
	tofu    string
	env     []string
	answers string // file
}

// Resource is one instance of a resource.
type Resource struct {
	Address string         `json:"address"`
	Type    string         `json:"type"`
	Name    string         `json:"name"`
	Index   any            `json:"index"`
	Values  map[string]any `json:"values"` // without what is not known yet
}

// State is what a plan or an apply comes to.
type State struct {
	Resources []Resource
	Outputs   map[string]json.RawMessage // without what is not known yet
}

// Of returns the resources of a type, as ordered by their addresses.
func (s State) Of(kind string) []Resource {
	var of []Resource
	for _, r := range s.Resources {
		if r.Type == kind {
			of = append(of, r)
		}
	}
	slices.SortFunc(of, func(a, b Resource) int { return strings.Compare(a.Address, b.Address) })
	return of
}

// Text returns an attribute that is text, and "" where it is not.
func (r Resource) Text(name string) string {
	text, _ := r.Values[name].(string)
	return text
}

// New copies deploy for a test and chooses a folder, such as "terraform/aws".
// The test is skipped unless it is asked for by TERRAFORM=1, as `make terraform`
// does, which builds OpenTofu first: minutes, on a new machine. With CI=true it fails
// then, unless TERRAFORM=elsewhere says that another stage asks for it.
func New(t testing.TB, folder string) *Workspace {
	t.Helper()
	switch asked := os.Getenv("TERRAFORM"); {
	case asked == "elsewhere":
		t.Skip("deploy/terraform is tested by another stage: make terraform")
	case asked == "" && os.Getenv("CI") == "true":
		t.Fatal("CI=true, and deploy/terraform is not tested: make terraform does so, or TERRAFORM=elsewhere says that another stage runs that")
	case asked == "":
		t.Skip("deploy/terraform is tested by make terraform")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	root := repository(t)
	peer := filepath.Join(root, "broker", "brokertest", "peers", "tofu")
	w := &Workspace{t: t, tofu: filepath.Join(cache, "credential-broker", "peers", "tofu-"+version)}
	stub := filepath.Join(peer, "bin", "stub")
	for _, file := range []string{w.tofu, stub} {
		if _, err := os.Stat(file); err != nil {
			t.Fatal("OpenTofu and the stub of its providers are not here; `make terraform` builds them")
		}
	}
	temp := t.TempDir()
	w.Deploy, w.answers = filepath.Join(temp, "deploy"), filepath.Join(temp, "answers.json")
	w.Dir = filepath.Join(w.Deploy, filepath.FromSlash(folder))
	if err := copyTree(w.Deploy, filepath.Join(root, "deploy")); err != nil {
		t.Fatal(err)
	}
	if err := w.prepare(temp, stub, filepath.Join(peer, "schemas")); err != nil {
		t.Fatal(err)
	}
	return w
}

// prepare puts the stub in the providers' place.
func (w *Workspace) prepare(temp, stub, schemas string) error {
	providers := filepath.Join(temp, "providers")
	if err := os.Mkdir(providers, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"aws", "auth0"} {
		if err := os.Symlink(stub, filepath.Join(providers, "terraform-provider-"+name)); err != nil {
			return err
		}
	}
	rc := filepath.Join(temp, "tofu.rc")
	text := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"hashicorp/aws\" = %q\n    \"auth0/auth0\" = %q\n  }\n  direct {\n    exclude = [\"*/*\"]\n  }\n}\n", providers, providers)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		return err
	}
	answers, err := os.ReadFile(filepath.Join(schemas, "answers.json"))
	if err != nil {
		return err
	}
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+rc, "STUB_SCHEMAS="+schemas, "STUB_ANSWERS="+w.answers, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
	return os.WriteFile(w.answers, answers, 0o600)
}

// Answer changes what the clouds answer: for "aws_x" or "data.aws_x" an
// attribute's value.
func (w *Workspace) Answer(of, attribute string, value any) {
	w.t.Helper()
	data, err := os.ReadFile(w.answers)
	if err != nil {
		w.t.Fatal(err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		w.t.Fatal(err)
	}
	if all[of] == nil {
		all[of] = map[string]any{}
	}
	all[of][attribute] = value
	if data, err = json.Marshal(all); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.answers, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// Run calls tofu in the chosen folder and returns what it printed on standard
// output. The error holds what it printed on standard error.
func (w *Workspace) Run(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, w.tofu, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.Dir, w.env, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("tofu %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// Plan returns what would be made with the variables.
func (w *Workspace) Plan(ctx context.Context, vars any) (State, error) {
	if err := w.set(ctx, vars); err != nil {
		return State{}, err
	}
	if _, err := w.Run(ctx, "plan", "-input=false", "-no-color", "-refresh=false", "-out=plan"); err != nil {
		return State{}, err
	}
	var shown struct {
		Planned shownValues `json:"planned_values"`
	}
	if err := w.show(ctx, &shown, "plan"); err != nil {
		return State{}, err
	}
	return shown.Planned.state(), nil
}

// Apply makes everything, in the state alone, and returns it.
func (w *Workspace) Apply(ctx context.Context, vars any) (State, error) {
	if err := w.set(ctx, vars); err != nil {
		return State{}, err
	}
	if _, err := w.Run(ctx, "apply", "-input=false", "-no-color", "-auto-approve"); err != nil {
		return State{}, err
	}
	var shown struct {
		Values shownValues `json:"values"`
	}
	if err := w.show(ctx, &shown); err != nil {
		return State{}, err
	}
	return shown.Values.state(), nil
}

// set writes the variables, and finds the modules that the folder uses.
func (w *Workspace) set(ctx context.Context, vars any) error {
	data, err := json.Marshal(vars)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "terraform.tfvars.json"), data, 0o600); err != nil {
		return err
	}
	_, err = w.Run(ctx, "get")
	return err
}

func (w *Workspace) show(ctx context.Context, into any, args ...string) error {
	text, err := w.Run(ctx, append([]string{"show", "-json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// shownValues is what `tofu show -json` has of a plan's or a state's values.
type shownValues struct {
	Outputs map[string]struct {
		Value json.RawMessage `json:"value"`
	} `json:"outputs"`
	Root shownModule `json:"root_module"`
}

type shownModule struct {
	Resources []Resource    `json:"resources"`
	Children  []shownModule `json:"child_modules"`
}

func (v shownValues) state() State {
	s := State{Outputs: map[string]json.RawMessage{}}
	for _, name := range slices.Collect(maps.Keys(v.Outputs)) {
		if value := v.Outputs[name].Value; value != nil {
			s.Outputs[name] = value
		}
	}
	var add func(shownModule)
	add = func(m shownModule) {
		s.Resources = append(s.Resources, m.Resources...)
		for _, child := range m.Children {
			add(child)
		}
	}
	add(v.Root)
	return s
}

// repository is the folder of the go.mod above the test.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

// copyTree copies a tree without what a tofu of somebody's own has left in it.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case d.IsDir() && d.Name() == ".terraform":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular() || strings.Contains(d.Name(), ".tfstate") || strings.Contains(d.Name(), ".tfvars"):
			return nil
		}
		data, err := os.ReadFile(file)
		return errors.Join(err, os.WriteFile(target, data, 0o600))
	})
}
