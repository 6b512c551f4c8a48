package httpapi

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

// Classes that only HTTP has.
const (
	errNotFound         broker.Class = "not_found"
	errMethodNotAllowed broker.Class = "method_not_allowed"
	errTooLarge         broker.Class = "too_large"
	errOriginNotAllowed broker.Class = "origin_not_allowed"
)

// defaultRetryAfter is told where the error does not say when to come again: a
// few seconds spread a crowd without making one caller wait long.
const defaultRetryAfter = 5 * time.Second

// refusal is what a class becomes. The message is a constant: it says what the
// class means and where to look, and nothing of what went on inside.
type refusal struct {
	class   broker.Class
	status  int
	message string
}

// table returns the one table of refusals.
func table() []refusal {
	return []refusal{
		{broker.ErrInvalidRequest, http.StatusBadRequest, "A parameter is malformed, unknown or repeated, or there are two Authorization headers."},
		{broker.ErrMissingToken, http.StatusUnauthorized, "Send the access token as \"Authorization: Bearer <token>\"."},
		{broker.ErrInvalidToken, http.StatusUnauthorized, "The token is not an access token that this service takes: check its issuer, its audience and that it is not an ID token or an opaque one."},
		{broker.ErrExpiredToken, http.StatusUnauthorized, "The token has expired. Get a new one and try again."},
		{broker.ErrNoGrant, http.StatusForbidden, "No grant matches the token: it lacks a permission, a scope or a claim, or the grant that was named is not for it."},
		{broker.ErrInvalidTenant, http.StatusForbidden, "The token names no usable tenant: sign in to an organisation."},
		{broker.ErrScopeNotAllowed, http.StatusForbidden, "The request asks for more than the grant gives."},
		{broker.ErrRevoked, http.StatusForbidden, "Access has been withdrawn."},
		{errOriginNotAllowed, http.StatusForbidden, "Pages of this origin may not call this service."},
		{errNotFound, http.StatusNotFound, "There is nothing here."},
		{errMethodNotAllowed, http.StatusMethodNotAllowed, "This method is not for this address."},
		{errTooLarge, http.StatusRequestEntityTooLarge, "The request is too large."},
		{broker.ErrRateLimited, http.StatusTooManyRequests, "Too many requests. Wait as Retry-After says."},
		{broker.ErrSTSRejected, http.StatusBadGateway, "AWS refused a request that was in order here. The operator has to look at it."},
		{broker.ErrSTSUnavailable, http.StatusServiceUnavailable, "AWS cannot be asked now. Try again as Retry-After says."},
		{broker.ErrKeysUnavailable, http.StatusServiceUnavailable, "The issuer's keys cannot be had now. Try again as Retry-After says."},
		{broker.ErrBusy, http.StatusServiceUnavailable, "Too much to do now. Try again as Retry-After says."},
		{broker.ErrInternal, http.StatusInternalServerError, "An error on our side. The operator finds it by the request id."},
	}
}

// refusalFor finds the row of an error. What has no row is ErrInternal.
func refusalFor(err error) refusal {
	class := broker.ClassOf(err)
	rows := table()
	for _, r := range rows {
		if r.class == class {
			return r
		}
	}
	return rows[len(rows)-1]
}

// fromEcho gives the router's own errors a class.
func fromEcho(err error) error {
	var own broker.Class
	var he *echo.HTTPError
	if errors.As(err, &own) || !errors.As(err, &he) {
		return err
	}
	switch he.Code {
	case http.StatusNotFound:
		return errNotFound
	case http.StatusMethodNotAllowed:
		return errMethodNotAllowed
	default:
		return err
	}
}

// sendError is the only writer of refusals, but for what sendLogoutError writes
// for it.
func (a *API) sendError(err error, c echo.Context) {
	err = fromEcho(err)
	row := refusalFor(err)
	note := eventOf(c)
	note.class, note.err = row.class, err
	if c.Response().Committed {
		return
	}
	var logout logoutRefusal
	if errors.As(err, &logout) {
		if err := sendLogoutError(c, row); err != nil {
			note.err = errors.Join(note.err, err)
		}
		return
	}
	h := c.Response().Header()
	switch row.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		h.Set("WWW-Authenticate", challenge(row.class))
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		after, ok := broker.RetryAfter(err)
		if !ok || after <= 0 {
			after = defaultRetryAfter
		}
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	answer := problem{Code: string(row.class), Message: row.message, RequestID: note.id}
	if c.Path() == uppyPath {
		answer.Uppy = row.message
	}
	body, err := marshal(answer)
	if err == nil {
		err = sendJSON(c, row.status, body)
	}
	if err != nil {
		note.err = errors.Join(note.err, err)
	}
}

// problem is the body of a refusal: Code and Message are what the AWS SDKs print.
type problem struct {
	Code      string
	Message   string
	RequestID string `json:"RequestId"`
	Uppy      string `json:"message,omitempty"` // the same text once more: Uppy prints no other
}

// challenge is the WWW-Authenticate of RFC 6750 §3: without an error code where
// no token was sent.
func challenge(class broker.Class) string {
	const realm = `Bearer realm="credential-broker"`
	switch class {
	case broker.ErrMissingToken:
		return realm
	case broker.ErrInvalidToken, broker.ErrExpiredToken:
		return realm + `, error="invalid_token"`
	default:
		return realm + `, error="insufficient_scope"`
	}
}

// wholeBytes is what net/http holds back of an answer until its handler ends, so that
// it says the length by itself (its bufferBeforeChunkingSize). Longer ones would be
// sent in chunks.
const wholeBytes = 2048

// sendJSON writes an answer whole: exact type, since the AWS SDK for Go does not
// read errors of "application/json; charset=…", and exact length.
func sendJSON(c echo.Context, status int, body []byte) error {
	h := c.Response().Header()
	h["Content-Type"] = eventOf(c).json
	head := c.Request().Method == http.MethodHead
	if head || len(body) > wholeBytes {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.Response().WriteHeader(status)
	if head {
		return nil
	}
	_, err := c.Response().Write(body)
	return err
}
