package clients_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the snippets of deploy/clients.md")

const page = "../../../deploy/clients.md"

// included is a snippet in the page: the file's name in a comment, and the file.
var included = regexp.MustCompile("(?s)<!-- file: (\\S+) -->\n```([a-z]*)\n(.*?)```\n")

// The page holds the files that the other tests run, byte for byte.
func TestThePageHoldsTheSnippets(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	now := included.ReplaceAllStringFunc(string(text), func(block string) string {
		m := included.FindStringSubmatch(block)
		held = append(held, m[1])
		file, err := os.ReadFile(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1])))
		if err != nil {
			t.Error(err)
			return block
		}
		return "<!-- file: " + m[1] + " -->\n```" + m[2] + "\n" + string(file) + "```\n"
	})
	switch {
	case now == string(text):
	case *update:
		if err := os.WriteFile(page, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("a snippet differs from its file: run `go test ./broker/brokertest/clients -run Page -update`")
	}
	if n := strings.Count(now, "<!-- file: "); n != len(held) {
		t.Errorf("%d of %d snippets are read: the form is a comment, then a block", len(held), n)
	}
	used := tests(t)
	for _, name := range files(t, snippets) {
		if !slices.Contains(held, "clients/"+name) {
			t.Errorf("clients/%s is not in the page", name)
		}
		if !strings.Contains(used, name) {
			t.Errorf("no test runs clients/%s", name)
		}
	}
}

// Each block of the page that somebody could run is one that a test runs; plain
// words of a single line are not.
func TestThePageHasNoOtherCode(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rest := included.ReplaceAllString(string(text), "")
	if i := strings.Index(rest, "```"); i >= 0 {
		t.Errorf("a block that no test runs: %.200s", rest[i:])
	}
}

// files are the names below a folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// tests is the text of what runs the snippets.
func tests(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range []string{"*_test.go", "page/*.js"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}
