package escape

import (
	"github.com/aws/aws-sdk-go-v2/aws"

	"credential-broker/broker"
)

// Session is a session's credentials.
type Session struct {
	AccessKeyID     string
	SecretAccessKey broker.Secret
	SessionToken    broker.Secret
}

func (s Session) aws() aws.Credentials {
	return aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: reveal(s.SecretAccessKey), SessionToken: reveal(s.SessionToken)}
}

// reveal gives a secret away to a signature or to STS: where it is tried.
func reveal(s broker.Secret) string { return s.Reveal() }

// broken are sessions with one part that is missing, cut or changed.
func (s Session) broken() map[string]Session {
	token := reveal(s.SessionToken)
	with := func(change func(*Session)) Session {
		c := s
		change(&c)
		return c
	}
	return map[string]Session{
		"no session token":         with(func(c *Session) { c.SessionToken = broker.Secret{} }),
		"a session token, changed": with(func(c *Session) { c.SessionToken = broker.NewSecret(flip(token, len(token)/2)) }),
		"a session token, cut":     with(func(c *Session) { c.SessionToken = broker.NewSecret(token[:len(token)/2]) }),
		"another secret":           with(func(c *Session) { c.SecretAccessKey = broker.NewSecret(flip(reveal(s.SecretAccessKey), 0)) }),
		"another access key":       with(func(c *Session) { c.AccessKeyID = flip(s.AccessKeyID, len(s.AccessKeyID)-1) }),
	}
}

// mixed are sessions with one part of another's.
func (s Session) mixed(other Session) map[string]Session {
	return map[string]Session{
		"another's session token": {s.AccessKeyID, s.SecretAccessKey, other.SessionToken},
		"another's secret":        {s.AccessKeyID, other.SecretAccessKey, s.SessionToken},
		"another's access key":    {other.AccessKeyID, s.SecretAccessKey, s.SessionToken},
	}
}

// flip changes one character, and nothing of an empty text.
func flip(text string, at int) string {
	if text == "" {
		return text
	}
	with := "A"
	if text[at] == 'A' {
		with = "B"
	}
	return text[:at] + with + text[at+1:]
}
