package iam

import "strings"

// glob is a compiled pattern: bytes that stand for themselves, and wildcards.
type glob []int16

const (
	star int16 = -1 // any run of bytes, slashes included
	any1 int16 = -2 // exactly one byte
)

// compile reads a pattern. With a resolver, ${key} and ${key, 'default'} are
// replaced by a value that stands for itself, whatever is in it, and ${*}, ${?}
// and ${$} are those characters; it fails on a variable that has no value.
func compile(pattern string, resolve func(string) (string, bool)) (glob, bool) {
	g := make(glob, 0, len(pattern))
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*':
			g = append(g, star)
		case c == '?':
			g = append(g, any1)
		case c == '$' && resolve != nil && strings.HasPrefix(pattern[i:], "${"):
			end := strings.IndexByte(pattern[i:], '}')
			if end < 0 {
				return nil, false
			}
			value, ok := substitute(pattern[i+2:i+end], resolve)
			if !ok {
				return nil, false
			}
			g = g.literal(value)
			i += end
		default:
			g = append(g, int16(c))
		}
	}
	return g, true
}

func substitute(variable string, resolve func(string) (string, bool)) (string, bool) {
	switch variable {
	case "*", "?", "$":
		return variable, true
	}
	key, fallback, hasFallback := strings.Cut(variable, ",")
	if value, ok := resolve(strings.TrimSpace(key)); ok {
		return value, true
	}
	fallback = strings.TrimSpace(fallback)
	if !hasFallback || len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
		return "", false
	}
	return fallback[1 : len(fallback)-1], true
}

func (g glob) literal(s string) glob {
	for i := range len(s) {
		g = append(g, int16(s[i]))
	}
	return g
}

// match compares the whole of s. It takes time in len(g)·len(s) at the worst.
func (g glob) match(s string) bool {
	p, i := 0, 0
	backP, backI := -1, 0 // where to go on after the last star
	for i < len(s) {
		switch {
		case p < len(g) && g[p] == star:
			backP, backI = p, i
			p++
		case p < len(g) && (g[p] == any1 || g[p] == int16(s[i])):
			p++
			i++
		case backP >= 0:
			backI++
			p, i = backP+1, backI
		default:
			return false
		}
	}
	for p < len(g) && g[p] == star {
		p++
	}
	return p == len(g)
}

// arn matches colon by colon, as ArnLike does: a wildcard does not reach across
// the first five.
func (g glob) arn(s string) bool {
	const parts = 6
	values := strings.SplitN(s, ":", parts)
	var pieces []glob
	rest := g
	for i := 0; i < len(rest) && len(pieces) < parts-1; i++ {
		if rest[i] == ':' {
			pieces = append(pieces, rest[:i])
			rest, i = rest[i+1:], -1
		}
	}
	pieces = append(pieces, rest)
	if len(pieces) != parts || len(values) != parts {
		return false
	}
	for i, piece := range pieces {
		if !piece.match(values[i]) {
			return false
		}
	}
	return true
}
