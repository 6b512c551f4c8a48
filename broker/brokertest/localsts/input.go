package localsts

import (
	"regexp"
	"strconv"
	"time"
)

// maxPolicyBytes is the longest inline session policy.
const maxPolicyBytes = 2048

// input is a well-formed AssumeRoleWithWebIdentity.
type input struct {
	roleARN     string
	sessionName string
	token       string
	policy      string
	hasPolicy   bool
	duration    time.Duration
}

// The forms of the parameters.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
var (
	sessionNameForm = regexp.MustCompile(`\A[A-Za-z0-9_+=,.@-]{2,64}\z`)
	policyForm      = regexp.MustCompile(`\A[\x{09}\x{0A}\x{0D}\x{20}-\x{FF}]+\z`)
	tagForm         = regexp.MustCompile(`\A[\p{L}\p{Z}\p{N}_.:/=+\-@]*\z`)
)

func readInput(form map[string]string) (input, error) {
	in := input{duration: time.Hour}
	for name, value := range form {
		ok := true
		switch name {
		case "Action", "Version":
		case "RoleArn":
			in.roleARN, ok = value, len(value) >= 20 && len(value) <= 2048
		case "RoleSessionName":
			in.sessionName, ok = value, sessionNameForm.MatchString(value)
		case "WebIdentityToken":
			in.token, ok = value, len(value) >= 4 && len(value) <= 20_000
		case "Policy":
			in.policy, in.hasPolicy = value, true
			ok = len([]rune(value)) <= maxPolicyBytes && policyForm.MatchString(value)
		case "DurationSeconds":
			seconds, err := strconv.Atoi(value)
			in.duration = time.Duration(seconds) * time.Second
			ok = err == nil && seconds >= 900 && seconds <= 43_200
		case "ProviderId":
			return in, refuse("InvalidIdentityToken", "Provided Token is not a Login With Amazon token")
		default: // PolicyArns among them: not served here, so not ignored either
			return in, refuse("ValidationError", "parameter %s is not known here", name)
		}
		if !ok {
			return in, refuse("ValidationError", "1 validation error detected: Value at '%s' failed to satisfy constraint", name)
		}
	}
	if in.roleARN == "" || in.sessionName == "" || in.token == "" {
		return in, refuse("ValidationError", "RoleArn, RoleSessionName and WebIdentityToken are needed")
	}
	return in, nil
}
