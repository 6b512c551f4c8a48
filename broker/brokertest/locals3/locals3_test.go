package locals3_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker/brokertest/locals3"
)

func TestAServerWithoutItsPartsIsRefused(t *testing.T) {
	for name, f := range map[string]func(*locals3.Config){
		"no region":         func(c *locals3.Config) { c.Region = "" },
		"no bucket":         func(c *locals3.Config) { c.Buckets = nil },
		"a bucket twice":    func(c *locals3.Config) { c.Buckets = []locals3.Bucket{{Name: "abc"}, {Name: "abc"}} },
		"a bucket's name":   func(c *locals3.Config) { c.Buckets = []locals3.Bucket{{Name: "A_B"}} },
		"no look-up":        func(c *locals3.Config) { c.Lookup = nil },
		"no clock":          func(c *locals3.Config) { c.Now = nil },
		"less than no room": func(c *locals3.Config) { c.MaxBytes = -1 },
	} {
		w := &world{}
		cfg := locals3.Config{Region: region, Buckets: []locals3.Bucket{{Name: bucket}}, Lookup: w.lookup, Now: w.now}
		if _, err := locals3.New(cfg); err != nil {
			t.Fatal(err)
		}
		f(&cfg)
		if _, err := locals3.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// The whole table of what each request asks for.
func TestEachRequestAsksForItsActions(t *testing.T) {
	const at, inBucket = "arn:aws:s3:::files/tenants/acme/x", "arn:aws:s3:::files"
	for name, tc := range map[string]struct {
		method, target string
		headers        []string
		want           []string
	}{
		"ListBuckets":         {"GET", "/", nil, []string{"s3:ListAllMyBuckets *"}},
		"HeadBucket":          {"HEAD", "/files", nil, []string{"s3:ListBucket " + inBucket}},
		"a slash at the end":  {"HEAD", "/files/", nil, []string{"s3:ListBucket " + inBucket}},
		"ListObjects":         {"GET", "/files", nil, []string{"s3:ListBucket " + inBucket}},
		"ListObjectsV2":       {"GET", "/files?list-type=2", nil, []string{"s3:ListBucket " + inBucket}},
		"ListObjectVersions":  {"GET", "/files?versions", nil, []string{"s3:ListBucketVersions " + inBucket}},
		"ListUploads":         {"GET", "/files?uploads", nil, []string{"s3:ListBucketMultipartUploads " + inBucket}},
		"GetBucketLocation":   {"GET", "/files?location", nil, []string{"s3:GetBucketLocation " + inBucket}},
		"GetBucketPolicy":     {"GET", "/files?policy", nil, []string{"s3:GetBucketPolicy " + inBucket}},
		"PutBucketCors":       {"PUT", "/files?cors", nil, []string{"s3:PutBucketCORS " + inBucket}},
		"CreateBucket":        {"PUT", "/files", nil, []string{"s3:CreateBucket " + inBucket}},
		"DeleteBucket":        {"DELETE", "/files", nil, []string{"s3:DeleteBucket " + inBucket}},
		"GetObject":           {"GET", object, nil, []string{"s3:GetObject " + at}},
		"HeadObject":          {"HEAD", object, nil, []string{"s3:GetObject " + at}},
		"GetObject, version":  {"GET", object + "?versionId=1", nil, []string{"s3:GetObjectVersion " + at}},
		"HeadObject, version": {"HEAD", object + "?versionId=1", nil, []string{"s3:GetObjectVersion " + at}},
		"PutObject":           {"PUT", object, nil, []string{"s3:PutObject " + at}},
		"with an ACL":         {"PUT", object, []string{"X-Amz-Acl", "private"}, []string{"s3:PutObject " + at, "s3:PutObjectAcl " + at}},
		"with a grant":        {"PUT", object, []string{"X-Amz-Grant-Read", "x"}, []string{"s3:PutObject " + at, "s3:PutObjectAcl " + at}},
		"with tags":           {"PUT", object, []string{"X-Amz-Tagging", "a=b"}, []string{"s3:PutObject " + at, "s3:PutObjectTagging " + at}},
		"CopyObject":          {"PUT", object, []string{"X-Amz-Copy-Source", "other/y%20z"}, []string{"s3:PutObject " + at, "s3:GetObject arn:aws:s3:::other/y z"}},
		"CreateUpload":        {"POST", object + "?uploads", nil, []string{"s3:PutObject " + at}},
		"CreateUpload, ACL":   {"POST", object + "?uploads", []string{"X-Amz-Acl", "private"}, []string{"s3:PutObject " + at, "s3:PutObjectAcl " + at}},
		"UploadPart":          {"PUT", object + "?uploadId=u&partNumber=1", nil, []string{"s3:PutObject " + at}},
		"UploadPartCopy":      {"PUT", object + "?uploadId=u&partNumber=1", []string{"X-Amz-Copy-Source", "/other/y"}, []string{"s3:PutObject " + at, "s3:GetObject arn:aws:s3:::other/y"}},
		"CompleteUpload":      {"POST", object + "?uploadId=u", nil, []string{"s3:PutObject " + at}},
		"AbortUpload":         {"DELETE", object + "?uploadId=u", nil, []string{"s3:AbortMultipartUpload " + at}},
		"ListParts":           {"GET", object + "?uploadId=u", nil, []string{"s3:ListMultipartUploadParts " + at}},
		"DeleteObject":        {"DELETE", object, nil, []string{"s3:DeleteObject " + at}},
		"DeleteVersion":       {"DELETE", object + "?versionId=1", nil, []string{"s3:DeleteObjectVersion " + at}},
		"GetObjectTagging":    {"GET", object + "?tagging", nil, []string{"s3:GetObjectTagging " + at}},
		"PutObjectTagging":    {"PUT", object + "?tagging", nil, []string{"s3:PutObjectTagging " + at}},
		"DeleteTagging":       {"DELETE", object + "?tagging", nil, []string{"s3:DeleteObjectTagging " + at}},
		"GetObjectAcl":        {"GET", object + "?acl", nil, []string{"s3:GetObjectAcl " + at}},
		"PutObjectAcl":        {"PUT", object + "?acl", nil, []string{"s3:PutObjectAcl " + at}},
		"GetAttributes":       {"GET", object + "?attributes", nil, []string{"s3:GetObjectAttributes " + at}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.try(t, "ADMIN", tc.method, tc.target, "", tc.headers...)
			var got []string
			for i, action := range w.events[0].Actions {
				got = append(got, action+" "+w.asked[i].resource)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			// Each of them is needed.
			for _, missing := range w.events[0].Actions {
				w := newWorld(t, nil)
				w.grants["ALMOST"] = func(action, _ string, _ map[string][]string) bool { return action != missing }
				if got := w.try(t, "ALMOST", tc.method, tc.target, "", tc.headers...); got.Code != 403 {
					t.Errorf("without %s: %d", missing, got.Code)
				}
				if w.events[0].Allowed || w.events[0].Status != 403 {
					t.Errorf("without %s the event says %+v", missing, w.events[0])
				}
			}
		})
	}
}

func TestConditionsGetWhatTheRequestHas(t *testing.T) {
	w := newWorld(t, nil)
	for name, tc := range map[string]struct {
		method, target string
		headers        []string
		want           map[string][]string
	}{
		"a listing without parameters": {"GET", "/files", nil, map[string][]string{}},
		"an empty prefix":              {"GET", "/files?prefix=", nil, map[string][]string{"s3:prefix": {""}}},
		"a header is no parameter":     {"GET", "/files", []string{"Prefix", "x"}, map[string][]string{}},
		"all parameters": {"GET", "/files?list-type=2&prefix=a%20b&delimiter=%2F&max-keys=5", nil,
			map[string][]string{"s3:prefix": {"a b"}, "s3:delimiter": {"/"}, "s3:max-keys": {"5"}}},
		"uploads":  {"GET", "/files?uploads&prefix=a", nil, map[string][]string{"s3:prefix": {"a"}}},
		"versions": {"GET", "/files?versions&prefix=a", nil, map[string][]string{"s3:prefix": {"a"}}},
		"headers": {"PUT", object, []string{"X-Amz-Acl", "private", "X-Amz-Server-Side-Encryption", "aws:kms"},
			map[string][]string{"s3:x-amz-acl": {"private"}, "s3:x-amz-server-side-encryption": {"aws:kms"}}},
	} {
		t.Run(name, func(t *testing.T) {
			w.asked = nil
			w.try(t, "ADMIN", tc.method, tc.target, "", tc.headers...)
			tc.want["aws:SourceIp"], tc.want["aws:SecureTransport"] = []string{"192.0.2.1"}, []string{"false"}
			tc.want["s3:x-amz-content-sha256"] = []string{hash("")}
			got := w.asked[0].context
			if len(got["aws:CurrentTime"]) != 1 {
				t.Errorf("no time in %v", got)
			}
			delete(got, "aws:CurrentTime")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEventsTellWhatARequestCameTo(t *testing.T) {
	w := newWorld(t, nil)
	w.try(t, "ACME", "PUT", object, "hello")
	w.try(t, "STRANGER", "PUT", object, "hello")
	want := []locals3.Event{
		{
			Method: "PUT", Bucket: bucket, Key: acme + "x", AccessKeyID: "ACME", Actions: []string{"s3:PutObject"}, Allowed: true, Status: 200, Bytes: 5,
			RemoteAddr: "192.0.2.1:1234", URI: "http://s3.test" + object,
		},
		{
			Method: "PUT", Bucket: bucket, Key: acme + "x", Status: 403,
			RemoteAddr: "192.0.2.1:1234", URI: "http://s3.test" + object, Code: "InvalidAccessKeyId", Sent: 250,
		},
	}
	if len(w.events) != 2 || w.events[0].RequestID == w.events[1].RequestID {
		t.Fatalf("%+v", w.events)
	}
	for i := range w.events {
		e := &w.events[i]
		if e.At.IsZero() || e.RequestID == "" {
			t.Errorf("neither when nor which: %+v", e)
		}
		e.At, e.RequestID = time.Time{}, ""
	}
	if diff := cmp.Diff(want, w.events); diff != "" {
		t.Error(diff)
	}
}

// For the race detector, and for the account of what is held: after all is
// deleted, there is room for all of it.
func TestManyAtOnceLeaveTheAccountRight(t *testing.T) {
	w := newWorld(t, func(c *locals3.Config) { c.MaxBytes = 100 })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			key := "/files/" + string(rune('a'+i%3))
			for range 20 {
				w.do(signed(t, "ADMIN", "PUT", key, "1234567890"))
				w.do(signed(t, "ADMIN", "GET", key, ""))
				w.do(signed(t, "ADMIN", "GET", "/files?prefix=", ""))
				w.do(signed(t, "ADMIN", "DELETE", key, ""))
			}
		})
	}
	all.Wait()
	w.try(t, "ADMIN", "PUT", "/files/x", string(make([]byte, 100))).is(t, 200, "")
}
