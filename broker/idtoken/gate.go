package idtoken

import (
	"context"
	"errors"
	"runtime"
	"time"

	"credential-broker/broker"
)

// gateShare is the share of the processors that check signatures at a time: one in
// two. A signature costs more than all the rest of a request, and is all that a flood
// of forged tokens, or everybody's first token of the morning, needs; the tokens that
// are remembered need none, and find the other half free.
const gateShare = 2

// gateWait is how long a token waits for its turn: half of what botocore gives its
// credentials endpoint. All the connections that the server holds have their turn
// within that, unless the machine has no time for it; then who waits is told so while
// somebody still listens, and the queue grows no longer than that.
const gateWait = time.Second

// gate lets a few check signatures at a time. Who waits is served in the order of
// arrival, as those who wait for a channel are.
type gate chan struct{}

func newGate() gate { return make(gate, max(1, runtime.GOMAXPROCS(0)/gateShare)) }

// enter waits for a turn until ctx ends, and no longer than patience, unless that is 0.
// Its error is ErrBusy. Who has got one gives it back by leave.
func (g gate) enter(ctx context.Context, patience time.Duration) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	err := errors.New("too many signatures to check")
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-late:
	}
	return broker.WithRetryAfter(classed(broker.ErrBusy, "wait for a signature to be checked: %w", err), gateWait)
}

func (g gate) leave() { <-g }
