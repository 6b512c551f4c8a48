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

// The members' names of a format. What a secret is called differs most.
type names struct {
	key, secret, token, expiration string // of the credentials
	bucket, region, prefix         string
	access, grant                  string // "": not told
	account                        string // likewise
}

// namesOf are those of:
//
//   - container, the protocol of the AWS SDKs' container-credentials providers, with
//     the scope that was really given.
//     https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
//   - process, the output of a credential_process, with SessionToken where the
//     container protocol has Token.
//     https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
//   - js, what providers of the AWS SDK for JavaScript and Uppy 6 return.
//   - uppy, what Uppy 4 and 5 read from their Companion's /s3/sts, and the prefix,
//     which a page needs to name its objects. The credentials are as STS has them.
func namesOf(f format) (n names, ok bool) {
	switch f {
	case formatContainer:
		return names{`{"AccessKeyId":`, `,"SecretAccessKey":`, `,"Token":`, `,"Expiration":"`, `,"Bucket":`, `,"Region":`, `,"Prefix":`, `,"Access":`, `,"Grant":`, `,"AccountId":`}, true
	case formatProcess:
		return names{`{"Version":1,"AccessKeyId":`, `,"SecretAccessKey":`, `,"SessionToken":`, `,"Expiration":"`, `,"Bucket":`, `,"Region":`, `,"Prefix":`, `,"Access":`, `,"Grant":`, `,"AccountId":`}, true
	case formatJS:
		return names{`{"credentials":{"accessKeyId":`, `,"secretAccessKey":`, `,"sessionToken":`, `,"expiration":"`, `},"bucket":`, `,"region":`, `,"prefix":`, `,"access":`, `,"grant":`, ""}, true
	case formatUppy:
		return names{`{"credentials":{"AccessKeyId":`, `,"SecretAccessKey":`, `,"SessionToken":`, `,"Expiration":"`, `},"bucket":`, `,"region":`, `,"prefix":`, "", "", ""}, true
	default:
		return names{}, false
	}
}

// render appends credentials in a format. This file is where secrets leave the
// process for their owner. It is written here at every hit, at a tenth of a
// microsecond, and not kept: a body that is kept would hold the session token, the
// largest part of an entry of the cache, once more.
func render(to []byte, c broker.Credentials, f format, now time.Time) ([]byte, error) {
	secret, session := c.SecretAccessKey.Reveal(), c.SessionToken.Reveal()
	if c.AccessKeyID == "" || secret == "" || session == "" || c.Expiration.IsZero() {
		// The AWS SDK for Go would take such an answer for good credentials.
		return to, errors.New("shouldn't happen: credentials with an empty part")
	}
	n, ok := namesOf(f)
	if !ok {
		return to, fmt.Errorf("shouldn't happen: format %q", string(f))
	}
	to = appendMember(to, n.key, c.AccessKeyID)
	to = appendText(append(to, n.secret...), secret, c.SecretAccessKey.Simple())
	to = appendText(append(to, n.token...), session, c.SessionToken.Simple())
	to = append(appendInstant(append(to, n.expiration...), c.Expiration), '"')
	if n.account != "" {
		to = appendMember(to, n.account, c.Scope.RoleARN.Account())
	}
	s := c.Scope
	to = appendMember(to, n.bucket, s.S3.Bucket.String())
	to = appendMember(to, n.region, s.Region)
	to = appendMember(to, n.prefix, s.S3.Key())
	if n.access != "" {
		to = s.S3.Access.AppendJSON(append(to, n.access...))
		to = appendMember(to, n.grant, s.Grant)
	}
	if f == formatJS {
		to = append(appendInstant(append(to, `,"serverTime":"`...), now), '"')
	}
	return append(to, '}'), nil
}

// appendMember appends a member of an object, whose name comes with what stands
// around it.
func appendMember(to []byte, name, value string) []byte {
	return broker.AppendJSON(append(to, name...), value)
}

// appendText appends a text, which is not looked at again if it is known to be simple.
func appendText(to []byte, text string, simple bool) []byte {
	if !simple {
		return broker.AppendJSON(to, text)
	}
	to = append(to, '"')
	to = append(to, text...)
	return append(to, '"')
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
	for i, s := range scopes {
		views[i] = grantView{s.Grant, s.S3.Bucket.String(), s.Region, s.S3.Key(), s.S3.Access.Names(), int(s.Duration / time.Second)}
	}
	return marshal(map[string][]grantView{"Grants": views})
}

// instant writes a time as every SDK reads it: UTC, RFC 3339, ending in Z. The
// JavaScript one refuses "+00:00".
func instant(t time.Time) string { return string(appendInstant(nil, t)) }

func appendInstant(to []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(to, time.RFC3339)
}

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
