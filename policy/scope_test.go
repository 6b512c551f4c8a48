package policy_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/policy"
)

func TestBucketsFollowS3sNamingRules(t *testing.T) {
	for _, s := range []string{"abc", "acme-uploads", "0-0", strings.Repeat("a", 63)} {
		if got, err := policy.ParseBucket(s); err != nil || got.String() != s || got.IsZero() {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "ab", strings.Repeat("a", 64), "Abc", "a_b", "a.b", "-ab", "ab-", "a b", "a/b", "a*b", "a$b", "äbc", "abc\n",
		"xn--abc", "sthree-abc", "amzn-s3-demo-abc", "abc-s3alias", "abc--ol-s3", "abc--x-s3", "abc--table-s3",
	} {
		if got, err := policy.ParseBucket(s); !errors.Is(err, policy.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q is taken: %v", s, err)
		}
	}
}

func TestAccessIsASetOfKnownRights(t *testing.T) {
	all, err := policy.ParseAccess([]string{"delete", "list", "write", "read"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"list", "read", "write", "delete"}, all.Names()); diff != "" {
		t.Error(diff)
	}
	if !all.Has(policy.Read|policy.List) || policy.Read.Has(policy.Read|policy.List) || all.String() != "list,read,write,delete" {
		t.Errorf("%s", all)
	}
	for _, names := range [][]string{nil, {}, {""}, {"admin"}, {"Read"}, {"read", "read"}, {"read", "*"}} {
		if got, err := policy.ParseAccess(names); !errors.Is(err, policy.ErrInvalid) || got != 0 {
			t.Errorf("%q is taken as %s: %v", names, got, err)
		}
	}
}

func TestAScopeThatIsNotWholeIsRefused(t *testing.T) {
	for name, change := range map[string]func(*policy.Scope){
		"no partition":      func(s *policy.Scope) { s.Partition = "" },
		"unknown partition": func(s *policy.Scope) { s.Partition = "aws-iso" },
		"no bucket":         func(s *policy.Scope) { s.Bucket = policy.Bucket{} },
		"no prefix":         func(s *policy.Scope) { s.Prefix = policy.Prefix{} },
		"no access":         func(s *policy.Scope) { s.Access = 0 },
		"unknown access":    func(s *policy.Scope) { s.Access = 1 << 5 },
		"a foreign key": func(s *policy.Scope) {
			s.KMSKey = key(t, "arn:aws-cn:kms:cn-north-1:123456789012:key/x")
		},
		"a zone":          func(s *policy.Scope) { s.SourceIP = netip.MustParseAddr("fe80::1%eth0") },
		"a mapped source": func(s *policy.Scope) { s.SourceIP = netip.MustParseAddr("::ffff:192.0.2.1") },
		"a listed object": func(s *policy.Scope) { s.Path = path(t, "a.txt") },
	} {
		t.Run(name, func(t *testing.T) {
			s := scope(t, "org_acme", nil)
			document, err := policy.Generate(s)
			if err != nil {
				t.Fatal(err)
			}
			change(&s)
			if err := s.Validate(); !errors.Is(err, policy.ErrInvalid) {
				t.Errorf("valid: %v", err)
			}
			if d, err := policy.Generate(s); err == nil || !d.IsZero() {
				t.Error("a document is made for it")
			}
			if err := policy.Confined(document.String(), s); err == nil {
				t.Error("a document is confined to it")
			}
		})
	}
}

// scope is the tenant's whole scope; change makes it another.
func scope(t testing.TB, name string, change func(*policy.Scope)) policy.Scope {
	t.Helper()
	bucket, err := policy.ParseBucket("acme-uploads")
	if err != nil {
		t.Fatal(err)
	}
	prefix, err := template(t, "tenants/{tenant}/").Render(tenant(t, name), policy.User{})
	if err != nil {
		t.Fatal(err)
	}
	s := policy.Scope{
		Partition: policy.AWS, Bucket: bucket, Prefix: prefix, Access: policy.List | policy.Read | policy.Write | policy.Delete,
	}
	if change != nil {
		change(&s)
	}
	return s
}

func path(t testing.TB, s string) policy.Path {
	t.Helper()
	p, err := policy.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRightsAreWrittenAsTheirNames(t *testing.T) {
	for a := policy.Access(0); a <= policy.List|policy.Read|policy.Write|policy.Delete; a++ {
		want, err := json.Marshal(append([]string{}, a.Names()...))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(a.AppendJSON([]byte("x"))); got != "x"+string(want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
