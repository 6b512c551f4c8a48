package agent

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Problem is why there are no credentials, in the words that an AWS SDK prints.
// None of its fields holds a secret.
type Problem struct {
	Status     int
	Code       string
	Message    string
	RequestID  string        // the broker's; empty: the request did not get so far
	RetryAfter time.Duration // when to ask again; zero: nothing is known
	// Final says that asking again brings the same until somebody changes something,
	// and that what was given before is not to be used any more.
	Final bool
	cause error
}

// The codes of what the agent itself has to say. The broker's own are passed on.
const (
	codeUnauthorized      = "agent_unauthorized"
	codeForbidden         = "agent_forbidden"
	codeInvalidRequest    = "invalid_request"
	codeNotFound          = "not_found"
	codeMethod            = "method_not_allowed"
	codeWaiting           = "agent_waiting"
	codeBrokerUnavailable = "broker_unavailable"
	codeTokenUnavailable  = "token_unavailable" //nolint:gosec // it says that there is none
	codeTokenRefused      = "token_refused"
)

// Error tells the problem and its cause.
func (p *Problem) Error() string {
	text := p.Code + ": " + p.Message
	if p.RequestID != "" {
		text += " (request id " + p.RequestID + ")"
	}
	if p.cause != nil {
		text += ": " + p.cause.Error()
	}
	return text
}

func (p *Problem) Unwrap() error { return p.cause }

// unavailable is a problem that may pass by itself.
func unavailable(code string, cause error, format string, args ...any) *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: code, Message: fmt.Sprintf(format, args...), cause: cause}
}

// The most of what others wrote that is passed on: the broker's messages are below
// 200 bytes, and an error description of Auth0's is a sentence or two.
const (
	maxCode = 64
	maxText = 300
)

// readable keeps of a text what can stand in a log line and on a terminal.
func readable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}
