package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Confined proves, from its text alone, that a session policy lets nobody reach
// an object or a listing outside the scope. It returns nil for a document that is
// proved, and otherwise the first thing that is in the way of the proof.
//
// It is a closed world: what it does not know, it refuses. Every Allow must name
// actions of a closed list, exactly; every object pattern must begin, before its
// first wildcard, with the scope's bucket and key; every listing must be
// conditioned on a prefix that begins with the scope's key. A pattern whose
// literal head is shorter than that key admits a key outside for some request,
// and one whose head is as long admits none: the test is sound and complete for
// all keys, where sampling finds only what it thinks of.
//
// It shares no code with what writes documents.
func Confined(document string, scope Scope) error {
	if err := scope.Validate(); err != nil {
		return fmt.Errorf("not confined: %w", err)
	}
	judge := judge{
		bucket:  "arn:" + string(scope.Partition) + ":s3:::" + scope.Bucket.String(),
		key:     scope.Prefix.String() + scope.Path.String(),
		access:  scope.Access,
		oneOnly: scope.Path.IsObject(),
		kms:     scope.KMSKey,
		source:  scope.SourceIP,
	}
	if err := judge.document(document); err != nil {
		return fmt.Errorf("not confined: %w", err)
	}
	return nil
}

// judge holds what a scope comes down to in the words of a policy.
type judge struct {
	bucket  string // ARN
	key     string // what every key must begin with, or be
	access  Access
	oneOnly bool // the key is one object, not a folder
	kms     KMSKey
	source  netip.Addr
}

// mayDo is the closed list of actions on objects. A right that is not in the
// scope's access is not granted by it.
func (j judge) mayDo(action string) bool {
	switch action {
	case "s3:GetObject":
		return j.access.Has(Read)
	case "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts":
		return j.access.Has(Write)
	case "s3:DeleteObject":
		return j.access.Has(Delete)
	default:
		return false
	}
}

func (j judge) document(text string) error {
	if len(text) > 2048 { // the limit of STS for an inline session policy
		return fmt.Errorf("%d bytes, more than STS takes", len(text))
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return fmt.Errorf("byte %d is not printable ASCII", i)
		}
	}
	root, err := parseStrict(text)
	if err != nil {
		return err
	}
	doc, ok := root.(map[string]any)
	if !ok || len(doc) != 2 {
		return fmt.Errorf("not an object of Version and Statement")
	}
	// Without this version, variables are text and the rules are those of 2008.
	if doc["Version"] != "2012-10-17" {
		return fmt.Errorf("version %v", doc["Version"])
	}
	statements, ok := doc["Statement"].([]any)
	if !ok || len(statements) == 0 {
		return fmt.Errorf("no statements")
	}
	for i, s := range statements {
		if err := j.statement(s); err != nil {
			return fmt.Errorf("statement %d: %w", i, err)
		}
	}
	return nil
}

func (j judge) statement(s any) error {
	members, ok := s.(map[string]any)
	if !ok {
		return fmt.Errorf("not an object")
	}
	for name := range members {
		if !slices.Contains([]string{"Sid", "Effect", "Action", "Resource", "Condition"}, name) {
			return fmt.Errorf("unknown member %q", name) // NotAction, NotResource, Principal among them
		}
	}
	if members["Effect"] != "Allow" {
		return fmt.Errorf("effect %v", members["Effect"])
	}
	actions, err := texts(members["Action"])
	if err != nil {
		return fmt.Errorf("action: %w", err)
	}
	resources, err := texts(members["Resource"])
	if err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	conditions, err := operators(members)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(actions, func(a string) bool { return strings.HasPrefix(a, "kms:") }) {
		return j.encryption(actions, resources, conditions)
	}
	if err := j.fromSource(conditions); err != nil {
		return err
	}
	delete(conditions, "IpAddress") // seen
	if slices.Equal(actions, []string{"s3:ListBucket"}) {
		return j.listing(resources, conditions)
	}
	if len(conditions) > 0 {
		return fmt.Errorf("a condition on objects")
	}
	return j.objects(actions, resources)
}

// fromSource wants the binding to the scope's address where it has one, exactly,
// and none where it has none.
func (j judge) fromSource(conditions map[string]map[string][]string) error {
	keys, bound := conditions["IpAddress"]
	if !j.source.IsValid() {
		if bound {
			return fmt.Errorf("bound to an address, and the scope is not")
		}
		return nil
	}
	blocks := keys["aws:SourceIp"]
	if len(keys) != 1 || len(blocks) != 1 {
		return fmt.Errorf("not bound to one address")
	}
	block, err := netip.ParsePrefix(blocks[0])
	if err != nil || !block.IsSingleIP() || block.Addr() != j.source {
		return fmt.Errorf("bound to %q, not to the scope's address", blocks[0])
	}
	return nil
}

func (j judge) objects(actions, resources []string) error {
	for _, a := range actions {
		if !j.mayDo(a) {
			return fmt.Errorf("action %q", a)
		}
	}
	for _, r := range resources {
		key, ok := strings.CutPrefix(r, j.bucket+"/")
		if !ok {
			return fmt.Errorf("resource %q is not in the bucket", r)
		}
		if err := j.within(key); err != nil {
			return fmt.Errorf("resource: %w", err)
		}
	}
	return nil
}

func (j judge) listing(resources []string, conditions map[string]map[string][]string) error {
	if !j.access.Has(List) { // which no scope of one object has
		return fmt.Errorf("a listing, which the scope does not give")
	}
	for _, r := range resources {
		if r != j.bucket {
			return fmt.Errorf("listing of %q", r)
		}
	}
	if len(conditions) != 1 {
		return fmt.Errorf("a listing needs one condition operator")
	}
	for operator, keys := range conditions {
		// Not ...IfExists and not ForAllValues: both hold where there is no prefix.
		if operator != "StringLike" && operator != "StringEquals" {
			return fmt.Errorf("condition operator %q", operator)
		}
		if len(keys) != 1 || len(keys["s3:prefix"]) == 0 {
			return fmt.Errorf("a listing needs one condition key")
		}
		for _, p := range keys["s3:prefix"] {
			if err := j.within(p); err != nil {
				return fmt.Errorf("s3:prefix: %w", err)
			}
		}
	}
	return nil
}

// encryption lets the scope's key be used through S3 only, and for the scope's
// objects or the bucket's own key only.
func (j judge) encryption(actions, resources []string, conditions map[string]map[string][]string) error {
	if j.kms.IsZero() {
		return fmt.Errorf("the use of a key, and the scope has none")
	}
	for _, a := range actions {
		writes := a == "kms:GenerateDataKey" && j.access.Has(Write)
		reads := a == "kms:Decrypt" && (j.access.Has(Read) || j.access.Has(Write))
		if !writes && !reads {
			return fmt.Errorf("action %q", a)
		}
	}
	for _, r := range resources {
		if r != j.kms.arn {
			return fmt.Errorf("key %q", r)
		}
	}
	service, object := conditions["StringEquals"], conditions["StringLike"]
	if len(conditions) != 2 || len(service) != 1 || len(object) != 1 {
		return fmt.Errorf("the use of a key needs exactly the conditions on the service and on the object")
	}
	services, arns := service["kms:ViaService"], object["kms:EncryptionContext:aws:s3:arn"]
	if len(services) == 0 || len(arns) == 0 {
		return fmt.Errorf("the use of a key needs the service and the object")
	}
	for _, v := range services {
		if domain, ok := strings.CutPrefix(v, "s3."+j.kms.region+".amazonaws.com"); !ok || domain != "" && (domain != ".cn" || j.kms.partition != "aws-cn") {
			return fmt.Errorf("the use of a key through %q", v)
		}
	}
	for _, v := range arns {
		if v == j.bucket {
			continue // S3 Bucket Keys
		}
		key, ok := strings.CutPrefix(v, j.bucket+"/")
		if !ok {
			return fmt.Errorf("the use of a key for %q", v)
		}
		if err := j.within(key); err != nil {
			return fmt.Errorf("the use of a key: %w", err)
		}
	}
	return nil
}

// within reports whether every key that the pattern matches begins with the
// scope's key, or is it where the scope is one object.
func (j judge) within(pattern string) error {
	if strings.Contains(pattern, "$") {
		return fmt.Errorf("%q has a policy variable or an escape", pattern)
	}
	if j.oneOnly {
		if pattern != j.key {
			return fmt.Errorf("%q is not the scope's object", pattern)
		}
		return nil
	}
	// The key has no wildcard: a pattern that begins with it has its own behind it.
	if !strings.HasPrefix(pattern, j.key) {
		return fmt.Errorf("%q reaches beyond %q", pattern, j.key)
	}
	return nil
}
