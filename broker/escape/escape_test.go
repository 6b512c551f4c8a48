package escape_test

import (
	"context"
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
		S3: "http://s3.test", STS: "http://sts.test", Role: "arn:aws:iam::123456789012:role/app/uploads", Region: "eu-west-1", Session: session("ASIAMINE"), Other: &other,
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

// Only a denial holds. What else a server says, about the moment, the session or
// the form of the request, proves nothing, but of requests that no client makes.
func TestAVerdictGoesByWhatTheServerDid(t *testing.T) {
	held, failed, unclear := escape.Held, escape.Failed, escape.Unclear
	for name, tc := range map[string]struct {
		answer                         func(*http.Request, string) (int, string)
		plain, mixed, path, credential escape.Verdict
	}{
		"denied":                 {always(403, "AccessDenied"), held, held, held, held},
		"access is off":          {always(403, "AllAccessDisabled"), held, held, held, held},
		"forbidden by a gateway": {func(*http.Request, string) (int, string) { return 403, "<html>" }, unclear, held, held, unclear},
		"no such operation":      {always(501, "NotImplemented"), held, held, held, held},
		"no such method":         {always(405, "MethodNotAllowed"), held, held, held, held},
		"no such action":         {always(400, "InvalidAction"), held, held, held, held},
		"not understood":         {always(400, "InvalidRequest"), unclear, held, held, unclear},
		"no such key":            {always(403, "InvalidAccessKeyId"), unclear, unclear, unclear, held},
		"a wrong signature":      {always(403, "SignatureDoesNotMatch"), unclear, held, held, held},
		"a wrong session token":  {always(400, "InvalidToken"), unclear, unclear, unclear, held},
		"ended":                  {always(400, "ExpiredToken"), unclear, unclear, unclear, unclear},
		"skewed":                 {always(403, "RequestTimeTooSkewed"), unclear, unclear, unclear, unclear},
		"too many":               {always(429, ""), unclear, unclear, unclear, unclear},
		"too fast":               {always(400, "Throttling"), unclear, unclear, unclear, unclear},
		"done":                   {always(200, ""), failed, failed, held, failed},
		"done, no content":       {always(204, ""), failed, failed, held, failed},
		"looked for":             {always(404, "NoSuchKey"), failed, failed, held, failed},
		"elsewhere":              {always(301, "PermanentRedirect"), unclear, unclear, held, unclear},
		"broken":                 {always(500, "InternalError"), unclear, unclear, unclear, unclear},
		"gone":                   {always(0, ""), unclear, unclear, unclear, unclear},
	} {
		for _, c := range outside(t, &server{answer: tc.answer}, nil) {
			want := tc.plain
			switch c.Kind {
			case escape.KindMixed:
				want = tc.mixed
			case escape.KindPath:
				want = tc.path
			case escape.KindCredentials:
				want = tc.credential
			case escape.KindAlive, escape.KindCleanup:
				continue
			}
			head := strings.HasPrefix(c.Name, "Head") && strings.HasPrefix(c.Detail, "403") // its code is in a body that is not there
			if c.Verdict != want && !head {
				t.Errorf("%s: %s is %s, want %s", name, c.ID(), c.Verdict, want)
			}
		}
	}
}

// S3 denies what is not there to whoever may not list it, also to one who may
// read it.
func TestReadingIsProvedOnAKnownObjectOnly(t *testing.T) {
	reads := func(checks []escape.Check) (n int) {
		for _, c := range checks {
			if strings.HasPrefix(c.Name, "GetObject") || c.Name == "HeadObject" || strings.HasSuffix(c.Name, " from there") || strings.HasSuffix(c.Name, "Tagging") || c.Name == "PutObjectAcl" {
				n++
			}
		}
		return n
	}
	denied := &server{answer: always(403, "AccessDenied")}
	none := reads(outside(t, denied, func(t *escape.Target) { t.Victims = nil }))
	one := reads(outside(t, denied, nil))
	expendable := reads(outside(t, denied, func(t *escape.Target) { t.Victims[0].Expendable = true }))
	if none != 0 || one != 10 || expendable != 13 {
		t.Errorf("%d without a victim, %d with one, %d with one that may be written to", none, one, expendable)
	}
	if open := reads(outside(t, &server{answer: always(200, "")}, func(t *escape.Target) { t.Victims = nil })); open < 70 {
		t.Errorf("%d of what was done is counted", open)
	}
}

func TestASessionThatDoesNotWorkIsNoProof(t *testing.T) {
	for name, change := range map[string]func(*escape.Target){
		"list":   func(t *escape.Target) { t.Scope.Access = policy.List },
		"write":  func(t *escape.Target) { t.Scope.Access = policy.Write },
		"delete": func(t *escape.Target) { t.Scope.Access = policy.Delete },
		"read":   func(t *escape.Target) { t.Scope.Access, t.Object = policy.Read, "tenants/org_acme/x" },
		"none":   func(t *escape.Target) { t.Scope.Access = policy.Read },
	} {
		for answer, want := range map[int]escape.Verdict{200: escape.Held, 403: escape.Unclear, 429: escape.Unclear, 0: escape.Unclear} {
			var alive []escape.Verdict
			for _, c := range outside(t, &server{answer: always(answer, "AccessDenied")}, change) {
				if c.Kind == escape.KindAlive {
					alive = append(alive, c.Verdict)
				}
			}
			if !slices.Equal(alive, []escape.Verdict{want, want}) {
				t.Errorf("%s, %d: %v", name, answer, alive)
			}
		}
	}
}

func TestWhatElseTheSessionHasIsNotOutside(t *testing.T) {
	own := func(t *escape.Target) {
		p, err := policy.ParsePath("u/")
		if err != nil {
			panic(err)
		}
		whole := t.Scope
		t.Scope.Path, t.Also = p, []policy.Scope{whole}
	}
	for _, c := range outside(t, &server{answer: always(403, "AccessDenied")}, own) {
		if c.Place == "above the path" || c.Place == "a made-up tenant" || c.Place == "the parent" {
			t.Errorf("%s is tried", c.ID())
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

// Whoever interrupts a run does not leave what it wrote.
func TestARunThatIsCutShortCleansUp(t *testing.T) {
	ctx, cut := context.WithCancel(t.Context())
	objects := map[string]bool{}
	s := &server{answer: func(r *http.Request, _ string) (int, string) {
		switch {
		case r.Method == http.MethodPut && len(r.URL.Query()) == 0:
			objects[r.URL.Path] = true
			cut()
		case r.Method == http.MethodDelete && r.Context().Err() == nil:
			delete(objects, r.URL.Path)
		case r.Context().Err() != nil:
			return 0, ""
		}
		return 200, ""
	}}
	tgt := target(t, nil)
	tgt.HTTP = s
	if _, err := escape.Outside(ctx, tgt); !errors.Is(err, context.Canceled) || len(objects) != 0 {
		t.Errorf("left %v, %v", objects, err)
	}
}

// Where a wall is open to writing and closed to removing, what is left has its
// name in the report.
func TestWhatCannotBeTakenBackIsNamed(t *testing.T) {
	s := &server{answer: func(r *http.Request, _ string) (int, string) {
		switch q := r.URL.Query(); {
		case r.Method == http.MethodPut && len(q) == 0 && strings.HasPrefix(r.URL.Path, "/acme-uploads/credential-broker-doctor-"):
			return 200, ""
		case r.Method == http.MethodPost && q.Has("uploads") && strings.HasPrefix(r.URL.Path, "/acme-uploads/tenants/org_acme2/"):
			return 200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
		}
		return 403, "<Error><Code>AccessDenied</Code></Error>"
	}}
	var left []string
	for _, c := range outside(t, s, nil) {
		if c.Kind == escape.KindCleanup {
			left = append(left, random.ReplaceAllString(c.Place, "ID"))
			if c.Verdict != escape.Failed {
				t.Errorf("%+v", c)
			}
		}
	}
	if want := []string{"acme-uploads/tenants/org_acme2/ID/x", "acme-uploads/ID"}; !slices.Equal(left, want) {
		t.Errorf("%q, want %q", left, want)
	}
	// An answer that got lost may have been a success: that is not known.
	for _, c := range outside(t, &server{answer: always(0, "")}, nil) {
		if c.Kind == escape.KindCleanup && c.Verdict != escape.Unclear {
			t.Errorf("%+v", c)
		}
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
			if c.Kind == escape.KindMixed {
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
			if c.Name == "ListObjectsV2, only a header Prefix" && c.Verdict != escape.Failed {
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
		if c.Kind == escape.KindPath && c.Verdict == escape.Failed {
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
		if c.Kind == escape.KindCredentials {
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
	c, _, err := escape.Assume(t.Context(), tgt, "arn:aws:iam::123456789012:role/r", "cb-x", broker.NewSecret("canary"))
	if err != nil || c.AccessKeyID != "A" || c.SecretAccessKey.Reveal() != "B" || c.SessionToken.Reveal() != "C" {
		t.Errorf("%+v, %v", c, err)
	}
	if got.Has("Policy") || got.Get("WebIdentityToken") != "canary" || got.Get("RoleArn") != "arn:aws:iam::123456789012:role/r" || got.Get("Version") != "2011-06-15" || got.Get("RoleSessionName") != "cb-x" {
		t.Errorf("%v", got)
	}
	for _, tc := range []struct {
		status  int
		code    string
		refused bool
	}{
		{403, "AccessDenied", true}, {400, "InvalidIdentityToken", true}, {500, "AccessDenied", false}, {0, "", false}, {200, "AccessDenied", false},
		{400, "InvalidIdentityToken</Code><Message>Couldn't retrieve verification key from your identity provider</Message><Code>", false},
		{400, "Throttling", false}, {400, "ExpiredTokenException", false}, {400, "IDPCommunicationError", false}, {400, "ValidationError", false}, {404, "", false}, {302, "", false},
	} {
		s.answer = always(tc.status, tc.code)
		c, text, err := escape.Assume(t.Context(), tgt, "r", "cb-x", broker.NewSecret("canary"))
		if c.AccessKeyID != "" || (err == nil) != tc.refused || tc.refused && text != fmt.Sprint(tc.status, " ", tc.code) {
			t.Errorf("%+v: %+v, %q, %v", tc, c, text, err)
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
