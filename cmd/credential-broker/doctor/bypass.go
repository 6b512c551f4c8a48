package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/advice"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/policy"
)

// bypass makes the call to STS that the broker makes, without a policy: what
// anybody can do who holds a token that STS takes, and knows the role.
func (d *doctor) bypass(ctx context.Context) {
	const name = "bypass: the caller's token at STS, without a policy"
	role := d.order.Scope.RoleARN.String()
	session, answer, err := d.assume(ctx, d.Token)
	switch minted := d.cfg.WebIdentity.Mode == config.Minted; {
	case err != nil:
		d.unproved(name, "run the doctor again when STS answers", "%v", err)
	case minted && session.AccessKeyID != "":
		d.failed(name, "in the trust policy of "+role+", remove the statement whose Principal is the OIDC provider of "+d.caller.Issuer+": only the broker's own issuer may be there",
			"STS gave credentials for the whole role")
	case minted:
		d.proved(name, "refused: %s", answer)
	case session.AccessKeyID == "":
		d.unproved(name, "find what refuses it: the same token was taken with a policy a moment ago, and a caller may come from elsewhere", "refused: %s", answer)
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
	d.unproved(name, "run the doctor again when STS answers", "%v", err)
}

// bounded tries a session that has the whole role, and with it everything that
// the role's grants give this tenant and user together.
func (d *doctor) bounded(ctx context.Context, name string, session escape.Session) {
	t := d.walls
	t.Session, t.Also = session, nil
	for _, g := range d.cfg.Grants {
		if g.RoleARN != d.order.Scope.RoleARN {
			continue
		}
		s := policy.Scope{Partition: t.Scope.Partition, Access: g.Access}
		var err error
		if s.Bucket, s.Prefix, err = g.Layout().Place(d.order.Scope.Tenant, d.order.Scope.User); err == nil { // otherwise it is not this tenant's
			t.Also = append(t.Also, s)
		}
	}
	checks, err := d.try(ctx, t)
	open := failures(checks)
	switch {
	case err != nil:
		d.unproved(name, "run the doctor again", "%v", err)
	case len(open) > 0:
		d.failed(name, "in the own policy of "+d.order.Scope.RoleARN.String()+", write the tenant as ${aws:PrincipalTag/tenant} in every Resource and s3:prefix (statements Objects and List of what `credential-broker iam` prints)",
			"the role opens what is not the tenant's: %s", some(open))
	case unclear(checks) != "":
		d.unproved(name, "run the doctor again when the server answers everything", "%s", unclear(checks))
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
	} else if err := d.otherToken(ctx); err != nil {
		d.unproved(name, "give --other-token-file, a token of the same log-in for another audience with the same claim https://aws.amazon.com/tags: one of another API, or an ID token if the Action sets the claim there too", "%v", err)
		return
	}
	session, answer, err := d.assume(ctx, token)
	switch {
	case err != nil:
		d.unproved(name, "run the doctor again when STS answers", "%v", err)
	case session.AccessKeyID != "":
		d.failed(name, d.audienceRemedy(), "STS gave credentials for it")
	default:
		d.proved(name, "refused: %s", answer)
	}
}

// otherToken reports why a refusal of the other token would not be for its
// audience: it has to be what STS takes in all but that.
func (d *doctor) otherToken(ctx context.Context) error {
	other := advice.ReadClaims(d.OtherToken)
	issuer, _ := d.issuer()
	switch {
	case d.OtherToken.IsZero():
		return errors.New("there is no such token to try")
	case other.Issuer != d.caller.Issuer:
		return fmt.Errorf("the other token's issuer is %q", other.Issuer)
	case slices.ContainsFunc(other.Audience, func(a string) bool { return slices.Contains(issuer.Audiences, a) }):
		return fmt.Errorf("the other token is for %q, which the broker takes", strings.Join(other.Audience, " "))
	case !slices.Contains(issuer.Clients, other.ForSTS()):
		return fmt.Errorf("STS would take %q for the other token's audience, which is none of issuers[].clients", other.ForSTS())
	case !slices.Equal(other.Tags.Principal["tenant"], d.caller.Tags.Principal["tenant"]):
		return errors.New("the other token has not the tenant's tag")
	}
	cfg := d.cfg
	issuer.Audiences, issuer.Clients = other.Audience, nil
	cfg.Issuers = []config.Issuer{issuer}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	verifier, seen, err := startVerifier(ctx, cfg)
	if err != nil || seen[issuer.URL] != nil {
		return errors.Join(err, seen[issuer.URL])
	}
	if _, err := verifier.Verify(ctx, d.OtherToken); err != nil {
		return fmt.Errorf("the other token is not good: %w", err)
	}
	return nil
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
