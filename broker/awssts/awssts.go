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
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/time/rate"

	"credential-broker/broker"
	"credential-broker/policy"
)

const (
	// MaxTimeout is the longest that an order may take, waiting and both attempts
	// included: botocore gives its credentials endpoint 2 s to answer.
	MaxTimeout = 1800 * time.Millisecond
	// busyRetryAfter is when a caller who found no place in time should come again.
	busyRetryAfter = time.Second
)

// Shares of the timeout, of which the figures are for MaxTimeout.
const (
	// leastShare is what a call must have: 300 ms. STS answers in 50 to 150, from
	// another continent in 300. What begins with less would mostly be cut off, count
	// against the quota, and look as if the region had failed.
	leastShare = 6
	// firstShare is what the first attempt may take of nine: 1 s. A second that
	// begins at once then has 0.8 s.
	firstShare, firstOf = 5, 9
)

// Config is what a Client is made of.
type Config struct {
	Region          string        // whose STS is asked
	FallbackRegions []string      // whose is while the first is not to be had, in this order
	Endpoint        string        // empty: the region's own; else there can be no other regions
	Timeout         time.Duration // of an order; 0: MaxTimeout, which is also the most
	MaxConcurrent   int           // calls at a time, at most: see limit; more orders wait within their timeout
	PerSecond       int           // calls a second, both attempts counted
	// Assert gives the token that STS is shown for an order.
	Assert    func(context.Context, broker.Order) (broker.Assertion, error)
	Observe   func(Event)       // nil, or told of each event; must be quick and safe for concurrent use
	Transport http.RoundTripper // nil: one that suits MaxConcurrent
	Now       func() time.Time  // nil: time.Now
	Log       *slog.Logger      // nil: nowhere

	// Previous, if set, is the client that this one is to follow. Where both ask the
	// same STS within the same bounds, what was learnt of it goes on: an STS that is
	// down or throttles is not stormed because a configuration was changed, and the
	// calls of both count together.
	Previous *Client
}

// Client asks STS. It is safe for concurrent use.
type Client struct {
	same    string       // equal for those who ask the same STS within the same bounds
	http    *http.Client // of all regions
	regions []*region    // in the order in which they are asked
	bucket  *rate.Limiter
	limit   *limit
	assert  func(context.Context, broker.Order) (broker.Assertion, error)
	observe func(Event)
	timeout time.Duration // of an order
	first   time.Duration // of its first call
	least   time.Duration // that a call must have
	now     func() time.Time
	log     *slog.Logger
}

var _ broker.Issuer = (*Client)(nil)

// New checks the configuration. It reads no credentials, from nowhere: the call
// is not signed.
func New(cfg Config) (*Client, error) {
	if err := validate(cfg); err != nil {
		return nil, fmt.Errorf("make STS client: %w", err)
	}
	client, err := newHTTP(cfg)
	if err != nil {
		return nil, fmt.Errorf("make STS client: %w", err)
	}
	c := &Client{
		same: fmt.Sprintf("%q %q %q %d %d", cfg.Region, cfg.FallbackRegions, cfg.Endpoint, cfg.MaxConcurrent, cfg.PerSecond), http: client,
		bucket: newBucket(cfg.PerSecond), limit: newLimit(cfg.MaxConcurrent),
		assert: cfg.Assert, observe: cfg.Observe, timeout: cfg.Timeout, now: cfg.Now, log: cfg.Log,
	}
	if c.timeout == 0 {
		c.timeout = MaxTimeout
	}
	c.first, c.least = c.timeout*firstShare/firstOf, c.timeout/leastShare
	if c.observe == nil {
		c.observe = func(Event) {}
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for _, name := range slices.Concat([]string{cfg.Region}, cfg.FallbackRegions) {
		c.regions = append(c.regions, &region{name, newSTS(name, cfg.Endpoint, client), newCondition(name, c.log)})
	}
	c.follow(cfg.Previous)
	return c, nil
}

// follow takes over what another client has learnt of the same STS.
func (c *Client) follow(previous *Client) {
	if previous == nil || previous.same != c.same {
		return
	}
	c.bucket, c.limit = previous.bucket, previous.limit
	for i, r := range previous.regions {
		c.regions[i].condition = r.condition
	}
}

// Close closes connections, those that are in use once they are not. A client that
// follows is not affected.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// validate reports everything that is wrong with a configuration.
func validate(cfg Config) error {
	var errs []error
	if cfg.Region == "" || slices.Contains(cfg.FallbackRegions, "") {
		errs = append(errs, errors.New("a region without a name"))
	}
	if cfg.Endpoint != "" && len(cfg.FallbackRegions) > 0 {
		errs = append(errs, errors.New("an endpoint is of one region, and there are more"))
	}
	if cfg.Timeout < 0 || cfg.Timeout > MaxTimeout {
		errs = append(errs, fmt.Errorf("timeout %s: at most %s", cfg.Timeout, MaxTimeout))
	}
	if cfg.MaxConcurrent < 1 || cfg.PerSecond < 1 {
		errs = append(errs, errors.New("at least one call must be allowed, at a time and a second"))
	}
	if cfg.Assert == nil {
		errs = append(errs, errors.New("nothing to show STS"))
	}
	return errors.Join(errs...)
}

// Issue implements broker.Issuer.
func (c *Client) Issue(ctx context.Context, order broker.Order) (broker.Credentials, error) {
	if err := check(order); err != nil {
		c.alert(ctx, AlertUnproved, "", err)
		return broker.Credentials{}, fmt.Errorf("%w: %w", broker.ErrInternal, err)
	}
	if rest := c.rest(); rest > 0 { // at once, and not after waiting for a turn
		return broker.Credentials{}, c.noRegion(0, rest)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	x := &exchange{order: order}
	out, err := c.ask(ctx, x)
	if err != nil {
		return broker.Credentials{}, err
	}
	now := c.now()
	if err := compare(out, order, x.assertion, now); err != nil {
		c.alert(ctx, AlertAnswer, c.regions[x.region].name, err)
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

// present makes what STS is shown.
func (c *Client) present(ctx context.Context, x *exchange) error {
	a, err := c.assert(ctx, x.order)
	if err != nil {
		return err
	}
	x.assertion = a
	x.in = &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          aws.String(x.order.Scope.RoleARN.String()),
		RoleSessionName:  aws.String(x.order.SessionName),
		WebIdentityToken: aws.String(a.Token.Reveal()),
		Policy:           aws.String(x.order.Document.String()),
		DurationSeconds:  aws.Int32(int32(x.order.Lifetime / time.Second)), //nolint:gosec // at most 43200, see check
	}
	return nil
}
