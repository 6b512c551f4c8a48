// Package workflows_test holds the rules for .github: what is pinned, what a workflow
// may do, and that a pull request gets what .ci/run has.
package workflows_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const root = "../.."

type workflow struct {
	On          yaml.Node
	Permissions map[string]string
	Jobs        map[string]struct {
		Permissions map[string]string
		Timeout     int `yaml:"timeout-minutes"`
		Steps       []struct {
			Uses string
			Run  string
			With map[string]any
		}
	}
}

// workflows are all there are, by the file's name.
func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	files, err := filepath.Glob(root + "/.github/workflows/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no workflows", err)
	}
	all := map[string]workflow{}
	for _, file := range files {
		var w workflow
		if err := yaml.Unmarshal([]byte(read(t, file)), &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(w.Jobs) == 0 {
			t.Errorf("%s has no jobs", file)
		}
		all[filepath.Base(file)] = w
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// An action by a tag is whatever its owner, or who took the account, makes of the tag.
func TestActionsArePinnedByDigest(t *testing.T) {
	pinned := regexp.MustCompile(`^ *(- )?uses: [a-z0-9-]+/[a-z0-9-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$`)
	seen := map[string]string{} // :: action → digest and version
	for name := range workflows(t) {
		for line := range strings.Lines(read(t, root+"/.github/workflows/"+name)) {
			line = strings.TrimRight(line, "\n")
			if !strings.Contains(line, "uses:") {
				continue
			}
			if !pinned.MatchString(line) {
				t.Errorf("%s: %s", name, line)
			}
			action, digest, _ := strings.Cut(line, "@")
			if before := seen[action]; before != "" && before != digest {
				t.Errorf("%s: %s is pinned to %s and to %s", name, action, before, digest)
			}
			seen[action] = digest
		}
	}
	if len(seen) == 0 {
		t.Error("no workflow uses an action")
	}
}

// What may write is written here, too.
func TestWorkflowsHaveTheLeastPermissions(t *testing.T) {
	writes := []string{
		"release.yml binaries contents", "release.yml binaries id-token", "release.yml image id-token", "release.yml image packages",
	}
	var found []string
	for name, w := range workflows(t) {
		if w.Permissions == nil {
			t.Errorf("%s: without `permissions` a token may write", name)
		}
		for what, may := range w.Permissions {
			if what != "contents" || may != "read" {
				t.Errorf("%s: %s: %s for every job", name, what, may)
			}
		}
		for job, j := range w.Jobs {
			for what, may := range j.Permissions {
				if may == "write" {
					found = append(found, fmt.Sprintf("%s %s %s", name, job, what))
				}
			}
			if j.Timeout == 0 {
				t.Errorf("%s: %s has no timeout-minutes", name, job)
			}
			for _, step := range j.Steps {
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
					t.Errorf("%s: %s leaves its token in .git/config", name, job)
				}
				// It would be put into the script before a shell reads it, whatever it holds.
				if strings.Contains(step.Run, "${{") {
					t.Errorf("%s: %s: an expression in a script: %s", name, job, step.Run)
				}
			}
		}
		for _, trigger := range []string{"pull_request_target", "workflow_run"} {
			if strings.Contains(read(t, root+"/.github/workflows/"+name), trigger) {
				t.Errorf("%s: %s runs what a stranger wrote with this repository's rights", name, trigger)
			}
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, writes) {
		t.Errorf("may write:\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(writes, "\n"))
	}
}

// targets are the targets that a script calls.
func targets(script string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)(?:^\s*|&& |\.ci/engine |[A-Z]+=\S+ )make((?: [a-z-]+)+)`).FindAllStringSubmatch(script, -1) {
		all = append(all, strings.Fields(m[1])...)
	}
	return all
}

// A pull request is held to what main is held to, but for what takes too long.
func TestAPullRequestGetsWhatCIHas(t *testing.T) {
	made := map[string][]string{} // :: target → what comes before it
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):([^#=\n]*)`).FindAllStringSubmatch(read(t, root+"/Makefile"), -1) {
		made[m[1]] = strings.Fields(m[2])
	}
	var pulled []string
	for name, w := range workflows(t) {
		for _, j := range w.Jobs {
			for _, step := range j.Steps {
				for _, target := range targets(step.Run) {
					before, ok := made[target]
					if !ok {
						t.Errorf("%s: there is no make %s", name, target)
					}
					if strings.Contains(read(t, root+"/.github/workflows/"+name), "pull_request:") {
						pulled = append(append(pulled, target), before...)
					}
				}
			}
		}
	}
	script := regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(read(t, root+"/.ci/run"), "")
	wanted := targets(script)
	for _, target := range []string{"test", "terraform", "clients-test", "image-test", "chart", "vet", "lint", "image-lint", "release-lint"} {
		if !slices.Contains(wanted, target) {
			t.Errorf(".ci/run does not run make %s", target)
		}
	}
	for _, target := range wanted {
		if _, ok := made[target]; !ok {
			t.Errorf(".ci/run: there is no make %s", target)
		}
		if target != "fuzz" && !slices.Contains(pulled, target) {
			t.Errorf("no pull request runs make %s", target)
		}
	}
}

// Each module, package and image is looked after.
func TestDependabotKnowsEverything(t *testing.T) {
	var d struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directory   string
			Directories []string
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, root+"/.github/dependabot.yml")), &d); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{} // :: ecosystem and folder
	for _, u := range d.Updates {
		for _, dir := range append(u.Directories, u.Directory) {
			if dir != "" {
				known[u.Ecosystem+" "+dir] = true
			}
		}
	}
	kinds := map[string]string{"go.mod": "gomod", "package-lock.json": "npm", "Dockerfile": "docker"}
	used := map[string]bool{"github-actions /": true}
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "node_modules" || e.Name() == ".git" || e.Name() == "testdata") {
			return fs.SkipDir
		}
		kind := kinds[e.Name()]
		if e.IsDir() || kind == "" {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		dir = strings.TrimSuffix("/"+filepath.ToSlash(dir), "/.")
		if dir == "" {
			dir = "/"
		}
		used[kind+" "+dir] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(used)); !slices.Equal(got, want) {
		t.Errorf("dependabot.yml has\n%s\nand there are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
