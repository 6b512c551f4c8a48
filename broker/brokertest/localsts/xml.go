package localsts

import "encoding/xml"

type errorResponse struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	XMLNS     string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

type callerResponse struct {
	XMLName   xml.Name `xml:"GetCallerIdentityResponse"`
	XMLNS     string   `xml:"xmlns,attr"`
	Arn       string   `xml:"GetCallerIdentityResult>Arn"`
	UserID    string   `xml:"GetCallerIdentityResult>UserId"`
	Account   string   `xml:"GetCallerIdentityResult>Account"`
	RequestID string   `xml:"ResponseMetadata>RequestId"`
}

type assumeResponse struct {
	XMLName          xml.Name `xml:"AssumeRoleWithWebIdentityResponse"`
	XMLNS            string   `xml:"xmlns,attr"`
	Subject          string   `xml:"AssumeRoleWithWebIdentityResult>SubjectFromWebIdentityToken"`
	Audience         string   `xml:"AssumeRoleWithWebIdentityResult>Audience"`
	AssumedRoleARN   string   `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>Arn"`
	AssumedRoleID    string   `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>AssumedRoleId"`
	AccessKeyID      string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
	SecretAccessKey  string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
	SessionToken     string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
	Expiration       string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>Expiration"`
	Provider         string   `xml:"AssumeRoleWithWebIdentityResult>Provider"`
	SourceIdentity   string   `xml:"AssumeRoleWithWebIdentityResult>SourceIdentity,omitempty"`
	PackedPolicySize int      `xml:"AssumeRoleWithWebIdentityResult>PackedPolicySize"`
	RequestID        string   `xml:"ResponseMetadata>RequestId"`
}
