package awssts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-broker/broker"
)

// attempts bounds the calls for one order. A third would not fit into MaxTimeout
// when the first two were slow.
const attempts = 2

// exchange is one order on its way through STS.
type exchange struct {
	order     broker.Order
	assertion broker.Assertion
	in        *sts.AssumeRoleWithWebIdentityInput // nil until the first call has a place
	attempt   int
	region    int // of Client.regions: where to begin
}

// ask gets the answer to an order, at the second attempt when what went wrong at
// the first may pass. Its errors have their classes.
func (c *Client) ask(ctx context.Context, x *exchange) (*answer, error) {
	var first error
	for x.attempt = 1; ; x.attempt++ {
		out, made, err := c.try(ctx, x)
		switch {
		case err == nil:
			return out, nil
		case !made && first == nil:
			return nil, err
		case !made: // what STS said at the first is more than that there is no second
			return nil, c.classify(first, x.assertion)
		}
		if k := judge(err).kind; x.attempt == attempts || !k.passes() || !c.pause(ctx, k) {
			return nil, c.classify(err, x.assertion)
		}
		first = err
	}
}

// try makes a call once there is a place for it. If none was made, the error has
// its class already.
func (c *Client) try(ctx context.Context, x *exchange) (out *answer, made bool, err error) {
	if err := c.enter(ctx, x.attempt > 1); err != nil {
		c.observe(Event{Code: Busy, Attempt: x.attempt})
		return nil, false, err
	}
	began, result := time.Now(), unknown
	defer func() { c.limit.leave(began, result) }()
	if x.in == nil {
		if err := c.present(ctx, x); err != nil {
			return nil, false, fmt.Errorf("%w: %w", broker.ErrInternal, err)
		}
	}
	out, v, err := c.call(ctx, x)
	if errors.Is(err, errNotAsked) {
		return nil, false, c.noRegion(x.attempt, max(c.rest(), probeRest))
	}
	switch v.kind {
	case throttled:
		result = refused
	case failing, gone:
	default: // STS took the call, whatever it made of it
		result = taken
	}
	return out, true, err
}

// call asks the first region that may be asked, and settles where a second
// attempt begins: where a region failed, with the next one.
func (c *Client) call(ctx context.Context, x *exchange) (*answer, verdict, error) {
	if x.attempt < attempts {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.first)
		defer cancel()
	}
	for i := range c.regions {
		at := (x.region + i) % len(c.regions)
		r := c.regions[at]
		began := time.Now()
		out, err := r.ask(ctx, x.in)
		if errors.Is(err, errNotAsked) {
			continue
		}
		v := judge(err)
		c.observe(Event{Code: v.code, Region: r.name, Attempt: x.attempt, Duration: time.Since(began)})
		if v.alert != "" && (v.kind != ended || !x.assertion.CallersOwn) {
			c.alert(ctx, v.alert, r.name, err)
		}
		switch v.kind {
		case disabled:
			r.disable()
			at++
		case failing:
			at++
		default:
		}
		x.region = at
		return out, v, err
	}
	return nil, verdict{}, errNotAsked
}

// pause waits before the second attempt, and reports whether one can be made. A
// region that fails is left for another at once, if there is one. An issuer that
// AWS could not reach needs longer than STS: three attempts within 76 ms, which
// the SDK makes, are of no use.
func (c *Client) pause(ctx context.Context, k kind) bool {
	least := 50 * time.Millisecond
	switch {
	case c.rest() > 0: // this was the last region's last
		return false
	case k == disabled, k == failing && len(c.regions) > 1:
		return true
	case k == keyless:
		least = 300 * time.Millisecond
	}
	wait := least + rand.N(2*least) //nolint:gosec // spreads load, guards nothing
	if end, _ := ctx.Deadline(); time.Until(end) <= wait+c.least+placeTime {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
