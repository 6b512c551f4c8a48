package escape_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/broker/escape"
	"credential-broker/policy"
)

var update = flag.Bool("update", false, "rewrite the golden lists of requests")

// server is a server that a test makes up.
type server struct {
	answer func(*http.Request, string) (int, string)
	sent   []string // method, address and what else counts
}

func (s *server) Do(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(data)
	}
	s.sent = append(s.sent, r.Method+" "+r.URL.String()+headers(r)+oneLine(body))
	status, text := s.answer(r, body)
	if status == 0 {
		return nil, errors.New("no answer")
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}}, nil
}

func headers(r *http.Request) string {
	all := ""
	for _, name := range []string{"Range", "Prefix", "X-Amz-Prefix", "X-Amz-Copy-Source", "X-Amz-Acl", "X-Amz-Object-Attributes", "X-Original-Url", "X-Rewrite-Url"} {
		if v := r.Header.Get(name); v != "" {
			all += " " + name + ": " + v
		}
	}
	return all
}

func oneLine(body string) string {
	if body == "" {
		return ""
	}
	return " " + strings.ReplaceAll(body, "\n", "")
}

func target(t testing.TB, change func(*escape.Target)) escape.Target {
	t.Helper()
	bucket, err1 := policy.ParseBucket("acme-uploads")
	prefix, err2 := policy.ParseTemplate("tenants/{tenant}/")
	tenant, err3 := policy.ParseTenant("org_acme")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	rendered, err := prefix.Render(tenant, policy.User{})
	if err != nil {
		t.Fatal(err)
	}
	other := session("ASIAOTHER")
	tgt := escape.Target{
		S3: "http://s3.test", STS: "http://sts.test", Region: "eu-west-1", Session: session("ASIAMINE"), Other: &other,
		Scope: policy.Scope{
			Partition: policy.AWS, Bucket: bucket, Prefix: rendered, Access: policy.List | policy.Read | policy.Write | policy.Delete,
		},
		Victims: []escape.Victim{{Bucket: "acme-uploads", Key: "tenants/org_globex/secret.txt", Text: "bob's own words"}},
	}
	if change != nil {
		change(&tgt)
	}
	return tgt
}

func session(id string) escape.Session {
	return escape.Session{AccessKeyID: id, SecretAccessKey: broker.NewSecret("secret of " + id), SessionToken: broker.NewSecret("token of " + id)}
}

// outside runs the suite before a server.
func outside(t testing.TB, s *server, change func(*escape.Target)) []escape.Check {
	t.Helper()
	tgt := target(t, change)
	tgt.HTTP = s
	checks, err := escape.Outside(t.Context(), tgt)
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

func always(status int, code string) func(*http.Request, string) (int, string) {
	return func(*http.Request, string) (int, string) {
		return status, "<Error><Code>" + code + "</Code></Error>"
	}
}

func TestAVerdictGoesByWhatTheServerDid(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(*http.Request, string) (int, string)
		want   escape.Verdict
	}{
		"denied":           {always(403, "AccessDenied"), escape.Held},
		"not understood":   {always(400, "InvalidRequest"), escape.Held},
		"not implemented":  {always(501, "NotImplemented"), escape.Held},
		"done":             {always(200, ""), escape.Failed},
		"done, no content": {always(204, ""), escape.Failed},
		"looked for":       {always(404, "NoSuchKey"), escape.Failed},
		"elsewhere":        {always(301, "PermanentRedirect"), escape.Unclear},
		"broken":           {always(500, "InternalError"), escape.Unclear},
		"gone":             {always(0, ""), escape.Unclear},
	} {
		for _, c := range outside(t, &server{answer: tc.answer}, nil) {
			want := tc.want
			if strings.HasPrefix(c.Name, "path: ") && want == escape.Failed {
				want = escape.Held // no word of the victim's
			}
			if strings.HasPrefix(c.Name, "path: ") && name == "elsewhere" {
				want = escape.Held
			}
			if c.Verdict != want {
				t.Errorf("%s: %s is %s, want %s", name, c.ID(), c.Verdict, want)
			}
		}
	}
}

var random = regexp.MustCompile(`credential-broker-doctor-[a-z2-7]{10}|CREDENTIAL-BROKER-DOCTOR-[A-Z2-7]{10}`)

// The lists hold each request to the letter. An attempt that gets lost, or is
// cleaned on its way, changes them.
func TestEachAttemptIsSentAsItIsWritten(t *testing.T) {
	for name, change := range map[string]func(*escape.Target){
		"folder":     nil,
		"expendable": func(t *escape.Target) { t.Victims[0].Expendable = true },
		"object": func(tgt *escape.Target) {
			p, err := policy.ParsePath("in/a.txt")
			if err != nil {
				t.Fatal(err)
			}
			tgt.Scope.Path, tgt.Scope.Access = p, policy.Read
		},
		"aws": func(t *escape.Target) { t.S3, t.STS, t.Victims = "", "", nil },
		"china": func(t *escape.Target) {
			t.S3, t.STS, t.Victims, t.Scope.Partition, t.Region = "", "", nil, policy.AWSChina, "cn-north-1"
		},
	} {
		s := &server{answer: always(403, "AccessDenied")}
		outside(t, s, change)
		for i, line := range s.sent {
			line = random.ReplaceAllString(line, "ID")
			s.sent[i] = regexp.MustCompile(`X-Amz-(Credential|Date|Signature|Security-Token)=[^& ]*`).ReplaceAllString(line, "X-Amz-$1=")
		}
		slices.Sort(s.sent) // some are made in a map's order
		got := strings.Join(s.sent, "\n") + "\n"
		file := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-golden +got)\n%s", name, diff)
		}
	}
}

func TestAPreciousObjectIsNotWrittenTo(t *testing.T) {
	s := &server{answer: always(200, "")}
	outside(t, s, nil)
	for _, line := range s.sent {
		if method, _, _ := strings.Cut(line, " "); method != http.MethodGet && method != http.MethodHead && strings.Contains(line, "/tenants/org_globex/secret.txt ") && !strings.Contains(line, "X-Amz-Copy-Source: /acme-uploads/tenants/org_globex") && !strings.Contains(line, "uploadId") {
			t.Error(line)
		}
	}
}

// Where the walls do not hold, what was written is removed again, and what was
// begun is ended.
func TestWhatWasWrittenOutsideIsTakenBack(t *testing.T) {
	objects, uploads := map[string]bool{}, map[string]bool{}
	s := &server{answer: func(r *http.Request, _ string) (int, string) {
		q := r.URL.Query()
		switch {
		case r.Method == http.MethodPut && !q.Has("tagging") && !q.Has("acl") && !q.Has("uploadId"):
			objects[r.URL.Path] = true
		case r.Method == http.MethodPost && q.Has("uploads"):
			uploads[r.URL.Path] = true
			return 200, "<InitiateMultipartUploadResult><UploadId>u/1+2</UploadId></InitiateMultipartUploadResult>"
		case r.Method == http.MethodDelete && q.Get("uploadId") == "u/1+2":
			delete(uploads, r.URL.Path)
		case r.Method == http.MethodDelete && len(q) == 0:
			delete(objects, r.URL.Path)
		}
		return 200, ""
	}}
	outside(t, s, nil)
	if len(objects) != 0 || len(uploads) != 0 {
		t.Errorf("left: %v, %v", objects, uploads)
	}
}

func TestAMultiDeleteIsReadAndNotJustCounted(t *testing.T) {
	for body, want := range map[string]escape.Verdict{
		"<DeleteResult><Error><Key>x</Key><Code>AccessDenied</Code></Error></DeleteResult>":                                escape.Held,
		"<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>":                                                     escape.Failed,
		"<DeleteResult><Deleted><Key>y</Key></Deleted><Error><Key>x</Key><Code>AccessDenied</Code></Error></DeleteResult>": escape.Failed,
		"": escape.Failed,
	} {
		s := &server{answer: func(r *http.Request, _ string) (int, string) {
			if r.URL.Query().Has("delete") {
				return 200, body
			}
			return 403, ""
		}}
		for _, c := range outside(t, s, nil) {
			if c.Name == "DeleteObjects" && c.Verdict != want {
				t.Errorf("%s: %s", body, c.Verdict)
			}
		}
	}
}

func TestAMixedListingMayShowWhatIsInsideAndNothingElse(t *testing.T) {
	list := func(prefix, rest string) string {
		return "<ListBucketResult><Prefix>" + prefix + "</Prefix>" + rest + "</ListBucketResult>"
	}
	const own = "tenants/org_acme/"
	for body, want := range map[string]escape.Verdict{
		list(own, ""): escape.Held,
		list(own, "<Contents><Key>tenants/org_acme/a</Key></Contents><CommonPrefixes><Prefix>tenants/org_acme/b/</Prefix></CommonPrefixes>"): escape.Held,
		list("", ""):         escape.Failed,
		list("tenants/", ""): escape.Failed,
		list(own, "<Contents><Key>tenants/org_acme2/a</Key></Contents>"):                                                            escape.Failed,
		list(own, "<Contents><Key>tenants/org_acme/a</Key></Contents><CommonPrefixes><Prefix>tenants/b/</Prefix></CommonPrefixes>"): escape.Failed,
		"nothing that can be read": escape.Failed,
	} {
		mixed := func(r *http.Request) bool {
			return len(r.URL.Query()["prefix"]) > 1 || r.URL.Query().Has("Prefix") || r.Header.Get("Prefix") != "" || r.Header.Get("X-Amz-Prefix") != ""
		}
		s := &server{answer: func(r *http.Request, _ string) (int, string) {
			if mixed(r) {
				return 200, body
			}
			return 403, ""
		}}
		seen := 0
		for _, c := range outside(t, s, nil) {
			if strings.HasPrefix(c.Name, "list: ") && (strings.Contains(c.Name, "Prefix") || strings.Contains(c.Name, "twice")) {
				seen++
				if c.Verdict != want {
					t.Errorf("%s: %s: %s", body, c.Name, c.Verdict)
				}
			}
		}
		if seen < 20 {
			t.Errorf("only %d mixed listings", seen)
		}
		// Who may not list may see nothing at all.
		for _, c := range outside(t, s, func(t *escape.Target) { t.Scope.Access = policy.Read }) {
			if c.Name == "list: only a header Prefix" && c.Verdict != escape.Failed {
				t.Errorf("%s is shown to who may not list", body)
			}
		}
	}
}

func TestAPathIsFollowedWhenTheVictimsWordsComeBack(t *testing.T) {
	s := &server{answer: func(r *http.Request, _ string) (int, string) {
		if strings.Contains(r.URL.Path, "..") {
			return 200, "here are bob's own words"
		}
		return 403, ""
	}}
	followed := 0
	for _, c := range outside(t, s, nil) {
		if strings.HasPrefix(c.Name, "path: ") && c.Verdict == escape.Failed {
			followed++
		}
	}
	if followed < 6 {
		t.Errorf("%d were noticed", followed)
	}
}

func TestBrokenSessionsAreTriedWithTheirOwnSignature(t *testing.T) {
	seen := map[string]bool{} // :: access key and token → seen
	s := &server{answer: func(r *http.Request, _ string) (int, string) {
		if id := regexp.MustCompile(`Credential=([A-Z]+)`).FindStringSubmatch(r.Header.Get("Authorization")); id != nil {
			seen[id[1]+" "+r.Header.Get("X-Amz-Security-Token")] = true
		}
		return 403, ""
	}}
	checks := outside(t, s, func(t *escape.Target) { t.Victims = nil })
	n := 0
	for _, c := range checks {
		if strings.HasPrefix(c.Name, "credentials: ") {
			n++
		}
	}
	if n != 16 {
		t.Errorf("%d checks", n)
	}
	for _, want := range []string{
		"ASIAMINE token of ASIAMINE", "ASIAMINE ", "ASIAMINE token ofAASIAMINE", "ASIAMINE token of", "ASIAMINA token of ASIAMINE",
		"ASIAMINE token of ASIAOTHER", "ASIAOTHER token of ASIAMINE",
	} {
		if !seen[want] {
			t.Errorf("%q was not tried: %v", want, seen)
		}
	}
}

func TestATargetThatIsNotWholeIsNotTried(t *testing.T) {
	for name, change := range map[string]func(*escape.Target){
		"no scope":   func(t *escape.Target) { t.Scope = policy.Scope{} },
		"no region":  func(t *escape.Target) { t.Region = "" },
		"no key":     func(t *escape.Target) { t.Session.AccessKeyID = "" },
		"no session": func(t *escape.Target) { t.Session.SessionToken = broker.Secret{} },
	} {
		tgt := target(t, change)
		s := &server{answer: always(403, "")}
		tgt.HTTP = s
		_, err1 := escape.Outside(t.Context(), tgt)
		_, err2 := escape.Inside(t.Context(), tgt)
		_, err3 := escape.Leftovers(t.Context(), tgt)
		_, err4 := escape.Caller(t.Context(), tgt)
		if err1 == nil || err2 == nil || err3 == nil || err4 == nil || len(s.sent) != 0 {
			t.Errorf("%s: %v, %v, %v, %v, sent %d", name, err1, err2, err3, err4, len(s.sent))
		}
	}
}

func TestAnAssumptionIsUnsignedAndWithoutAPolicy(t *testing.T) {
	var got url.Values
	s := &server{answer: func(r *http.Request, body string) (int, string) {
		got, _ = url.ParseQuery(body)
		if r.Header.Get("Authorization") != "" {
			t.Error("it is signed")
		}
		return 200, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>B</SecretAccessKey><SessionToken>C</SessionToken></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
	}}
	tgt := target(t, nil)
	tgt.HTTP = s
	c, _, err := escape.Assume(t.Context(), tgt, "arn:aws:iam::123456789012:role/r", broker.NewSecret("canary"))
	if err != nil || c.AccessKeyID != "A" || c.SecretAccessKey.Reveal() != "B" || c.SessionToken.Reveal() != "C" {
		t.Errorf("%+v, %v", c, err)
	}
	if got.Has("Policy") || got.Get("WebIdentityToken") != "canary" || got.Get("RoleArn") != "arn:aws:iam::123456789012:role/r" || got.Get("Version") != "2011-06-15" {
		t.Errorf("%v", got)
	}
	for _, status := range []int{403, 500, 0, 200} {
		s.answer = always(status, "AccessDenied")
		c, text, err := escape.Assume(t.Context(), tgt, "r", broker.NewSecret("canary"))
		if refused := status == 403; c.AccessKeyID != "" || (err == nil) != refused || refused && text != "403 AccessDenied" {
			t.Errorf("%d: %+v, %q, %v", status, c, text, err)
		}
	}
}

func TestNothingSecretIsInAChecksDetail(t *testing.T) {
	for _, c := range outside(t, &server{answer: always(0, "")}, nil) {
		if text := fmt.Sprint(c); strings.Contains(text, "secret of") || strings.Contains(text, "token of") {
			t.Errorf("%s", text)
		}
	}
}
