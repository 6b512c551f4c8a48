package escape

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
)

// answer is what a server said. The zero value is no answer.
type answer struct {
	status int
	code   string // of an XML error
	body   string
	err    error
	head   bool // the answer to HEAD: it has no body that could hold a code
}

func (a answer) String() string {
	switch {
	case a.err != nil:
		return a.err.Error()
	case a.code != "":
		return fmt.Sprintf("%d %s", a.status, a.code)
	default:
		return fmt.Sprint(a.status)
	}
}

func (a answer) done() bool { return a.status/100 == 2 }

// denied reports whether the server said that the session may not do it, or that
// nobody can: that there is no such operation. Every other 4xx says nothing: it
// may be about the moment (throttling), the session (it has ended) or how the
// request was made. "Not there" is not among it either: whoever may not look is
// not told.
func (a answer) denied() bool {
	switch a.status {
	case http.StatusForbidden:
		return a.code == "AccessDenied" || a.code == "AllAccessDisabled" || a.head
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusBadRequest:
		return a.code == "InvalidAction" // so STS says of what it does not have
	}
	return false
}

// unlike reports whether the server did not take a request that is made in a way
// that no client makes it. Any word but one on the moment or the session will do.
func (a answer) unlike() bool {
	passing := []string{
		"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "RequestTimeout",
		"RequestTimeTooSkewed", "ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidAccessKeyId",
	}
	return a.denied() || a.status/100 == 4 && a.status != http.StatusNotFound && a.status != http.StatusTooManyRequests && !slices.Contains(passing, a.code)
}

// unproven reports whether the server did not take credentials for what they
// claim to be.
func (a answer) unproven() bool {
	wrong := []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException"}
	return a.denied() || a.status/100 == 4 && slices.Contains(wrong, a.code)
}

// errorCode reads the code of S3's errors, and of STS's, which are one deeper.
func errorCode(body []byte) string {
	var e struct {
		XMLName xml.Name
		Code    string
		Inner   struct{ Code string } `xml:"Error"`
	}
	if xml.Unmarshal(body, &e) != nil {
		return ""
	}
	switch e.XMLName.Local {
	case "Error":
		return e.Code
	case "ErrorResponse":
		return e.Inner.Code
	}
	return ""
}

// mustRefuse records an attempt that is held by nothing but a denial.
func (r *run) mustRefuse(k Kind, place, name string, a answer) {
	r.judge(k, place, name, a, a.denied())
}

// judge records an attempt that has to be held.
func (r *run) judge(k Kind, place, name string, a answer, held bool) {
	c := Check{Kind: k, Name: name, Place: place, Detail: a.String()}
	switch {
	case held:
		c.Verdict = Held
	case a.done() || a.status == http.StatusNotFound:
		c.Verdict = Failed
	}
	r.checks = append(r.checks, c)
}
