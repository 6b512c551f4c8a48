package whois_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"credential-broker/broker"
	"credential-broker/broker/brokertest"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/cmd/credential-broker/serve"
	"credential-broker/cmd/credential-broker/servetest"
	"credential-broker/cmd/credential-broker/whois"
)

// lines is a log in memory.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// world is a broker before a local Auth0 and a local AWS that logs.
type world struct {
	url, aws, audit string
	access, trail   lines
	token           func(email string) string
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	issuerListener, issuer := servetest.Listen(t)
	awsListener, cloudURL := servetest.Listen(t)
	self, selfURL := servetest.Listen(t)
	folder := t.TempDir()
	w := &world{url: selfURL, aws: cloudURL, audit: filepath.Join(folder, "audit.log")}
	cfg := must(config.Parse("test.yaml", fmt.Appendf(nil, `
issuers: [{url: %q, audiences: [%q]}]
web_identity: {mode: minted, issuer: %q, signing_keys: [%q]}
sts: {region: %s, endpoint: %q}
audit: {output: %q}
grants: [{name: uploads, match: {permissions: ["upload:files"]}, role_arn: %q, tenant: {claim: org_id}, bucket: %s, region: %s, prefix: "tenants/{tenant}/", access: [list, read, write, delete]}]
`, issuer+"/", brokertest.Audience, selfURL, servetest.SigningKey(t), brokertest.Region, cloudURL, w.audit, brokertest.RoleARN, brokertest.Bucket, brokertest.Region), os.LookupEnv))(t)
	cloud := servetest.AWS(t, cfg, func(c *brokertest.AWSConfig) { c.AccessLog, c.Trail = &w.access, &w.trail })
	auth0 := must(brokertest.NewAuth0(issuer+"/", "", false))(t)
	w.token = func(email string) string { return must(auth0.UserToken(email))(t) }
	servetest.Handle(t, issuerListener, auth0)
	servetest.Handle(t, awsListener, cloud)
	servetest.Start(t, cfg, serve.Options{Listener: self})
	return w
}

// use takes credentials as a user and puts an object with them, by the real SDK.
func (w *world) use(t *testing.T, email, key string) {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/credentials", nil))(t)
	req.Header.Set("Authorization", "Bearer "+w.token(email))
	req.Header.Set("User-Agent", "test/"+email)
	resp := must(http.DefaultClient.Do(req))(t)
	defer resp.Body.Close()
	var c struct{ AccessKeyID, SecretAccessKey, Token, Bucket, Prefix string }
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil || c.Token == "" {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	client := s3.New(s3.Options{
		Region: brokertest.Region, BaseEndpoint: aws.String(w.aws), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.Token),
	})
	_ = must(client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String(c.Prefix + key), Body: strings.NewReader("x")}))(t)
}

// search asks whois as the command does.
func (w *world) search(t *testing.T, what string, files ...string) []whois.Person {
	t.Helper()
	q := must(whois.Parse(what))(t)
	var found []broker.Record
	for _, f := range files {
		_ = must(whois.File(f, func(r broker.Record) {
			if q.Match(r, nil) {
				found = append(found, r)
			}
		}))(t)
	}
	return whois.People(found, nil, nil)
}

// accessLine takes a line of the server access log apart, up to the user agent.
var accessLine = regexp.MustCompile(`(?m)^(\S+) (\S+) \[([^\]]+)\] (\S+) (\S+) (\S+) (\S+) (\S+) "([^"]*)" (\d+) (\S+) (\d+) \S+ \d+ \d+ "[^"]*" "([^"]*)"`)

// From what S3 logged, in each of its logs and by each name that stands there, whois
// finds who it was, and nobody else; across a rotation too.
func TestWhoisFindsWhoUsedWhatS3Logged(t *testing.T) {
	w := newWorld(t)
	w.use(t, "alice@acme.test", "alice.txt")
	rotate(t, w.audit)
	w.use(t, "amy@acme.test", "amy.txt")
	w.use(t, "bob@globex.test", "bob.txt")
	w.use(t, "alice@acme.test", "again.txt") // from the cache: the same session
	files := []string{w.audit + ".1.gz", w.audit}

	want := map[string]string{"alice.txt": "alice", "amy.txt": "amy", "bob.txt": "bob", "again.txt": "alice"}
	check := func(key, name string) {
		t.Helper()
		people := w.search(t, name, files...)
		user := want[key[strings.LastIndex(key, "/")+1:]]
		if len(people) != 1 || people[0].Records[0].UserAgent != "test/"+user+map[bool]string{true: "@globex.test", false: "@acme.test"}[user == "bob"] ||
			!strings.Contains(key, "tenants/"+people[0].Tenant+"/") || people[0].Grants[0] != "uploads" || people[0].Records[0].Address != "127.0.0.1" {
			t.Errorf("%s by %s is %+v", key, name, people)
		}
	}
	logged := accessLine.FindAllStringSubmatch(w.access.String(), -1)
	if len(logged) != 4 {
		t.Fatalf("%d lines: %s", len(logged), &w.access)
	}
	for _, m := range logged {
		key, err := url.PathUnescape(m[8])
		if err != nil {
			t.Fatal(err)
		}
		check(key, m[5]) // the requester
	}
	subjects := map[string]bool{}
	for line := range strings.Lines(w.trail.String()) {
		var e struct {
			UserIdentity struct {
				PrincipalID, ARN, AccessKeyID string
				SessionContext                struct{ SourceIdentity string }
			}
			RequestParameters struct{ Key string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{e.UserIdentity.AccessKeyID, e.UserIdentity.ARN, e.UserIdentity.PrincipalID, e.UserIdentity.SessionContext.SourceIdentity} {
			check(e.RequestParameters.Key, name)
		}
		subjects[w.search(t, e.UserIdentity.AccessKeyID, files...)[0].Subject] = true
	}
	if len(subjects) != 3 {
		t.Errorf("subjects %v", subjects)
	}
	if people := w.search(t, "arn:aws:sts::123456789012:assumed-role/another/"+w.search(t, trailKey(t, w), files...)[0].Records[0].SessionName, files...); len(people) != 0 {
		t.Errorf("of another role: %+v", people)
	}
	t.Run("by SQL", func(t *testing.T) { w.bySQL(t, files, want, logged) })
}

func trailKey(t *testing.T, w *world) string {
	t.Helper()
	m := regexp.MustCompile(`"accessKeyId":"([^"]+)"`).FindStringSubmatch(w.trail.String())
	if m == nil {
		t.Fatal("no access key in the trail")
	}
	return m[1]
}

// rotate does what logrotate does, with compress.
func rotate(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	text := must(os.ReadFile(path + ".1"))(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(text)
	_ = z.Close()
	if err := os.WriteFile(path+".1.gz", packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
}

const (
	peer   = "../../../broker/brokertest/peers/duckdb/"
	deploy = "../../../deploy/audit/"
)

// bySQL runs the queries of deploy/audit, to the letter, over what was logged. DuckDB
// stands in for Athena: it has structs and the same functions, but for one name. That
// the tables' own DDL is good is not proved.
func (w *world) bySQL(t *testing.T, files []string, want map[string]string, logged [][]string) {
	if _, err := os.Stat(peer + "node_modules/.package-lock.json"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("DuckDB is not installed: make peers")
		}
		t.Skip("DuckDB is not installed: make peers")
	}
	folder := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(folder, name)
	}
	// Sessions that the broker gave to nobody: one under a name of his, one under its
	// holder's own. And one of a role that is none of the broker's.
	first := strings.SplitN(w.trail.String(), "\n", 2)[0]
	stranger := strings.ReplaceAll(first, trailKey(t, w), "ASIASTRANGER00000000")
	named := regexp.MustCompile(`/cb-[a-z2-7]{52}"`).ReplaceAllString(stranger, `/x"`)
	if named == stranger {
		t.Fatal("no session name in " + first)
	}
	another := strings.ReplaceAll(stranger, "assumed-role/tenant-uploads/", "assumed-role/ci/")
	trail := write("trail.json", w.trail.String()+stranger+"\n"+named+"\n"+another+"\n")
	var csv strings.Builder
	for _, m := range logged {
		key, _ := url.PathUnescape(m[8])
		fmt.Fprintf(&csv, "%s|%s|%s|%s|%s|%s|%s|%s\n", m[2], m[3], m[4], m[5], m[7], key, m[10], m[11])
	}
	m := logged[0] // the same two in the other log
	for _, session := range []string{"tenant-uploads/x", "ci/cb-x"} {
		fmt.Fprintf(&csv, "%s|%s|%s|%s|%s|%s|%s|%s\n", m[2], m[3], m[4], "arn:aws:sts::123456789012:assumed-role/"+session, m[7], "tenants/org_acme/x", m[10], m[11])
	}
	access := write("access.csv", csv.String())
	columns := regexp.MustCompile("(?m)^  `?(\\w+)`? (int|string|array<string>),?$").FindAllStringSubmatch(string(must(os.ReadFile(deploy+"tables.sql"))(t)), -1)
	var types []string
	for _, c := range columns {
		types = append(types, fmt.Sprintf("%q: '%s'", c[1], map[string]string{"int": "INTEGER", "string": "VARCHAR", "array<string>": "VARCHAR[]"}[c[2]]))
	}
	setup := fmt.Sprintf(`
CREATE MACRO json_extract_scalar(j, p) AS json_extract_string(j, p);
CREATE TABLE credential_broker_audit AS SELECT * FROM read_json(['%s'], format = 'newline_delimited', columns = {%s});
CREATE TABLE cloudtrail_logs AS SELECT "eventTime" AS eventtime, "eventName" AS eventname, "eventSource" AS eventsource, "errorCode" AS errorcode, "sourceIPAddress" AS sourceipaddress,
  CAST("requestParameters" AS VARCHAR) AS requestparameters, {'arn': "userIdentity"->>'arn', 'accesskeyid': "userIdentity"->>'accessKeyId'} AS useridentity
  FROM read_json('%s', format = 'newline_delimited', columns = {"eventTime": 'VARCHAR', "eventName": 'VARCHAR', "eventSource": 'VARCHAR', "errorCode": 'VARCHAR', "sourceIPAddress": 'VARCHAR', "requestParameters": 'JSON', "userIdentity": 'JSON'});
CREATE TABLE s3_access_logs AS SELECT * FROM read_csv('%s', header = false, delim = '|',
  columns = {'bucket_name': 'VARCHAR', 'requestdatetime': 'VARCHAR', 'remoteip': 'VARCHAR', 'requester': 'VARCHAR', 'operation': 'VARCHAR', 'key': 'VARCHAR', 'httpstatus': 'VARCHAR', 'errorcode': 'VARCHAR'});
`, strings.Join(files, "', '"), strings.Join(types, ", "), trail, access)
	known := map[string]string{} // :: subject → user
	for _, f := range files {
		_ = must(whois.File(f, func(r broker.Record) {
			known[r.Subject], _, _ = strings.Cut(strings.TrimPrefix(r.UserAgent, "test/"), "@")
		}))(t)
	}
	for name, strangers := range map[string]int{"cloudtrail.sql": 2, "access-log.sql": 1} {
		var rows []struct {
			ObjectKey string `json:"object_key"`
			Subject   *string
			Tenant    string
			UsedFrom  string `json:"used_from"`
		}
		cmd := exec.CommandContext(t.Context(), "node", peer+"run.mjs")
		cmd.Stdin = strings.NewReader(setup + string(must(os.ReadFile(deploy+name))(t)))
		var problem bytes.Buffer
		cmd.Stderr = &problem
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, &problem)
		}
		if err := json.Unmarshal(out, &rows); err != nil || len(rows) != len(want)+strangers {
			t.Fatalf("%s: %v: %d rows: %s", name, err, len(rows), out)
		}
		for _, r := range rows {
			if r.Subject == nil {
				strangers--
				continue
			}
			if want[r.ObjectKey[strings.LastIndex(r.ObjectKey, "/")+1:]] != known[*r.Subject] || !strings.Contains(r.ObjectKey, "/"+r.Tenant+"/") || r.UsedFrom != "127.0.0.1" {
				t.Errorf("%s: %+v is %s", name, r, *r.Subject)
			}
		}
		if strangers != 0 {
			t.Errorf("%s: what nobody was given is somebody's: %s", name, out)
		}
	}
}

// The table has the members of the record and no other, and the guide names them.
func TestTheTableHasTheMembersOfTheRecord(t *testing.T) {
	now := time.Now()
	full := broker.Record{
		V: 1, Time: now, Action: "a", Decision: "a", Code: "a", Reason: "a", RequestID: "a", Issuer: "a", Subject: "a", Client: "a", Tenant: "a", Grant: "a", RoleARN: "a", Bucket: "a", Prefix: "a",
		Access: []string{"a"}, User: "a", SessionName: "a", AccessKeyID: "a", Expiration: now, Source: "a", PolicySHA256: "a", TokenSHA256: "a", Address: "a", UserAgent: "a",
	}
	var members map[string]any
	if err := json.Unmarshal(must(full.Line())(t), &members); err != nil {
		t.Fatal(err)
	}
	guide := string(must(os.ReadFile(deploy + "../audit.md"))(t))
	for name := range members {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + name + "`").MatchString(guide) {
			t.Errorf("deploy/audit.md does not say what %s is", name)
		}
	}
	columns := regexp.MustCompile("(?m)^  `?(\\w+)`? (?:int|string|array<string>),?$").FindAllStringSubmatch(string(must(os.ReadFile(deploy+"tables.sql"))(t)), -1)
	if len(columns) != len(members) {
		t.Errorf("%d columns, %d members", len(columns), len(members))
	}
	for _, c := range columns {
		if _, ok := members[c[1]]; !ok {
			t.Errorf("the column %s is no member", c[1])
		}
	}
}
