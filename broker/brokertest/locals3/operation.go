package locals3

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// check is one permission that a request needs.
type check struct {
	action   string
	resource string
	context  map[string]string
}

// operation is what a request amounts to.
type operation struct {
	checks []check
	// serve answers in the store's place, with the body; nil leaves it to the store.
	serve func(w http.ResponseWriter, body []byte) error
}

func (o operation) actions() []string {
	names := make([]string, len(o.checks))
	for i, c := range o.checks {
		names[i] = c.action
	}
	return names
}

// checkURL refuses what readers of a URL understand in different ways.
func checkURL(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	for name, values := range query {
		if len(values) != 1 {
			return refuse(http.StatusBadRequest, "InvalidArgument", "the parameter %q is given %d times", name, len(values))
		}
	}
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		if segment == "." || segment == ".." {
			return refuse(http.StatusBadRequest, "InvalidURI", "a dot segment in the path")
		}
	}
	return nil
}

// shape is one kind of request: its method, the sub-resource that must be in the
// query, and the parameters that may be.
type shape struct {
	method      string
	subresource string // empty: none of them
	parameters  []string
	make        func(*Server, *request) (operation, error)
}

// operation finds the one shape of a request. A parameter that belongs to no
// shape, whatever its case, leaves none.
func (s *Server) operation(r *request) (operation, error) {
	shapes := objectShapes()
	switch {
	case r.bucket == "":
		shapes = []shape{{http.MethodGet, "", nil, listBuckets}}
	case r.key == "":
		shapes = bucketShapes()
	}
	query := r.URL.Query()
	for _, sh := range shapes {
		if sh.method != r.Method || sh.subresource != "" && !query.Has(sh.subresource) {
			continue
		}
		known := true
		for name := range query {
			known = known && (name == sh.subresource || name == "x-id" || presigning(name) || slices.Contains(sh.parameters, name))
		}
		if known {
			return sh.make(s, r)
		}
	}
	return operation{}, refuse(http.StatusNotImplemented, "NotImplemented", "A parameter or a method that you provided implies functionality that is not implemented.")
}

// presigning reports whether a parameter belongs to a presigned URL.
func presigning(name string) bool {
	return slices.Contains([]string{
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
		"X-Amz-Security-Token", "X-Amz-Content-Sha256",
	}, name)
}

// bucketShapes are the requests for a bucket. Those that only ask whether
// somebody may change it need an action that no tenant has.
func bucketShapes() []shape {
	listing := []string{"prefix", "delimiter", "max-keys", "encoding-type"}
	shapes := []shape{
		{http.MethodHead, "", nil, listBucket("s3:ListBucket")},
		{http.MethodGet, "", append([]string{"marker"}, listing...), listBucket("s3:ListBucket")},
		{http.MethodGet, "list-type", append([]string{"continuation-token", "start-after", "fetch-owner"}, listing...), listBucket("s3:ListBucket")},
		{http.MethodGet, "versions", append([]string{"key-marker", "version-id-marker"}, listing...), listBucket("s3:ListBucketVersions")},
		{http.MethodGet, "uploads", []string{"prefix", "delimiter", "key-marker", "upload-id-marker", "max-uploads", "encoding-type"}, listBucket("s3:ListBucketMultipartUploads")},
		{http.MethodGet, "location", nil, onBucket("s3:GetBucketLocation")},
		{http.MethodPost, "delete", nil, multiDelete},
		{http.MethodPut, "", nil, onBucket("s3:CreateBucket")},
		{http.MethodDelete, "", nil, onBucket("s3:DeleteBucket")},
	}
	for name, noun := range map[string]string{
		"policy": "BucketPolicy", "acl": "BucketAcl", "cors": "BucketCORS", "versioning": "BucketVersioning",
		"tagging": "BucketTagging", "lifecycle": "LifecycleConfiguration", "encryption": "EncryptionConfiguration",
	} {
		shapes = append(shapes, shape{http.MethodGet, name, nil, unserved("s3:Get" + noun)}, shape{http.MethodPut, name, nil, unserved("s3:Put" + noun)})
	}
	return shapes
}

func objectShapes() []shape {
	overrides := []string{
		"partNumber", "response-content-type", "response-content-disposition", "response-cache-control",
		"response-content-encoding", "response-content-language", "response-expires",
	}
	return []shape{
		{http.MethodGet, "", overrides, onObject("s3:GetObject")},
		{http.MethodHead, "", overrides, onObject("s3:GetObject")},
		{http.MethodGet, "versionId", overrides, unserved("s3:GetObjectVersion")},
		{http.MethodHead, "versionId", overrides, unserved("s3:GetObjectVersion")},
		{http.MethodGet, "uploadId", []string{"max-parts", "part-number-marker", "encoding-type"}, onUpload("s3:ListMultipartUploadParts")},
		{http.MethodPut, "", nil, putObject},
		{http.MethodPut, "uploadId", []string{"partNumber"}, uploadPart},
		{http.MethodPost, "uploads", nil, createUpload},
		{http.MethodPost, "uploadId", nil, onUpload("s3:PutObject")},
		{http.MethodDelete, "", nil, onObject("s3:DeleteObject")},
		{http.MethodDelete, "versionId", nil, unserved("s3:DeleteObjectVersion")},
		{http.MethodDelete, "uploadId", nil, onUpload("s3:AbortMultipartUpload")},
		{http.MethodGet, "tagging", nil, unserved("s3:GetObjectTagging")},
		{http.MethodPut, "tagging", nil, unserved("s3:PutObjectTagging")},
		{http.MethodDelete, "tagging", nil, unserved("s3:DeleteObjectTagging")},
		{http.MethodGet, "acl", nil, unserved("s3:GetObjectAcl")},
		{http.MethodPut, "acl", nil, unserved("s3:PutObjectAcl")},
		{http.MethodGet, "attributes", nil, unserved("s3:GetObjectAttributes")},
	}
}

const arn = "arn:aws:s3:::"

func (r *request) bucketARN() string { return arn + r.bucket }
func (r *request) objectARN() string { return arn + r.bucket + "/" + r.key }

// on returns the resource that a request is about.
func (r *request) on() string {
	if r.key == "" {
		return r.bucketARN()
	}
	return r.objectARN()
}

func listBuckets(*Server, *request) (operation, error) {
	return operation{checks: []check{{action: "s3:ListAllMyBuckets", resource: arn + "*"}}}, nil
}

// listBucket brings the condition keys of a listing: each only where the request
// has the parameter.
func listBucket(action string) func(*Server, *request) (operation, error) {
	return func(_ *Server, r *request) (operation, error) {
		query, context := r.URL.Query(), map[string]string{}
		for _, name := range []string{"prefix", "delimiter", "max-keys"} {
			if query.Has(name) {
				context["s3:"+name] = query.Get(name)
			}
		}
		return operation{checks: []check{{action, r.bucketARN(), context}}}, nil
	}
}

func onBucket(action string) func(*Server, *request) (operation, error) {
	return func(_ *Server, r *request) (operation, error) {
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			return unserved(action)(nil, r) // the buckets are those of the configuration
		}
		return operation{checks: []check{{action: action, resource: r.bucketARN()}}}, nil
	}
}

func onObject(action string) func(*Server, *request) (operation, error) {
	return func(_ *Server, r *request) (operation, error) {
		return operation{checks: []check{{action: action, resource: r.objectARN()}}}, nil
	}
}

// onUpload wants an upload id: to the store an empty one is none, and the
// request another.
func onUpload(action string) func(*Server, *request) (operation, error) {
	return func(_ *Server, r *request) (operation, error) {
		if r.URL.Query().Get("uploadId") == "" {
			return operation{}, refuse(http.StatusBadRequest, "InvalidArgument", "empty uploadId")
		}
		return operation{checks: []check{{action: action, resource: r.objectARN()}}}, nil
	}
}

// unserved checks the permission and then says that there is nothing behind it.
func unserved(action string) func(*Server, *request) (operation, error) {
	return func(_ *Server, r *request) (operation, error) {
		return operation{checks: []check{{action: action, resource: r.on()}}, serve: func(http.ResponseWriter, []byte) error {
			return refuse(http.StatusNotImplemented, "NotImplemented", "%s is not served here", action)
		}}, nil
	}
}
