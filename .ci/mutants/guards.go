package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// node adds the mutants of one node. Which guards there are:
//
//	if c { …; return }        c → false; the same with continue, break, and
//	                          errs = append(errs, …)
//	if c { … } else { return } c → true
//	a || b, a && b            each operand is left out, wherever they stand
//	switch { case c: return } c → false
//	switch x { case a, b: return }  a left out, b left out
//	default: return …         left out
//	select { case …: return } left out
//	return c                  of type bool: true, false
//	demand(c, …)              c is seen to be a condition: true, false
func (f *finder) node(n ast.Node, stack []ast.Node) {
	switch n := n.(type) {
	case *ast.BlockStmt:
		f.remember(n.List)
	case *ast.CaseClause:
		f.remember(n.Body)
	case *ast.CommClause:
		f.remember(n.Body)
	case *ast.IfStmt:
		f.ifStmt(n)
	case *ast.BinaryExpr:
		parent, _ := stack[len(stack)-1].(*ast.BinaryExpr)
		if (n.Op == token.LOR || n.Op == token.LAND) && (parent == nil || parent.Op != n.Op) {
			f.operands(n, n.Op, f.text(n))
		}
	case *ast.SwitchStmt:
		f.clauses(n, n.Body.List, n.Tag == nil, "", stack)
	case *ast.TypeSwitchStmt:
		f.clauses(n, n.Body.List, false, noClause(n), stack)
	case *ast.SelectStmt:
		f.selectStmt(n)
	case *ast.ReturnStmt:
		f.returnStmt(n, stack)
	case *ast.CallExpr:
		f.arguments(n)
	}
}

// leaves reports whether the statements end in one that a guard ends in.
func leaves(list []ast.Stmt) bool {
	if len(list) == 0 {
		return false
	}
	switch last := list[len(list)-1].(type) {
	case *ast.ReturnStmt:
		return true
	case *ast.BranchStmt:
		return last.Tok == token.CONTINUE || last.Tok == token.BREAK
	case *ast.AssignStmt: // errors that are reported together
		if len(last.Rhs) != 1 {
			return false
		}
		call, ok := last.Rhs[0].(*ast.CallExpr)
		if !ok {
			return false
		}
		name, ok := call.Fun.(*ast.Ident)
		return ok && name.Name == "append"
	}
	return false
}

// remember notes what stands in front of each if: `err != nil` alone says little.
func (f *finder) remember(list []ast.Stmt) {
	for i, s := range list {
		if guard, ok := s.(*ast.IfStmt); ok && i > 0 {
			f.before[guard] = list[i-1]
		}
	}
}

func (f *finder) ifStmt(s *ast.IfStmt) {
	if leaves(s.Body.List) {
		f.add(s.Cond, "if false", f.header(s), []edit{f.constant(s.Cond, false)})
	}
	if other, ok := s.Else.(*ast.BlockStmt); ok && leaves(other.List) {
		f.add(s.Cond, "if true", f.header(s), []edit{f.constant(s.Cond, true)})
	}
}

// header is the condition, and in front of it what it judges: the init
// statement, or the assignment on the line before.
func (f *finder) header(s *ast.IfStmt) string {
	if s.Init != nil {
		return f.text(s.Init) + "; " + f.text(s.Cond)
	}
	assigned, ok := f.before[s].(*ast.AssignStmt)
	if !ok || !sharesName(assigned.Lhs, s.Cond) {
		return f.text(s.Cond)
	}
	left := make([]string, len(assigned.Lhs))
	for i, e := range assigned.Lhs {
		left[i] = f.text(e)
	}
	right := f.text(assigned.Rhs[0])
	if call, ok := assigned.Rhs[0].(*ast.CallExpr); ok && len(right) > 60 {
		right = f.text(call.Fun) + "(...)"
	}
	return strings.Join(left, ", ") + " " + assigned.Tok.String() + " " + right + "; " + f.text(s.Cond)
}

// sharesName reports whether the condition speaks of what was assigned.
func sharesName(assigned []ast.Expr, cond ast.Expr) bool {
	shares := false
	ast.Inspect(cond, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok {
			shares = shares || slices.ContainsFunc(assigned, func(e ast.Expr) bool {
				left, ok := e.(*ast.Ident)
				return ok && left.Name == name.Name
			})
		}
		return true
	})
	return shares
}

// operands leaves out each operand of a chain of one operator, and names it by
// the chain too: `!ok` alone could be anywhere.
func (f *finder) operands(e ast.Expr, op token.Token, chain string) {
	if b, ok := e.(*ast.BinaryExpr); ok && b.Op == op {
		f.operands(b.X, op, chain)
		f.operands(b.Y, op, chain)
		return
	}
	neutral := op == token.LAND
	f.add(e, op.String()+" "+strconv.FormatBool(neutral), f.text(e)+" in "+chain, []edit{f.constant(e, neutral)})
}

// results are the types of what the innermost function returns.
func results(stack []ast.Node) []ast.Expr {
	for _, n := range slices.Backward(stack) {
		var signature *ast.FuncType
		switch n := n.(type) {
		case *ast.FuncLit:
			signature = n.Type
		case *ast.FuncDecl:
			signature = n.Type
		default:
			continue
		}
		var types []ast.Expr
		if signature.Results != nil {
			for _, field := range signature.Results.List {
				for range max(1, len(field.Names)) {
					types = append(types, field.Type)
				}
			}
		}
		return types
	}
	return nil
}

func (f *finder) returnStmt(s *ast.ReturnStmt, stack []ast.Node) {
	types := results(stack)
	if len(types) != len(s.Results) {
		return // nothing, or what another function returns
	}
	for i, e := range s.Results {
		name, ok := types[i].(*ast.Ident)
		literal, isName := e.(*ast.Ident)
		if !ok || name.Name != "bool" || isName && (literal.Name == "true" || literal.Name == "false") {
			continue
		}
		f.add(e, "result true", f.text(e), []edit{f.constant(e, true)})
		f.add(e, "result false", f.text(e), []edit{f.constant(e, false)})
	}
}

// arguments are conditions where their form says so, without looking up types.
func (f *finder) arguments(call *ast.CallExpr) {
	for _, e := range call.Args {
		switch a := ast.Unparen(e).(type) {
		case *ast.BinaryExpr:
			if a.Op.Precedence() > token.EQL.Precedence() {
				continue // arithmetic
			}
		case *ast.UnaryExpr:
			if a.Op != token.NOT {
				continue
			}
		case *ast.Ident:
			if a.Name == "false" { // demand(false, …) where nothing else can be right
				start, end := f.offsets(e)
				f.add(e, "argument true", f.text(call), []edit{{start, end, "true"}})
			}
			continue
		default:
			continue
		}
		f.add(e, "argument true", f.text(e), []edit{f.constant(e, true)})
		f.add(e, "argument false", f.text(e), []edit{f.constant(e, false)})
	}
}
