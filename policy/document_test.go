package policy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/policy"
)

var update = flag.Bool("update", false, "rewrite the golden documents")

func goldens(t testing.TB) map[string]policy.Scope {
	with := func(change func(*policy.Scope)) policy.Scope { return scope(t, "org_acme", change) }
	access := func(a policy.Access) policy.Scope { return with(func(s *policy.Scope) { s.Access = a }) }
	return map[string]policy.Scope{
		"all":      with(nil),
		"list":     access(policy.List),
		"read":     access(policy.Read),
		"write":    access(policy.Write),
		"delete":   access(policy.Delete),
		"folder":   with(func(s *policy.Scope) { s.Path = path(t, "in/box/") }),
		"object":   with(func(s *policy.Scope) { s.Path, s.Access = path(t, "in/a.txt"), policy.Read|policy.Write }),
		"china":    with(func(s *policy.Scope) { s.Partition = policy.AWSChina }),
		"usgov":    with(func(s *policy.Scope) { s.Partition = policy.AWSUSGov }),
		"kms":      with(func(s *policy.Scope) { s.KMSKey = key(t, keyARN) }),
		"kms-read": with(func(s *policy.Scope) { s.KMSKey, s.Access = key(t, keyARN), policy.List|policy.Read }),
		"kms-list": with(func(s *policy.Scope) { s.KMSKey, s.Access = key(t, keyARN), policy.List|policy.Delete }),
		"kms-object": with(func(s *policy.Scope) {
			s.KMSKey, s.Access, s.Path = key(t, keyARN), policy.Write, path(t, "in/a.txt")
		}),
		"kms-china": with(func(s *policy.Scope) {
			s.Partition, s.KMSKey = policy.AWSChina, key(t, "arn:aws-cn:kms:cn-north-1:123456789012:key/x")
		}),
		"source":      with(func(s *policy.Scope) { s.SourceIP = netip.MustParseAddr("192.0.2.1") }),
		"source-ipv6": with(func(s *policy.Scope) { s.SourceIP = netip.MustParseAddr("2001:db8::1") }),
		"source-kms":  with(func(s *policy.Scope) { s.SourceIP, s.KMSKey = netip.MustParseAddr("192.0.2.1"), key(t, keyARN) }),
		"user": with(func(s *policy.Scope) {
			prefix, err := template(t, "tenants/{tenant}/users/{user}/").Render(tenant(t, "org_acme"), policy.UserOf("i", "s"))
			if err != nil {
				t.Fatal(err)
			}
			s.Prefix = prefix
		}),
	}
}

func TestDocumentsAreTheGoldenOnes(t *testing.T) {
	for name, s := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			document, err := policy.Generate(s)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, []byte(document.String()+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), document.String()); diff != "" {
				t.Errorf("(-golden +got)\n%s", diff)
			}
			if err := policy.Confined(document.String(), s); err != nil {
				t.Error(err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, []byte(document.String())); err != nil || compact.String() != document.String() {
				t.Errorf("not minified JSON: %v", err)
			}
			again, err := policy.Generate(s)
			if err != nil || again != document {
				t.Errorf("another document the second time: %v", err)
			}
			if want := fmt.Sprintf("%x", sha256.Sum256([]byte(document.String()))); document.Digest() != want {
				t.Errorf("digest %q, want %q", document.Digest(), want)
			}
		})
	}
}

// Names as long as they may be fit; with all that a scope can have, they do not,
// and then there is no document, and the error says how long it was.
func TestALongScopeFitsAndTheLongestIsRefusedWithItsLength(t *testing.T) {
	long := strings.Repeat("a", 116)
	s := scope(t, "org_acme", func(s *policy.Scope) {
		prefix, err := template(t, long+"/{tenant}/{user}/"+long+"/").Render(tenant(t, strings.Repeat("t", 63)), policy.UserOf("i", "s"))
		if err != nil {
			t.Fatal(err)
		}
		s.Prefix, s.Path = prefix, path(t, strings.Repeat("b/", 128))
	})
	document, err := policy.Generate(s)
	if err != nil || len(document.String()) < 1500 || len(document.String()) > policy.MaxDocumentBytes {
		t.Errorf("%d bytes, %v", len(document.String()), err)
	}
	s.KMSKey, s.SourceIP = key(t, keyARN), netip.MustParseAddr("2001:db8::1")
	document, err = policy.Generate(s)
	if !errors.Is(err, policy.ErrInvalid) || !strings.Contains(err.Error(), " bytes, at most 2048") || !document.IsZero() {
		t.Errorf("%d bytes, %v", len(document.String()), err)
	}
}

func TestTheZeroDocumentIsNoPolicy(t *testing.T) {
	if document, err := policy.Generate(scope(t, "org_acme", nil)); err != nil || document.IsZero() {
		t.Errorf("a policy is the zero document: %v", err)
	}
	if zero := (policy.Document{}); !zero.IsZero() || zero.String() != "" || zero.Digest() != "" {
		t.Error("the zero document is a policy")
	}
}

// What a request does with its document: the digest is asked for by the audit
// record and by the cache's key.
func BenchmarkGenerateAndDigestTwice(b *testing.B) {
	s := scope(b, "org_acme", nil)
	b.ReportAllocs()
	for b.Loop() {
		document, err := policy.Generate(s)
		if err != nil {
			b.Fatal(err)
		}
		if record, key := document.Digest(), document.Digest(); record != key {
			b.Fatal("another digest the second time")
		}
	}
}

// folder is a scope that somebody holds.
type folder struct{ policy.Scope }

func (f folder) S3Scope() policy.Scope { return f.Scope }

func TestAFoldedDocumentIsTheSame(t *testing.T) {
	s := scope(t, "org_acme", func(*policy.Scope) {})
	whole, err := policy.Generate(s)
	if err != nil {
		t.Fatal(err)
	}
	folded := policy.Fold(folder{s}, whole.Digest())
	if folded.String() != whole.String() || folded.Digest() != whole.Digest() || folded.IsZero() {
		t.Errorf("%q, want %q", folded, whole)
	}
	// Of another scope it is none, and so cannot be sent.
	other := s
	other.Access = policy.Read
	if wrong := policy.Fold(folder{other}, whole.Digest()); wrong.String() != "" {
		t.Errorf("of another scope: %q", wrong)
	}
	if wrong := policy.Fold(folder{}, whole.Digest()); wrong.String() != "" {
		t.Errorf("of no scope: %q", wrong)
	}
	if zero := policy.Fold(folder{s}, ""); !zero.IsZero() || zero.String() != "" {
		t.Errorf("of no document: %q", zero)
	}
}
