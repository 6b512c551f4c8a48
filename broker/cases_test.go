package broker_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// families are the threat cases of cases.md: the letters, and how many there are.
var families = []struct {
	letters string
	cases   int
}{{"CC", 32}, {"ST", 20}, {"DS", 20}, {"SC", 24}}

var (
	citation = regexp.MustCompile(`\b(?:CC|ST|DS|SC)(\d\d)\b(?: to (?:CC|ST|DS|SC)(\d\d)\b)?`)
	caseRow  = regexp.MustCompile(`\A\| ((?:CC|ST|DS|SC)\d\d) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|\z`)
	testName = regexp.MustCompile("`([a-z0-9/-]+)\\.((?:Test|Fuzz|Benchmark)\\w+)`")
)

// cited returns the cases that a text names, alone or as "CC01 to CC04".
func cited(text string) []string {
	var ids []string
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		first, _ := strconv.Atoi(m[1])
		last := first
		if m[2] != "" {
			last, _ = strconv.Atoi(m[2])
		}
		for n := first; n <= last; n++ {
			ids = append(ids, fmt.Sprintf("%s%02d", m[0][:2], n))
		}
	}
	return ids
}

// tests are what the test files below a folder name, by test and by what is no test
// (the name of the file then): :: "broker/limits.TestX" → the cases that it names.
type tests map[string]map[string]bool

// readTests reads every test file below root.
func readTests(root string) (tests, error) {
	found := tests{}
	return found, eachFile(root, func(name string, tree *ast.File) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		var within []*ast.FuncDecl
		for _, d := range tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && testName.MatchString("`x."+f.Name.Name+"`") {
				within = append(within, f)
				found[path.Dir(name)+"."+f.Name.Name] = map[string]bool{}
			}
		}
		note := func(from token.Pos, text string) {
			owner := name
			for _, f := range within {
				begin := f.Pos()
				if f.Doc != nil {
					begin = f.Doc.Pos()
				}
				if begin <= from && from < f.End() {
					owner = path.Dir(name) + "." + f.Name.Name
				}
			}
			for _, id := range cited(text) {
				if found[owner] == nil {
					found[owner] = map[string]bool{}
				}
				found[owner][id] = true
			}
		}
		for _, c := range tree.Comments {
			note(c.Pos(), c.Text())
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				note(l.Pos(), l.Value)
			}
			return true
		})
	})
}

// eachFile parses every Go file below root, by its name there.
func eachFile(root string, visit func(name string, tree *ast.File)) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && file != root
			if hidden || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "peers" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		visit(filepath.ToSlash(name), tree)
		return err
	})
}

// checkCases returns what is wrong between a table of cases and the tests.
func checkCases(table string, found tests) []string {
	var problems, ids []string
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for line := range strings.Lines(table) {
		m := caseRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			if len(cited(line)) > 0 && strings.HasPrefix(line, "|") {
				report("not a row: %s", line)
			}
			continue
		}
		id, names := m[1], testName.FindAllStringSubmatch(m[4], -1)
		ids = append(ids, id)
		if len(names) == 0 {
			report("%s has no test", id)
		}
		for _, n := range names {
			test := n[1] + "." + n[2]
			switch named, ok := found[test]; {
			case !ok:
				report("%s: there is no test %s", id, test)
			case !named[id]:
				report("%s: %s does not name it", id, test)
			}
		}
	}
	var want []string
	for _, f := range families {
		for n := range f.cases {
			want = append(want, fmt.Sprintf("%s%02d", f.letters, n+1))
		}
	}
	if !slices.Equal(ids, want) {
		report("the rows are %q, want %q", ids, want)
	}
	for _, where := range slices.Sorted(maps.Keys(found)) {
		for _, id := range slices.Sorted(maps.Keys(found[where])) {
			if !slices.Contains(want, id) {
				report("%s names %s, which is no case", where, id)
			}
		}
	}
	return problems
}

func TestEachThreatCaseHasATestThatNamesIt(t *testing.T) {
	table, err := os.ReadFile("cases.md")
	if err != nil {
		t.Fatal(err)
	}
	found, err := readTests("..")
	if err != nil {
		t.Fatal(err)
	}
	delete(found, "broker.TestTheTableOfCasesIsHeld") // names cases as examples
	for _, p := range checkCases(string(table), found) {
		t.Error(p)
	}
}

// The check is itself checked: each rule against a table or a test that breaks it.
func TestTheTableOfCasesIsHeld(t *testing.T) {
	var good strings.Builder
	source := "package x\n\nimport \"testing\"\n\n// "
	for _, f := range families {
		source += fmt.Sprintf("%s01 to %s%02d ", f.letters, f.letters, f.cases)
		for n := range f.cases {
			fmt.Fprintf(&good, "| %s%02d | a case | what is to be | `x.TestAll` |\n", f.letters, n+1)
		}
	}
	source += "\nfunc TestAll(t *testing.T) {}\n"
	for _, tc := range []struct{ name, oldTable, newTable, more, want string }{
		{name: "as it should be"},
		{name: "a row without a test", oldTable: "what is to be | `x.TestAll`", newTable: "what is to be | none", want: "CC01 has no test"},
		{name: "a test that is not there", oldTable: "`x.TestAll`", newTable: "`x.TestAll`, `x.TestNone`", want: "there is no test x.TestNone"},
		{name: "a test elsewhere", oldTable: "`x.TestAll`", newTable: "`x.TestAll`, `y.TestAll`", want: "there is no test y.TestAll"},
		{
			name: "a test that does not name it", oldTable: "`x.TestAll`", newTable: "`x.TestAll`, `x.TestOther`",
			more: "func TestOther(t *testing.T) {}\n", want: "CC01: x.TestOther does not name it",
		},
		{name: "a row that is missing", oldTable: "| CC01 | a case | what is to be | `x.TestAll` |\n", want: "the rows are"},
		{name: "a row without a case", oldTable: "| CC01 | a case |", newTable: "| CC01 |", want: "not a row"},
		{name: "a test names what is no case", more: "func TestOther(t *testing.T) {\n\tt.Log(\"DS21\")\n}\n", want: "x.TestOther names DS21, which is no case"},
		{name: "in a comment inside", more: "func TestOther(t *testing.T) {\n\t// ST20 to ST22\n}\n", want: "x.TestOther names ST22, which is no case"},
		{name: "a helper names what is no case", more: "// CC33\nfunc helper() {}\n", want: "x/x_test.go names CC33, which is no case"},
		{name: "a helper may name a case", more: "// CC32\nfunc helper() {}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "x", "x_test.go"), []byte(source+tc.more), 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := readTests(root)
			if err != nil {
				t.Fatal(err)
			}
			problems := checkCases(strings.Replace(good.String(), tc.oldTable, tc.newTable, 1), found)
			is := func(p string) bool { return strings.Contains(p, tc.want) }
			if tc.want == "" && len(problems) > 0 || tc.want != "" && !slices.ContainsFunc(problems, is) {
				t.Errorf("%q, want %q", problems, tc.want)
			}
		})
	}
}

// Threat case DS18: names that callers choose are looked up in Go's own maps, whose
// hash nobody outside can know. No package brings a quick hash of its own to look
// things up by.
func TestNoPackageBringsAHashThatCanBeFlooded(t *testing.T) {
	quick := []string{"hash/adler32", "hash/crc32", "hash/crc64", "hash/fnv", "hash/maphash"}
	files := 0
	if err := eachFile("..", func(name string, tree *ast.File) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "broker/brokertest/") {
			return
		}
		files++
		for _, i := range tree.Imports {
			if imported, err := strconv.Unquote(i.Path.Value); err != nil || slices.Contains(quick, imported) {
				t.Errorf("%s imports %s, %v", name, imported, err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("%d files were read", files)
	}
}
