package broker

import (
	"context"

	"credential-broker/policy"
)

// Explanation is how a request was decided, for whoever asks why. It is made by
// the code that decides, and holds nothing that an answer would not.
type Explanation struct {
	Identity Identity     // zero: the token was refused
	Looked   []Considered // the grants that were looked at, in order
	Given    Scope        // all that the grant gives; zero: none did
	Order    Order        // what would be asked of STS; zero: nothing
	Unproved error        // what policy.Confined says of the order's document
	Err      error        // why the request is refused; nil: it is not
}

// Considered is what was made of one grant.
type Considered struct {
	Grant   string
	Refused error // the first demand that is not met; nil: the grant matches
}

// Explain verifies and decides as Exchange does, with the same code, and stops
// before credentials are asked for. Nobody is given anything, and there is no
// record.
func (b *Broker) Explain(ctx context.Context, req Request) Explanation {
	var e Explanation
	record := b.newRecord(ActionCredentials, req)
	order, err := b.plan(ctx, req, &record, &e)
	if e.Err = err; err == nil {
		e.Order, e.Unproved = order, policy.Confined(order.Document.String(), order.Scope.S3)
	}
	return e
}

// The methods below fill an explanation in. A nil one, as in an exchange, is for
// nobody.

func (e *Explanation) identified(id Identity) {
	if e != nil {
		e.Identity = id
	}
}

func (e *Explanation) looked(g Grant, refused error) {
	if e != nil {
		e.Looked = append(e.Looked, Considered{g.Name, refused})
	}
}

func (e *Explanation) gives(s Scope) {
	if e != nil {
		e.Given = s
	}
}
