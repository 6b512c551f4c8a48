package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"credential-broker/policy"
)

func roleGrant(t testing.TB, bucket, prefix string, access policy.Access) policy.RoleGrant {
	t.Helper()
	return policy.RoleGrant{Layout: layout(t, bucket, prefix), Access: access}
}

func TestARoleIsWrittenWithTheSessionsTags(t *testing.T) {
	got, err := policy.RoleDocument(policy.AWS, "123456789012", []policy.RoleGrant{
		roleGrant(t, "acme-uploads", "tenants/{tenant}/", policy.Read),
		roleGrant(t, "acme-uploads", "tenants/{tenant}/", policy.List),
		roleGrant(t, "{tenant}-files", "u/{user}/", policy.Delete),
	})
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Sid":"Objects1","Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::acme-uploads/tenants/${aws:PrincipalTag/tenant}/*","Condition":{"StringEquals":{"aws:ResourceAccount":"123456789012"}}},` +
		`{"Sid":"List1","Effect":"Allow","Action":["s3:ListBucket"],"Resource":"arn:aws:s3:::acme-uploads","Condition":{"StringEquals":{"aws:ResourceAccount":"123456789012"},"StringLike":{"s3:prefix":"tenants/${aws:PrincipalTag/tenant}/*"}}},` +
		`{"Sid":"Objects2","Effect":"Allow","Action":["s3:DeleteObject"],"Resource":"arn:aws:s3:::${aws:PrincipalTag/tenant}-files/u/${aws:PrincipalTag/user}/*","Condition":{"StringEquals":{"aws:ResourceAccount":"123456789012"}}}]}`
	if err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

// Grants that differ in their bucket or their key are not one: together, each
// would have the other's rights too.
func TestARolesGrantsAreMergedWhereTheyHaveOnePlaceAndOneKey(t *testing.T) {
	sealed := roleGrant(t, "acme-uploads", "{tenant}/", policy.Read)
	sealed.KMSKey = key(t, keyARN)
	unread := roleGrant(t, "acme-other", "{tenant}/", policy.List)
	unread.KMSKey = key(t, keyARN)
	got, err := policy.RoleDocument(policy.AWS, "123456789012", []policy.RoleGrant{
		roleGrant(t, "acme-uploads", "{tenant}/", policy.Delete),
		sealed,
		unread, // a listing has no need of the key
	})
	const below = `${aws:PrincipalTag/tenant}/*`
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Sid":"Objects1","Effect":"Allow","Action":["s3:DeleteObject"],"Resource":"arn:aws:s3:::acme-uploads/` + below + `","Condition":{"StringEquals":{"aws:ResourceAccount":"123456789012"}}},` +
		`{"Sid":"Objects2","Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::acme-uploads/` + below + `","Condition":{"StringEquals":{"aws:ResourceAccount":"123456789012"}}},` +
		`{"Sid":"Key2","Effect":"Allow","Action":["kms:Decrypt"],"Resource":"` + keyARN + `","Condition":{` +
		`"StringEquals":{"kms:ViaService":"s3.ap-northeast-1.amazonaws.com"},` +
		`"StringLike":{"kms:EncryptionContext:aws:s3:arn":["arn:aws:s3:::acme-uploads","arn:aws:s3:::acme-uploads/` + below + `"]}}},` +
		`{"Sid":"List3","Effect":"Allow","Action":["s3:ListBucket"],"Resource":"arn:aws:s3:::acme-other","Condition":{"StringEquals":{"aws:ResourceAccount":"123456789012"},"StringLike":{"s3:prefix":"` + below + `"}}}]}`
	if err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestARoleThatWouldNotBoundIsNotWritten(t *testing.T) {
	many := make([]policy.RoleGrant, 60)
	for i := range many {
		many[i] = roleGrant(t, "acme-uploads", fmt.Sprintf("%d/{tenant}/", i), policy.Read|policy.List)
	}
	good := roleGrant(t, "acme-uploads", "{tenant}/", policy.Read)
	for name, tc := range map[string]struct {
		partition policy.Partition
		account   string
		grants    []policy.RoleGrant
		want      string
	}{
		"no partition": {"", "1", []policy.RoleGrant{good}, "partition"},
		"no account":   {policy.AWS, "", []policy.RoleGrant{good}, "account"},
		"no grants":    {policy.AWS, "1", nil, "0 grants"},
		"no access":    {policy.AWS, "1", []policy.RoleGrant{roleGrant(t, "acme-uploads", "{tenant}/", 0)}, "give nothing"},
		"no tenant":    {policy.AWS, "1", []policy.RoleGrant{good, roleGrant(t, "acme-uploads", "all/", policy.Read)}, "{tenant} must occur"},
		"too long":     {policy.AWS, "1", many, " bytes, at most 10240"},
	} {
		if got, err := policy.RoleDocument(tc.partition, tc.account, tc.grants); !errors.Is(err, policy.ErrInvalid) || !strings.Contains(err.Error(), tc.want) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestATrustPolicyNamesWhoseTokensAndWhatTheyMustBring(t *testing.T) {
	whole := policy.Trust{
		Provider: "arn:aws:iam::123456789012:oidc-provider/acme.eu.auth0.com/", Host: "acme.eu.auth0.com/", ClientIDs: []string{"spa", "cli"},
		Audiences: []string{"https://uploads.acme.example"}, Tags: []string{"tenant"}, RolesClaim: true, Foreign: true,
	}
	got, err := policy.TrustDocument([]policy.Trust{whole})
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Sid":"Assume1","Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/acme.eu.auth0.com/"},"Action":["sts:AssumeRoleWithWebIdentity"],` +
		`"Condition":{"Bool":{"sts:RoleAuthorizedByIdp":"true"},"ForAnyValue:StringEquals":{"acme.eu.auth0.com/:oaud":"https://uploads.acme.example"},` +
		`"Null":{"aws:RequestTag/tenant":"false"},"StringEquals":{"acme.eu.auth0.com/:aud":["spa","cli"]},"StringNotLike":{"aws:RequestTag/tenant":["*/*",""]}}},` +
		`{"Sid":"Describe1","Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/acme.eu.auth0.com/"},"Action":["sts:TagSession","sts:SetSourceIdentity"],` +
		`"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["tenant","user"]},"StringEquals":{"acme.eu.auth0.com/:aud":["spa","cli"]}}}]}`
	if err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
	for name, change := range map[string]func(*policy.Trust){
		"no provider": func(t *policy.Trust) { t.Provider = "" },
		"no host":     func(t *policy.Trust) { t.Host = "" },
		"no clients":  func(t *policy.Trust) { t.ClientIDs = nil },
		"no tags":     func(t *policy.Trust) { t.Tags = nil },
	} {
		trust := whole
		change(&trust)
		if got, err := policy.TrustDocument([]policy.Trust{whole, trust}); !errors.Is(err, policy.ErrInvalid) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	long := whole
	long.ClientIDs = slices.Repeat([]string{"a client of 32 characters .......", "b client of 32 characters ......."}, 10)
	if got, err := policy.TrustDocument([]policy.Trust{long}); !errors.Is(err, policy.ErrInvalid) || !strings.Contains(err.Error(), " bytes, at most 2048") || got != "" {
		t.Errorf("too long: %q, %v", got, err)
	}
	if got, err := policy.TrustDocument(nil); !errors.Is(err, policy.ErrInvalid) || got != "" {
		t.Errorf("nobody: %q, %v", got, err)
	}
}
