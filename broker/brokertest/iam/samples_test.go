package iam_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"credential-broker/broker/brokertest/iam"
	"credential-broker/policy"
)

const (
	account = "123456789012"
	keyARN  = "arn:aws:kms:eu-west-1:" + account + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
	// wide is a role that leaves everything to the session policy.
	wide = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","kms:*"],"Resource":"*"}]}`
)

// sampler draws questions. Its seed is fixed: every run asks the same.
type sampler struct {
	t testing.TB
	r *rand.Rand
}

func pick[T any](s sampler, from ...T) T { return from[s.r.IntN(len(from))] }

func must[T any](s sampler) func(T, error) T {
	return func(v T, err error) T {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
}

// sample is a grant, a scope that a tenant has of it, and both documents.
type sample struct {
	tenant string
	user   policy.User
	whole  policy.Scope // of the tenant, by the grant
	scope  policy.Scope // the part of it that the session has
	role   string
	doc    string
}

func (s sampler) sample() sample {
	places := [][2]string{
		{"uploads", "tenants/{tenant}/"}, {"uploads", "{tenant}/"}, {"uploads", "{tenant}/{user}/"}, {"uploads", "u/{user}/t/{tenant}/x/"},
		{"{tenant}-uploads", "data/"}, {"up-{tenant}", "u/{user}/"}, {"{tenant}", "{tenant}/"},
	}
	place := pick(s, places...)
	layout := policy.Layout{
		Bucket: must[policy.BucketTemplate](s)(policy.ParseBucketTemplate(place[0])),
		Prefix: must[policy.Template](s)(policy.ParseTemplate(place[1])),
	}
	name := pick(s, "acme", "acme-2", "globex")
	drawn := sample{tenant: name, user: policy.UserOf("https://issuer.example/", pick(s, "alice", "bob"))}
	bucket, prefix, err := layout.Place(must[policy.Tenant](s)(policy.ParseTenant(name)), drawn.user)
	if err != nil {
		s.t.Fatal(err)
	}
	drawn.whole = policy.Scope{Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.Access(1 + s.r.IntN(15))}
	if pick(s, true, true, false) {
		drawn.whole.KMSKey = must[policy.KMSKey](s)(policy.ParseKMSKey(keyARN))
	}
	drawn.scope = drawn.whole
	drawn.scope.Path = must[policy.Path](s)(policy.ParsePath(pick(s, "", "", "in/", "in/2026/", "in", "in/a.txt")))
	if drawn.scope.Access &= policy.Access(1 + s.r.IntN(15)); drawn.scope.Access == 0 {
		drawn.scope.Access = drawn.whole.Access
	}
	if drawn.scope.Path.IsObject() && drawn.scope.Access.Has(policy.List) {
		drawn.scope.Path = policy.Path{} // one object cannot be listed
	}
	if pick(s, true, false) {
		drawn.scope.SourceIP = netip.MustParseAddr(pick(s, "192.0.2.7", "2001:db8::7"))
	}
	grant := policy.RoleGrant{Layout: layout, Access: drawn.whole.Access, KMSKey: drawn.whole.KMSKey}
	drawn.role = must[string](s)(policy.RoleDocument(policy.AWS, account, []policy.RoleGrant{grant}))
	drawn.doc = must[policy.Document](s)(policy.Generate(drawn.scope)).String()
	return drawn
}

// names are values of the tenant's place in a key, its own among them.
func names(own string) []string {
	return []string{
		own, own, "acme", "acme-2", "globex", "acm", "ACME", own + "2", "", "..", "a?me", "${*}", "${?}", "${$}", "$", "{tenant}", "a b",
		"${aws:username}", "${aws:PrincipalTag/tenant}", "x/" + own, own + "/..", "org_" + own, "é", "a\"b", "a\\b", "a+b", "%2F",
	}
}

// key draws a key in and around the scope, and of other tenants.
func (s sampler) key(d sample) string {
	prefix := d.whole.Prefix.String()
	if s.r.IntN(2) == 0 {
		prefix = strings.Replace(prefix, d.tenant+"/", pick(s, names(d.tenant)...)+"/", 1)
	}
	folder := strings.TrimSuffix(prefix, "/")
	return pick(s,
		prefix, prefix+"in", prefix+"in/", prefix+"in/a.txt", prefix+"in/2026/", prefix+"in/2026/a", prefix+"in2", prefix+"in/a.txt.bak", prefix+"a",
		prefix+d.scope.Path.String(), prefix+d.scope.Path.String()+"x", prefix+"?", prefix+"${*}", prefix+"../x",
		folder, folder+"2/a", folder+"//in/a.txt", "/"+prefix, strings.ToUpper(prefix), prefix[:1], "in/a.txt", "x", "/", "?",
	)
}

// inside draws a key of the scope.
func (s sampler) inside(d sample) string {
	if d.scope.Path.IsObject() {
		return d.scope.Key()
	}
	return d.scope.Key() + pick(s, "", "a", "a/", "a/b.txt", "?", "..", "../x", "$", "{tenant}", "a b", "é", "//", d.tenant)
}

// probe draws a request to S3 or KMS with the context keys that the action has.
// It begins inside the scope, and each of its parts may then be drawn anew.
func (s sampler) probe(d sample) iam.Request {
	elsewhere := func() bool { return s.r.IntN(6) == 0 }
	partition, bucket, key := "aws", d.scope.Bucket.String(), s.inside(d)
	if elsewhere() {
		partition = pick(s, "aws-cn", "aws-us-gov")
	}
	if elsewhere() {
		bucket = pick(s, strings.Replace(bucket, d.tenant, "globex", 1), bucket+"2", "other", strings.ToUpper(bucket))
	}
	switch s.r.IntN(6) {
	case 0, 1:
		key = s.key(d)
	case 2: // the same place of another tenant
		other := pick(s, names(d.tenant)...)
		key = strings.ReplaceAll(key, d.tenant, other)
		if b, err := policy.ParseBucket(strings.ReplaceAll(bucket, d.tenant, other)); err == nil {
			bucket = b.String()
		}
	}
	req := iam.Request{Context: map[string][]string{}}
	from := d.scope.SourceIP.String()
	if !d.scope.SourceIP.IsValid() || s.r.IntN(4) == 0 {
		from = pick(s, "", "192.0.2.7", "192.0.2.8", "2001:db8::7", "2001:DB8:0:0::7", "2001:db8::8", "198.51.100.1")
	}
	if from != "" {
		req.Context["aws:SourceIp"] = []string{from}
	}
	arn := "arn:" + partition + ":s3:::" + bucket
	action := s.action(d)
	if elsewhere() {
		action = pick(s, actions()...)
	}
	req.Action, req.Resource = action, arn
	switch action {
	case "s3:GetBucketLocation", "s3:ListBucketMultipartUploads": // without context keys of their own
	case "s3:ListBucket", "s3:ListBucketVersions":
		switch s.r.IntN(8) {
		case 0: // no prefix
		case 1:
			req.Context["s3:prefix"] = []string{pick(s, d.scope.Key()+"*", "", "*", key[:min(1, len(key))]+"*")}
		default:
			req.Context["s3:prefix"] = []string{key}
		}
	default:
		// No resource has an asterisk: the simulator would read it as a pattern. And
		// no object is without a key.
		if key = strings.ReplaceAll(key, "*", ""); key == "" {
			key = "x"
		}
		req.Resource = arn + "/" + key
		if strings.HasPrefix(action, "kms:") {
			s.encryption(req.Context, arn, key)
			req.Resource = pick(s, keyARN, keyARN, keyARN, keyARN, keyARN+"0")
		}
	}
	return req
}

// encryption draws the context keys of a request to KMS.
func (s sampler) encryption(context map[string][]string, arn, key string) {
	context["kms:ViaService"] = []string{pick(s, "s3.eu-west-1", "s3.eu-west-1", "s3.eu-west-1", "s3.us-east-1", "ec2.eu-west-1") + ".amazonaws.com"}
	context["kms:EncryptionContext:aws:s3:arn"] = []string{pick(s, arn, arn+"/"+key, arn+"/"+key, arn+"/"+key)}
	for _, name := range []string{"kms:ViaService", "kms:EncryptionContext:aws:s3:arn"} {
		if s.r.IntN(8) == 0 {
			delete(context, name)
		}
	}
}

// action draws an action that the scope gives.
func (s sampler) action(d sample) string {
	var given []string
	for _, name := range actions() {
		if gives(d.scope, name) {
			given = append(given, name)
			if strings.HasPrefix(name, "kms:") {
				given = append(given, name, name) // has more to go wrong
			}
		}
	}
	return pick(s, given...)
}

func actions() []string {
	return []string{
		"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucket", "kms:Decrypt", "kms:GenerateDataKey",
		"s3:GetObjectVersion", "s3:PutObjectAcl", "s3:DeleteObjectVersion", "s3:GetObjectTagging", "s3:ListBucketVersions", "s3:GetBucketLocation",
		"s3:ListBucketMultipartUploads", "kms:Encrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:CreateGrant",
	}
}

// tagged gives the session its principal tags.
func tagged(req iam.Request, tenant string, user policy.User) iam.Request {
	context := map[string][]string{"aws:PrincipalTag/" + policy.TagUser: {user.String()}, "aws:ResourceAccount": {account}}
	if tenant != "" {
		context["aws:PrincipalTag/"+policy.TagTenant] = []string{tenant}
	}
	for key, values := range req.Context {
		context[key] = values
	}
	req.Context = context
	return req
}
