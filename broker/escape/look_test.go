package escape_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/escape"
)

// What has to work and does not is closed where S3 said so, and unclear where it may
// be about the moment; what must be denied is held by AccessDenied alone, and open
// where anything of it can be found out.
func TestALookIsJudgedByWhatS3Says(t *testing.T) {
	for _, tc := range []struct {
		status         int
		code           string
		inside, object escape.Verdict
	}{
		{200, "", escape.Held, escape.Failed},
		{206, "", escape.Held, escape.Failed},
		{416, "InvalidRange", escape.Held, escape.Failed}, // an empty object, which was found
		{403, "AccessDenied", escape.Failed, escape.Held},
		{403, "AllAccessDisabled", escape.Failed, escape.Unclear},
		{403, "SignatureDoesNotMatch", escape.Failed, escape.Unclear},
		{400, "AccessDenied", escape.Failed, escape.Unclear},
		{404, "NoSuchKey", escape.Failed, escape.Failed},
		{404, "NoSuchBucket", escape.Failed, escape.Unclear},
		{400, "ExpiredToken", escape.Failed, escape.Unclear},
		{405, "MethodNotAllowed", escape.Failed, escape.Unclear},
		{429, "SlowDown", escape.Unclear, escape.Unclear},
		{503, "SlowDown", escape.Unclear, escape.Unclear},
		{301, "PermanentRedirect", escape.Unclear, escape.Unclear},
	} {
		t.Run(fmt.Sprint(tc.status, " ", tc.code), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.WriteHeader(tc.status)
				_, _ = fmt.Fprintf(rw, "<Error><Code>%s</Code></Error>", tc.code)
			}))
			defer server.Close()
			target := escape.Target{
				S3: server.URL, Region: "eu-west-1",
				Session: escape.Session{AccessKeyID: "ASIA", SecretAccessKey: broker.NewSecret("s"), SessionToken: broker.NewSecret("t")},
			}
			if c := escape.Read(t.Context(), target, "bucket", "a/b"); c.Verdict != tc.inside {
				t.Errorf("inside: %+v", c)
			}
			if all := escape.Look(t.Context(), target, escape.Victim{Bucket: "bucket", Key: "a/b"}); len(all) != 2 || all[0].Verdict != tc.object {
				t.Errorf("outside: %+v", all)
			}
		})
	}
}
