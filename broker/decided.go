package broker

import (
	"fmt"
	"unique"

	"credential-broker/policy"
)

// decided is what was decided about an order, in as little room as will do: one is held
// for each caller whose token or whose credentials are. It is not changed.
type decided struct {
	base        unique.Handle[Scope] // of the scope, what other callers of the grant have too: held once for all
	names       policy.Names         // the rest, and what follows
	fingerprint Fingerprint
}

// The texts that go with the names.
const (
	nameOfSession = iota
	digestOfPolicy
	digestOfToken
)

// newDecided takes in what was decided. The token's digest is for the record, and may
// be empty.
func newDecided(o Order, tokenSHA256 string) (decided, error) {
	names, err := policy.NewNames(o.Scope.Tenant, o.Scope.S3, o.Scope.User, [policy.MoreNames]string{
		nameOfSession: o.SessionName, digestOfPolicy: o.Document.Digest(), digestOfToken: tokenSHA256,
	})
	if err != nil {
		return decided{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	base := o.Scope
	base.Tenant, base.User, base.S3.Prefix, base.S3.Path = policy.Tenant{}, policy.User{}, policy.Prefix{}, policy.Path{}
	return decided{base: unique.Make(base), names: names, fingerprint: fingerprint(o)}, nil
}

func (d *decided) scope() Scope {
	s := d.base.Value()
	s.S3, s.Tenant, s.User = d.names.Of(s.S3)
	return s
}

// S3Scope implements policy.Folder.
func (d *decided) S3Scope() policy.Scope { return d.scope().S3 }

func (d *decided) document() policy.Document {
	return policy.Fold(d, d.names.More(digestOfPolicy))
}

func (d *decided) sessionName() string { return d.names.More(nameOfSession) }
