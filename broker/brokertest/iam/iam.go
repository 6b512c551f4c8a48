// Package iam evaluates policies of AWS IAM's language, for the local AWS that
// tests and the demo run against. It is as strict as it can be: a document with
// a member, an operator or a variable that it does not know is refused when it is
// read, and what cannot be decided is not allowed.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies.html
package iam

import (
	"slices"
	"strings"
)

// Decision is the outcome for one request.
type Decision int

// The decisions. The zero value denies.
const (
	ImplicitDeny Decision = iota // nothing allows it
	ExplicitDeny                 // a statement denies it, whatever allows it
	Allow
)

// Allowed reports whether the decision is Allow.
func (d Decision) Allowed() bool { return d == Allow }

// Request is what is asked of a policy.
type Request struct {
	Action    string              // "s3:GetObject"
	Resource  string              // ARN; empty for a trust policy
	Principal string              // ARN, for policies that name principals; empty for others
	Context   map[string][]string // :: condition key, in any case → its values; absent and empty are the same
}

// value returns the values of a condition key. Keys compare without case; what
// follows the slash of a tag's key is a part of it.
func (r Request) value(key string) []string {
	if v, ok := r.Context[key]; ok {
		return v
	}
	for k, v := range r.Context {
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return nil
}

// Decide evaluates documents that stand beside one another, such as all of a
// role's policies: a Deny in one outweighs every Allow. What must be allowed by
// each of several (a role and a session policy) is asked of each.
func Decide(req Request, docs ...Document) Decision {
	decision := ImplicitDeny
	for _, d := range docs {
		for _, s := range d.statements {
			if !s.matches(req, d.variables) {
				continue
			}
			if s.deny {
				return ExplicitDeny
			}
			decision = Allow
		}
	}
	return decision
}

// Document is a policy. The zero value allows nothing.
type Document struct {
	variables  bool // version 2012-10-17; before it, ${…} is text
	statements []statement
}

type statement struct {
	deny         bool
	actions      []string
	notActions   []string
	resources    []string
	notResources []string
	principals   []principal
	conditions   []condition
}

// principal is one that a trust or bucket policy names: "*" of any kind, or a
// kind ("AWS", "Federated") and an exact name.
type principal struct{ kind, name string }

// HasPrincipal reports whether a statement names principals. A session or role
// policy must not; a trust policy must.
func (d Document) HasPrincipal() bool {
	return slices.ContainsFunc(d.statements, func(s statement) bool { return len(s.principals) > 0 })
}

// HasResource reports whether every statement names resources.
func (d Document) HasResource() bool {
	return !slices.ContainsFunc(d.statements, func(s statement) bool { return len(s.resources)+len(s.notResources) == 0 })
}

func (s statement) matches(req Request, variables bool) bool {
	if len(s.principals) > 0 && !slices.ContainsFunc(s.principals, func(p principal) bool {
		return p.name == "*" || req.Principal != "" && p.name == req.Principal
	}) {
		return false
	}
	// Actions compare without case and know no variables.
	action := func(p string) bool {
		g, ok := compile(strings.ToLower(p), nil)
		return ok && g.match(strings.ToLower(req.Action))
	}
	if len(s.actions) > 0 && !slices.ContainsFunc(s.actions, action) || slices.ContainsFunc(s.notActions, action) {
		return false
	}
	resource := func(p string) bool {
		g, ok := compile(p, resolver(req, variables))
		return ok && g.match(req.Resource)
	}
	if len(s.resources) > 0 && !slices.ContainsFunc(s.resources, resource) {
		return false
	}
	// A variable that cannot be resolved keeps a NotResource from matching, which
	// would widen an Allow; so the whole statement is not applied.
	for _, p := range s.notResources {
		if _, ok := compile(p, resolver(req, variables)); !ok || resource(p) {
			return false
		}
	}
	for _, c := range s.conditions {
		if !c.holds(req, variables) {
			return false
		}
	}
	return true
}

// resolver looks policy variables up, or is nil where they are text.
func resolver(req Request, variables bool) func(string) (string, bool) {
	if !variables {
		return nil
	}
	return func(key string) (string, bool) {
		values := req.value(key)
		if len(values) != 1 { // a key of several values cannot be a variable
			return "", false
		}
		return values[0], true
	}
}
