package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
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
	yaml    *yaml.Node // nil: absent
	path    string     // "grants[0].prefix"
	key     string     // "grants[].prefix"
	at      *yaml.Node // where a problem with an absent key is shown
	missing string     // the default of an absent key
	literal bool       // the value is filled in already
}

func (n node) problem(format string, args ...any) {
	p := Problem{File: n.r.file, Line: 1, Column: 1, Path: n.path, What: fmt.Sprintf(format, args...)}
	if at := n.where(); at != nil {
		p.Line, p.Column = at.Line, at.Column
	}
	n.r.problems = append(n.r.problems, p)
}

// absent reports whether the key is not in the file, or is there without a value.
func (n node) absent() bool { return n.yaml == nil || n.yaml.ShortTag() == "!!null" }

// plain refuses what makes a file read otherwise than it looks: anchors,
// aliases and tags.
func (n node) plain() bool {
	if n.yaml == nil || n.yaml.Kind != yaml.AliasNode && n.yaml.Anchor == "" && n.yaml.Style&yaml.TaggedStyle == 0 {
		return true
	}
	n.problem("anchors, aliases and tags are not taken")
	return false
}

// object reads a mapping. Keys that are not in Keys, or that occur twice, are
// problems, as are required keys that are absent; each known key is in the
// result, present or not.
func (n node) object() map[string]node {
	known := map[string]node{}
	for _, k := range Keys() {
		parent, name := parentOf(k.Path)
		if parent == n.key {
			known[name] = node{r: n.r, at: n.where(), path: join(n.path, name), key: k.Path, missing: k.Default}
		}
	}
	for _, e := range n.entries() {
		child, ok := known[e.name]
		switch {
		case !ok:
			node{r: n.r, yaml: e.key, path: join(n.path, e.name)}.problem("unknown key")
			continue
		case child.yaml != nil:
			node{r: n.r, yaml: e.key, path: child.path}.problem("given twice")
			continue
		}
		child.yaml = e.value
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

func (n node) where() *yaml.Node {
	if n.yaml != nil {
		return n.yaml
	}
	return n.at
}

type entry struct {
	name       string
	key, value *yaml.Node
}

// entries returns the members of a mapping as they stand.
func (n node) entries() []entry {
	if n.absent() || !n.plain() {
		return nil
	}
	if n.yaml.Kind != yaml.MappingNode {
		n.problem("must be a mapping")
		return nil
	}
	var entries []entry
	for i := 0; i+1 < len(n.yaml.Content); i += 2 {
		key, value := n.yaml.Content[i], n.yaml.Content[i+1]
		if k := (node{r: n.r, yaml: key, path: n.path}); key.ShortTag() != "!!str" {
			k.problem("a key must be plain text")
		} else if k.plain() {
			entries = append(entries, entry{key.Value, key, value})
		}
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
	if !n.plain() {
		return nil
	}
	if n.yaml.Kind == yaml.ScalarNode && !n.ofMappings() {
		return n.split()
	}
	if n.yaml.Kind != yaml.SequenceNode {
		n.problem("must be a list")
		return nil
	}
	nodes := make([]node, len(n.yaml.Content))
	for i, v := range n.yaml.Content {
		nodes[i] = n.element(i, v)
	}
	return nodes
}

func (n node) element(i int, value *yaml.Node) node {
	return node{r: n.r, yaml: value, path: fmt.Sprintf("%s[%d]", n.path, i), key: n.key + "[]"}
}

// ofMappings reports whether the list's elements have keys of their own.
func (n node) ofMappings() bool {
	return slices.ContainsFunc(Keys(), func(k Key) bool { return strings.HasPrefix(k.Path, n.key+"[].") })
}

// split reads a list that is written as one text, with commas between: what one
// environment variable can hold. The variables are filled in before the commas are
// looked for, and not again. An empty text is an empty list; one of blanks is not.
func (n node) split() []node {
	before := len(n.r.problems)
	text := n.text()
	if len(n.r.problems) > before || text == "" {
		return nil
	}
	var nodes []node
	for i, part := range strings.Split(text, ",") {
		at := *n.yaml
		at.Value = strings.TrimSpace(part)
		e := n.element(i, &at)
		e.literal = true
		nodes = append(nodes, e)
	}
	return nodes
}

// emptyText reports whether a list is written as a text with nothing in it, as a
// variable without a value leaves it. It reads nothing.
func (n node) emptyText() bool {
	if n.absent() || n.yaml.Kind != yaml.ScalarNode {
		return false
	}
	quiet := node{r: &reader{lookup: n.r.lookup}, yaml: n.yaml, path: n.path}
	return quiet.text() == ""
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
	switch {
	case n.literal:
		return n.note(n.yaml.Value)
	case !n.plain():
		return ""
	case n.yaml.ShortTag() == "!!str":
		return n.note(n.expand(n.yaml.Value))
	default:
		n.problem("must be text, not %s; quote it if it is meant so", n.kind())
		return ""
	}
}

// kind names what stands there.
func (n node) kind() string {
	switch n.yaml.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strings.TrimPrefix(n.yaml.ShortTag(), "!!")
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
	if !n.absent() && n.plain() && (n.yaml.ShortTag() == "!!int" || n.yaml.ShortTag() == "!!bool") {
		return n.note(n.yaml.Value)
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

// parentOf cuts a path of Keys at its last dot.
func parentOf(path string) (parent, name string) {
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
