package brokertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"credential-broker/broker/brokertest/locals3"
	"credential-broker/broker/brokertest/localsts"
	"credential-broker/broker/brokertest/sigv4"
)

// Trust says whose tokens the account's role trusts.
type Trust struct {
	Issuer    string   // URL, as the tokens' `iss` has it
	ClientIDs []string // what `azp`, or else `aud`, may be
	Audience  string   // what `aud` must hold as well, when not empty (the condition key `oaud`)
}

// AWSConfig is one local account with one bucket and one role.
type AWSConfig struct {
	Trust Trust
	// Unbounded leaves the role's own policy open to the whole bucket. It shows
	// what a role that is not bounded by the tag gives away.
	Unbounded      bool
	AllowedOrigins []string         // of the bucket's CORS configuration
	Now            func() time.Time // nil: time.Now
}

// AWS is a local account: STS and S3 on one address, told apart as their
// requests differ (STS has an Action and no path).
type AWS struct {
	STS *localsts.Server
	S3  *locals3.Server
}

// NewAWS makes the account.
func NewAWS(cfg AWSConfig) (*AWS, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &AWS{}
	verifier := sigv4.Verifier{Region: Region, Service: "sts", Now: cfg.Now, Lookup: a.credential}
	trust, err := trustPolicy(cfg.Trust)
	if err != nil {
		return nil, err
	}
	role, err := rolePolicy(cfg.Unbounded)
	if err != nil {
		return nil, err
	}
	a.STS, err = localsts.New(localsts.Config{
		Region: Region, AccountID: Account,
		Providers: []localsts.Provider{{URL: cfg.Trust.Issuer, ClientIDs: cfg.Trust.ClientIDs}},
		Roles: []localsts.Role{{
			Name: roleName, TrustPolicy: trust, Policy: role, MaxSession: 12 * time.Hour,
		}},
		Now: cfg.Now,
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
	a.S3, err = locals3.New(locals3.Config{
		Region: Region, Buckets: []locals3.Bucket{{Name: Bucket, AllowedOrigins: cfg.AllowedOrigins}},
		Lookup: a.principal, Now: cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("make local S3: %w", err)
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" && (r.Method == http.MethodPost || r.URL.Query().Has("Action")) {
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
			return s.Authorize(action, resource, context).Allowed()
		},
	}, true
}

type (
	object = map[string]any
	list   = []any
)

// trustPolicy lets in the issuer's tokens for the role, with tags and a source
// identity, and refuses one without the tenant's tag.
func trustPolicy(t Trust) ([]byte, error) {
	u, err := url.Parse(t.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer of the trust policy: %w", err)
	}
	provider := u.Host + u.Path // as IAM names it: without the scheme, with the slash if there is one
	clients := make(list, len(t.ClientIDs))
	for i, id := range t.ClientIDs {
		clients[i] = id
	}
	equals := object{provider + ":aud": clients}
	condition := object{
		"StringEquals": equals,
		"Null":         object{"aws:RequestTag/tenant": "false"},
	}
	if t.Audience != "" {
		condition["ForAnyValue:StringEquals"] = object{provider + ":oaud": list{t.Audience}}
	}
	return json.Marshal(object{"Version": "2012-10-17", "Statement": list{object{
		"Effect":    "Allow",
		"Principal": object{"Federated": "arn:aws:iam::" + Account + ":oidc-provider/" + provider},
		"Action":    list{"sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"},
		"Condition": condition,
	}}})
}

// rolePolicy is what the role may do without any session policy: its tenant's
// prefix, or, unbounded, the bucket.
func rolePolicy(unbounded bool) ([]byte, error) {
	within := "tenants/${aws:PrincipalTag/tenant}/*"
	if unbounded {
		within = "*"
	}
	listing := object{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::" + Bucket}
	if !unbounded {
		listing["Condition"] = object{"StringLike": object{"s3:prefix": within}}
	}
	actions := strings.Fields("s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload s3:ListMultipartUploadParts")
	return json.Marshal(object{"Version": "2012-10-17", "Statement": list{
		object{"Effect": "Allow", "Action": actions, "Resource": "arn:aws:s3:::" + Bucket + "/" + within},
		listing,
	}})
}
