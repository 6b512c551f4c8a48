package awssts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-broker/broker"
)

// maxSkew is by how much STS's clock may be ahead of ours. A session that ends
// later than asked for plus this is not the one that was asked for.
const maxSkew = 5 * time.Minute

// compare reports the first thing in which the answer is not what was asked.
func compare(out *sts.AssumeRoleWithWebIdentityOutput, o broker.Order, a broker.Assertion, now time.Time) error {
	creds := out.Credentials
	if creds == nil || aws.ToString(creds.AccessKeyId) == "" || aws.ToString(creds.SecretAccessKey) == "" ||
		aws.ToString(creds.SessionToken) == "" || creds.Expiration == nil {
		return errors.New("credentials are missing or not whole")
	}
	if end := *creds.Expiration; !end.After(now) || end.After(now.Add(o.Lifetime+maxSkew)) {
		return fmt.Errorf("session ends in %s, asked for %s", end.Sub(now).Round(time.Second), o.Lifetime)
	}
	if out.AssumedRoleUser == nil {
		return errors.New("no assumed role")
	}
	if got, want := aws.ToString(out.AssumedRoleUser.Arn), o.Scope.RoleARN.SessionARN(o.SessionName); got != want {
		return fmt.Errorf("session %q, asked for %q", got, want)
	}
	if got := aws.ToString(out.SubjectFromWebIdentityToken); got != a.Subject {
		return fmt.Errorf("subject %q, showed %q", got, a.Subject)
	}
	if got := aws.ToString(out.Audience); !slices.Contains(a.Audiences, got) {
		return fmt.Errorf("audience %q, showed %q", got, a.Audiences)
	}
	if got := aws.ToString(out.Provider); !names(got, a.Issuer) {
		return fmt.Errorf("provider %q, showed a token of %q", got, a.Issuer)
	}
	// A server that knows no source identities names none; a caller's own token
	// may have one that is not ours to know.
	if got := aws.ToString(out.SourceIdentity); got != "" && a.SourceIdentity != "" && got != a.SourceIdentity {
		return fmt.Errorf("source identity %q, showed %q", got, a.SourceIdentity)
	}
	return nil
}

// names reports whether the provider is the issuer: AWS names it by ARN, with
// the issuer's URL less its scheme; other servers by the URL itself.
func names(provider, issuer string) bool {
	_, host, _ := strings.Cut(issuer, "://")
	host = strings.TrimSuffix(host, "/")
	if _, url, ok := strings.Cut(provider, ":oidc-provider/"); ok {
		return strings.TrimSuffix(url, "/") == host
	}
	return strings.TrimSuffix(provider, "/") == strings.TrimSuffix(issuer, "/")
}
