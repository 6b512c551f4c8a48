package localsts_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"credential-broker/broker/brokertest/localsts"
)

// exchange sends a request and returns the answer without its body.
func (w *world) exchange(t testing.TB, method string, header http.Header) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url, strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestAnyPageMayCallAndReadTheAnswer(t *testing.T) {
	w := newWorld(t, nil)
	page := "https://any.test"
	preflight := w.exchange(t, http.MethodOptions, http.Header{
		"Origin": {page}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,x-amz-date"},
	})
	h := preflight.Header
	if preflight.StatusCode != 200 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "authorization,x-amz-date" ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight %d %v", preflight.StatusCode, h)
	}
	if n := w.sts.Calls("GetCallerIdentity"); n != 0 {
		t.Errorf("a preflight was taken for %d calls", n)
	}
	// A refusal can be read too.
	if resp := w.exchange(t, http.MethodPost, http.Header{"Origin": {page}}); resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp := w.exchange(t, http.MethodPost, http.Header{}); resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an origin: %v", resp.Header)
	}
}

func TestSessionsCanBeCutShort(t *testing.T) {
	w := newWorld(t, func(c *localsts.Config) { c.MaxLife = 12 * time.Second })
	out, err := w.call(t.Context(), w.mint(t, w.claims(nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if end := aws.ToTime(out.Credentials.Expiration); !end.Equal(w.now.Add(12 * time.Second)) {
		t.Errorf("ends at %s, now is %s", end, w.now)
	}
}
