package awssts

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"credential-broker/broker"
)

// burstShare is the share of a second's calls that may be made at once after a
// quiet time: a page that loads is served without waiting, and yet no second sees
// more than a quarter above the limit.
const burstShare = 4

// newBucket allows so many calls a second, second attempts included: it is what
// the operator leaves to the broker of a quota that others use too.
func newBucket(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/burstShare))
}

// placeTime is what is left for finding a place by the latest turn that is waited
// for; a turn in the very last moment would be lost for want of one.
const placeTime = time.Millisecond

// enter waits for the turn of a call, then for its place. What it returns is of
// class ErrBusy. A call that could not begin with c.least left is not waited for;
// where the bucket knows so, the answer comes at once.
//
// The bucket stands first because it is the cheap refusal. A turn without a place
// is lost, which costs nothing: where places are short, turns are not.
func (c *Client) enter(ctx context.Context, again bool) error {
	end, _ := ctx.Deadline() // Issue has set one
	end = end.Add(-c.least)
	turn, cancel := context.WithDeadline(ctx, end.Add(-placeTime))
	defer cancel()
	if err := c.bucket.Wait(turn); err != nil {
		// By then, all who wait now have had their turn.
		after := time.Duration((1 - c.bucket.Tokens()) / float64(c.bucket.Limit()) * float64(time.Second))
		err = fmt.Errorf("%w: calls a second to STS: %w", broker.ErrBusy, err)
		return broker.WithRetryAfter(err, max(after, busyRetryAfter))
	}
	place, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if err := c.limit.enter(place, again); err != nil {
		return broker.WithRetryAfter(fmt.Errorf("%w: calls to STS at a time: %w", broker.ErrBusy, err), busyRetryAfter)
	}
	return nil
}
