package iam

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one key under one operator.
type condition struct {
	operator test
	negated  bool   // the Not… form: no value may match
	ifExists bool   // holds where the key is absent
	set      string // "", "ForAnyValue" or "ForAllValues"
	key      string
	values   []string
}

// test compares one value of the request with one of the policy; ok is false
// where they cannot be compared.
type test func(got, want string, resolve func(string) (string, bool)) (match, ok bool)

// newCondition reads an operator's name.
func newCondition(operator, key string, values []string) (condition, error) {
	c := condition{key: key, values: values}
	name := operator
	if set, rest, ok := strings.Cut(name, ":"); ok {
		if set != "ForAnyValue" && set != "ForAllValues" {
			return c, fmt.Errorf("condition operator %q", operator)
		}
		c.set, name = set, rest
	}
	if name == "Null" {
		c.operator = nil
		if c.set != "" || !slices.Equal(values, []string{"true"}) && !slices.Equal(values, []string{"false"}) {
			return c, fmt.Errorf("condition operator %q takes true or false", operator)
		}
		return c, nil
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	if base, ok := negations()[name]; ok {
		name, c.negated = base, true
	}
	if c.operator = operators()[name]; c.operator == nil {
		return c, fmt.Errorf("condition operator %q", operator)
	}
	return c, nil
}

func negations() map[string]string {
	return map[string]string{
		"StringNotEquals": "StringEquals", "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase", "StringNotLike": "StringLike",
		"ArnNotEquals": "ArnLike", "ArnNotLike": "ArnLike", "NotIpAddress": "IpAddress", "NumericNotEquals": "NumericEquals",
	}
}

func operators() map[string]test {
	ordered := func(parse func(string) (float64, error), holds func(a, b float64) bool) test {
		return func(got, want string, _ func(string) (string, bool)) (bool, bool) {
			a, err1 := parse(got)
			b, err2 := parse(want)
			return holds(a, b), err1 == nil && err2 == nil
		}
	}
	number := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	date := func(s string) (float64, error) {
		t, err := time.Parse(time.RFC3339, s)
		return float64(t.Unix()), err
	}
	less := func(a, b float64) bool { return a < b }
	lessEqual := func(a, b float64) bool { return a <= b }
	greater := func(a, b float64) bool { return a > b }
	greaterEqual := func(a, b float64) bool { return a >= b }
	equal := func(a, b float64) bool { return a == b }
	return map[string]test{
		"StringEquals": text(func(got, want string) bool { return got == want }), "StringEqualsIgnoreCase": text(strings.EqualFold),
		"Bool":       text(strings.EqualFold),
		"StringLike": pattern(glob.match), "ArnEquals": pattern(glob.arn), "ArnLike": pattern(glob.arn),
		"IpAddress":     address,
		"NumericEquals": ordered(number, equal), "NumericLessThan": ordered(number, less), "NumericLessThanEquals": ordered(number, lessEqual),
		"NumericGreaterThan": ordered(number, greater), "NumericGreaterThanEquals": ordered(number, greaterEqual),
		"DateLessThan": ordered(date, less), "DateLessThanEquals": ordered(date, lessEqual),
		"DateGreaterThan": ordered(date, greater), "DateGreaterThanEquals": ordered(date, greaterEqual),
	}
}

// text compares without wildcards; variables are filled in all the same.
func text(same func(got, want string) bool) test {
	return func(got, want string, resolve func(string) (string, bool)) (bool, bool) {
		if resolve != nil {
			var b strings.Builder
			for want != "" {
				before, rest, found := strings.Cut(want, "${")
				b.WriteString(before)
				if !found {
					break
				}
				variable, after, closed := strings.Cut(rest, "}")
				value, ok := substitute(variable, resolve)
				if !closed || !ok {
					return false, false
				}
				b.WriteString(value)
				want = after
			}
			want = b.String()
		}
		return same(got, want), true
	}
}

func pattern(match func(glob, string) bool) test {
	return func(got, want string, resolve func(string) (string, bool)) (bool, bool) {
		g, ok := compile(want, resolve)
		return ok && match(g, got), ok
	}
}

func address(got, want string, _ func(string) (string, bool)) (bool, bool) {
	ip, err := netip.ParseAddr(got)
	if err != nil {
		return false, false
	}
	if !strings.Contains(want, "/") {
		one, err := netip.ParseAddr(want)
		return one == ip, err == nil
	}
	block, err := netip.ParsePrefix(want)
	return err == nil && block.Contains(ip), err == nil
}

// holds evaluates the condition. What cannot be compared, a variable without a
// value among it, matches nothing; a negated operator then holds, as in IAM.
func (c condition) holds(req Request, variables bool) bool {
	got := req.value(c.key)
	if c.operator == nil { // Null
		return (len(got) == 0) == (c.values[0] == "true")
	}
	if len(got) == 0 {
		return c.ifExists || c.set == "ForAllValues" || c.set == "" && c.negated
	}
	resolve := resolver(req, variables)
	one := func(v string) bool {
		matched := false
		for _, want := range c.values {
			m, ok := c.operator(v, want, resolve)
			matched = matched || ok && m
		}
		return matched != c.negated
	}
	switch c.set {
	case "ForAnyValue":
		return slices.ContainsFunc(got, one)
	case "ForAllValues":
		return !slices.ContainsFunc(got, func(v string) bool { return !one(v) })
	default:
		return len(got) == 1 && one(got[0]) // several values need a set operator
	}
}
