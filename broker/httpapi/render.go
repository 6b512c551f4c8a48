package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"credential-broker/broker"
)

// format is a shape of the answer.
type format string

const (
	formatContainer format = "container"
	formatProcess   format = "process"
	formatJS        format = "js"
	formatUppy      format = "uppy"
)

func (f format) check() error {
	switch f {
	case formatContainer, formatProcess, formatJS, formatUppy:
		return nil
	default:
		return fmt.Errorf("%q: container, process, js and uppy are known", string(f))
	}
}

// container is the protocol of the AWS SDKs' container-credentials providers,
// with the scope that was really given.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
type container struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
	AccountID       string `json:"AccountId"`
	scope
}

// process is the output of a credential_process. It has SessionToken where the
// container protocol has Token.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
type process struct {
	Version         int
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
	AccountID       string `json:"AccountId"`
	scope
}

type scope struct {
	Bucket string
	Region string
	Prefix string
	Access []string
	Grant  string
}

// js is what providers of the AWS SDK for JavaScript and Uppy 6 return.
type js struct {
	Credentials jsCredentials `json:"credentials"`
	Bucket      string        `json:"bucket"`
	Region      string        `json:"region"`
	Prefix      string        `json:"prefix"`
	Access      []string      `json:"access"`
	Grant       string        `json:"grant"`
	ServerTime  string        `json:"serverTime"`
}

type jsCredentials struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	SessionToken    string `json:"sessionToken"`
	Expiration      string `json:"expiration"`
}

// uppy is what Uppy 4 and 5 read from their Companion's /s3/sts, and the prefix,
// which a page needs to name its objects.
type uppy struct {
	Credentials uppyCredentials `json:"credentials"`
	Bucket      string          `json:"bucket"`
	Region      string          `json:"region"`
	Prefix      string          `json:"prefix"`
}

// uppyCredentials has its members' names as STS has them.
type uppyCredentials struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

// render writes credentials in a format. This file is where secrets leave the
// process for their owner.
func render(c broker.Credentials, f format, now time.Time) ([]byte, error) {
	secret, session := c.SecretAccessKey.Reveal(), c.SessionToken.Reveal()
	if c.AccessKeyID == "" || secret == "" || session == "" || c.Expiration.IsZero() {
		// The AWS SDK for Go would take such an answer for good credentials.
		return nil, errors.New("shouldn't happen: credentials with an empty part")
	}
	expiration, account := instant(c.Expiration), c.Scope.RoleARN.Account()
	s := scopeOf(c.Scope)
	switch f {
	case formatContainer:
		return marshal(container{c.AccessKeyID, secret, session, expiration, account, s})
	case formatProcess:
		return marshal(process{1, c.AccessKeyID, secret, session, expiration, account, s})
	case formatJS:
		return marshal(js{jsCredentials{c.AccessKeyID, secret, session, expiration}, s.Bucket, s.Region, s.Prefix, s.Access, s.Grant, instant(now)})
	case formatUppy:
		return marshal(uppy{uppyCredentials{c.AccessKeyID, secret, session, expiration}, s.Bucket, s.Region, s.Prefix})
	default:
		return nil, fmt.Errorf("shouldn't happen: format %q", string(f))
	}
}

func scopeOf(s broker.Scope) scope {
	return scope{s.S3.Bucket.String(), s.Region, s.S3.Key(), s.S3.Access.Names(), s.Grant}
}

// grantView is an element of the answer of /v1/grants. Duration is in seconds.
type grantView struct {
	Grant    string
	Bucket   string
	Region   string
	Prefix   string
	Access   []string
	Duration int
}

func renderGrants(scopes []broker.Scope) ([]byte, error) {
	views := make([]grantView, len(scopes))
	for i, sc := range scopes {
		s := scopeOf(sc)
		views[i] = grantView{s.Grant, s.Bucket, s.Region, s.Prefix, s.Access, int(sc.Duration / time.Second)}
	}
	return marshal(map[string][]grantView{"Grants": views})
}

// instant writes a time as every SDK reads it: UTC, RFC 3339, ending in Z. The
// JavaScript one refuses "+00:00".
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// marshal writes JSON without escaping for HTML, which this never is.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("write answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
