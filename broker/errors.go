package broker

import (
	"errors"
	"time"
)

// Class is the class of a refusal: an error of its own, wrapped by every error
// that an exchange returns, and the code that the caller is shown and that the
// audit record and the metrics carry. The class is all that a caller learns; the
// cause stays with the error, for the record. An error without a class is a bug
// and has the class ErrInternal.
type Class string

// The classes. What HTTP makes of each is in package httpapi.
const (
	// ErrInvalidRequest: a parameter is malformed.
	ErrInvalidRequest Class = "invalid_request"
	// ErrMissingToken: no token was presented.
	ErrMissingToken Class = "missing_token"
	// ErrInvalidToken: the token breaks a rule of the verifier.
	ErrInvalidToken Class = "invalid_token"
	// ErrExpiredToken: the token, right in all else that it says, is past its time.
	// Its signature need not have been looked at.
	ErrExpiredToken Class = "expired_token"
	// ErrNoGrant: no grant matches the token, or the named one does not.
	ErrNoGrant Class = "no_grant"
	// ErrInvalidTenant: the grant matches, but the token names no usable tenant.
	ErrInvalidTenant Class = "invalid_tenant"
	// ErrScopeNotAllowed: the request asks for more than the grant gives.
	ErrScopeNotAllowed Class = "scope_not_allowed"
	// ErrRevoked: the subject or the tenant has been shut out.
	ErrRevoked Class = "revoked"
	// ErrRateLimited: the caller asked too often.
	ErrRateLimited Class = "rate_limited"
	// ErrSTSRejected: STS refused what was verified here: the configuration of
	// the broker or of AWS is wrong, and somebody should be told.
	ErrSTSRejected Class = "sts_rejected"
	// ErrSTSUnavailable: STS cannot be reached, is throttling or failing; later
	// may work.
	ErrSTSUnavailable Class = "sts_unavailable"
	// ErrKeysUnavailable: the issuer's signing keys are not to be had, or too old.
	ErrKeysUnavailable Class = "keys_unavailable"
	// ErrBusy: the broker is at its bound, or cannot write its audit record.
	ErrBusy Class = "busy"
	// ErrInternal: a bug.
	ErrInternal Class = "internal"
)

// Classes returns all of them, for who counts.
func Classes() []Class {
	return []Class{
		ErrInvalidRequest, ErrMissingToken, ErrInvalidToken, ErrExpiredToken, ErrNoGrant, ErrInvalidTenant, ErrScopeNotAllowed, ErrRevoked,
		ErrRateLimited, ErrSTSRejected, ErrSTSUnavailable, ErrKeysUnavailable, ErrBusy, ErrInternal,
	}
}

// Error implements error with the code itself.
func (c Class) Error() string { return string(c) }

// ClassOf returns the outermost class that err wraps, ErrInternal for an error
// that has none, and "" for nil.
func ClassOf(err error) Class {
	if err == nil {
		return ""
	}
	var c Class
	if errors.As(err, &c) {
		return c
	}
	return ErrInternal
}

// retryable says when an error may have passed.
type retryable struct {
	error
	after time.Duration
}

func (r retryable) Unwrap() error { return r.error }

// WithRetryAfter attaches to err the time after which a new attempt makes sense.
// It returns nil for a nil err.
func WithRetryAfter(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return retryable{err, after}
}

// RetryAfter returns the time that WithRetryAfter attached, and false where none
// was attached.
func RetryAfter(err error) (time.Duration, bool) {
	var r retryable
	if errors.As(err, &r) {
		return r.after, true
	}
	return 0, false
}
