// Package awssts asks AWS STS for credentials that a session policy limits. The
// last thing before each call is the proof that the policy stays inside its
// scope; the first thing after it is to compare what STS says that it did with
// what it was asked for.
package awssts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-broker/broker"
	"credential-broker/policy"
)

const (
	// MaxTimeout is the longest that an order may take, waiting and both attempts
	// included: botocore gives its credentials endpoint 2 s to answer.
	MaxTimeout = 1800 * time.Millisecond
	// attempts bounds the calls for one order. A third would not fit into
	// MaxTimeout when the first two were slow.
	attempts = 2
	// busyRetryAfter is when a caller who found no free place should come again.
	busyRetryAfter = time.Second
)

// Config is what a Client is made of.
type Config struct {
	Region        string        // whose STS is asked
	Endpoint      string        // empty: the region's own
	Timeout       time.Duration // of an order; 0: MaxTimeout, which is also the most
	MaxConcurrent int           // orders at a time; more wait within their timeout
	// Assert gives the token that STS is shown for an order.
	Assert    func(context.Context, broker.Order) (broker.Assertion, error)
	Transport http.RoundTripper // nil: one that suits MaxConcurrent
	Now       func() time.Time  // nil: time.Now
	Log       *slog.Logger      // nil: nowhere
}

// Client asks STS. It is safe for concurrent use.
type Client struct {
	sts     *sts.Client
	assert  func(context.Context, broker.Order) (broker.Assertion, error)
	timeout time.Duration
	places  chan struct{} // one for each order that may be under way
	now     func() time.Time
	log     *slog.Logger
}

var _ broker.Issuer = (*Client)(nil)

// New checks the configuration. It reads no credentials, from nowhere: the call
// is not signed.
func New(cfg Config) (*Client, error) {
	var errs []error
	if cfg.Region == "" {
		errs = append(errs, errors.New("no region"))
	}
	if cfg.Timeout < 0 || cfg.Timeout > MaxTimeout {
		errs = append(errs, fmt.Errorf("timeout %s: at most %s", cfg.Timeout, MaxTimeout))
	}
	if cfg.MaxConcurrent < 1 {
		errs = append(errs, errors.New("at least one order must be allowed at a time"))
	}
	if cfg.Assert == nil {
		errs = append(errs, errors.New("nothing to show STS"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make STS client: %w", err)
	}
	client, err := newSTS(cfg)
	if err != nil {
		return nil, fmt.Errorf("make STS client: %w", err)
	}
	c := &Client{
		sts: client, assert: cfg.Assert, timeout: cfg.Timeout, places: make(chan struct{}, cfg.MaxConcurrent), now: cfg.Now, log: cfg.Log,
	}
	if c.timeout == 0 {
		c.timeout = MaxTimeout
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Issue implements broker.Issuer.
func (c *Client) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	if err := check(order); err != nil {
		c.log.LogAttrs(ctx, slog.LevelError, "session policy not sent", slog.String("error", err.Error()))
		return broker.Credentials{}, fmt.Errorf("%w: %w", broker.ErrInternal, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
	}
	// No place in time, or one in the last moment.
	if end, _ := ctx.Deadline(); ctx.Err() != nil || time.Until(end) <= 0 {
		err := fmt.Errorf("%w: %d orders are under way at STS: %w", broker.ErrBusy, cap(c.places), context.DeadlineExceeded)
		return broker.Credentials{}, broker.WithRetryAfter(err, busyRetryAfter)
	}
	assertion, err := c.assert(ctx, order)
	if err != nil {
		return broker.Credentials{}, fmt.Errorf("%w: %w", broker.ErrInternal, err)
	}
	out, err := c.call(ctx, order, assertion)
	if err != nil {
		return broker.Credentials{}, c.classify(ctx, err, assertion)
	}
	now := c.now()
	if err := compare(out, order, assertion, now); err != nil {
		c.log.LogAttrs(ctx, slog.LevelError, "STS did not do what it was asked", slog.String("error", err.Error()))
		return broker.Credentials{}, fmt.Errorf("%w: answer of STS: %w", broker.ErrInternal, err)
	}
	return broker.Credentials{
		AccessKeyID:     aws.ToString(out.Credentials.AccessKeyId),
		SecretAccessKey: broker.NewSecret(aws.ToString(out.Credentials.SecretAccessKey)),
		SessionToken:    broker.NewSecret(aws.ToString(out.Credentials.SessionToken)),
		IssuedAt:        now, Expiration: aws.ToTime(out.Credentials.Expiration),
		SessionName: order.SessionName, Scope: order.Scope, Source: broker.FromSTS,
	}, nil
}

// sessionName is what STS takes as a role session name, less what the broker never uses.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
var sessionName = regexp.MustCompile(`\A[A-Za-z0-9=,.@_-]{2,64}\z`)

// check is the last gate: what does not pass it is not sent. STS reads an absent
// policy as the whole role; the absent one is not proved, as no other is that is
// not wholly understood.
func check(o broker.Order) error {
	if err := policy.Confined(o.Document.String(), o.Scope.S3); err != nil {
		return fmt.Errorf("shouldn't happen: %w", err)
	}
	if !sessionName.MatchString(o.SessionName) {
		return fmt.Errorf("shouldn't happen: session name %q", o.SessionName)
	}
	if o.Lifetime < broker.MinDuration || o.Lifetime > broker.MaxDuration || o.Lifetime%time.Second != 0 {
		return fmt.Errorf("shouldn't happen: lifetime %s", o.Lifetime)
	}
	return nil
}

// call makes the call, and once more when what went wrong may pass.
func (c *Client) call(ctx context.Context, o broker.Order, a broker.Assertion) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	in := &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          aws.String(o.Scope.RoleARN.String()),
		RoleSessionName:  aws.String(o.SessionName),
		WebIdentityToken: aws.String(a.Token.Reveal()),
		Policy:           aws.String(o.Document.String()),
		DurationSeconds:  aws.Int32(int32(o.Lifetime / time.Second)), //nolint:gosec // at most 43200, see check
	}
	for attempt := 1; ; attempt++ {
		out, err := c.sts.AssumeRoleWithWebIdentity(ctx, in)
		if err == nil || attempt == attempts || !transient(err) || ctx.Err() != nil {
			return out, err
		}
		select {
		case <-time.After(pause()):
		case <-ctx.Done():
			return nil, err
		}
	}
}
