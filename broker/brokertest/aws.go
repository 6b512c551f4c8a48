package brokertest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"credential-broker/broker/brokertest/iam"
	"credential-broker/broker/brokertest/locals3"
	"credential-broker/broker/brokertest/localsts"
	"credential-broker/broker/brokertest/sigv4"
)

type (
	// Provider is an IAM OIDC provider of the account.
	Provider = localsts.Provider
	// Role is an IAM role of the account.
	Role = localsts.Role
	// LocalBucket is a bucket of the account.
	LocalBucket = locals3.Bucket
)

// AWSConfig is one local account.
type AWSConfig struct {
	Providers []Provider
	Roles     []Role
	Buckets   []LocalBucket
	// BucketPolicies are the buckets' own policies, as JSON.
	BucketPolicies map[string][]byte // :: bucket → policy
	// IgnoreSessionPolicies and EnforceNothing make servers that are broken as
	// others are: the first forgets the session policy, the second lets every
	// session do everything. They are for tests that have to turn red.
	IgnoreSessionPolicies, EnforceNothing bool
	// SessionLife, when not 0, ends every session after so long, whatever was asked for.
	SessionLife time.Duration
	Now         func() time.Time // nil: time.Now
	// AccessLog gets a line for each request to S3, as its server access logs have it,
	// and Trail an event for each one on an object, as CloudTrail's data events. Both
	// may be nil; each gets one Write at a time.
	AccessLog, Trail io.Writer
}

// AWS is a local account: STS and S3 on one address, told apart as their
// requests differ (STS has an Action and no path).
type AWS struct {
	STS *localsts.Server
	S3  *locals3.Server

	policies map[string]iam.Document // :: bucket → its own policy
	lenient  bool
}

// NewAWS makes the account.
func NewAWS(cfg AWSConfig) (*AWS, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &AWS{policies: map[string]iam.Document{}, lenient: cfg.EnforceNothing}
	for bucket, text := range cfg.BucketPolicies {
		document, err := iam.Parse(text)
		if err != nil || !document.HasPrincipal() {
			return nil, fmt.Errorf("policy of bucket %s: it needs a principal: %w", bucket, err)
		}
		a.policies[bucket] = document
	}
	verifier := sigv4.Verifier{Region: Region, Service: "sts", Now: cfg.Now, Lookup: a.credential}
	var err error
	a.STS, err = localsts.New(localsts.Config{
		Region: Region, AccountID: Account, Providers: cfg.Providers, Roles: cfg.Roles,
		IgnoreSessionPolicies: cfg.IgnoreSessionPolicies, MaxLife: cfg.SessionLife, Now: cfg.Now,
		Authenticate: func(r *http.Request) (string, error) {
			id, body, err := verifier.Verify(r)
			if err == nil {
				r.Body = body
			}
			return id, err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make local STS: %w", err)
	}
	logs := &logs{access: cfg.AccessLog, trail: cfg.Trail, session: a.STS.Session}
	a.S3, err = locals3.New(locals3.Config{Region: Region, Buckets: cfg.Buckets, Lookup: a.principal, Now: cfg.Now, Observe: logs.write})
	if err != nil {
		return nil, fmt.Errorf("make local S3: %w", err)
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodOptions { // a preflight belongs to the service that it is about
		method = r.Header.Get("Access-Control-Request-Method")
	}
	if r.URL.Path == "/" && (method == http.MethodPost || r.URL.Query().Has("Action")) {
		a.STS.ServeHTTP(w, r)
		return
	}
	a.S3.ServeHTTP(w, r)
}

func (a *AWS) credential(accessKeyID string) (sigv4.Credential, bool) {
	s, ok := a.STS.Session(accessKeyID)
	return sigv4.Credential{Secret: s.SecretAccessKey, SessionToken: s.SessionToken, Expiration: s.Expiration}, ok
}

func (a *AWS) principal(accessKeyID string) (locals3.Principal, bool) {
	s, ok := a.STS.Session(accessKeyID)
	if !ok {
		return locals3.Principal{}, false
	}
	return locals3.Principal{
		Secret: s.SecretAccessKey, SessionToken: s.SessionToken, Expiration: s.Expiration,
		Authorize: func(action, resource string, context map[string][]string) bool {
			context["aws:ResourceAccount"] = []string{Account} // everything here is the account's
			bucket, _, _ := strings.Cut(strings.TrimPrefix(resource, "arn:aws:s3:::"), "/")
			var policies []iam.Document
			if own, ok := a.policies[bucket]; ok {
				policies = append(policies, own)
			}
			return a.lenient || s.Authorize(action, resource, context, policies...).Allowed()
		},
	}, true
}
