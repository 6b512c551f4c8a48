package locals3

import (
	"net/http"
	"slices"
	"strings"
)

// check is one permission that a request needs.
type check struct {
	action   string
	resource string
	context  map[string]string
	quiet    bool // asked for the answer's sake: no event tells of it
}

// operation is what a request amounts to.
type operation struct {
	checks []check
	// stores says that the body is an object or a part, and not a document.
	stores bool
	serve  func(w http.ResponseWriter, body []byte) error
}

// shape is one kind of request: its method, the sub-resource that must be in the
// query, the parameters that may be, and the headers.
type shape struct {
	method      string
	subresource string // empty: none of them
	parameters  []string
	headers     []string // x-amz-* and if-*; a * at the end stands for anything
	make        func(*Server, *request) (operation, error)
}

// commonHeaders say nothing about what is asked for.
func commonHeaders() []string {
	return []string{
		"x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "x-amz-decoded-content-length", "x-amz-trailer",
		"x-amz-user-agent", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-mode",
	}
}

func checksumHeaders(more ...string) []string {
	return append(more, "x-amz-checksum-crc32", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme", "x-amz-checksum-sha1", "x-amz-checksum-sha256")
}

func encryptionHeaders(more ...string) []string {
	return append(more, "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
		"x-amz-server-side-encryption-bucket-key-enabled", "x-amz-server-side-encryption-context")
}

// newObjectHeaders are those of a request that says what an object will be.
func newObjectHeaders(more ...string) []string {
	return encryptionHeaders(append(more, "x-amz-meta-*", "x-amz-acl", "x-amz-grant-*", "x-amz-tagging", "x-amz-checksum-algorithm", "x-amz-checksum-type")...)
}

// operation finds the one shape of a request. A parameter or a header that
// belongs to no shape, whatever its case, leaves none.
func (s *Server) operation(r *request) (operation, error) {
	shapes := objectShapes()
	switch {
	case r.bucket == "" && r.key == "":
		shapes = []shape{{method: http.MethodGet, make: listBuckets}}
	case r.bucket == "":
		return operation{}, refuse(http.StatusBadRequest, "InvalidURI", "an object without a bucket")
	case r.key == "":
		shapes = bucketShapes()
	}
	for _, sh := range shapes {
		if _, has := r.query[sh.subresource]; sh.method != r.Method || sh.subresource != "" && !has {
			continue
		}
		if sh.knowsParameters(r.query) {
			if err := sh.checkHeaders(r.header); err != nil {
				return operation{}, err
			}
			return sh.make(s, r)
		}
	}
	return operation{}, notImplemented(r.Method)
}

func (sh shape) knowsParameters(query map[string]string) bool {
	for name := range query {
		if name != sh.subresource && name != "x-id" && !slices.Contains(sh.parameters, name) {
			return false
		}
	}
	return true
}

func (sh shape) checkHeaders(h http.Header) error {
	known := func(name string) bool {
		return slices.ContainsFunc(append(commonHeaders(), sh.headers...), func(pattern string) bool {
			start, any := strings.CutSuffix(pattern, "*")
			return name == pattern || any && strings.HasPrefix(name, start)
		})
	}
	for name, values := range h {
		lower := strings.ToLower(name)
		conditional := strings.HasPrefix(lower, "if-")
		if !conditional && !strings.HasPrefix(lower, "x-amz-") {
			continue
		}
		if !known(lower) {
			return notImplemented(lower)
		}
		if len(values) != 1 {
			return invalid("the header %s is given %d times", lower, len(values))
		}
	}
	return nil
}

// bucketShapes are the requests for a bucket. Those that only ask whether
// somebody may change it need an action that no tenant has.
func bucketShapes() []shape {
	listing := []string{"prefix", "delimiter", "max-keys", "encoding-type"}
	shapes := []shape{
		{method: http.MethodHead, make: headBucket},
		{method: http.MethodGet, parameters: append([]string{"marker"}, listing...), make: listObjects},
		{method: http.MethodGet, subresource: "list-type", parameters: append([]string{"continuation-token", "start-after", "fetch-owner"}, listing...), make: listObjects},
		{method: http.MethodGet, subresource: "versions", parameters: append([]string{"key-marker", "version-id-marker"}, listing...), make: unserved("s3:ListBucketVersions")},
		{method: http.MethodGet, subresource: "uploads", parameters: []string{"prefix", "key-marker", "upload-id-marker", "max-uploads", "encoding-type"}, make: listUploads},
		{method: http.MethodGet, subresource: "location", make: location},
		{method: http.MethodPost, subresource: "delete", headers: checksumHeaders(), make: multiDelete},
		{method: http.MethodPut, make: unserved("s3:CreateBucket")}, // the buckets are those of the configuration
		{method: http.MethodDelete, make: unserved("s3:DeleteBucket")},
	}
	for name, noun := range map[string]string{
		"policy": "BucketPolicy", "acl": "BucketAcl", "cors": "BucketCORS", "versioning": "BucketVersioning",
		"tagging": "BucketTagging", "lifecycle": "LifecycleConfiguration", "encryption": "EncryptionConfiguration",
	} {
		shapes = append(shapes, shape{method: http.MethodGet, subresource: name, make: unserved("s3:Get" + noun)},
			shape{method: http.MethodPut, subresource: name, headers: checksumHeaders(), make: unserved("s3:Put" + noun)})
	}
	return shapes
}

func objectShapes() []shape {
	reading := []string{
		"partNumber", "response-content-type", "response-content-disposition", "response-cache-control",
		"response-content-encoding", "response-content-language", "response-expires",
	}
	conditions := []string{"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
	writing := append(newObjectHeaders(checksumHeaders("if-match", "if-none-match")...), "x-amz-copy-source", "x-amz-metadata-directive")
	part := checksumHeaders("x-amz-copy-source", "x-amz-copy-source-range", "x-amz-checksum-algorithm")
	completing := checksumHeaders("if-match", "if-none-match", "x-amz-mp-object-size", "x-amz-checksum-type")
	return []shape{
		{method: http.MethodGet, parameters: reading, headers: conditions, make: getObject},
		{method: http.MethodHead, parameters: reading, headers: conditions, make: getObject},
		{method: http.MethodGet, subresource: "versionId", parameters: reading, make: unserved("s3:GetObjectVersion")},
		{method: http.MethodHead, subresource: "versionId", parameters: reading, make: unserved("s3:GetObjectVersion")},
		{method: http.MethodGet, subresource: "uploadId", parameters: []string{"max-parts", "part-number-marker", "encoding-type"}, make: listParts},
		{method: http.MethodPut, headers: writing, make: putObject},
		{method: http.MethodPut, subresource: "uploadId", parameters: []string{"partNumber"}, headers: part, make: uploadPart},
		{method: http.MethodPost, subresource: "uploads", headers: newObjectHeaders(), make: createUpload},
		{method: http.MethodPost, subresource: "uploadId", headers: completing, make: completeUpload},
		{method: http.MethodDelete, make: deleteObject},
		{method: http.MethodDelete, subresource: "versionId", make: unserved("s3:DeleteObjectVersion")},
		{method: http.MethodDelete, subresource: "uploadId", make: abortUpload},
		{method: http.MethodGet, subresource: "tagging", make: unserved("s3:GetObjectTagging")},
		{method: http.MethodPut, subresource: "tagging", headers: checksumHeaders(), make: unserved("s3:PutObjectTagging")},
		{method: http.MethodDelete, subresource: "tagging", make: unserved("s3:DeleteObjectTagging")},
		{method: http.MethodGet, subresource: "acl", make: unserved("s3:GetObjectAcl")},
		{method: http.MethodPut, subresource: "acl", headers: newObjectHeaders(checksumHeaders()...), make: unserved("s3:PutObjectAcl")},
		{method: http.MethodGet, subresource: "attributes", headers: []string{"x-amz-object-attributes"}, make: unserved("s3:GetObjectAttributes")},
	}
}

const arn = "arn:aws:s3:::"

func (r *request) bucketARN() string { return arn + r.bucket }
func (r *request) objectARN() string { return arn + r.bucket + "/" + r.key }

// on returns the check of an action on what the request is about.
func (r *request) on(action string) check {
	if r.key == "" {
		return check{action: action, resource: r.bucketARN()}
	}
	return check{action: action, resource: r.objectARN()}
}

// newObjectChecks are what some headers of a write need on top.
func (s *Server) newObjectChecks(r *request) []check {
	checks := append([]check{r.on("s3:PutObject")}, s.useOfKey(r.bucket, r.key, "kms:GenerateDataKey")...)
	for name := range r.header {
		lower := strings.ToLower(name)
		if lower == "x-amz-acl" || strings.HasPrefix(lower, "x-amz-grant-") {
			checks = append(checks, r.on("s3:PutObjectAcl"))
		}
		if lower == "x-amz-tagging" {
			checks = append(checks, r.on("s3:PutObjectTagging"))
		}
	}
	return checks
}

// useOfKey are the checks on the key of an encrypted bucket, as S3 has KMS make
// them for the caller.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
func (s *Server) useOfKey(bucket, key string, actions ...string) []check {
	b := s.buckets[bucket]
	if b.KMSKey == "" {
		return nil
	}
	object := arn + bucket
	if !b.BucketKey {
		object += "/" + key
	}
	var checks []check
	for _, action := range actions {
		checks = append(checks, check{action: action, resource: b.KMSKey, context: map[string]string{
			"kms:ViaService": "s3." + s.cfg.Region + ".amazonaws.com", "kms:EncryptionContext:aws:s3:arn": object,
		}})
	}
	return checks
}

// unserved checks the permission and then says that there is nothing behind it.
func unserved(action string) func(*Server, *request) (operation, error) {
	return func(_ *Server, r *request) (operation, error) {
		c := r.on(action)
		c.context = r.listingContext()
		return operation{checks: []check{c}, serve: func(http.ResponseWriter, []byte) error { return notImplemented(action) }}, nil
	}
}
