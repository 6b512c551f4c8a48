package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
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
		switch c.Verdict {
		case escape.Held:
			d.proved("inside: "+c.Name, "%s", c.Detail)
		case escape.Failed:
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
	return checks, err
}

// outside tries the exchange's own credentials.
func (d *doctor) outside(ctx context.Context) []escape.Check {
	checks, err := d.try(ctx, d.walls)
	if err != nil {
		d.unproved("outside", "run the doctor again", "%v", err)
	}
	return checks
}

// group is which finding a check belongs to.
func group(c escape.Check) string {
	if c.Place != "" {
		return "outside: " + c.Place
	}
	kind, _, _ := strings.Cut(c.Name, ":")
	switch kind {
	case "list":
		return "outside: listings"
	case "credentials":
		return "outside: credentials that are not whole"
	case "STS":
		return "outside: other credentials of these"
	default:
		return "outside: the bucket itself"
	}
}

// explainOutside reports the ways out, group by group, and finds out what opened
// those that were open.
func (d *doctor) explainOutside(ctx context.Context, checks []escape.Check, policyHeld bool) {
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
			d.failed(g, d.outsideRemedy(g, open, named, policyHeld), "%d of %d not refused: %s", len(open), len(all), some(open))
			continue
		}
		if unclear := escape.Count(all, escape.Unclear); unclear > 0 {
			i := slices.IndexFunc(all, func(c escape.Check) bool { return c.Verdict == escape.Unclear })
			d.unproved(g, "run the doctor again when the server answers everything", "%d of %d without an answer: %s (%s)", unclear, len(all), all[i].ID(), all[i].Detail)
			continue
		}
		d.proved(g, "%d refused", len(all))
	}
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
// prefix, which the role opens.
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
	checks, err := d.try(ctx, t)
	if err != nil {
		d.unproved(name, "run the doctor again", "%v", err)
		return false
	}
	if open := failures(checks); len(open) > 0 {
		d.failed(name, "the server ignores the Policy of AssumeRoleWithWebIdentity, or a bucket policy allows more to everybody: use a server that honours it, and remove the bucket policy's statement with Principal \"*\"",
			"a session for one folder was not held to it: %s", some(open))
		return false
	}
	if unclear := escape.Count(checks, escape.Unclear); unclear > 0 {
		d.unproved(name, "run the doctor again when the server answers everything", "%d of %d without an answer", unclear, len(checks))
		return false
	}
	d.proved(name, "a session for one folder was refused %d times beside it", len(checks))
	return true
}

// bypass makes the call to STS that the broker makes, without a policy: what
// anybody can do who holds a token that STS takes, and knows the role.
func (d *doctor) bypass(ctx context.Context) {
	const name = "bypass: the caller's token at STS, without a policy"
	session, answer, err := d.assume(ctx, d.Token)
	switch {
	case err != nil:
		d.unproved(name, "run the doctor again when STS can be reached", "%v", err)
	case d.cfg.WebIdentity.Mode == config.Minted && session.AccessKeyID != "":
		d.failed(name, "in the trust policy of "+d.order.Scope.RoleARN.String()+", remove the statement whose Principal is the OIDC provider of "+d.caller.Issuer+": only the broker's own issuer may be there",
			"STS gave credentials for the whole role")
	case session.AccessKeyID == "":
		d.proved(name, "refused: %s", answer)
	default:
		d.bounded(ctx, name, session)
	}
	if d.cfg.WebIdentity.Mode == config.Minted {
		d.secondLock(ctx)
	}
}

// secondLock shows that the role's own policy holds by itself: a token as only
// the broker can mint it, without a policy, does not reach another tenant.
func (d *doctor) secondLock(ctx context.Context) {
	const name = "bypass: a minted token without a policy, on another tenant"
	token, err := d.mint(ctx, d.cfg.WebIdentity)
	if err == nil {
		var session escape.Session
		var answer string
		if session, answer, err = d.assume(ctx, token); err == nil && session.AccessKeyID != "" {
			d.bounded(ctx, name, session)
			return
		}
		err = fmt.Errorf("%s, %w", answer, err)
	}
	d.unproved(name, "run the doctor again when STS can be reached", "%v", err)
}

// bounded tries a session that has the whole role.
func (d *doctor) bounded(ctx context.Context, name string, session escape.Session) {
	t := d.walls
	t.Session = session
	checks, err := d.try(ctx, t)
	// What the grants of one role give together may be more than this grant's.
	checks = slices.DeleteFunc(checks, func(c escape.Check) bool { return c.Place == "" && strings.HasPrefix(c.Name, "credentials:") })
	open := failures(checks)
	switch {
	case err != nil:
		d.unproved(name, "run the doctor again", "%v", err)
	case len(open) > 0:
		d.failed(name, "in the own policy of "+d.order.Scope.RoleARN.String()+", write the tenant as ${aws:PrincipalTag/tenant} in every Resource and s3:prefix: `credential-broker iam` prints the policy",
			"the role opens what is not the tenant's: %s", some(open))
	case escape.Count(checks, escape.Unclear) > 0:
		d.unproved(name, "run the doctor again when the server answers everything", "%d of %d without an answer", escape.Count(checks, escape.Unclear), len(checks))
	default:
		d.proved(name, "the role's own policy refused it %d times", len(checks))
	}
}

// audience shows that STS does not take a token that is meant for somebody else.
func (d *doctor) audience(ctx context.Context) {
	const name = "a token for another audience at STS"
	token := d.OtherToken
	if d.cfg.WebIdentity.Mode == config.Minted {
		other := d.cfg.WebIdentity
		other.Audience = "credential-broker-doctor"
		var err error
		if token, err = d.mint(ctx, other); err != nil {
			d.unproved(name, "run the doctor again", "%v", err)
			return
		}
	} else if token.IsZero() {
		d.unproved(name, "give --other-token-file a token of the same issuer for another audience: the ID token of the same log-in will do", "there is no such token to try")
		return
	}
	session, answer, err := d.assume(ctx, token)
	switch {
	case err != nil:
		d.unproved(name, "run the doctor again when STS can be reached", "%v", err)
	case session.AccessKeyID != "":
		d.failed(name, d.audienceRemedy(), "STS gave credentials for it")
	default:
		d.proved(name, "refused: %s", answer)
	}
}

// mint makes a token as the broker would for the order.
func (d *doctor) mint(ctx context.Context, w config.WebIdentity) (broker.Secret, error) {
	assert, _, err := serve.NewWebIdentity(w)
	if err != nil {
		return broker.Secret{}, err
	}
	assertion, err := assert(ctx, d.order)
	return assertion.Token, err
}

// leftovers shows that nothing of the doctor's is left.
func (d *doctor) leftovers(ctx context.Context) {
	const name = "nothing is left behind"
	keys, err := escape.Leftovers(ctx, d.walls)
	switch {
	case err != nil:
		d.proved(name, "what was written was removed (the grant lists nothing, so it was not looked for)")
	case len(keys) > 0:
		d.failed(name, "remove them", "%s", some(keys))
	default:
		d.proved(name, "no object of the doctor's is there")
	}
}
