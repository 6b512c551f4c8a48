package main

import (
	"go/ast"
	"slices"
	"strings"
)

// clauses leaves out each case that leaves the function. In a switch with a tag
// the case is cut out, and the switch as it was stands in front, never run, to
// keep what the case used in use; a case that is cut out leaves none in its place.
func (f *finder) clauses(s ast.Stmt, list []ast.Stmt, tagless bool, none string, stack []ast.Node) {
	at, _ := f.offsets(s)
	unused := edit{at, at, "if false { " + f.source(s) + "\n}; "}
	for i, c := range list {
		clause, ok := c.(*ast.CaseClause)
		if !ok || !leaves(clause.Body) {
			continue
		}
		start, end := f.span(s, list, i)
		switch {
		case clause.List == nil:
			f.defaultClause(clause, stack)
		case tagless:
			for _, e := range clause.List {
				f.add(e, "case false", f.text(e), []edit{f.constant(e, false)})
			}
		case len(clause.List) == 1:
			f.add(clause, "case dropped", f.text(clause.List[0]), []edit{unused, {start, end, none}})
		default:
			for k, e := range clause.List {
				rest := make([]string, 0, len(clause.List))
				for l, other := range clause.List {
					if l != k {
						rest = append(rest, f.source(other))
					}
				}
				from, _ := f.offsets(clause.List[0])
				_, to := f.offsets(clause.List[len(clause.List)-1])
				f.add(e, "case dropped", f.text(e), []edit{unused, {from, to, strings.Join(rest, ", ")}})
			}
		}
	}
}

// span is where the i-th clause of a switch or select stands, up to the next one
// or the closing brace.
func (f *finder) span(s ast.Stmt, list []ast.Stmt, i int) (int, int) {
	start, _ := f.offsets(list[i])
	if i+1 < len(list) {
		end, _ := f.offsets(list[i+1])
		return start, end
	}
	_, end := f.offsets(s)
	return start, end - 1
}

// noClause is a case that nothing falls into, for the variable of `switch v :=
// x.(type)`, which somebody must use. It ends the function, as what it replaces.
func noClause(s *ast.TypeSwitchStmt) string {
	bound, ok := s.Assign.(*ast.AssignStmt)
	if !ok {
		return ""
	}
	name, _ := bound.Lhs[0].(*ast.Ident)
	return "case interface{ mutant() }: _ = " + name.Name + "; panic(`unreachable`)\n"
}

// defaultClause lets the default do nothing or, where the function must return
// something, return zero values.
func (f *finder) defaultClause(clause *ast.CaseClause, stack []ast.Node) {
	last, ok := clause.Body[len(clause.Body)-1].(*ast.ReturnStmt)
	if ok && len(clause.Body) == 1 && !slices.ContainsFunc(last.Results, func(e ast.Expr) bool { return !f.isZero(e) }) {
		return
	}
	start, _ := f.offsets(clause.Body[0])
	_, end := f.offsets(clause.Body[len(clause.Body)-1])
	body := "if false { " + string(f.src[start:end]) + "\n}"
	variants := [][]edit{{{start, end, body}}}
	if ok {
		var zeros []string
		for _, result := range results(stack) {
			zeros = append(zeros, "*new("+f.source(result)+")")
		}
		variants = append(variants, []edit{{start, end, body + "; return " + strings.Join(zeros, ", ")}})
	}
	f.add(clause, "default dropped", f.text(clause.Body[len(clause.Body)-1]), variants...)
}

func (f *finder) isZero(e ast.Expr) bool {
	return slices.Contains([]string{"false", "nil", "0", `""`}, f.text(e))
}

func (f *finder) selectStmt(s *ast.SelectStmt) {
	at, _ := f.offsets(s)
	unused := edit{at, at, "if false { " + f.source(s) + "\n}; "}
	for i, c := range s.Body.List {
		if clause, ok := c.(*ast.CommClause); ok && clause.Comm != nil && leaves(clause.Body) {
			start, end := f.span(s, s.Body.List, i)
			f.add(clause, "case dropped", f.text(clause.Comm), []edit{unused, {start, end, ""}})
		}
	}
}
