package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"credential-broker/broker"
)

// logoutRefusal is an error of the log-out route, which is answered as OpenID
// Connect Back-Channel Logout 1.0 has it.
type logoutRefusal struct{ error }

func (l logoutRefusal) Unwrap() error { return l.error }

// POST /v1/backchannel-logout
func (a *API) logout(c echo.Context) error {
	token, err := logoutToken(c.Request(), a.cfg.TokenBytes)
	if err == nil {
		note := eventOf(c)
		note.request.Token = token
		err = a.cfg.Logout(c.Request().Context(), note.request)
		note.recorded = true
	}
	if err != nil {
		return logoutRefusal{err}
	}
	return c.NoContent(http.StatusOK)
}

// logoutToken takes the token out of the form (§2.5). Other fields are ignored, as
// the specification demands, and so is the query.
func logoutToken(r *http.Request, maxBytes int) (broker.Secret, error) {
	malformed := func(what string) error { return fmt.Errorf("%w: %s", broker.ErrInvalidRequest, what) }
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return broker.Secret{}, malformed("the body must be application/x-www-form-urlencoded")
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return broker.Secret{}, errTooLarge
	}
	if err != nil {
		return broker.Secret{}, malformed("the body cannot be read")
	}
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return broker.Secret{}, malformed("the body is not a form")
	}
	tokens := form["logout_token"]
	if len(tokens) != 1 || tokens[0] == "" {
		return broker.Secret{}, malformed("there is not one logout_token")
	}
	if len(tokens[0]) > maxBytes {
		return broker.Secret{}, fmt.Errorf("%w: a token of %d bytes, at most %d", broker.ErrInvalidToken, len(tokens[0]), maxBytes)
	}
	return broker.NewSecret(tokens[0]), nil
}

// sendLogoutError answers a log-out that was refused or did not succeed: 400 and
// nothing else (§2.8), with the error as OAuth 2.0 writes it (RFC 6749 §5.2).
func sendLogoutError(c echo.Context, row refusal) error {
	code, description := "invalid_request", "The logout token is not one that this service takes, or was taken before."
	if row.status >= http.StatusInternalServerError {
		code, description = "temporarily_unavailable", "It cannot be said now whether the logout token is good. Send it again."
	}
	body, err := marshal(struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}{code, description})
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusBadRequest, body)
}
