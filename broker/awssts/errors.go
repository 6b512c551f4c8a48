package awssts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"credential-broker/broker"
)

// unavailableRetryAfter is when to come again after STS failed or throttled: its
// throttle is counted in seconds.
const unavailableRetryAfter = 2 * time.Second

// kind is what an error of STS comes down to.
type kind int

const (
	rejected  kind = iota // STS refuses what was verified here: configuration, ours or the account's
	ended                 // the token has ended, or was withdrawn by its issuer
	bug                   // STS does not take what was made here
	disabled              // the account does not use STS in this region
	throttled             // too many calls
	keyless               // AWS could not ask the token's issuer for its keys
	failing               // no answer, or none of use: the region's fault
	gone                  // whoever asked went away
	fine                  // no error
)

// passes reports whether the same call may be taken a moment later, or elsewhere.
func (k kind) passes() bool { return k == disabled || k == throttled || k == keyless || k == failing }

// verdict is what is known of an error.
type verdict struct {
	kind  kind
	code  Code
	alert Alert // or none
}

// judge goes by the code: nearly every error of STS has status 400.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html#API_AssumeRoleWithWebIdentity_Errors
func judge(err error) verdict {
	var api smithy.APIError
	switch {
	case err == nil:
		return verdict{kind: fine, code: OK}
	case !errors.As(err, &api):
		return unanswered(err)
	}
	switch code := api.ErrorCode(); code {
	case "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
		"RequestLimitExceeded", "TooManyRequestsException", "SlowDown":
		return verdict{kind: throttled, code: Code(code)}
	case "InternalFailure", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return verdict{kind: failing, code: Code(code)}
	case "IDPCommunicationError":
		return verdict{kind: keyless, code: Code(code)}
	case "InvalidIdentityToken":
		// The same code says that the token is bad and that AWS could not fetch
		// the issuer's keys; only the words differ.
		if strings.HasPrefix(api.ErrorMessage(), "Couldn't retrieve verification key") {
			return verdict{kind: keyless, code: Code(code)}
		}
		return verdict{rejected, Code(code), AlertRejected}
	case "ExpiredTokenException":
		return verdict{ended, Code(code), AlertClock}
	case "IDPRejectedClaim":
		return verdict{ended, Code(code), AlertRejected}
	case "MalformedPolicyDocument", "PackedPolicyTooLarge", "ValidationError":
		return verdict{bug, Code(code), AlertPolicy}
	case "RegionDisabledException":
		return verdict{disabled, Code(code), AlertRegion}
	case "AccessDenied":
		return verdict{rejected, Code(code), AlertRejected}
	default:
		return byStatus(err)
	}
}

// byStatus is for a code that is not STS's own: a proxy's, or a new one.
func byStatus(err error) verdict {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		switch status := response.HTTPStatusCode(); {
		case status >= http.StatusInternalServerError:
			return verdict{kind: failing, code: Other}
		case status == http.StatusTooManyRequests:
			return verdict{kind: throttled, code: Other}
		case status < http.StatusBadRequest: // a redirect that keeps the body, which Go does not even try
			return verdict{rejected, Redirect, AlertEndpoint}
		}
	}
	return verdict{rejected, Other, AlertRejected}
}

// unanswered is for what has no code.
func unanswered(err error) verdict {
	var certificate *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return verdict{kind: gone, code: Canceled}
	case errors.Is(err, errRedirect):
		return verdict{rejected, Redirect, AlertEndpoint}
	case errors.As(err, &certificate):
		return verdict{failing, BadCertificate, AlertEndpoint}
	case errors.As(err, &network) && network.Timeout():
		return verdict{kind: failing, code: Timeout}
	default:
		return verdict{kind: failing, code: NoAnswer}
	}
}

// classify gives an error of STS its class. STS's own words stay in the error,
// which is for the record.
func (c *Client) classify(err error, a broker.Assertion) error {
	switch k := judge(err).kind; {
	case k == bug:
		return fmt.Errorf("%w: %w", broker.ErrInternal, err)
	case k == ended && a.CallersOwn:
		return fmt.Errorf("%w: %w", broker.ErrExpiredToken, err)
	case k == ended, k == rejected, k == disabled && c.allDisabled():
		return fmt.Errorf("%w: %w", broker.ErrSTSRejected, err)
	default:
		err = fmt.Errorf("%w: %w", broker.ErrSTSUnavailable, err)
		return broker.WithRetryAfter(err, max(unavailableRetryAfter, c.rest()))
	}
}
