package awssts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/sony/gobreaker/v2"

	"credential-broker/broker"
)

const (
	// failuresToOpen opens a region's breaker, in a row. Not a share of all: a region
	// that answers every other call is of more use than none.
	failuresToOpen = 5
	// openFor is for how long a region is left alone before one call looks again.
	openFor = 5 * time.Second
	// probeRest is when to come again while that one call is under way.
	probeRest = time.Second
	// disabledFor is for how long a region is left out that the account has switched
	// off: an operator who switches it on sees it used within this.
	disabledFor = time.Minute
)

type answer = sts.AssumeRoleWithWebIdentityOutput

// region is the STS of one region.
type region struct {
	name string
	sts  *sts.Client
	*condition
}

// condition is whether a region may be asked.
type condition struct {
	breaker *gobreaker.CircuitBreaker[*answer]

	mu    sync.Mutex // guards what follows
	opens time.Time  // the breaker, if it is open
	off   time.Time  // until then the region is left out
}

// newCondition makes the breaker. It judges whether the region is there, and not
// what it says: whoever throttles, refuses a token or cannot reach its issuer has
// answered. Throttles are the limit's; and were one issuer's failure to open the
// breaker, it would shut out the tenants of all others.
func newCondition(name string, log *slog.Logger) *condition {
	r := &condition{}
	r.breaker = gobreaker.NewCircuitBreaker[*answer](gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: openFor,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= failuresToOpen },
		IsSuccessful: func(err error) bool { return judge(err).kind != failing },
		IsExcluded:   func(err error) bool { return judge(err).kind == gone },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				r.mu.Lock()
				r.opens = time.Now().Add(openFor)
				r.mu.Unlock()
			}
			log.LogAttrs(context.Background(), slog.LevelWarn, "circuit breaker of STS",
				slog.String("region", name), slog.String("from", from.String()), slog.String("to", to.String()))
		},
	})
	return r
}

// rest is for how long the region is not asked, 0 if it may be.
func (r *condition) rest() time.Duration {
	// The breaker has a lock of its own, under which it takes mu: it is asked first.
	state, counts := r.breaker.State(), r.breaker.Counts()
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case now.Before(r.off):
		return r.off.Sub(now)
	case state == gobreaker.StateOpen:
		return max(r.opens.Sub(now), 1) // half open is strictly after
	case state == gobreaker.StateHalfOpen && counts.Requests > counts.TotalExclusions:
		return probeRest
	default:
		return 0
	}
}

// disabled reports whether the account has the region switched off.
func (r *condition) disabled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.off)
}

func (r *condition) disable() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = time.Now().Add(disabledFor)
}

// errNotAsked says that no call was made.
var errNotAsked = errors.New("region is not asked now")

// ask makes a call, if the region may be asked.
func (r *region) ask(ctx context.Context, in *sts.AssumeRoleWithWebIdentityInput) (*answer, error) {
	if r.disabled() {
		return nil, errNotAsked
	}
	out, err := r.breaker.Execute(func() (*answer, error) { return r.sts.AssumeRoleWithWebIdentity(ctx, in) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return nil, errNotAsked
	}
	return out, err
}

// rest is when the first region may be asked again, 0 if one may be now.
func (c *Client) rest() time.Duration {
	least := c.regions[0].rest()
	for _, r := range c.regions[1:] {
		least = min(least, r.rest())
	}
	return least
}

// allDisabled reports whether the account has no region left that is switched on.
func (c *Client) allDisabled() bool {
	return !slices.ContainsFunc(c.regions, func(r *region) bool { return !r.disabled() })
}

// noRegion is the error for an order that no region may be asked for so long.
func (c *Client) noRegion(attempt int, rest time.Duration) error {
	c.observe(Event{Code: NoRegion, Attempt: attempt})
	if c.allDisabled() {
		return fmt.Errorf("%w: the account has STS switched off in every region that is configured", broker.ErrSTSRejected)
	}
	return broker.WithRetryAfter(fmt.Errorf("%w: no region of STS is asked for %s", broker.ErrSTSUnavailable, rest), rest)
}
