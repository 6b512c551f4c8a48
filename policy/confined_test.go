package policy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/policy"
)

const good = `{"Version":"2012-10-17","Statement":[` +
	`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::acme-uploads/tenants/org_acme/*"},` +
	`{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme-uploads","Condition":{"StringLike":{"s3:prefix":"tenants/org_acme/*"}}}]}`

func TestWhatStaysInsideIsConfined(t *testing.T) {
	s := scope(t, "org_acme", nil)
	replace := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for name, document := range map[string]string{
		"as it is":              good,
		"with an id":            replace(`{"Effect"`, `{"Sid":"a","Effect"`),
		"a folder below":        replace(`org_acme/*"}`, `org_acme/in/*"}`),
		"one key":               replace(`org_acme/*"}`, `org_acme/a"}`),
		"the folder itself":     replace(`org_acme/*"}`, `org_acme/"}`),
		"a wildcard inside":     replace(`org_acme/*"}`, `org_acme/?x*y"}`),
		"several resources":     replace(`"arn:aws:s3:::acme-uploads/tenants/org_acme/*"`, `["arn:aws:s3:::acme-uploads/tenants/org_acme/a","arn:aws:s3:::acme-uploads/tenants/org_acme/b"]`),
		"several prefixes":      replace(`"tenants/org_acme/*"}}`, `["tenants/org_acme/","tenants/org_acme/*"]}}`),
		"an exact prefix":       replace(`{"StringLike":{"s3:prefix":"tenants/org_acme/*"}}`, `{"StringEquals":{"s3:prefix":"tenants/org_acme/"}}`),
		"one statement, a read": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-uploads/tenants/org_acme/*"}]}`,
	} {
		if err := policy.Confined(document, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each of these breaks one rule of the proof, and no other refuses it.
func TestWhatMayReachOutsideIsNotConfined(t *testing.T) {
	s := scope(t, "org_acme", nil)
	replace := func(old, with string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the good document", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	const listing = `"Condition":{"StringLike":{"s3:prefix":"tenants/org_acme/*"}}`
	for name, document := range map[string]string{
		"nothing":                      "",
		"no object":                    `[]`,
		"not JSON":                     good[:len(good)-1],
		"a comma too many":             replace(`"}}}]}`, `"}}},]}`),
		"something after":              good + ` ` + `{}`,
		"broken inside a list":         replace(`["s3:GetObject",`, `[tru,`),
		"a line break between members": replace(`,"Statement"`, ",\n"+`"Statement"`),
		"too long":                     replace(`{"Effect"`, `{"Sid":"`+strings.Repeat("a", 2048)+`","Effect"`),
		"a control character":          replace(`{"Effect"`, `{"Sid":"`+"\x7f"+`","Effect"`),
		"beyond ASCII":                 replace(`{"Effect"`, `{"Sid":"é","Effect"`),
		"no version":                   replace(`"Version":"2012-10-17",`, ``),
		"the version of 2008":          replace(`2012-10-17`, `2008-10-17`),
		"an id of the document":        replace(`"Version"`, `"Id":"x","Version"`),
		"version twice":                replace(`"Version"`, `"Version":"2012-10-17","Version"`),
		"no statements":                `{"Version":"2012-10-17","Statement":[]}`,
		"a statement outside a list":   `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-uploads/tenants/org_acme/*"}}`,
		"a statement that is none":     `{"Version":"2012-10-17","Statement":["x"]}`,
		"effect deny":                  replace(`"Effect":"Allow"`, `"Effect":"Deny"`),
		"no effect":                    replace(`"Effect":"Allow",`, ``),
		"NotAction":                    replace(`"Action":["s3:GetObject","s3:PutObject"]`, `"Action":["s3:GetObject"],"NotAction":"s3:PutObject"`),
		"NotResource":                  replace(`"Resource":"arn:aws:s3:::acme-uploads/t`, `"NotResource":"arn:aws:s3:::other/*","Resource":"arn:aws:s3:::acme-uploads/t`),
		"a principal":                  replace(`{"Effect"`, `{"Principal":"*","Effect"`),
		"a member in other case":       replace(`"Resource":"arn:aws:s3:::acme-uploads/t`, `"resource":"*","Resource":"arn:aws:s3:::acme-uploads/t`),
		"resource twice":               replace(`"Resource":"arn:aws:s3:::acme-uploads/t`, `"Resource":"*","Resource":"arn:aws:s3:::acme-uploads/t`),
		"resource twice, escaped":      replace(`"Resource":"arn:aws:s3:::acme-uploads/t`, `"\u0052esource":"*","Resource":"arn:aws:s3:::acme-uploads/t`),
		"no action":                    replace(`"Action":["s3:GetObject","s3:PutObject"],`, ``),
		"an empty list of actions":     replace(`["s3:GetObject","s3:PutObject"]`, `[]`),
		"an action that is no text":    replace(`["s3:GetObject","s3:PutObject"]`, `["s3:GetObject",1]`),
		"every action":                 replace(`["s3:GetObject","s3:PutObject"]`, `"s3:*"`),
		"a wildcard in an action":      replace(`"s3:PutObject"`, `"s3:PutObject*"`),
		"an action that is not listed": replace(`"s3:PutObject"`, `"s3:PutObjectAcl"`),
		"an action in other case":      replace(`"s3:PutObject"`, `"s3:putobject"`),
		"a listing among the objects":  replace(`"s3:PutObject"]`, `"s3:ListBucket"]`),
		"a key and no ARN":             replace(`"arn:aws:s3:::acme-uploads/tenants/org_acme/*"`, `"tenants/org_acme/*"`),
		"an empty condition, objects":  replace(`org_acme/*"}`, `org_acme/*","Condition":{}}`),
		"no resource":                  replace(`,"Resource":"arn:aws:s3:::acme-uploads/tenants/org_acme/*"`, ``),
		"every resource":               replace(`"arn:aws:s3:::acme-uploads/tenants/org_acme/*"`, `"*"`),
		"the bucket":                   replace(`acme-uploads/tenants/org_acme/*"}`, `acme-uploads/*"}`),
		"another bucket":               replace(`acme-uploads/tenants`, `acme-uploads2/tenants`),
		"a wildcard in the bucket":     replace(`acme-uploads/tenants`, `acme-*/tenants`),
		"another partition":            replace(`arn:aws:s3:::acme-uploads/`, `arn:aws-cn:s3:::acme-uploads/`),
		"no slash":                     replace(`org_acme/*"}`, `org_acme*"}`),
		"a sibling":                    replace(`org_acme/*"}`, `org_acme2/*"}`),
		"another tenant":               replace(`org_acme/*"}`, `org_globex/*"}`),
		"one of two outside":           replace(`"arn:aws:s3:::acme-uploads/tenants/org_acme/*"`, `["arn:aws:s3:::acme-uploads/tenants/org_acme/*","arn:aws:s3:::acme-uploads/tenants/org_b/*"]`),
		"a wildcard for a character":   replace(`org_acme/*"}`, `org_acm?/*"}`),
		"a variable":                   replace(`org_acme/*"}`, `org_acme/${aws:username}/*"}`),
		"an escape":                    replace(`org_acme/*"}`, `org_acme/${*}"}`),
		"a condition on objects":       replace(`org_acme/*"}`, `org_acme/*","Condition":{"StringLike":{"s3:prefix":"tenants/org_acme/*"}}}`),
		"a listing of another bucket":  replace(`"arn:aws:s3:::acme-uploads","Condition"`, `"arn:aws:s3:::acme-uploads2","Condition"`),
		"a listing of all buckets":     replace(`"arn:aws:s3:::acme-uploads","Condition"`, `"*","Condition"`),
		"a listing of everything":      replace(`,`+listing, ``),
		"an empty condition":           replace(listing, `"Condition":{}`),
		"two operators":                replace(`{"StringLike":{`, `{"StringEquals":{"s3:prefix":"tenants/org_acme/"},"StringLike":{`),
		"IfExists":                     replace(`"StringLike"`, `"StringLikeIfExists"`),
		"ForAllValues":                 replace(`"StringLike"`, `"ForAllValues:StringLike"`),
		"a negation":                   replace(`"StringLike"`, `"StringNotLike"`),
		"another key":                  replace(`"s3:prefix":"`, `"s3:delimiter":"`),
		"two keys":                     replace(`{"s3:prefix"`, `{"s3:delimiter":"/","s3:prefix"`),
		"no values":                    replace(`{"s3:prefix":"tenants/org_acme/*"}`, `{"s3:prefix":[]}`),
		"a prefix of everything":       replace(`"s3:prefix":"tenants/org_acme/*"`, `"s3:prefix":"*"`),
		"an empty prefix":              replace(`"s3:prefix":"tenants/org_acme/*"`, `"s3:prefix":""`),
		"a prefix without its slash":   replace(`"s3:prefix":"tenants/org_acme/*"`, `"s3:prefix":"tenants/org_acme*"`),
		"a sibling's prefix":           replace(`"s3:prefix":"tenants/org_acme/*"`, `"s3:prefix":"tenants/org_acme2/*"`),
		"one of two prefixes outside":  replace(`"s3:prefix":"tenants/org_acme/*"`, `"s3:prefix":["tenants/org_acme/*","tenants/*"]`),
		"a variable in the prefix":     replace(`"s3:prefix":"tenants/org_acme/*"`, `"s3:prefix":"tenants/org_acme/${aws:username}"`),
	} {
		if err := policy.Confined(document, s); err == nil {
			t.Errorf("%s: confined\n%s", name, document)
		}
	}
}

// sealed is a document for a scope with a key and an address.
const sealed = `{"Version":"2012-10-17","Statement":[` +
	`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::acme-uploads/tenants/org_acme/*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}},` +
	`{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme-uploads","Condition":{"StringLike":{"s3:prefix":"tenants/org_acme/*"},"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}},` +
	`{"Effect":"Allow","Action":["kms:GenerateDataKey","kms:Decrypt"],"Resource":"` + keyARN + `","Condition":{` +
	`"StringEquals":{"kms:ViaService":"s3.ap-northeast-1.amazonaws.com"},` +
	`"StringLike":{"kms:EncryptionContext:aws:s3:arn":["arn:aws:s3:::acme-uploads","arn:aws:s3:::acme-uploads/tenants/org_acme/*"]}}}]}`

func sealedScope(t testing.TB) policy.Scope {
	return scope(t, "org_acme", func(s *policy.Scope) {
		s.KMSKey, s.SourceIP = key(t, keyARN), netip.MustParseAddr("192.0.2.1")
	})
}

func TestAKeyAndAnAddressAreProvedToo(t *testing.T) {
	s := sealedScope(t)
	if err := policy.Confined(sealed, s); err != nil {
		t.Fatal(err)
	}
	replace := func(old, with string) string {
		t.Helper()
		if !strings.Contains(sealed, old) {
			t.Fatalf("%q is not in the sealed document", old)
		}
		return strings.Replace(sealed, old, with, 1)
	}
	const (
		service = `"StringEquals":{"kms:ViaService":"s3.ap-northeast-1.amazonaws.com"}`
		object  = `"StringLike":{"kms:EncryptionContext:aws:s3:arn":["arn:aws:s3:::acme-uploads","arn:aws:s3:::acme-uploads/tenants/org_acme/*"]}`
		bound   = `,"Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}`
	)
	for name, document := range map[string]string{
		"the object only": replace(`["arn:aws:s3:::acme-uploads",`, `[`),
		"the bucket only": replace(`,"arn:aws:s3:::acme-uploads/tenants/org_acme/*"]`, `]`),
		"decrypt only":    replace(`"kms:GenerateDataKey",`, ``),
	} {
		if err := policy.Confined(document, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, document := range map[string]string{
		"another action on the key":     replace(`"kms:Decrypt"`, `"kms:CreateGrant"`),
		"every action on the key":       replace(`"kms:Decrypt"`, `"kms:*"`),
		"an action on objects with it":  replace(`"kms:Decrypt"`, `"s3:GetObject"`),
		"another key":                   replace(keyARN, keyARN+"0"),
		"every key":                     replace(keyARN, "*"),
		"no service":                    replace(service+",", ``),
		"no object":                     replace(","+object, ``),
		"another service":               replace(`"s3.ap-northeast-1`, `"ec2.ap-northeast-1`),
		"another region":                replace(`"s3.ap-northeast-1`, `"s3.eu-west-1`),
		"any service":                   replace(`s3.ap-northeast-1.amazonaws.com`, `s3.ap-northeast-1.amazonaws.com*`),
		"China's domain elsewhere":      replace(`s3.ap-northeast-1.amazonaws.com`, `s3.ap-northeast-1.amazonaws.com.cn`),
		"one of two services":           replace(`"s3.ap-northeast-1.amazonaws.com"`, `["s3.ap-northeast-1.amazonaws.com","ec2.ap-northeast-1.amazonaws.com"]`),
		"an empty service":              replace(`"s3.ap-northeast-1.amazonaws.com"`, `""`),
		"another key of the service":    replace(`"kms:ViaService"`, `"kms:CallerAccount"`),
		"a second key of the service":   replace(service, `"StringEquals":{"kms:ViaService":"s3.ap-northeast-1.amazonaws.com","aws:x":"y"}`),
		"the service by likeness":       replace(`"StringEquals":{"kms`, `"StringLikeIfExists":{"kms`),
		"another tenant's objects":      replace(`/tenants/org_acme/*"]`, `/tenants/org_globex/*"]`),
		"all objects":                   replace(`/tenants/org_acme/*"]`, `/*"]`),
		"objects of no bucket":          replace(`"arn:aws:s3:::acme-uploads/tenants/org_acme/*"]`, `"tenants/org_acme/*"]`),
		"another bucket's objects":      replace(`"arn:aws:s3:::acme-uploads/tenants/org_acme/*"]`, `"arn:aws:s3:::other/tenants/org_acme/*"]`),
		"another bucket":                replace(`["arn:aws:s3:::acme-uploads"`, `["arn:aws:s3:::acme-uploads2"`),
		"another key of the object":     replace(`"kms:EncryptionContext:aws:s3:arn"`, `"kms:EncryptionContext:aws:s3:x"`),
		"a second key of the object":    replace(`{"kms:EncryptionContext:aws:s3:arn"`, `{"aws:x":"y","kms:EncryptionContext:aws:s3:arn"`),
		"the object by absence":         replace(`"StringLike":{"kms`, `"StringLikeIfExists":{"kms`),
		"a third condition on the key":  replace(service, service+`,"Bool":{"aws:SecureTransport":"true"}`),
		"no condition on the key":       replace(`,"Condition":{`+service+`,`+object+`}`, ``),
		"objects without an address":    replace(bound, ``),
		"listing without an address":    replace(`,"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}},{"Effect":"Allow","Action":["kms`, `}},{"Effect":"Allow","Action":["kms`),
		"another address":               replace(`192.0.2.1/32`, `192.0.2.2/32`),
		"a block":                       replace(`192.0.2.1/32`, `192.0.2.1/31`),
		"no address":                    replace(`192.0.2.1/32`, `x`),
		"two addresses":                 replace(`"192.0.2.1/32"`, `["192.0.2.1/32","192.0.2.2/32"]`),
		"another key of the address":    replace(`"aws:SourceIp"`, `"aws:VpcSourceIp"`),
		"a second key of the address":   replace(`{"aws:SourceIp"`, `{"aws:x":"192.0.2.1/32","aws:SourceIp"`),
		"an address by absence":         replace(`"IpAddress"`, `"IpAddressIfExists"`),
		"a condition beside an address": replace(`{"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}`, `{"Bool":{"aws:x":"true"},"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}`),
		"an empty condition":            replace(`{"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}`, `{}`),
		"a condition that is no object": replace(`{"IpAddress":{"aws:SourceIp":"192.0.2.1/32"}}`, `[]`),
		"an operator without keys":      replace(`{"aws:SourceIp":"192.0.2.1/32"}`, `{}`),
		"an operator of no object":      replace(`{"aws:SourceIp":"192.0.2.1/32"}`, `"x"`),
	} {
		if err := policy.Confined(document, s); err == nil {
			t.Errorf("%s: confined\n%s", name, document)
		}
	}
	for name, change := range map[string]func(*policy.Scope){
		"a key that the scope does not have":        func(s *policy.Scope) { s.KMSKey = policy.KMSKey{} },
		"an address that the scope does not have":   func(s *policy.Scope) { s.SourceIP = netip.Addr{} },
		"the key's use for a scope that writes not": func(s *policy.Scope) { s.Access &^= policy.Write },
	} {
		other := sealedScope(t)
		change(&other)
		if err := policy.Confined(sealed, other); err == nil {
			t.Errorf("%s: confined", name)
		}
	}
}

// useOfKey is a document of one statement, on a key.
func useOfKey(action, key, service, bucket string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"` + key + `","Condition":{` +
		`"StringEquals":{"kms:ViaService":"` + service + `"},"StringLike":{"kms:EncryptionContext:aws:s3:arn":"` + bucket + `/tenants/org_acme/*"}}}]}`
}

// Decryption is for who reads or writes, and a data key for who writes alone. No
// statement on objects is there that could be refused in its place.
func TestAKeysUseFollowsTheScopesRights(t *testing.T) {
	for action, wants := range map[string]map[policy.Access]bool{
		"kms:Decrypt":         {policy.Read: true, policy.Write: true, policy.List: false, policy.Delete: false, policy.List | policy.Delete: false},
		"kms:GenerateDataKey": {policy.Read: false, policy.Write: true, policy.List: false, policy.Delete: false, policy.List | policy.Read | policy.Delete: false},
	} {
		document := useOfKey(action, keyARN, "s3.ap-northeast-1.amazonaws.com", "arn:aws:s3:::acme-uploads")
		for access, want := range wants {
			err := policy.Confined(document, scope(t, "org_acme", func(s *policy.Scope) { s.KMSKey, s.Access = key(t, keyARN), access }))
			if (err == nil) != want {
				t.Errorf("%s for %s: %v", action, access, err)
			}
		}
	}
}

// A scope without a key has "" for its ARN and its region: that is no key, too.
func TestNoKeyIsNotTheKeyOfNoName(t *testing.T) {
	document := useOfKey("kms:Decrypt", "", "s3..amazonaws.com", "arn:aws:s3:::acme-uploads")
	if err := policy.Confined(document, scope(t, "org_acme", nil)); err == nil {
		t.Error("confined")
	}
}

func TestAKeyInChinaIsUsedThroughItsOwnDomainOrTheCommonOne(t *testing.T) {
	const arn = "arn:aws-cn:kms:cn-north-1:123456789012:key/x"
	s := scope(t, "org_acme", func(s *policy.Scope) { s.Partition, s.KMSKey = policy.AWSChina, key(t, arn) })
	for service, want := range map[string]bool{
		"s3.cn-north-1.amazonaws.com": true, "s3.cn-north-1.amazonaws.com.cn": true,
		"s3.cn-north-1.amazonaws.com.de": false, "s3.cn-north-1.amazonaws.com.cn.example": false, "s3.cn-north-1.amazonaws.com*": false,
	} {
		if err := policy.Confined(useOfKey("kms:Decrypt", arn, service, "arn:aws-cn:s3:::acme-uploads"), s); (err == nil) != want {
			t.Errorf("%s: %v", service, err)
		}
	}
}

func TestTheProofIsForTheScopesOwnRightsAndPlace(t *testing.T) {
	whole := scope(t, "org_acme", nil)
	for name, tc := range map[string]struct{ made, judged policy.Scope }{
		"another tenant":        {scope(t, "org_globex", nil), whole},
		"a longer name":         {scope(t, "org_acme2", nil), whole},
		"a shorter name":        {scope(t, "org_acm", nil), whole},
		"another partition":     {scope(t, "org_acme", func(s *policy.Scope) { s.Partition = policy.AWSChina }), whole},
		"a folder in its place": {whole, scope(t, "org_acme", func(s *policy.Scope) { s.Path = path(t, "in/") })},
		"an object in its place": {
			scope(t, "org_acme", func(s *policy.Scope) { s.Access = policy.Read }),
			scope(t, "org_acme", func(s *policy.Scope) { s.Access, s.Path = policy.Read, path(t, "a.txt") }),
		},
		"another object": {
			scope(t, "org_acme", func(s *policy.Scope) { s.Access, s.Path = policy.Read, path(t, "b.txt") }),
			scope(t, "org_acme", func(s *policy.Scope) { s.Access, s.Path = policy.Read, path(t, "a.txt") }),
		},
		"a key that begins with the object": {
			scope(t, "org_acme", func(s *policy.Scope) { s.Access, s.Path = policy.Read, path(t, "a.txt.bak") }),
			scope(t, "org_acme", func(s *policy.Scope) { s.Access, s.Path = policy.Read, path(t, "a.txt") }),
		},
		"a listing without the right": {whole, scope(t, "org_acme", func(s *policy.Scope) { s.Access &^= policy.List })},
		"a read without the right":    {whole, scope(t, "org_acme", func(s *policy.Scope) { s.Access &^= policy.Read })},
		"a write without the right":   {whole, scope(t, "org_acme", func(s *policy.Scope) { s.Access &^= policy.Write })},
		"a delete without the right":  {whole, scope(t, "org_acme", func(s *policy.Scope) { s.Access &^= policy.Delete })},
	} {
		document, err := policy.Generate(tc.made)
		if err != nil {
			t.Fatal(err)
		}
		if err := policy.Confined(document.String(), tc.judged); err == nil {
			t.Errorf("%s: confined", name)
		}
	}
	// A listing for one object, which no scope can ask for, in a document by hand.
	object := scope(t, "org_acme", func(s *policy.Scope) { s.Access, s.Path = policy.Read, path(t, "a.txt") })
	byHand := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::acme-uploads","Condition":{"StringLike":{"s3:prefix":"tenants/org_acme/a.txt"}}}]}`
	if err := policy.Confined(byHand, object); err == nil {
		t.Error("one object is listed")
	}
}

// Whatever the scope: what is generated for it is proved, and what is generated
// for another tenant, or for more rights, is not.
func TestWhatIsGeneratedIsProvedForItsOwnScopeOnly(t *testing.T) {
	draw := func(rt *rapid.T, label string) policy.Scope {
		s := scope(t, rapid.StringMatching(`[a-c][a-c_-]{0,2}`).Draw(rt, label+" tenant"), nil)
		s.Access = policy.Access(rapid.IntRange(1, 15).Draw(rt, label+" access"))
		s.Path = path(t, rapid.SampledFrom([]string{"", "a/", "a/b/", "a.txt", "a/b"}).Draw(rt, label+" path"))
		if s.Path.IsObject() {
			s.Access &^= policy.List
		}
		if s.Access == 0 {
			s.Access = policy.Read
		}
		return s
	}
	rapid.Check(t, func(rt *rapid.T) {
		mine, other := draw(rt, "mine"), draw(rt, "other")
		document, err := policy.Generate(mine)
		if err != nil {
			rt.Fatal(err)
		}
		if err := policy.Confined(document.String(), mine); err != nil {
			rt.Fatalf("%s: %v", document, err)
		}
		within := mine.Prefix == other.Prefix && other.Access.Has(mine.Access) && strings.HasPrefix(mine.Key(), other.Key()) &&
			(!other.Path.IsObject() || mine.Key() == other.Key())
		if got := policy.Confined(document.String(), other) == nil; got && !within {
			rt.Fatalf("%s is confined to %+v", document, other)
		}
	})
}

// generators are five ways in which others made such policies and let tenants
// out, and two good ones. A generator may refuse a claim.
func generators() (bad, sound map[string]func(claim string) (string, bool)) {
	encode := func(head string) string {
		text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
			"Effect": "Allow", "Action": []string{"s3:GetObject"}, "Resource": "arn:aws:s3:::acme-uploads/tenants/" + head + "*",
		}}})
		if err != nil {
			panic(err)
		}
		return string(text)
	}
	unanchored := regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9_-]*`)
	bad = map[string]func(string) (string, bool){
		"the raw value": func(c string) (string, bool) { return encode(c + "/"), true },
		"concatenation": func(c string) (string, bool) {
			return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::acme-uploads/tenants/%s/*"}]}`, c), true
		},
		"escaping in three steps": func(c string) (string, bool) {
			c = strings.ReplaceAll(strings.ReplaceAll(c, "*", "${*}"), "?", "${?}")
			return encode(strings.ReplaceAll(c, "$", "${$}") + "/"), true
		},
		"an unanchored pattern": func(c string) (string, bool) { return encode(c + "/"), unanchored.MatchString(c) },
		"a missing slash": func(c string) (string, bool) {
			_, err := policy.ParseTenant(c)
			return encode(c), err == nil
		},
	}
	sound = map[string]func(string) (string, bool){
		"the parsed tenant": func(c string) (string, bool) {
			_, err := policy.ParseTenant(c)
			return encode(c + "/"), err == nil
		},
		"nothing at all": func(string) (string, bool) { return "", false },
	}
	return bad, sound
}

// claims are values of the tenant claim with which the generators are tried.
func claims() []string {
	return append([]string{"org_acme", "a*", "*/../*", "a${*}", "a?", "org_b/*\",\"arn:aws:s3:::acme-uploads/*", "a\",\"Effect\":\"Allow"}, hostile...)
}

// A document is judged against the scope of the tenant that its claim would be,
// or, where it can be none, against any: it must not pass for it.
func TestTheProofKillsTheGeneratorsThatLetTenantsOut(t *testing.T) {
	bad, sound := generators()
	escaped := func(generate func(string) (string, bool)) (killed, passed int) {
		for _, c := range claims() {
			document, made := generate(c)
			if !made {
				continue
			}
			s := scope(t, "org_acme", func(s *policy.Scope) { s.Access = policy.Read })
			if _, err := policy.ParseTenant(c); err == nil {
				s = scope(t, c, func(s *policy.Scope) { s.Access = policy.Read })
			}
			if policy.Confined(document, s) == nil {
				passed++
			} else {
				killed++
			}
		}
		return killed, passed
	}
	for name, generate := range bad {
		if killed, _ := escaped(generate); killed == 0 {
			t.Errorf("%s: the proof kills none of its documents", name)
		}
	}
	for name, generate := range sound {
		if killed, passed := escaped(generate); killed != 0 || name == "the parsed tenant" && passed == 0 {
			t.Errorf("%s: %d killed, %d passed", name, killed, passed)
		}
	}
}

// No document that passes, of a bad generator either, reaches a key outside,
// by a matcher written for this test.
func TestWhatPassesTheProofMatchesNoKeyOutside(t *testing.T) {
	s := scope(t, "org_acme", func(s *policy.Scope) { s.Access = policy.Read })
	outside := []string{"tenants/org_b/x", "tenants/org_acme2/x", "tenants/", "x", "tenants/org_acme", "tenants/org_acm/x", ""}
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringMatching(`(tenants/)?(org_acme)?[/*?a2]{0,4}`).Draw(rt, "pattern")
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-uploads/` + pattern + `"}]}`
		if policy.Confined(document, s) != nil {
			return
		}
		matcher := regexp.MustCompile(`\A` + strings.NewReplacer(`\*`, `(?s:.*)`, `\?`, `(?s:.)`).Replace(regexp.QuoteMeta(pattern)) + `\z`)
		for _, key := range outside {
			if matcher.MatchString(key) {
				rt.Fatalf("%q matches %q", pattern, key)
			}
		}
	})
}

// Whatever the document: if it is confined, every string in it that is an ARN
// or a prefix begins inside. Threat case DS20.
func FuzzConfined(f *testing.F) {
	f.Add(good)
	f.Add(strings.Replace(good, "org_acme/*", "org_acme/${*}", 1))
	f.Add(strings.Replace(good, `"Action"`, `"Action":"s3:*","Action"`, 1))
	f.Fuzz(func(t *testing.T, document string) {
		if policy.Confined(document, scope(t, "org_acme", nil)) != nil {
			return
		}
		var doc struct {
			Version   string
			Statement []struct{ Resource, Action any }
		}
		if err := json.Unmarshal([]byte(document), &doc); err != nil || doc.Version != "2012-10-17" || len(doc.Statement) == 0 {
			t.Fatalf("confined, and %v", err)
		}
		for _, s := range doc.Statement {
			for _, r := range asList(s.Resource) {
				inside := strings.HasPrefix(r, "arn:aws:s3:::acme-uploads/tenants/org_acme/") && !strings.Contains(r, "$")
				listing := r == "arn:aws:s3:::acme-uploads" && strings.Join(asList(s.Action), ",") == "s3:ListBucket"
				if !inside && !listing {
					t.Fatalf("resource %q is confined", r)
				}
			}
		}
	})
}

func asList(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	var all []string
	list, _ := v.([]any)
	for _, e := range list {
		s, _ := e.(string)
		all = append(all, s)
	}
	return all
}

// What a document costs to write and to prove, once for each call to STS.
func BenchmarkProve(b *testing.B) {
	s := scope(b, "org_acme", func(*policy.Scope) {})
	document, err := policy.Generate(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = policy.Generate(s)
		}
	})
	b.Run("prove", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := policy.Confined(document.String(), s); err != nil {
				b.Fatal(err)
			}
		}
	})
}
