package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxTrustBytes is how long a role's trust policy may be, unless a higher quota
// was asked for.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const maxTrustBytes = 2048

// maxRoleBytes is what a role's inline policies may have together.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const maxRoleBytes = 10240

// The principal tags by which a role's own policy knows the session's tenant and
// user. The token that STS is shown brings them.
const (
	TagTenant = "tenant"
	TagUser   = "user"
)

// RoleGrant is what one grant needs of the role that it names.
type RoleGrant struct {
	Layout Layout
	Access Access
	KMSKey KMSKey
}

// RoleDocument writes a role's own policy: everything that the grants give to
// the session's tenant, and nothing of another's, because the place of a tenant
// is written with the session's principal tag. It holds without any session
// policy: it is the lock that stands when a call to STS has none.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
func RoleDocument(partition Partition, account string, grants []RoleGrant) (string, error) {
	if !partition.Valid() || account == "" || len(grants) == 0 {
		return "", fmt.Errorf("%w role: partition %q, account %q, %d grants", ErrInvalid, partition, account, len(grants))
	}
	ours := map[string]values{"aws:ResourceAccount": {account}}
	doc := document{Version: languageVersion}
	for i, g := range merge(grants) {
		if err := g.Layout.Validate(); err != nil {
			return "", err
		}
		bucket := "arn:" + string(partition) + ":s3:::" + withTags(g.Layout.Bucket.String())
		pattern := withTags(g.Layout.Prefix.String()) + "*"
		if actions := g.Access.objectActions(); len(actions) > 0 {
			doc.Statement = append(doc.Statement, statement{
				Sid: sid("Objects", i), Effect: "Allow", Action: actions, Resource: bucket + "/" + pattern,
				Condition: &condition{StringEquals: ours},
			})
		}
		if g.Access.Has(List) {
			doc.Statement = append(doc.Statement, statement{
				Sid: sid("List", i), Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: bucket,
				Condition: &condition{StringEquals: ours, StringLike: map[string]values{"s3:prefix": {pattern}}},
			})
		}
		if actions := g.Access.kmsActions(); len(actions) > 0 && !g.KMSKey.IsZero() {
			use := useOfKey(g.KMSKey, actions, bucket, bucket+"/"+pattern)
			use.Sid = sid("Key", i)
			doc.Statement = append(doc.Statement, use)
		}
	}
	if len(doc.Statement) == 0 {
		return "", fmt.Errorf("%w role: the grants give nothing", ErrInvalid)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("write role policy: %w", err)
	}
	if len(text) > maxRoleBytes {
		return "", fmt.Errorf("%w role policy: %d bytes, at most %d: give some of the grants a role of their own", ErrInvalid, len(text), maxRoleBytes)
	}
	return string(text), nil
}

// merge makes one grant of those that have one layout and one key.
func merge(grants []RoleGrant) []RoleGrant {
	var all []RoleGrant
	for _, g := range grants {
		same := func(o RoleGrant) bool {
			return o.Layout.Bucket == g.Layout.Bucket && o.Layout.Prefix.String() == g.Layout.Prefix.String() && o.KMSKey == g.KMSKey
		}
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i].Access |= g.Access
			continue
		}
		all = append(all, g)
	}
	return all
}

// withTags writes the principal tags in place of a template's variables.
func withTags(template string) string {
	return strings.NewReplacer(
		tenantVariable, "${aws:PrincipalTag/"+TagTenant+"}", userVariable, "${aws:PrincipalTag/"+TagUser+"}",
	).Replace(template)
}

func sid(name string, i int) string { return fmt.Sprintf("%s%d", name, i+1) }

// Trust is one issuer whose tokens may open sessions of a role.
type Trust struct {
	Provider  string   // ARN of the IAM OIDC provider
	Host      string   // of the issuer, with its path: what IAM names the condition keys after
	ClientIDs []string // what STS may take for the audience: `azp`, or else `aud`
	Audiences []string // of which `aud` must hold one where `azp` stands for the audience; empty: not asked
	Tags      []string // principal tags without which there is no session
	// RolesClaim demands that the token itself names the role, in the claim
	// https://aws.amazon.com/roles.
	RolesClaim bool
	// Foreign says that somebody else writes the tags. A slash in one, or nothing
	// at all, would lead into the place of another; such a token is refused.
	Foreign bool
}

// TrustDocument writes a role's trust policy. Tags and source identity are
// allowed in a statement of their own, with the condition on the audience only:
// not every condition key is there when STS asks for them.
//
// Longer than the 2048 bytes that IAM takes by default is an error.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp
func TrustDocument(trusts []Trust) (string, error) {
	type principal struct{ Federated string }
	type trustStatement struct {
		Sid, Effect string
		Principal   principal
		Action      []string
		Condition   map[string]map[string]values
	}
	doc := struct {
		Version   string
		Statement []trustStatement
	}{Version: languageVersion}
	for i, t := range trusts {
		if t.Provider == "" || t.Host == "" || len(t.ClientIDs) == 0 || len(t.Tags) == 0 {
			return "", fmt.Errorf("%w trust: a provider, its host, client IDs and tags are all needed", ErrInvalid)
		}
		audience := map[string]values{t.Host + ":aud": t.ClientIDs}
		tags := map[string]values{}
		for _, tag := range t.Tags {
			tags["aws:RequestTag/"+tag] = values{"false"}
		}
		conditions := map[string]map[string]values{"StringEquals": audience, "Null": tags}
		if len(t.Audiences) > 0 {
			conditions["ForAnyValue:StringEquals"] = map[string]values{t.Host + ":oaud": t.Audiences}
		}
		if t.Foreign {
			odd := map[string]values{}
			for _, tag := range t.Tags {
				odd["aws:RequestTag/"+tag] = values{"*/*", ""}
			}
			conditions["StringNotLike"] = odd
		}
		if t.RolesClaim {
			conditions["Bool"] = map[string]values{"sts:RoleAuthorizedByIdp": {"true"}}
		}
		doc.Statement = append(doc.Statement,
			trustStatement{
				Sid: sid("Assume", i), Effect: "Allow", Principal: principal{t.Provider},
				Action: []string{"sts:AssumeRoleWithWebIdentity"}, Condition: conditions,
			},
			trustStatement{
				Sid: sid("Describe", i), Effect: "Allow", Principal: principal{t.Provider},
				Action: []string{"sts:TagSession", "sts:SetSourceIdentity"},
				Condition: map[string]map[string]values{
					"StringEquals": audience,
					// Other policies of the account may go by other tags. A source identity
					// has none, and "all" holds for none.
					"ForAllValues:StringEquals": {"aws:TagKeys": {TagTenant, TagUser}},
				},
			})
	}
	if len(doc.Statement) == 0 {
		return "", fmt.Errorf("%w trust: nobody", ErrInvalid)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("write trust policy: %w", err)
	}
	if len(text) > maxTrustBytes {
		return "", fmt.Errorf("%w trust policy: %d bytes, at most %d: give each issuer a role of its own", ErrInvalid, len(text), maxTrustBytes)
	}
	return string(text), nil
}
