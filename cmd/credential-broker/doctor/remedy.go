package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/cmd/credential-broker/config"
)

// issuer finds the token's issuer in the configuration.
func (d *doctor) issuer() (config.Issuer, bool) { return d.caller.Of(d.cfg) }

func (d *doctor) keysRemedy(i config.Issuer) string {
	if configured, ok := d.caller.SlashOnly(d.cfg); ok && configured == i.URL {
		return d.caller.SlashRemedy(configured)
	}
	return fmt.Sprintf("let this machine reach %s/.well-known/openid-configuration and the jwks_uri in it over https, and let the document's issuer be %q", strings.TrimSuffix(i.URL, "/"), i.URL)
}

// stsRemedy goes by the code and the words of STS.
func (d *doctor) stsRemedy(err error) string {
	role, provider, audience := d.order.Scope.RoleARN.String(), d.provider(), d.cfg.WebIdentity.Audience
	if d.cfg.WebIdentity.Mode == config.Forwarded {
		audience = "what STS takes for the token's audience, " + d.caller.ForSTS()
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return "let this machine reach STS of " + d.cfg.STS.Region + " over https"
	}
	// The first row whose code and words fit. No words: any.
	for _, row := range []struct{ code, words, remedy string }{
		{"AccessDenied", "sts:TagSession", "in the trust policy of " + role + ", allow sts:TagSession to " + provider + ": the token carries tags"},
		{"AccessDenied", "", "in the trust policy of " + role + ", allow sts:AssumeRoleWithWebIdentity, sts:TagSession and sts:SetSourceIdentity to " + provider +
			", all three, under conditions that this token meets: `credential-broker iam` prints the policy"},
		{"InvalidIdentityToken", "verification key", "let AWS reach " + provider + "/.well-known/openid-configuration and the keys over https from the internet, and answer within 5 s"},
		{"InvalidIdentityToken", "thumbprint", "let " + provider + " have a certificate of a public authority, or put the thumbprint of its authority into the IAM OIDC provider"},
		{"InvalidIdentityToken", "OpenIDConnect provider", "make the IAM OIDC provider " + provider + " in the role's account, with the client ID " + audience},
		{"InvalidIdentityToken", "audience", "add " + audience + " to the client IDs of the IAM OIDC provider " + provider},
		{"InvalidIdentityToken", "", "compare the IAM OIDC provider " + provider + " with what `credential-broker iam` prints, and its issuer's published keys with the one that signed"},
		{"ExpiredTokenException", "", "set this machine's clock, or take a fresh token"},
		{"IDPCommunicationError", "", "let AWS reach " + provider + " over https from the internet; it may have been for a moment only"},
		{"RegionDisabledException", "", "activate STS in " + d.cfg.STS.Region + " in the role's account, or set sts.region to one that is active"},
		{"PackedPolicyTooLarge", "", "choose a shorter prefix: the session policy and the tags are too large together"},
		{"ValidationError", "DurationSeconds", "let MaxSessionDuration of " + role + " be at least the grant's duration"},
		{"ValidationError", "MaxSessionDuration", "let MaxSessionDuration of " + role + " be at least the grant's duration"},
	} {
		if api.ErrorCode() == row.code && strings.Contains(api.ErrorMessage(), row.words) {
			return row.remedy
		}
	}
	return "compare the role and the provider with what `credential-broker iam` prints"
}

// provider is what IAM calls the issuer that STS is shown.
func (d *doctor) provider() string {
	url := d.cfg.WebIdentity.Issuer
	if d.cfg.WebIdentity.Mode == config.Forwarded {
		url = d.caller.Issuer
	}
	_, host, _ := strings.Cut(url, "://")
	return host
}

func (d *doctor) audienceRemedy() string {
	role, host := d.order.Scope.RoleARN.String(), d.provider()
	if d.cfg.WebIdentity.Mode == config.Minted {
		return fmt.Sprintf("in the trust policy of %s, add the condition StringEquals {%q: %q}, and leave no other client ID with the OIDC provider", role, host+":aud", d.cfg.WebIdentity.Audience)
	}
	issuer, _ := d.issuer()
	return fmt.Sprintf("in the trust policy of %s, add the condition ForAnyValue:StringEquals {%q: %q}: without it every token of a registered client will do, ID tokens too", role, host+":oaud", strings.Join(issuer.Audiences, ", "))
}

// insideRemedy is for what should work and does not, or the other way round.
func (d *doctor) insideRemedy(c escape.Check) string {
	role := d.order.Scope.RoleARN.String()
	action, _, notGiven := strings.Cut(c.Name, ",")
	if notGiven {
		return "find what allows " + action + " beside the session policy: a bucket policy, or a server that ignores the Policy of AssumeRoleWithWebIdentity"
	}
	if !d.order.Scope.S3.SourceIP.IsValid() {
		return d.permissionRemedy(role, action)
	}
	return "let --source-ip be the address from which S3 sees this machine, and reach S3 through no VPC endpoint: the grant binds the address. Otherwise, " + d.permissionRemedy(role, action)
}

func (d *doctor) permissionRemedy(role, action string) string {
	key := ""
	if !d.order.Scope.S3.KMSKey.IsZero() {
		key = ", and the key's policy the use of " + d.order.Scope.S3.KMSKey.String()
	}
	return "in the own policy of " + role + ", allow what " + action + " needs on the tenant's prefix (`credential-broker iam` prints it)" + key +
		"; and let no bucket policy or service control policy deny it"
}

// outsideRemedy goes by what was open, and by which other session it was closed to.
func (d *doctor) outsideRemedy(group string, named, policyHeld bool) string {
	session := d.order.Scope.RoleARN.SessionARN(d.order.SessionName)
	switch {
	case group == groupMixed && policyHeld:
		return "the server takes a listing's prefix from elsewhere than the permission's: give each tenant a bucket, or take list out of the grant, or use a server that does not"
	case group == groupBroken:
		return "the server does not check signatures or session tokens: nothing that a policy says holds on it"
	case group == groupSTS:
		return "in the own policy of " + d.order.Scope.RoleARN.String() + ", allow no action of STS; and let no role trust it"
	case named:
		return "in the policy of bucket " + d.order.Scope.S3.Bucket.String() + ", remove the statement whose Principal is " + session + ": what a resource's policy gives to a session is not limited by the session policy"
	case policyHeld:
		return "in the policy of bucket " + d.order.Scope.S3.Bucket.String() + ", remove what is allowed to everybody or to the sessions of this role"
	default:
		return "use a server that honours the Policy of AssumeRoleWithWebIdentity, and remove from the bucket's policy what is allowed to everybody"
	}
}

// assume asks STS without a policy.
func (d *doctor) assume(ctx context.Context, token broker.Secret) (escape.Session, string, error) {
	return escape.Assume(ctx, d.walls, d.order.Scope.RoleARN.String(), d.order.SessionName, token)
}

// do gets a document.
func (d *doctor) do(ctx context.Context, address string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := d.HTTP.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(body), err
}
