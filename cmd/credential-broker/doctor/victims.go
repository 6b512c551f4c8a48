package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/policy"
)

// seed is an object that was put to be tried, and who may remove it.
type seed struct {
	owner  escape.Target
	victim escape.Victim
}

// victims puts an object where another tenant has his files, one whose name
// begins as the caller's tenant's does, and one where another user of the same
// tenant has. Without an object that is there, a refusal to read proves nothing.
func (d *doctor) victims(ctx context.Context) {
	const name = "another's object, to be tried"
	var errs []error
	for _, who := range d.others() {
		if err := d.seedFor(ctx, who); err != nil {
			errs = append(errs, err)
		}
	}
	if o := d.OtherObject; o != (ObjectName{}) {
		d.walls.Victims = append(d.walls.Victims, escape.Victim{Bucket: o.Bucket, Key: o.Key})
		d.proved(name, "%s/%s is there, by your word", o.Bucket, o.Key)
		return
	}
	err := errors.Join(errs...)
	switch {
	case len(d.walls.Victims) > 0 && err == nil:
		d.proved(name, "%d were put, and will be removed", len(d.walls.Victims))
	case d.cfg.WebIdentity.Mode == config.Forwarded:
		d.unproved(name, "give --other-object s3://bucket/key, an object of another tenant that is there: with the caller's token none can be put", "nothing is known to be there")
	case d.grant().Bucket.PerTenant() && d.OtherTenant == "":
		d.unproved(name, "give --other-tenant, a tenant that has a bucket", "each tenant has a bucket of its own")
	default:
		d.unproved(name, "give --other-object s3://bucket/key, an object of another tenant that is there", "none could be put: %v", err)
	}
}

// other is somebody else under the grant.
type other struct {
	tenant policy.Tenant
	user   policy.User
}

// others are whose places are tried. In mode forwarded the caller's token is the
// only one, so that nothing can be put for anybody else.
func (d *doctor) others() []other {
	g, scope := d.grant(), d.order.Scope
	if d.cfg.WebIdentity.Mode == config.Forwarded {
		return nil
	}
	var all []other
	names := []string{d.OtherTenant}
	if d.OtherTenant == "" {
		names = []string{scope.Tenant.String() + "2" + strings.ToLower(rand.Text()[:6]), "credential-broker-doctor-" + strings.ToLower(rand.Text()[:6])}
	}
	for _, name := range names {
		tenant, err := policy.ParseTenant(name) // too long, where the caller's is as long as one may be
		if err == nil && tenant != scope.Tenant && (d.OtherTenant != "" || !g.Bucket.PerTenant()) {
			all = append(all, other{tenant, scope.User})
		}
	}
	if strings.Contains(g.Prefix.String(), "{user}") {
		all = append(all, other{scope.Tenant, policy.UserOf("credential-broker-doctor", rand.Text())})
	}
	return all
}

// grant is the one that is examined.
func (d *doctor) grant() broker.Grant {
	for _, g := range d.cfg.Grants {
		if g.Name == d.order.Scope.Grant {
			return g
		}
	}
	return broker.Grant{} // the order is of one of them
}

// seedFor puts an object for somebody else, with a session that the broker would
// never make: a token minted for him.
func (d *doctor) seedFor(ctx context.Context, who other) error {
	order := d.order
	order.Scope.Tenant, order.Scope.User = who.tenant, who.user
	s3 := &order.Scope.S3
	s3.Access, s3.Path = policy.Write|policy.Delete|policy.Read, policy.Path{}
	var err error
	if s3.Bucket, s3.Prefix, err = d.grant().Layout().Place(who.tenant, who.user); err != nil {
		return err
	}
	if order.Document, err = policy.Generate(*s3); err != nil {
		return err
	}
	session, err := d.issue(ctx, order)
	if err != nil {
		return err
	}
	owner := d.walls
	owner.Session, owner.Scope = session, *s3
	if d.walls.Other == nil {
		d.walls.Other = &session
	}
	return d.put(ctx, owner, &d.walls, s3.Prefix.String())
}

// put puts an object below a prefix, and makes it a victim of the target's.
func (d *doctor) put(ctx context.Context, owner escape.Target, target *escape.Target, prefix string) error {
	v := escape.Victim{
		Bucket: owner.Scope.Bucket.String(), Key: prefix + escape.NewName() + "/x", Text: rand.Text(), Expendable: true,
	}
	err := escape.Put(ctx, owner, v)
	if !errors.Is(err, escape.ErrRefused) { // an answer that got lost may have been a success
		d.seeds = append(d.seeds, seed{owner, v})
	}
	if err != nil {
		return err
	}
	text, err := escape.Get(ctx, owner, v.Bucket, v.Key)
	if err != nil || text != v.Text {
		return fmt.Errorf("read what was put at %s/%s: %w", v.Bucket, v.Key, err)
	}
	target.Victims = append(target.Victims, v)
	return nil
}

// leftovers removes what was put, and shows that nothing of the doctor's is left.
func (d *doctor) leftovers(ctx context.Context) {
	const name = "nothing is left behind"
	for _, s := range d.seeds {
		if err := escape.Remove(ctx, s.owner, s.victim.Bucket, s.victim.Key); err != nil {
			d.left = append(d.left, s.victim.Bucket+"/"+s.victim.Key)
		}
	}
	lists := d.order.Scope.S3.Access.Has(policy.List)
	var err error
	if lists && ctx.Err() == nil {
		var keys []string
		keys, err = escape.Leftovers(ctx, d.walls)
		d.left = append(d.left, keys...)
	}
	switch {
	case len(d.left) > 0:
		d.failed(name, "remove them", "%s", strings.Join(d.left, ", "))
	case err != nil || ctx.Err() != nil:
		d.unproved(name, "look for names that begin with credential-broker-doctor", "everything was removed, and it was not looked for: %v", errors.Join(err, ctx.Err()))
	case !lists:
		d.proved(name, "everything was removed (the grant lists nothing, so it was not looked for); a versioned bucket keeps versions")
	default:
		d.proved(name, "no object of the doctor's is there; a versioned bucket keeps versions")
	}
}
