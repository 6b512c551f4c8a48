package awssts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// verdict is what an error of STS comes down to.
type verdict int

const (
	rejected verdict = iota // STS refuses what was verified here: configuration, ours or the account's
	passing                 // may pass by itself
	ended                   // the token has ended, or was withdrawn by its issuer
	bug                     // STS does not take what was made here
)

// judge goes by the code: nearly every error of STS has status 400.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html#API_AssumeRoleWithWebIdentity_Errors
func judge(err error) verdict {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return passing // no answer, or none that can be read
	}
	switch api.ErrorCode() {
	case "IDPCommunicationError", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException",
		"InternalFailure", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return passing
	case "InvalidIdentityToken":
		// The same code says that the token is bad and that AWS could not fetch
		// the issuer's keys; only the words differ.
		if strings.HasPrefix(api.ErrorMessage(), "Couldn't retrieve verification key") {
			return passing
		}
		return rejected
	case "ExpiredTokenException", "IDPRejectedClaim":
		return ended
	case "MalformedPolicyDocument", "PackedPolicyTooLarge", "ValidationError":
		return bug
	case "AccessDenied", "RegionDisabledException":
		return rejected
	default:
		var response *smithyhttp.ResponseError
		if errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
			return passing // no code of STS's, but its fault
		}
		return rejected
	}
}

func transient(err error) bool { return judge(err) == passing }

// classify gives the error its class, and the log a line where somebody should
// act. STS's own words stay in the error, which is for the record; they hold no
// token.
func (c *Client) classify(ctx context.Context, err error, a broker.Assertion) error {
	switch judge(err) {
	case passing:
		return broker.WithRetryAfter(fmt.Errorf("%w: %w", broker.ErrSTSUnavailable, err), unavailableRetryAfter)
	case ended:
		if a.CallersOwn {
			return fmt.Errorf("%w: %w", broker.ErrExpiredToken, err)
		}
	case bug:
		c.log.LogAttrs(ctx, slog.LevelError, "STS does not take what the broker made", slog.String("error", err.Error()))
		return fmt.Errorf("%w: %w", broker.ErrInternal, err)
	case rejected:
	}
	c.log.LogAttrs(ctx, slog.LevelError, "STS refuses what the broker verified: check the role's trust policy and the OIDC provider",
		slog.String("error", err.Error()))
	return fmt.Errorf("%w: %w", broker.ErrSTSRejected, err)
}
