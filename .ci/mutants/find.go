package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"hash/fnv"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// edit replaces the bytes from start to end.
type edit struct {
	start, end int
	text       string
}

// fate is what became of a mutant.
type fate int

const (
	untested fate = iota
	killed
	unbuildable
	survived
)

// mutant is a file with one guard taken out.
type mutant struct {
	file      string // below the root, with slashes
	line, col int
	function  string
	kind      string   // what was done to the expression
	expr      string   // as it stands in the source, on one line
	variants  [][]edit // tried in turn until one compiles
	src       []byte
	fate      fate
}

func (m *mutant) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s: %s", m.file, m.line, m.col, m.function, m.kind, m.expr)
}

// hash does not depend on the line, so that a sample stays the same when
// something else in the file changes.
func (m *mutant) hash() uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(m.file + "\x00" + m.function + "\x00" + m.kind + "\x00" + m.expr))
	return h.Sum32()
}

// apply returns the file with the edits made.
func (m *mutant) apply(edits []edit) []byte {
	sorted := slices.SortedFunc(slices.Values(edits), func(a, b edit) int { return b.start - a.start })
	out := slices.Clone(m.src)
	for _, e := range sorted { // from the end, so that the offsets hold
		out = slices.Replace(out, e.start, e.end, []byte(e.text)...)
	}
	return out
}

// find returns the mutants of the package in dir, in the order of the source.
func find(root, dir string) ([]*mutant, error) {
	pkg, err := build.ImportDir(filepath.Join(root, filepath.FromSlash(dir)), 0)
	if err != nil {
		return nil, fmt.Errorf("find guards: %w", err)
	}
	var all []*mutant
	for _, name := range pkg.GoFiles {
		src, err := os.ReadFile(filepath.Join(pkg.Dir, name)) //nolint:gosec // the developer names the package
		if err != nil {
			return nil, fmt.Errorf("find guards: %w", err)
		}
		found, err := findIn(path.Join(dir, name), src)
		if err != nil {
			return nil, fmt.Errorf("find guards: %w", err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// finder collects the mutants of one file.
type finder struct {
	fset     *token.FileSet
	src      []byte
	file     string
	function string
	before   map[*ast.IfStmt]ast.Stmt // :: if → the statement in front of it
	found    []*mutant
}

func findIn(file string, src []byte) ([]*mutant, error) {
	f := &finder{fset: token.NewFileSet(), src: src, file: file, before: map[*ast.IfStmt]ast.Stmt{}}
	tree, err := parser.ParseFile(f.fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, decl := range tree.Decls {
		f.function = nameOf(decl)
		ast.PreorderStack(decl, nil, func(n ast.Node, stack []ast.Node) bool {
			f.node(n, stack)
			return true
		})
	}
	slices.SortStableFunc(f.found, func(a, b *mutant) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.col - b.col
	})
	return f.found, nil
}

// nameOf names a function "f" and a method "T.f".
func nameOf(decl ast.Decl) string {
	fn, ok := decl.(*ast.FuncDecl)
	if !ok {
		return "-" // a variable's value
	}
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	receiver := fn.Recv.List[0].Type
	for {
		switch t := receiver.(type) {
		case *ast.StarExpr:
			receiver = t.X
		case *ast.IndexExpr:
			receiver = t.X
		case *ast.IndexListExpr:
			receiver = t.X
		case *ast.Ident:
			return t.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

func (f *finder) add(at ast.Node, kind, expr string, variants ...[]edit) {
	p := f.fset.Position(at.Pos())
	f.found = append(f.found, &mutant{
		file: f.file, line: p.Line, col: p.Column, function: f.function, kind: kind, expr: expr, variants: variants, src: f.src,
	})
}

func (f *finder) offsets(n ast.Node) (int, int) {
	return f.fset.Position(n.Pos()).Offset, f.fset.Position(n.End()).Offset
}

func (f *finder) source(n ast.Node) string {
	start, end := f.offsets(n)
	return string(f.src[start:end])
}

// text is the source on one line.
func (f *finder) text(n ast.Node) string { return strings.Join(strings.Fields(f.source(n)), " ") }

// constant makes the expression true or false and keeps its variables in use.
func (f *finder) constant(e ast.Expr, value bool) edit {
	start, end := f.offsets(e)
	if value {
		return edit{start, end, "(true || (" + f.source(e) + "))"}
	}
	return edit{start, end, "(false && (" + f.source(e) + "))"}
}
