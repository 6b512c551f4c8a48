package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// reader collects what is read and what is wrong.
type reader struct {
	file      string
	lookup    func(string) (string, bool)
	problems  Problems
	effective []string // path=value of everything read, defaults included
}

// node is a place in the file, or a key that is absent from it and has a
// default.
type node struct {
	r       *reader
	ast     ast.Node // nil: absent
	path    string   // "grants[0].prefix"
	key     string   // "grants[].prefix"
	at      ast.Node // where a problem with an absent key is shown
	missing string   // the default of an absent key
}

func (n node) problem(format string, args ...any) {
	at := n.ast
	if at == nil {
		at = n.at
	}
	p := Problem{File: n.r.file, Line: 1, Column: 1, Path: n.path, What: fmt.Sprintf(format, args...)}
	if at != nil && at.GetToken() != nil {
		p.Line, p.Column = at.GetToken().Position.Line, at.GetToken().Position.Column
	}
	n.r.problems = append(n.r.problems, p)
}

// absent reports whether the key is not in the file, or is there without a value.
func (n node) absent() bool {
	if n.ast == nil {
		return true
	}
	_, null := n.ast.(*ast.NullNode)
	return null
}

// object reads a mapping. Keys that are not in Keys, or that occur twice, are
// problems, as are required keys that are absent; each known key is in the
// result, present or not.
func (n node) object() map[string]node {
	known := map[string]node{}
	for _, k := range Keys() {
		parent, name := split(k.Path)
		if parent == n.key {
			known[name] = node{r: n.r, at: n.where(), path: join(n.path, name), key: k.Path, missing: k.Default}
		}
	}
	for _, e := range n.entries() {
		child, ok := known[e.name]
		switch {
		case !ok:
			node{r: n.r, ast: e.key, path: join(n.path, e.name)}.problem("unknown key")
			continue
		case child.ast != nil:
			node{r: n.r, ast: e.key, path: child.path}.problem("given twice")
			continue
		}
		child.ast = e.value
		known[e.name] = child
	}
	for _, child := range known {
		// Of a required mapping that is absent as a whole, that alone is said.
		if child.missing == Required && child.absent() && (n.missing != Required || !n.absent()) {
			child.problem("is missing")
		}
	}
	return known
}

func (n node) where() ast.Node {
	if n.ast != nil {
		return n.ast
	}
	return n.at
}

type entry struct {
	name       string
	key, value ast.Node
}

// entries returns the members of a mapping as they stand.
func (n node) entries() []entry {
	if n.absent() {
		return nil
	}
	var values []*ast.MappingValueNode
	switch m := n.ast.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		n.problem("must be a mapping")
	}
	var entries []entry
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			node{r: n.r, ast: v.Key, path: n.path}.problem("a key must be plain text")
			continue
		}
		entries = append(entries, entry{key.Value, key, v.Value})
	}
	return entries
}

// list returns the elements of a sequence, or of a default of one element.
func (n node) list() []node {
	if n.absent() {
		if n.missing == "" || n.missing == Required {
			return nil
		}
		return []node{{r: n.r, at: n.at, path: n.path, key: n.key + "[]", missing: n.missing}}
	}
	seq, ok := n.ast.(*ast.SequenceNode)
	if !ok {
		n.problem("must be a list")
		return nil
	}
	nodes := make([]node, len(seq.Values))
	for i, v := range seq.Values {
		nodes[i] = node{r: n.r, ast: v, path: fmt.Sprintf("%s[%d]", n.path, i), key: n.key + "[]"}
	}
	return nodes
}

// texts returns the elements of a list of texts, each once.
func (n node) texts() []string {
	var all []string
	seen := map[string]bool{}
	for _, e := range n.list() {
		s := e.text()
		if s == "" || seen[s] {
			e.problem("empty or given twice")
		}
		seen[s] = true
		all = append(all, s)
	}
	return all
}

// text returns a text with its variables filled in, or the default.
func (n node) text() string {
	if n.absent() {
		if n.missing == Required {
			return ""
		}
		return n.note(n.missing)
	}
	switch v := n.ast.(type) {
	case *ast.StringNode:
		return n.note(n.expand(v.Value))
	case *ast.LiteralNode:
		return n.note(n.expand(v.Value.Value))
	default:
		n.problem("must be text, not %s; quote it if it is meant so", strings.ToLower(n.ast.Type().String()))
		return ""
	}
}

// note remembers what was read for the revision.
func (n node) note(s string) string {
	n.r.effective = append(n.r.effective, n.path+"="+strconv.Quote(s))
	return s
}

// scalar returns the text of a number or a boolean, which may come out of a
// variable.
func (n node) scalar() string {
	if !n.absent() {
		switch n.ast.(type) {
		case *ast.IntegerNode, *ast.BoolNode:
			return n.note(n.ast.GetToken().Value)
		}
	}
	return n.text()
}

func (n node) integer(least, most int) int {
	before := len(n.r.problems)
	s := n.scalar()
	if len(n.r.problems) > before {
		return 0
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most {
		n.problem("%q: a whole number from %d to %d", s, least, most)
		return 0
	}
	return v
}

func (n node) boolean() bool {
	switch s := n.scalar(); s {
	case "true":
		return true
	case "false", "":
		return false
	default:
		n.problem("%q: true or false", s)
		return false
	}
}

func (n node) duration(least, most time.Duration) time.Duration {
	s := n.text()
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		n.problem("%q: a duration from %s to %s, such as 90s or 1h", s, least, most)
		return 0
	}
	return d
}

// convert reads a text by a parser of the domain.
func convert[T any](n node, parse func(string) (T, error)) T {
	var zero T
	before := len(n.r.problems)
	s := n.text()
	if len(n.r.problems) > before || s == "" && n.missing == Required && n.absent() {
		return zero
	}
	v, err := parse(s)
	if err != nil {
		n.problem("%v", err)
		return zero
	}
	return v
}

// variable is ${NAME} or ${NAME:-default}; $${ is a literal ${.
var variable = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}|\$\{`)

// expand fills in the environment. A variable stands inside one value: what it
// holds cannot become a key or another value.
func (n node) expand(s string) string {
	return variable.ReplaceAllStringFunc(s, func(found string) string {
		switch found {
		case "$${":
			return "${"
		case "${":
			n.problem("a variable is written ${NAME} or ${NAME:-default}")
			return ""
		}
		m := variable.FindStringSubmatch(found)
		if v, ok := n.r.lookup(m[1]); ok && v != "" {
			return v
		}
		if m[2] == "" {
			n.problem("the environment variable %s is not set", m[1])
		}
		return m[3]
	})
}

// split cuts a path of Keys at its last dot.
func split(path string) (parent, name string) {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// each reports the parts of a joined error one by one.
func (n node) each(err error) {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			n.problem("%v", e)
		}
	default:
		n.problem("%v", err)
	}
}
