package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
)

// MaxDocumentBytes is the longest inline session policy that STS takes.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
const MaxDocumentBytes = 2048

// languageVersion is the version of the policy language. Without it IAM reads
// the document under the rules of 2008.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html
const languageVersion = "2012-10-17"

// Document is an IAM session policy: minified ASCII JSON of at most
// MaxDocumentBytes. Generate is its only maker. The zero value is no policy and
// must never be sent: STS reads an absent policy as the whole role.
type Document struct {
	text   string
	digest string // of text; made with it, since it is asked for more than once a request
	of     Folder // of a folded one, which has no text
}

// String returns the JSON, and "" for the zero value.
func (d Document) String() string {
	if d.of == nil {
		return d.text
	}
	again, err := Generate(d.of.S3Scope())
	if err != nil || again.digest != d.digest { // the scope was changed: no policy, which is never sent
		return ""
	}
	return again.text
}

// Folder has the scope of a folded document: the one that the document was generated
// for. It is not changed.
type Folder interface{ S3Scope() Scope }

// Fold returns the document with this digest without its text, which is much of what
// would be remembered of a caller: String writes it anew, the same bytes, as Generate
// does for one scope, and nothing where the digest is another's.
func Fold(of Folder, digest string) Document { return Document{digest: digest, of: of} }

// IsZero reports whether d is the zero value, which must not be sent.
func (d Document) IsZero() bool { return d.digest == "" }

// Digest returns the SHA-256 of the JSON in hexadecimal, and "" for the zero value.
func (d Document) Digest() string { return d.digest }

type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Action    []string
	Resource  string
	Condition *condition `json:",omitempty"`
}

// condition holds operators → keys → values. All of it must hold.
type condition struct {
	StringEquals map[string]values `json:",omitempty"`
	StringLike   map[string]values `json:",omitempty"`
	IPAddress    map[string]values `json:"IpAddress,omitempty"`
}

// values are alternatives. One alone is written without a list: it is shorter.
type values []string

// MarshalJSON implements json.Marshaler.
func (v values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

// Generate writes the document that opens exactly the scope. It fails on a
// scope that is not valid and on one whose document would be too long; the error
// then names the length.
func Generate(s Scope) (Document, error) {
	if err := s.Validate(); err != nil {
		return Document{}, err
	}
	bucket := "arn:" + string(s.Partition) + ":s3:::" + s.Bucket.String()
	pattern := s.Key()
	if !s.Path.IsObject() {
		pattern += "*" // the key ends in "/", so this is "below the folder"
	}
	doc := document{Version: languageVersion}
	if actions := s.Access.objectActions(); len(actions) > 0 {
		doc.Statement = append(doc.Statement, statement{
			Effect: "Allow", Action: actions, Resource: bucket + "/" + pattern, Condition: s.fromSource(),
		})
	}
	if s.Access.Has(List) {
		listing := statement{Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: bucket, Condition: s.fromSource()}
		if listing.Condition == nil {
			listing.Condition = &condition{}
		}
		// StringLike without IfExists: a listing without a prefix has no such
		// key, the condition is false, and the listing is refused.
		listing.Condition.StringLike = map[string]values{"s3:prefix": {pattern}}
		doc.Statement = append(doc.Statement, listing)
	}
	if actions := s.Access.kmsActions(); len(actions) > 0 && !s.KMSKey.IsZero() {
		doc.Statement = append(doc.Statement, useOfKey(s.KMSKey, actions, bucket, bucket+"/"+pattern))
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return Document{}, fmt.Errorf("write policy: %w", err)
	}
	if len(text) > MaxDocumentBytes {
		return Document{}, fmt.Errorf("%w policy: %d bytes, at most %d", ErrInvalid, len(text), MaxDocumentBytes)
	}
	sum := sha256.Sum256(text)
	return Document{text: string(text), digest: hex.EncodeToString(sum[:])}, nil
}

// fromSource is the condition that binds requests to the scope's address, or nil
// where there is none. A request that reaches S3 through a VPC endpoint has no
// aws:SourceIp, and is refused.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-sourceip
func (s Scope) fromSource() *condition {
	if !s.SourceIP.IsValid() {
		return nil
	}
	return &condition{IPAddress: map[string]values{"aws:SourceIp": {netip.PrefixFrom(s.SourceIP, s.SourceIP.BitLen()).String()}}}
}

// useOfKey lets S3, and nobody else, use the key for the objects. The
// encryption context is the object's ARN, and the bucket's where S3 Bucket Keys
// are on; which of the two is the bucket's matter, and it is S3 that has let the
// request through to an object of the scope before it asks KMS. The address is
// not asked for again: behind S3 it is not the caller's.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html
func useOfKey(key KMSKey, actions []string, bucket, objects string) statement {
	return statement{
		Effect: "Allow", Action: actions, Resource: key.String(),
		Condition: &condition{
			StringEquals: map[string]values{"kms:ViaService": key.viaS3()},
			StringLike:   map[string]values{"kms:EncryptionContext:aws:s3:arn": {bucket, objects}},
		},
	}
}
