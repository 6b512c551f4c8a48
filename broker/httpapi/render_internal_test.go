package httpapi

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/policy"
)

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

// What is appended is what encoding/json makes of the structs, also of parts that
// have to be escaped, which STS's never were.
func TestAnswersAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	role, err := broker.ParseRoleARN("arn:aws:iam::123456789012:role/path/uploads")
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := policy.ParseBucket("acme-uploads")
	if err != nil {
		t.Fatal(err)
	}
	path, err := policy.ParsePath("in/")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 12, 0, 0, 1, time.FixedZone("", 3600))
	for _, odd := range []string{"", "\"\\\n<&>\u2028é\x00"} {
		for access := policy.Access(1); access <= policy.List|policy.Read|policy.Write|policy.Delete; access++ {
			c := broker.Credentials{
				AccessKeyID: "ASIA" + odd, SecretAccessKey: broker.NewSecret("canary/secret+" + odd), SessionToken: broker.NewSecret("canary/session+==" + odd), Expiration: now.Add(time.Hour),
				Scope: broker.Scope{Grant: "uploads" + odd, RoleARN: role, Region: "eu-west-1" + odd, S3: policy.Scope{Bucket: bucket, Path: path, Access: access}},
			}
			s := scope{"acme-uploads", "eu-west-1" + odd, "in/", access.Names(), "uploads" + odd}
			secret, session, end, key := c.SecretAccessKey.Reveal(), c.SessionToken.Reveal(), "2026-11-24T12:00:00Z", c.AccessKeyID
			for f, want := range map[format]any{
				formatContainer: container{key, secret, session, end, "123456789012", s},
				formatProcess:   process{1, key, secret, session, end, "123456789012", s},
				formatJS:        js{jsCredentials{key, secret, session, end}, s.Bucket, s.Region, s.Prefix, s.Access, s.Grant, "2026-11-24T11:00:00Z"},
				formatUppy:      uppy{uppyCredentials{key, secret, session, end}, s.Bucket, s.Region, s.Prefix},
			} {
				text, err := marshal(want)
				if err != nil {
					t.Fatal(err)
				}
				got, err := render([]byte("before"), c, f, now)
				if err != nil || string(got) != "before"+string(text) || !json.Valid(text) {
					t.Errorf("%s: %v\n%s\n%s", f, err, got, text)
				}
			}
		}
	}
}

func BenchmarkRender(b *testing.B) {
	c := broker.Credentials{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: broker.NewSecret(strings.Repeat("s", 40)), SessionToken: broker.NewSecret(strings.Repeat("t", 1200)), Expiration: time.Now(),
	}
	room := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := render(room, c, formatContainer, c.Expiration); err != nil {
			b.Fatal(err)
		}
	}
}
