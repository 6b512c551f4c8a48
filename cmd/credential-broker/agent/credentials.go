package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"credential-broker/broker"
)

// A Format is what the broker is asked for.
type Format string

// The formats that are passed on as the broker wrote them.
const (
	Container Format = "container"
	Process   Format = "process"
)

// Credentials are an answer of the broker's, whole.
type Credentials struct {
	AccessKeyID string
	Expiration  time.Time
	body        broker.Secret
}

// WriteTo writes the answer as one line of JSON, without a newline. It is the one
// way out, to whom the credentials are for.
func (c *Credentials) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, c.body.Reveal())
	return int64(n), err
}

// parse reads an answer. An SDK takes some answers with an empty part for good
// credentials, so each part is checked.
func parse(data []byte, format Format) (*Credentials, error) {
	var answer struct {
		Version                                                       int
		AccessKeyId, SecretAccessKey, Token, SessionToken, Expiration string //nolint:revive // as AWS spells it
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return nil, errors.New("the answer is not JSON") // the error would quote a piece of it
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, errors.New("the answer is not an object of texts")
	}
	session := answer.Token
	if format == Process {
		session = answer.SessionToken
	}
	if answer.AccessKeyId == "" || answer.SecretAccessKey == "" || session == "" || (format == Process) != (answer.Version == 1) {
		return nil, errors.New("the answer lacks a part of the credentials")
	}
	expiration, err := time.Parse("2006-01-02T15:04:05Z", answer.Expiration)
	if err != nil {
		return nil, fmt.Errorf("the answer's expiration %q is not a time in UTC", readable(answer.Expiration, maxCode))
	}
	return &Credentials{AccessKeyID: readable(answer.AccessKeyId, maxCode), Expiration: expiration, body: broker.NewSecret(line.String())}, nil
}
