package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"credential-broker/broker/escape"
	"credential-broker/policy"
)

// inside shows that the credentials work where they should: otherwise what is
// refused outside proves nothing.
func (d *doctor) inside(ctx context.Context) error {
	checks, err := escape.Inside(ctx, d.walls)
	if err != nil {
		return err
	}
	d.attempts += len(checks)
	broken := 0
	for _, c := range checks {
		switch {
		case c.Kind == escape.KindCleanup:
			d.left = append(d.left, c.Place)
		case c.Verdict == escape.Held:
			d.proved("inside: "+c.Name, "%s", c.Detail)
		case c.Verdict == escape.Failed:
			broken++
			d.failed("inside: "+c.Name, d.insideRemedy(c), "%s", c.Detail)
		default:
			d.unproved("inside: "+c.Name, "name an object that is there with --object, or run the doctor again when the server answers", "%s", c.Detail)
		}
	}
	if broken == len(checks) {
		return fmt.Errorf("%w: nothing works inside, so that what is refused outside proves nothing", errStop)
	}
	return nil
}

// failures are the names of the checks that failed.
func failures(checks []escape.Check) []string {
	var names []string
	for _, c := range checks {
		if c.Verdict == escape.Failed {
			names = append(names, c.ID()+" ("+c.Detail+")")
		}
	}
	return names
}

// try runs the ways out with a session.
func (d *doctor) try(ctx context.Context, t escape.Target) ([]escape.Check, error) {
	checks, err := escape.Outside(ctx, t)
	d.attempts += len(checks)
	for _, c := range checks {
		if c.Kind == escape.KindCleanup {
			d.left = append(d.left, c.Place)
		}
	}
	return slices.DeleteFunc(checks, func(c escape.Check) bool { return c.Kind == escape.KindCleanup }), err
}

// group is which finding a check belongs to.
func group(c escape.Check) string {
	switch c.Kind {
	case escape.KindObject:
		return "outside: " + c.Place
	case escape.KindListing:
		return "outside: listings"
	case escape.KindMixed:
		return groupMixed
	case escape.KindBucket:
		return "outside: the bucket itself"
	case escape.KindPath:
		return "outside: paths that lead elsewhere"
	case escape.KindCredentials:
		return groupBroken
	case escape.KindSTS:
		return groupSTS
	default:
		return "outside: the session works"
	}
}

const (
	groupMixed  = "outside: listings with two prefixes"
	groupBroken = "outside: credentials that are not whole"
	groupSTS    = "outside: other credentials of these"
)

// outside tries the exchange's own credentials, reports the ways out group by
// group, and finds out what opened those that were open.
func (d *doctor) outside(ctx context.Context, policyHeld bool) {
	checks, err := d.try(ctx, d.walls)
	if err != nil {
		d.unproved("outside", "run the doctor again", "%v", err)
		return
	}
	var order []string
	groups := map[string][]escape.Check{}
	for _, c := range checks {
		g := group(c)
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], c)
	}
	named := false
	if len(failures(checks)) > 0 {
		named = d.onlyThisSession(ctx)
	}
	for _, g := range order {
		all := groups[g]
		if open := failures(all); len(open) > 0 {
			d.failed(g, d.outsideRemedy(g, named, policyHeld), "%d of %d not refused: %s", len(open), len(all), some(open))
			continue
		}
		if unclear := unclear(all); unclear != "" {
			d.unproved(g, "run the doctor again when the server answers everything", "%s", unclear)
			continue
		}
		d.proved(g, "%d %s", len(all), map[bool]string{true: "times", false: "refused"}[all[0].Kind == escape.KindAlive])
	}
}

// unclear says what was neither done nor refused; "" if nothing was.
func unclear(checks []escape.Check) string {
	i := slices.IndexFunc(checks, func(c escape.Check) bool { return c.Verdict == escape.Unclear })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d answers prove nothing: %s (%s)", escape.Count(checks, escape.Unclear), len(checks), checks[i].ID(), checks[i].Detail)
}

// some joins the first few of what would be a long list.
func some(all []string) string {
	const enough = 3
	if len(all) <= enough {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(all[:enough], ", "), len(all)-enough)
}

// onlyThisSession reports whether a session of another name, with the same
// policy, is held: then it is the name that opens the way.
func (d *doctor) onlyThisSession(ctx context.Context) bool {
	order := d.order
	order.SessionName = "credential-broker-doctor"
	session, err := d.issue(ctx, order)
	if err != nil {
		return false
	}
	t := d.walls
	t.Session = session
	checks, err := d.try(ctx, t)
	return err == nil && len(failures(checks)) == 0
}

// sessionPolicy shows that it is the session policy that holds, and not only the
// role's own: a session for a folder is tried on the rest of the tenant's own
// prefix, which the role opens, and on an object that is there.
func (d *doctor) sessionPolicy(ctx context.Context) bool {
	const name = "the session policy is honoured"
	order := d.order
	folder, err := policy.ParsePath("credential-broker-doctor/")
	if err != nil {
		d.unproved(name, "this is a bug: please report it", "%v", err)
		return false
	}
	order.Scope.S3.Path = folder
	order.SessionName = "credential-broker-doctor"
	if order.Document, err = policy.Generate(order.Scope.S3); err != nil {
		d.unproved(name, "choose a shorter prefix: the policy for a folder of it is too long", "%v", err)
		return false
	}
	session, err := d.issue(ctx, order)
	if err != nil {
		d.unproved(name, d.stsRemedy(err), "%v", err)
		return false
	}
	t := d.walls
	t.Session, t.Scope = session, order.Scope.S3
	t.Victims = slices.Clone(t.Victims)
	switch access := d.order.Scope.S3.Access; {
	case access.Has(policy.Write | policy.Delete | policy.Read):
		err = d.put(ctx, d.walls, &t, d.walls.Scope.Prefix.String())
	case d.Object != "":
		t.Victims = append(t.Victims, escape.Victim{Bucket: t.Scope.Bucket.String(), Key: d.Object})
	case !access.Has(policy.List) && !access.Has(policy.Write):
		err = errors.New("no object is known beside the folder")
	}
	if err != nil {
		d.unproved(name, "name an object that is there with --object", "%v", err)
		return false
	}
	checks, err := d.try(ctx, t)
	if err != nil {
		d.unproved(name, "run the doctor again", "%v", err)
		return false
	}
	// A leak of listings is another matter: see outside.
	checks = slices.DeleteFunc(checks, func(c escape.Check) bool { return c.Kind == escape.KindMixed })
	if open := failures(checks); len(open) > 0 {
		d.failed(name, "the server ignores the Policy of AssumeRoleWithWebIdentity, or a bucket policy allows more to everybody: use a server that honours it, and remove the bucket policy's statement with Principal \"*\"",
			"a session for one folder was not held to it: %s", some(open))
		return false
	}
	if unclear := unclear(checks); unclear != "" {
		d.unproved(name, "run the doctor again when the server answers everything", "%s", unclear)
		return false
	}
	d.proved(name, "a session for one folder was refused %d times beside it", len(checks))
	return true
}
