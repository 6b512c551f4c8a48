package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module writes a small module and returns its root.
func module(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files["go.mod"] = "module example.test\n\ngo 1.26\n"
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// contents reads all files below root.
func contents(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		all[file] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const guarded = `package guard

import "errors"

func Name(s string) error {
	if s == "" {
		return errors.New("empty")
	}
	if len(s) > 3 {
		return errors.New("long")
	}
	return nil
}
`

const guardedTest = `package guard_test

import (
	"testing"

	"example.test/guard"
)

func TestName(t *testing.T) {
	if guard.Name("") == nil || guard.Name("a") != nil {
		t.Error("wrong")
	}
}
`

// cells are the figures of a package's line of the table, seconds aside.
func cells(out, name string) string {
	for _, line := range strings.Split(out, "\n") {
		if fields := strings.Fields(line); len(fields) == 7 && fields[0] == name {
			return strings.Join(fields[1:6], " ")
		}
	}
	return "none"
}

func TestExactlyTheGuardWithoutATestSurvives(t *testing.T) {
	const survivor = "guard/guard.go:9:5: Name: if false: len(s) > 3\n"
	for _, tc := range []struct {
		name, excuses string
		code          int
		want, table   string
	}{
		{"no excuse", "", 1, survivor, "2 1 0 0 1"},
		{"an excuse", "# why not\n\nguard/guard.go: Name: len(s) > 3 # a reason: with # in it\n", 0, "", "2 1 0 1 0"},
		{"an excuse for one change", "guard/guard.go: Name: if false: len(s) > 3 # a reason\n", 0, "", "2 1 0 1 0"},
		{"an excuse for another change", "guard/guard.go: Name: if true: len(s) > 3 # a reason\n", 1, survivor + excusesFile + ":1: Name has no such guard: if true: len(s) > 3\n", "2 1 0 0 1"},
		{"an excuse in another function", "guard/guard.go: Names: len(s) > 3 # a reason\n", 1, survivor + excusesFile + ":1: Names has no such guard: len(s) > 3\n", "2 1 0 0 1"},
		{"an excuse of another file", "guard/gone.go: Name: len(s) > 3 # a reason\n", 1, survivor + excusesFile + ":1: there is no file guard/gone.go\n", "2 1 0 0 1"},
		{
			"an excuse that is not needed", "guard/guard.go: Name: len(s) > 3 # a reason\nguard/guard.go: Name: s == \"\" # a reason\n", 1,
			excusesFile + ":2: a test holds it, no excuse is needed: Name: s == \"\"\n", "2 1 0 1 0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := module(t, map[string]string{"guard/guard.go": guarded, "guard/guard_test.go": guardedTest, excusesFile: tc.excuses})
			before := contents(t, root)
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), root, []string{"-j", "2", "./guard"}, &stdout, &stderr); code != tc.code {
				t.Errorf("code %d, want %d: %s", code, tc.code, stderr.String())
			}
			said, _, _ := strings.Cut(stdout.String(), " package  guards")
			if strings.TrimRight(said, " ") != tc.want {
				t.Errorf("said %q\nwant %q", said, tc.want)
			}
			if got := cells(stdout.String(), "guard"); got != tc.table {
				t.Errorf("table %q, want %q", got, tc.table)
			}
			after := contents(t, root)
			for name := range after {
				if after[name] != before[name] {
					t.Errorf("%s was touched", name)
				}
			}
			if len(after) != len(before) {
				t.Errorf("%d files, before %d", len(after), len(before))
			}
		})
	}
}

func TestNothingIsSaidOfWhatCannotBeTested(t *testing.T) {
	files := func(change map[string]string) map[string]string {
		all := map[string]string{"guard/guard.go": guarded, "guard/guard_test.go": guardedTest}
		for name, text := range change {
			all[name] = text
		}
		return all
	}
	for _, tc := range []struct {
		name, want string
		files      map[string]string
		args       []string
	}{
		{"tests that fail as it is", "fail without a mutant", files(map[string]string{"guard/x_test.go": "package guard\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Fail() }\n"}), []string{"guard"}},
		{"tests that do not compile", "fail without a mutant", files(map[string]string{"guard/x_test.go": "package guard\nvar x int = nil\n"}), []string{"guard"}},
		{"code that does not parse", "find guards", files(map[string]string{"guard/guard.go": "package guard\nfunc\n"}), []string{"guard"}},
		{"no package", "find guards", files(nil), []string{"other"}},
		{"an excuse without a reason", "no reason", files(map[string]string{excusesFile: "guard/guard.go: Name: x\n"}), []string{"guard"}},
		{"an excuse with an empty reason", "no reason", files(map[string]string{excusesFile: "guard/guard.go: Name: x # \n"}), []string{"guard"}},
		{"an excuse of nothing", "not of the form", files(map[string]string{excusesFile: "guard/guard.go: x # y\n"}), []string{"guard"}},
		{"no part of a whole", "no part of a whole", files(nil), []string{"-sample", "3/2", "guard"}},
		{"part zero", "no part of a whole", files(nil), []string{"-sample", "0/2", "guard"}},
		{"no workers", "at least 1", files(nil), []string{"-j", "0", "guard"}},
		{"no such flag", "not defined", files(nil), []string{"-x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), module(t, tc.files), tc.args, &stdout, &stderr)
			if code != 2 || !strings.Contains(stderr.String(), tc.want) || stdout.Len() > 0 {
				t.Errorf("code %d, said %q and %q; want %q", code, stdout.String(), stderr.String(), tc.want)
			}
		})
	}
}

// A loop without an end is killed, and what does not compile is told apart.
func TestMutantsThatHangOrDoNotCompileAreNoSurvivors(t *testing.T) {
	root := module(t, map[string]string{
		"guard/guard.go": `package guard

func Count(n int) int {
	all := []string{}
	for {
		if n < 1 {
			break
		}
		n--
		all = append(all, "")
	}
	return len(all)
}

func Label(n int) int {
L:
	switch n {
	case 1:
		if n > 0 {
			break L
		}
		return 2
	}
	return n
}

func Kind(a any) int {
	switch v := a.(type) {
	case int:
		return v
	default:
		return 0
	}
}
`,
		"guard/guard_test.go": `package guard

import "testing"

func TestGuard(t *testing.T) {
	if Count(3) != 3 || Label(3) != 3 || Kind(1) != 1 {
		t.Error("wrong")
	}
}
`,
	})
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), root, []string{"-timeout", "20s", "-run", `guard\.go:\d+ (Count|Label|Kind)$`, "guard"}, &stdout, &stderr)
	if got := cells(stdout.String(), "guard"); code != 1 || got != "4 2 1 0 1" {
		t.Errorf("code %d, table %q, said %s%s", code, got, stdout.String(), stderr.String())
	}
	if !strings.HasPrefix(stdout.String(), "guard/guard.go:19:6: Label: if false: n > 0\n") {
		t.Errorf("said %s", stdout.String())
	}
}

func TestEveryGuardIsFound(t *testing.T) {
	for _, tc := range []struct {
		name, code string // of a function
		want       []string
	}{
		{"a refusal", "func f(a bool) bool { if a { return false }; return true }", []string{"if false: a"}},
		{"a refusal by continue", "func f(a []bool) { for _, x := range a { if x { continue }; println() } }", []string{"if false: x"}},
		{"a refusal that is collected", "func f(a bool) (errs []error) { if a { errs = append(errs, nil) }; return }", []string{"if false: a"}},
		{"no refusal", "func f(a bool) { if a { println() } }", nil},
		{"a refusal in an else", "func f(a bool) int { if a { println() } else { return 1 }; return 2 }", []string{"if true: a"}},
		{"what is judged, before", "func f() { err := g(1); if err != nil { return } }", []string{"if false: err := g(1); err != nil"}},
		{"what is judged, at once", "func f() { if err := g(); err != nil { return } }", []string{"if false: err := g(); err != nil"}},
		{"something else before", "func f(err error) { x := g(); if err != nil { return }; _ = x }", []string{"if false: err != nil"}},
		{"a long one before", "func f() { err := g(`" + strings.Repeat("x", 60) + "`); if err != nil { return } }", []string{"if false: err := g(...); err != nil"}},
		{"alternatives", "func f(a, b, c bool) { if a || b || c { return } }", []string{"if false: a || b || c", "|| false: a in a || b || c", "|| false: b in a || b || c", "|| false: c in a || b || c"}},
		{"conditions", "func f(a, b bool) { if a && b { return } }", []string{"if false: a && b", "&& true: a in a && b", "&& true: b in a && b"}},
		{"both", "func f(a, b, c bool) { if (a || b) && c { return } }", []string{
			"if false: (a || b) && c", "&& true: (a || b) in (a || b) && c", "|| false: a in a || b", "|| false: b in a || b", "&& true: c in (a || b) && c",
		}},
		{"both, inverted", "func f(a, b, c bool) { if !(a || b && c) { return } }", []string{
			"if false: !(a || b && c)", "|| false: a in a || b && c", "|| false: b && c in a || b && c", "&& true: b in b && c", "&& true: c in b && c",
		}},
		{"alternatives that are kept", "func f(a, b bool) { x := a || b; println(x) }", []string{"|| false: a in a || b", "|| false: b in a || b"}},
		{"a result", "func f(a, b int) bool { return a == b }", []string{"result true: a == b", "result false: a == b"}},
		{"a second result", "func f(a, b int) (x, y int, z bool) { return 1, 2, a == b }", []string{"result true: a == b", "result false: a == b"}},
		{"a literal result", "func f() bool { return true }", nil},
		{"the result of a function within", "func f() int { _ = func() bool { return g() }; return 1 }", []string{"result true: g()", "result false: g()"}},
		{"a demand", "func f(a, b int) { demand(a == b, 1+2, a) }", []string{"argument true: a == b", "argument false: a == b"}},
		{"a demand of not", "func f(a bool) { demand(!a, -1) }", []string{"argument true: !a", "argument false: !a"}},
		{"a demand that never holds", "func f() { demand(false) }", []string{"argument true: demand(false)"}},
		{"cases without a tag", "func f(a, b bool) int { switch { case a, b: return 1 }; return 2 }", []string{"case false: a", "case false: b"}},
		{"a case", "func f(a int) int { switch a { case 1: return 1; case 2: println() }; return 2 }", []string{"case dropped: 1"}},
		{"cases", "func f(a int) int { switch a { case 1, 2: return 1 }; return 2 }", []string{"case dropped: 1", "case dropped: 2"}},
		{"a type", "func f(a any) int { switch v := a.(type) { case int: return v }; return 2 }", []string{"case dropped: int"}},
		{"a default", "func f(a int) error { switch a { case 1: return nil; default: return errX } }", []string{"case dropped: 1", "default dropped: return errX"}},
		{"a default of zero", "func f(a int) (bool, error) { switch a { case 1: println(); default: return false, nil }; return true, nil }", nil},
		{"a select", "func f(a, b chan int) { select { case <-a: return; case b <- 1: println() } }", []string{"case dropped: <-a"}},
		{"a method", "type T[K any] struct{}\nfunc (t *T[K]) f(a bool) { if a { return } }", []string{"if false: a"}},
		{"outside of functions", "var x = func(a bool) bool { return !a }", []string{"result true: !a", "result false: !a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := findIn("x.go", []byte("package x\n\n"+tc.code+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range found {
				got = append(got, m.kind+": "+m.expr)
				for _, edits := range m.variants {
					changed := m.apply(edits)
					if _, err := parser.ParseFile(token.NewFileSet(), "x.go", changed, 0); err != nil || bytes.Equal(changed, m.src) {
						t.Errorf("%s: %v: %s", m, err, changed)
					}
				}
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tc.want))
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestPartsMakeUpTheWhole(t *testing.T) {
	root := module(t, map[string]string{"guard/guard.go": guarded, "guard/guard_test.go": guardedTest})
	list := func(args ...string) []string {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), root, append(append([]string{"-list"}, args...), "guard"), &stdout, &stderr); code != 0 {
			t.Fatalf("code %d: %s", code, stderr.String())
		}
		return strings.Split(strings.TrimSpace(stdout.String()), "\n")
	}
	whole := list()
	if len(whole) != 2 {
		t.Fatalf("%q", whole)
	}
	var parts []string
	for _, part := range []string{"1/3", "2/3", "3/3"} {
		for _, line := range list("-sample", part) {
			if line != "" {
				parts = append(parts, line)
			}
		}
	}
	slices.Sort(parts)
	if !slices.Equal(parts, slices.Sorted(slices.Values(whole))) {
		t.Errorf("parts %q of %q", parts, whole)
	}
	if !slices.Equal(list("-sample", "3"), list("-sample", "1/3")) {
		t.Error("a part without a number is not the first")
	}
	if got := list("-run", `guard\.go:9 Name`); !slices.Equal(got, whole[1:]) {
		t.Errorf("got %q", got)
	}
}

func TestTheTableNamesItsPackages(t *testing.T) {
	for _, target := range targets() {
		if found, err := find("../..", target.dir); err != nil || len(found) == 0 {
			t.Errorf("%s: %d guards, %v", target.dir, len(found), err)
		}
		if !slices.Equal(choose([]string{"./" + target.dir})[0].tests, target.tests) {
			t.Errorf("%s loses its tests when it is named", target.dir)
		}
	}
	if len(choose(nil)) != len(targets()) {
		t.Error("no name is not all")
	}
}
