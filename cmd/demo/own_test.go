package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"credential-broker/broker/brokertest"
)

// ownConfig is a service's configuration for the Auth0 and the AWS of another
// demo, which stand for a real tenant's.
func ownConfig(t *testing.T, s *story) string {
	t.Helper()
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "own.yaml")
	// It knows nothing of the page's origin.
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "http://127.0.0.1:0", "https://app.example")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// startOwn runs --config.
func startOwn(t *testing.T, file string, change func(*options)) *story {
	return startStory(t, func(o *options) {
		o.Config, o.ClientID, o.Headless, o.dist = file, "own-spa", false, emptyPage(t)
		if change != nil {
			change(o)
		}
	})
}

func TestAnOwnConfigurationIsServedWithThePage(t *testing.T) {
	there := startStory(t, func(o *options) { o.Mode = modeForwarded })
	s := startOwn(t, ownConfig(t, there), func(o *options) { o.S3, o.Organization = there.S3, "org_acme" })
	if s.auth0 != nil || s.aws != nil {
		t.Error("something local stands in")
	}
	var c pageConfig
	if _, body := fetch(t, s.Page+"/config.json"); json.Unmarshal([]byte(body), &c) != nil || c.Demo != nil {
		t.Errorf("%s", body)
	}
	want := pageConfig{
		Issuer: there.Issuer, ClientID: "own-spa", Audience: there.Audience, Organization: "org_acme", Broker: s.Broker, S3: there.S3, STS: there.STS, Region: there.Region,
	}
	if got := asJSON(t, c); got != asJSON(t, want) {
		t.Errorf("got %s, want %s", got, asJSON(t, want))
	}
	// The page may call the broker, and the broker takes the real tenant's tokens.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Broker+"/v1/credentials", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", s.Page)
	r.Header.Set("Authorization", "Bearer "+there.userToken(t, "alice@acme.test"))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != s.Page {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
	var said strings.Builder
	if err := introduce(&said, s); err != nil || !strings.Contains(said.String(), s.Page) || strings.Contains(said.String(), "alice@") {
		t.Errorf("%v: %s", err, &said)
	}
}

// With AWS itself, the page may talk to the hosts of the buckets and of STS, and to no others.
func TestThePageOfAnOwnConfigurationTalksToItsBucketsOnly(t *testing.T) {
	there := startStory(t, func(o *options) { o.Mode = modeForwarded })
	file := ownConfig(t, there)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.NewReplacer(`, endpoint: "`+there.STS+`"`, "", "bucket: "+brokertest.Bucket, `bucket: "{tenant}-uploads"`).Replace(string(text)))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := startOwn(t, file, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Page, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := ""
	for part := range strings.SplitSeq(resp.Header.Get("Content-Security-Policy"), "; ") {
		if strings.HasPrefix(part, "connect-src ") {
			got = part
		}
	}
	want := "connect-src 'self' " + strings.TrimSuffix(there.Issuer, "/") + " " + s.Broker + " https://sts.ap-northeast-1.amazonaws.com" +
		" https://s3.ap-northeast-1.amazonaws.com https://*.s3.ap-northeast-1.amazonaws.com"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := domain("cn-north-1"); got != "amazonaws.com.cn" {
		t.Errorf("China: %s", got)
	}
}

func TestAnOwnConfigurationThatCannotBeUsedIsSaid(t *testing.T) {
	folder := t.TempDir()
	bad := filepath.Join(folder, "bad.yaml")
	if err := os.WriteFile(bad, []byte("listen: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := ownConfig(t, startStory(t, func(o *options) { o.Mode = modeForwarded }))
	for _, tc := range []struct {
		o    options
		says string
	}{
		{options{Config: filepath.Join(folder, "none.yaml")}, "none.yaml"},
		{options{Config: bad}, "bad.yaml:1"},
		{options{Config: good}, "--client-id"},
		{options{Config: good, ClientID: "x", Broker: "0.0.0.0:0"}, "loopback"},
		{options{Config: good, ClientID: "x", Broker: "127.0.0.1:0", Page: "0.0.0.0:0"}, "loopback"},
	} {
		tc.o.log = io.Discard
		if s, err := start(t.Context(), tc.o); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v, %v", tc.o, s, err)
		}
	}
}
