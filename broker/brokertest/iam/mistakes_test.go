package iam_test

import (
	"encoding/json"
	"strings"
)

// raw writes the scope's document as the generators do that let tenants out:
// with a claim in the tenant's place that nobody has read. The text of what comes
// of it may be no policy at all. A variable without an end is left out: it matches
// nothing by our evaluator, and is text to the simulator.
func (s sampler) raw(d sample) string {
	claim := pick(s, names(d.tenant)...)
	if s.r.IntN(3) > 0 {
		claim = pick(s, "*", "?", "**", "a*", "acm?", "globe?", "*e*", "*/../*", "org_*", "a${*}", "${aws:PrincipalTag/tenant}*",
			"${aws:username, '*'}", "${aws:PrincipalTag/none, 'globex'}", `globex/*","arn:aws:s3:::uploads/*`, `a","Effect":"Allow`)
	}
	switch s.r.IntN(4) {
	case 0: // concatenation
	case 1: // escaping in three steps
		claim = strings.ReplaceAll(strings.ReplaceAll(claim, "*", "${*}"), "?", "${?}")
		claim = quoted(strings.ReplaceAll(claim, "$", "${$}"))
	default: // the raw value
		claim = quoted(claim)
	}
	text := strings.ReplaceAll(d.doc, d.tenant, claim)
	if s.r.IntN(4) == 0 { // a missing slash
		text = strings.ReplaceAll(text, `/*"`, `*"`)
	}
	return text
}

// quoted is a text as it stands between the quotes of JSON.
func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(text[1 : len(text)-1])
}

// mistaken writes the scope's document with one mistake in it. A block of IPv4
// with the length 0 is left out: iam-simulate 0.1.173 reads it as one address.
func (s sampler) mistaken(d sample) string {
	prefix := `{"s3:prefix":"` + d.scope.Key() + `*"}`
	mistakes := [][2]string{
		{`"Allow"`, `"Deny"`}, {`"Action"`, `"NotAction"`}, {`"Resource"`, `"NotResource"`}, {`/*"`, `*"`}, {`/*"`, `"`}, {`/*"`, `/?*x*"`},
		{`"s3:GetObject"`, `"s3:Get*"`}, {`"s3:GetObject"`, `"s3:getobject"`}, {`"s3:GetObject"`, `"s3:*"`}, {`"s3:PutObject"`, `"*"`},
		{`"s3:DeleteObject"`, `"s3:DeleteObjec?"`}, {`"s3:ListBucket"`, `"s3:List*"`}, {`"kms:Decrypt"`, `"kms:*"`},
		{`"StringLike"`, `"StringLikeIfExists"`}, {`"StringLike"`, `"ForAllValues:StringLike"`}, {`"StringLike"`, `"ForAnyValue:StringLike"`},
		{`"StringLike"`, `"StringNotLike"`}, {`"StringLike"`, `"StringEquals"`}, {`"StringLike"`, `"StringNotEquals"`}, {`"StringLike"`, `"StringEqualsIgnoreCase"`},
		{`"StringLike"`, `"ArnLike"`}, {`"StringEquals"`, `"StringEqualsIfExists"`}, {`"StringEquals"`, `"StringNotEqualsIgnoreCase"`},
		{`"StringLike":` + prefix, `"Null":{"s3:prefix":"true"}`}, {`"StringLike":` + prefix, `"Null":{"s3:prefix":"false"}`},
		{prefix, `{"s3:prefix":["","` + d.scope.Key() + `"]}`}, {`"s3:prefix"`, `"S3:Prefix"`}, {`"s3:prefix"`, `"s3:delimiter"`},
		{`/32"`, `/24"`}, {`/32"`, `"`}, {`/128"`, `/64"`}, {`/32"`, `/1"`}, {`"IpAddress"`, `"NotIpAddress"`}, {`"IpAddress"`, `"IpAddressIfExists"`},
		{`"IpAddress"`, `"NotIpAddressIfExists"`}, {keyARN, `*`}, {keyARN, keyARN + `*`}, {`:key/`, `:alias/`}, {`:s3:::`, `:s3:::*`}, {`arn:aws:s3`, `arn:aws*:s3`},
		{d.tenant + `/`, `*/`}, {d.tenant + `/`, d.tenant[:len(d.tenant)-1] + `?/`}, {d.tenant + `/`, `${aws:PrincipalTag/tenant}/`}, {d.tenant + `/`, `${aws:PrincipalTag/Tenant}/`},
		{d.tenant + `/`, `${aws:PrincipalTag/none}/`}, {d.tenant + `/`, `${aws:PrincipalTag/none, '` + d.tenant + `'}/`}, {d.tenant + `/`, `${aws:PrincipalTag/none, '*'}/`},
		{`/*"`, `/${*}"`}, {`/*"`, `/${?}"`}, {`/*"`, `/${$}{*}"`}, {`/*"`, `/${aws:username}"`},
		{`]}`, `,{"Effect":"Deny","Action":"s3:PutObject","Resource":"*"}]}`},
		{`]}`, `,{"Effect":"Deny","NotAction":"s3:GetObject","NotResource":"arn:aws:s3:::` + d.scope.Bucket.String() + `/` + d.scope.Key() + `*"}]}`},
		{`]}`, `,{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8::/32"]}}}]}`},
		{`]}`, `,{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalTag/tenant":"` + d.tenant + `"}}}]}`},
	}
	for {
		mistake := pick(s, mistakes...)
		count := strings.Count(d.doc, mistake[0])
		if count == 0 {
			continue
		}
		if mistake[0] == `]}` { // the end of the document, not that of a condition
			return strings.TrimSuffix(d.doc, mistake[0]) + mistake[1]
		}
		return strings.Replace(d.doc, mistake[0], mistake[1], pick(s, 1, -1))
	}
}
