package awssts

import (
	"context"
	"log/slog"
	"time"

	"credential-broker/broker"
)

// Code is what became of a call. It is one of a closed set: OK, those below, and
// the codes of STS that judge knows.
type Code string

// The codes that are not STS's.
const (
	OK             Code = "OK"
	Busy           Code = "Busy"           // STS was not asked: no turn or no place in time
	NoRegion       Code = "NoRegion"       // STS was not asked: no region may be
	Timeout        Code = "Timeout"        // no answer in time
	Canceled       Code = "Canceled"       // whoever asked went away
	BadCertificate Code = "BadCertificate" // whoever answered is not STS
	Redirect       Code = "Redirect"       // nor here
	NoAnswer       Code = "NoAnswer"       // no connection, or nothing that can be read
	Other          Code = "Other"          // a code that is not known
)

// Codes returns all of them, for who counts. Busy and NoRegion are of calls that
// were not made.
func Codes() []Code {
	return []Code{
		OK, Busy, NoRegion, Timeout, Canceled, BadCertificate, Redirect, NoAnswer, Other,
		"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
		"RequestLimitExceeded", "TooManyRequestsException", "SlowDown",
		"InternalFailure", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException",
		"IDPCommunicationError", "InvalidIdentityToken", "ExpiredTokenException", "IDPRejectedClaim",
		"MalformedPolicyDocument", "PackedPolicyTooLarge", "ValidationError", "RegionDisabledException", "AccessDenied",
	}
}

// Asked reports whether a call was made.
func (c Code) Asked() bool { return c != Busy && c != NoRegion }

// Alert is a reason for somebody to look: something is wrong that does not pass
// by itself. It is one of a closed set.
type Alert string

// The alerts.
const (
	// AlertRejected: STS refuses what was verified here. See to the role's trust
	// policy and to the OIDC provider.
	AlertRejected Alert = "sts_rejected"
	// AlertClock: STS takes a token for ended that was made a moment ago. See to
	// this machine's clock.
	AlertClock Alert = "sts_clock_skew"
	// AlertRegion: the account has STS switched off in a region.
	AlertRegion Alert = "sts_region_disabled"
	// AlertEndpoint: what answers in STS's place is not STS. See to sts.endpoint, to
	// the proxy and to AWS_CA_BUNDLE.
	AlertEndpoint Alert = "sts_endpoint"
	// AlertPolicy: STS does not take what was made here. A bug.
	AlertPolicy Alert = "sts_policy_refused"
	// AlertAnswer: STS did not do what it was asked. Its answer was thrown away.
	AlertAnswer Alert = "sts_answer_differs"
	// AlertUnproved: an order did not pass the last gate. A bug.
	AlertUnproved Alert = "order_unproved"
)

// Alerts returns all of them, for who counts.
func Alerts() []Alert {
	return []Alert{AlertRejected, AlertClock, AlertRegion, AlertEndpoint, AlertPolicy, AlertAnswer, AlertUnproved}
}

func (a Alert) message() string {
	switch a {
	case AlertRejected:
		return "STS refuses what the broker verified: check the role's trust policy and the OIDC provider"
	case AlertClock:
		return "STS says that a token made a moment ago has ended: check this machine's clock"
	case AlertRegion:
		return "STS is switched off in this region: activate it in the account, or take the region out of the configuration"
	case AlertEndpoint:
		return "what answers is not STS: check sts.endpoint, the proxy and AWS_CA_BUNDLE"
	case AlertPolicy:
		return "STS does not take what the broker made"
	case AlertAnswer:
		return "STS did not do what it was asked: its answer is thrown away"
	case AlertUnproved:
		return "session policy not sent"
	}
	return string(a)
}

// Event is one thing that happened: a call that was made or not, and then Code is
// set, or a reason to look, and then Alert is.
type Event struct {
	Code     Code
	Region   string        // one of the configured; empty where STS was not asked
	Attempt  int           // 1, or 2 for the second of an order
	Duration time.Duration // of the call
	Alert    Alert
}

// alert tells whoever watches, by log and by event. The error is STS's words or
// our own, and what stands in STS's place may repeat what it was sent.
func (c *Client) alert(ctx context.Context, a Alert, region string, err error) {
	c.log.LogAttrs(ctx, slog.LevelError, a.message(),
		slog.String("alert", string(a)), slog.String("region", region), slog.String("error", broker.Redact(err.Error())))
	c.observe(Event{Alert: a, Region: region})
}

// Load is what is under way at the moment.
type Load struct {
	Calls, Places int // under way, and how many may be
	Waiting       int // orders without a place
	Regions       []RegionState
}

// RegionState is whether a region is asked. It is one of States.
type RegionState struct{ Region, State string }

// States returns the states of a region, for who counts: the three of a circuit
// breaker, and one for a region that the account has switched off.
func States() []string { return []string{"closed", "half-open", "open", "disabled"} }

// Load returns it, with the regions in the order in which they are asked.
func (c *Client) Load() Load {
	c.limit.mu.Lock()
	l := Load{Calls: c.limit.used, Places: int(c.limit.places), Waiting: c.limit.fresh.Len() + c.limit.again.Len()}
	c.limit.mu.Unlock()
	for _, r := range c.regions {
		state := r.breaker.State().String()
		if r.disabled() {
			state = "disabled"
		}
		l.Regions = append(l.Regions, RegionState{r.name, state})
	}
	return l
}
