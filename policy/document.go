package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
type Document struct{ text string }

// String returns the JSON, and "" for the zero value.
func (d Document) String() string { return d.text }

// IsZero reports whether d is the zero value, which must not be sent.
func (d Document) IsZero() bool { return d.text == "" }

// Digest returns the SHA-256 of the JSON in hexadecimal.
func (d Document) Digest() string {
	sum := sha256.Sum256([]byte(d.text))
	return hex.EncodeToString(sum[:])
}

type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect    string
	Action    []string
	Resource  string
	Condition *condition `json:",omitempty"`
}

type condition struct {
	StringLike map[string]string
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
			Effect: "Allow", Action: actions, Resource: bucket + "/" + pattern,
		})
	}
	if s.Access.Has(List) {
		// StringLike without IfExists: a listing without a prefix has no such
		// key, the condition is false, and the listing is refused.
		doc.Statement = append(doc.Statement, statement{
			Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: bucket,
			Condition: &condition{StringLike: map[string]string{"s3:prefix": pattern}},
		})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return Document{}, fmt.Errorf("write policy: %w", err)
	}
	if len(text) > MaxDocumentBytes {
		return Document{}, fmt.Errorf("%w policy: %d bytes, at most %d", ErrInvalid, len(text), MaxDocumentBytes)
	}
	return Document{text: string(text)}, nil
}
