package iam_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"credential-broker/broker/brokertest/iam"
)

func parse(t testing.TB, text string) iam.Document {
	t.Helper()
	d, err := iam.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// statement is a policy of one statement that allows; more are its other members.
func statement(more string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow",` + more + `}}`
}

func get(key string) iam.Request {
	return iam.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/" + key, Context: map[string][]string{"aws:PrincipalTag/tenant": {"acme"}}}
}

func TestActionsAndResourcesMatchAsInIAM(t *testing.T) {
	for _, tc := range []struct {
		policy, key string
		want        bool
	}{
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"`), "x/y", true},
		{statement(`"Action":"S3:getobject","Resource":"arn:aws:s3:::b/*"`), "x", true}, // actions have no case
		{statement(`"Action":"s3:Get*","Resource":"arn:aws:s3:::b/*"`), "x", true},
		{statement(`"Action":"s3:GetObjec?","Resource":"arn:aws:s3:::b/*"`), "x", true},
		{statement(`"Action":"*","Resource":"*"`), "x", true},
		{statement(`"Action":"s3:PutObject","Resource":"arn:aws:s3:::b/*"`), "x", false},
		{statement(`"Action":["s3:PutObject","s3:GetObject"],"Resource":["arn:aws:s3:::c/*","arn:aws:s3:::b/*"]`), "x", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a*"`), "a", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a*"`), "b", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/A"`), "a", false}, // keys have
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a?c"`), "abc", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a?c"`), "ac", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*/x/*y"`), "1/x/2/x/3y", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*/x/*y"`), "1/x/2z", false},
		{statement(`"NotAction":"s3:PutObject","Resource":"arn:aws:s3:::b/*"`), "x", true},
		{statement(`"NotAction":"s3:Get*","Resource":"arn:aws:s3:::b/*"`), "x", false},
		{statement(`"Action":"s3:GetObject","NotResource":"arn:aws:s3:::b/secret/*"`), "x", true},
		{statement(`"Action":"s3:GetObject","NotResource":"arn:aws:s3:::b/secret/*"`), "secret/x", false},
		// variables
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"`), "acme/x", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${AWS:principaltag/Tenant}/*"`), "acme/x", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"`), "other/x", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/none}/*"`), "/x", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/none, 'd'}/*"`), "d/x", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant, 'd'}/*"`), "d/x", false},
		{statement(`"Action":"s3:GetObject","NotResource":"arn:aws:s3:::b/${aws:PrincipalTag/none}/*"`), "x", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a${*}b"`), "a*b", true},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a${*}b"`), "axb", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a${?}b"`), "axb", false},
		{statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/a${$}b"`), "a$b", true},
		{strings.Replace(statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"`), "2012", "2008", 1), "acme/x", false},
		{strings.Replace(statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"`), `"Version":"2012-10-17",`, "", 1), "${aws:PrincipalTag/tenant}/x", true},
	} {
		if got := iam.Decide(get(tc.key), parse(t, tc.policy)).Allowed(); got != tc.want {
			t.Errorf("%s on %q: %t", tc.policy, tc.key, got)
		}
	}
}

func TestAKeyOfSeveralValuesIsNoVariable(t *testing.T) {
	req := get("a/x")
	req.Context = map[string][]string{"aws:x": {"a", "b"}}
	if iam.Decide(req, parse(t, statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:x}/*"`))).Allowed() {
		t.Error("the first of two values fills it")
	}
}

func TestConditionsHoldAsInIAM(t *testing.T) {
	type context = map[string][]string
	prefix := func(v ...string) context { return context{"s3:prefix": v} }
	for _, tc := range []struct {
		condition string
		context   context
		want      bool
	}{
		{`{"StringEquals":{"s3:prefix":"a"}}`, prefix("a"), true},
		{`{"StringEquals":{"S3:Prefix":"a"}}`, prefix("a"), true},
		{`{"StringEquals":{"s3:prefix":["b","a"]}}`, prefix("a"), true},
		{`{"StringEquals":{"s3:prefix":"a*"}}`, prefix("ab"), false},
		{`{"StringEquals":{"s3:prefix":"a"}}`, prefix("A"), false},
		{`{"StringEquals":{"s3:prefix":"a"}}`, nil, false},
		{`{"StringEquals":{"s3:prefix":"a"}}`, prefix("a", "b"), false},
		{`{"StringEquals":{"s3:prefix":"${aws:x}"}}`, context{"s3:prefix": {"v"}, "aws:x": {"v"}}, true},
		{`{"StringEquals":{"s3:prefix":"${aws:x}"}}`, prefix("v"), false},
		{`{"StringNotEquals":{"s3:prefix":"${aws:x}"}}`, prefix("v"), true},
		{`{"StringEqualsIgnoreCase":{"s3:prefix":"a"}}`, prefix("A"), true},
		{`{"StringNotEquals":{"s3:prefix":"a"}}`, prefix("b"), true},
		{`{"StringNotEquals":{"s3:prefix":["a","b"]}}`, prefix("b"), false},
		{`{"StringNotEquals":{"s3:prefix":"a"}}`, nil, true},
		{`{"StringLike":{"s3:prefix":"a/*"}}`, prefix("a/b/c"), true},
		{`{"StringLike":{"s3:prefix":"a/*"}}`, prefix("a/"), true},
		{`{"StringLike":{"s3:prefix":"a/*"}}`, prefix("a"), false},
		{`{"StringLike":{"s3:prefix":"a/*"}}`, prefix("a2/"), false},
		{`{"StringLike":{"s3:prefix":"*"}}`, nil, false},
		{`{"StringLike":{"s3:prefix":"${aws:x}/*"}}`, context{"s3:prefix": {"a/b"}, "aws:x": {"*"}}, false}, // a value is no wildcard
		{`{"StringLikeIfExists":{"s3:prefix":"a/*"}}`, nil, true},
		{`{"StringLikeIfExists":{"s3:prefix":"a/*"}}`, prefix("b"), false},
		{`{"StringNotLike":{"s3:prefix":"a/*"}}`, prefix("b"), true},
		{`{"StringNotLike":{"s3:prefix":"a/*"}}`, prefix("a/b"), false},
		{`{"ForAnyValue:StringEquals":{"s3:prefix":"a"}}`, prefix("b", "a"), true},
		{`{"ForAnyValue:StringEquals":{"s3:prefix":"a"}}`, prefix("b", "c"), false},
		{`{"ForAnyValue:StringEquals":{"s3:prefix":"a"}}`, nil, false},
		{`{"ForAllValues:StringEquals":{"s3:prefix":["a","b"]}}`, prefix("b", "a"), true},
		{`{"ForAllValues:StringEquals":{"s3:prefix":["a","b"]}}`, prefix("b", "c"), false},
		{`{"ForAllValues:StringEquals":{"s3:prefix":"a"}}`, nil, true},
		{`{"Null":{"s3:prefix":"true"}}`, nil, true},
		{`{"Null":{"s3:prefix":"true"}}`, prefix("a"), false},
		{`{"Null":{"s3:prefix":"false"}}`, prefix("a"), true},
		{`{"Null":{"s3:prefix":false}}`, nil, false},
		{`{"Bool":{"x":"true"}}`, context{"x": {"true"}}, true},
		{`{"Bool":{"x":true}}`, context{"x": {"false"}}, false},
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, context{"aws:SourceIp": {"192.0.2.9"}}, true},
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.1"}}`, context{"aws:SourceIp": {"192.0.2.9"}}, false},
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, context{"aws:SourceIp": {"x"}}, false},
		{`{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, context{"aws:SourceIp": {"198.51.100.1"}}, true},
		{`{"NumericLessThan":{"x":10}}`, context{"x": {"9"}}, true},
		{`{"NumericLessThan":{"x":"10"}}`, context{"x": {"10"}}, false},
		{`{"NumericLessThanEquals":{"x":"10"}}`, context{"x": {"10"}}, true},
		{`{"NumericGreaterThan":{"x":"10"}}`, context{"x": {"11"}}, true},
		{`{"NumericGreaterThanEquals":{"x":"10"}}`, context{"x": {"9"}}, false},
		{`{"NumericEquals":{"x":"10"}}`, context{"x": {"ten"}}, false},
		{`{"NumericNotEquals":{"x":"10"}}`, context{"x": {"11"}}, true},
		{`{"DateLessThan":{"aws:TokenIssueTime":"2026-01-01T00:00:00Z"}}`, context{"aws:TokenIssueTime": {"2025-12-31T23:59:59Z"}}, true},
		{`{"DateGreaterThan":{"aws:TokenIssueTime":"2026-01-01T00:00:00Z"}}`, context{"aws:TokenIssueTime": {"2025-12-31T23:59:59Z"}}, false},
		{`{"ArnLike":{"a":"arn:aws:sts::*:assumed-role/r/*"}}`, context{"a": {"arn:aws:sts::1:assumed-role/r/s"}}, true},
		{`{"ArnLike":{"a":"arn:aws:*:assumed-role/r/*"}}`, context{"a": {"arn:aws:sts::1:assumed-role/r/s"}}, false}, // not across colons
		{`{"ArnNotLike":{"a":"arn:aws:sts::1:assumed-role/r/*"}}`, context{"a": {"arn:aws:sts::1:assumed-role/r/s"}}, false},
		{`{"StringEquals":{"a":"1","b":"2"}}`, context{"a": {"1"}}, false}, // all keys
		{`{"StringEquals":{"a":"1"},"StringLike":{"b":"2"}}`, context{"a": {"1"}, "b": {"3"}}, false},
	} {
		d := parse(t, statement(`"Action":"s3:ListBucket","Resource":"arn:aws:s3:::b","Condition":`+tc.condition))
		req := iam.Request{Action: "s3:ListBucket", Resource: "arn:aws:s3:::b", Context: tc.context}
		if got := iam.Decide(req, d).Allowed(); got != tc.want {
			t.Errorf("%s with %v: %t", tc.condition, tc.context, got)
		}
	}
}

func TestADenyOutweighsEveryAllow(t *testing.T) {
	allow := parse(t, statement(`"Action":"s3:*","Resource":"*"`))
	deny := parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/x"}]}`)
	for want, docs := range map[iam.Decision][]iam.Document{
		iam.ImplicitDeny: nil, iam.Allow: {allow}, iam.ExplicitDeny: {deny, allow},
	} {
		if got := iam.Decide(get("x"), docs...); got != want {
			t.Errorf("%d documents: %d", len(docs), got)
		}
	}
	if got := iam.Decide(get("y"), deny, allow); got != iam.Allow {
		t.Errorf("a deny of another key: %d", got)
	}
	if got := iam.Decide(get("y"), iam.Document{}); got != iam.ImplicitDeny {
		t.Errorf("the zero document: %d", got)
	}
}

func TestPrincipalsAreExact(t *testing.T) {
	trust := parse(t, statement(`"Principal":{"Federated":["arn:p1","arn:p2"]},"Action":"sts:AssumeRoleWithWebIdentity"`))
	for principal, want := range map[string]bool{"arn:p2": true, "arn:p": false, "": false, "*": false} {
		req := iam.Request{Action: "sts:AssumeRoleWithWebIdentity", Principal: principal}
		if got := iam.Decide(req, trust).Allowed(); got != want {
			t.Errorf("%q: %t", principal, got)
		}
	}
	anybody := parse(t, statement(`"Principal":"*","Action":"sts:AssumeRoleWithWebIdentity"`))
	if !iam.Decide(iam.Request{Action: "sts:AssumeRoleWithWebIdentity"}, anybody).Allowed() || !anybody.HasPrincipal() || anybody.HasResource() {
		t.Error("anybody is nobody")
	}
	if none := parse(t, statement(`"Action":"s3:*","Resource":"*"`)); none.HasPrincipal() || !none.HasResource() {
		t.Error("a policy without a principal has one")
	}
}

func TestWhatIsNotUnderstoodIsMalformed(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":              ``,
		"not JSON":             `{`,
		"not an object":        `[]`,
		"something after":      statement(`"Action":"s3:*","Resource":"*"`) + `x`,
		"no statement":         `{"Version":"2012-10-17"}`,
		"statements of none":   `{"Version":"2012-10-17","Statement":[]}`,
		"a statement of text":  `{"Version":"2012-10-17","Statement":["x"]}`,
		"another version":      `{"Version":"2026-01-01","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`,
		"an id of no text":     `{"Id":1,"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`,
		"a member unknown":     `{"Versjon":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`,
		"a member twice":       `{"Statement":[],"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`,
		"a sid of no text":     statement(`"Sid":1,"Action":"s3:*","Resource":"*"`),
		"an unknown member":    statement(`"Acton":"s3:*","Action":"s3:*","Resource":"*"`),
		"no effect":            `{"Statement":{"Action":"s3:*","Resource":"*"}}`,
		"another effect":       `{"Statement":{"Effect":"allow","Action":"s3:*","Resource":"*"}}`,
		"no action":            statement(`"Resource":"*"`),
		"both actions":         statement(`"Action":"s3:*","NotAction":"s3:*","Resource":"*"`),
		"both resources":       statement(`"Action":"s3:*","Resource":"*","NotResource":"arn:aws:s3:::b"`),
		"an action of no name": statement(`"Action":"s3","Resource":"*"`),
		"a service wildcard":   statement(`"Action":"s*:Get","Resource":"*"`),
		"actions of none":      statement(`"Action":[],"Resource":"*"`),
		"an action of no text": statement(`"Action":[1],"Resource":"*"`),
		"no ARN":               statement(`"Action":"s3:*","Resource":"b/*"`),
		"a variable cut off":   statement(`"Action":"s3:*","Resource":"arn:aws:s3:::b/${x"`),
		"principal of a kind":  statement(`"Principal":{"Service":"x"},"Action":"s3:*"`),
		"principal of text":    statement(`"Principal":"x","Action":"s3:*"`),
		"an operator unknown":  statement(`"Action":"s3:*","Resource":"*","Condition":{"StringAlike":{"a":"b"}}`),
		"a set unknown":        statement(`"Action":"s3:*","Resource":"*","Condition":{"ForSome:StringLike":{"a":"b"}}`),
		"Null of text":         statement(`"Action":"s3:*","Resource":"*","Condition":{"Null":{"a":"maybe"}}`),
		"no keys":              statement(`"Action":"s3:*","Resource":"*","Condition":{"StringLike":{}}`),
		"no values":            statement(`"Action":"s3:*","Resource":"*","Condition":{"StringLike":{"a":[]}}`),
		"a value of an object": statement(`"Action":"s3:*","Resource":"*","Condition":{"StringLike":{"a":{}}}`),
		"a condition of text":  statement(`"Action":"s3:*","Resource":"*","Condition":"x"`),
	} {
		if d, err := iam.Parse([]byte(text)); !errors.Is(err, iam.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}

// A tag's value stands for itself, whatever is in it: it matches its own key,
// and none that differs from it.
func TestAValueIsNeverAWildcard(t *testing.T) {
	d := parse(t, statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"`))
	rapid.Check(t, func(rt *rapid.T) {
		tag := rapid.StringMatching(`[ab*?${}/]{1,5}`).Draw(rt, "tag")
		other := rapid.StringMatching(`[ab*?${}]{1,5}`).Draw(rt, "other")
		req := get(other + "/x")
		req.Context = map[string][]string{"aws:PrincipalTag/tenant": {tag}}
		if got, want := iam.Decide(req, d).Allowed(), strings.HasPrefix(other+"/x", tag+"/"); got != want {
			rt.Fatalf("tag %q, key %q: %t", tag, other, got)
		}
	})
}

// Whatever the document: it is read the same twice, and no deny added to it
// allows more.
func FuzzParse(f *testing.F) {
	f.Add(statement(`"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/tenant}/*"`))
	f.Add(statement(`"Action":"*","Resource":"*","Condition":{"StringLike":{"s3:prefix":"${aws:x, 'y'}"}}`))
	f.Fuzz(func(t *testing.T, text string) {
		d, err := iam.Parse([]byte(text))
		if err != nil {
			return
		}
		again, err := iam.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		everything := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
		for _, key := range []string{"acme/x", "x", ""} {
			if iam.Decide(get(key), d) != iam.Decide(get(key), again) {
				t.Fatal("another decision the second time")
			}
			if iam.Decide(get(key), d, everything).Allowed() {
				t.Fatal("allowed in spite of a deny")
			}
		}
	})
}
