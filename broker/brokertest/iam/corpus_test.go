package iam_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/iam"
	"credential-broker/policy"
)

// corpus is what the fuzzer of package broker has found: claims, a path, a tenant.
const corpus = "../../testdata/fuzz/FuzzClaimsToPolicy"

// stop ends an exchange with its order.
type stop struct {
	identity broker.Identity
	order    *broker.Order
}

func (s stop) Verify(context.Context, broker.Secret) (broker.Identity, error) { return s.identity, nil }

func (s stop) Issue(_ context.Context, o broker.Order) (broker.Credentials, error) {
	*s.order = o
	return broker.Credentials{}, errors.New("ordered")
}

// grants are of every shape.
func grants(s sampler) []broker.Grant {
	role := must[broker.RoleARN](s)(broker.ParseRoleARN("arn:aws:iam::" + account + ":role/uploads"))
	grant := func(bucket, prefix string, tenant broker.TenantRule, more func(*broker.Grant)) broker.Grant {
		g := broker.Grant{
			Name: "g", RoleARN: role, Tenant: tenant, Region: "eu-west-1", Access: policy.List | policy.Read | policy.Write | policy.Delete, Duration: time.Hour,
			Bucket: must[policy.BucketTemplate](s)(policy.ParseBucketTemplate(bucket)), Prefix: must[policy.Template](s)(policy.ParseTemplate(prefix)),
		}
		if more != nil {
			more(&g)
		}
		return g
	}
	return []broker.Grant{
		grant("uploads", "tenants/{tenant}/", broker.TenantRule{Claim: "org_id"}, nil),
		grant("uploads", "users/{tenant}/{user}/", broker.TenantRule{Claim: "/app/tenant"}, nil),
		grant("{tenant}-uploads", "data/", broker.TenantRule{Claim: "https://acme.test/tenant"}, nil),
		grant("uploads", "sealed/{tenant}/", broker.TenantRule{Request: true}, func(g *broker.Grant) {
			g.BindSourceIP, g.KMSKey = true, must[policy.KMSKey](s)(policy.ParseKMSKey(keyARN))
		}),
	}
}

// parseCorpus reads a file as `go test -fuzz` writes it.
func parseCorpus(t *testing.T, file string) (claims broker.Claims, path, tenant string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 4 || lines[0] != "go test fuzz v1" {
		t.Fatalf("%s: %q", file, lines)
	}
	var values [3]string
	for i, line := range lines[1:] {
		text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(line, "[]byte("), "string("), ")")
		if values[i], err = strconv.Unquote(text); err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(values[0])))
	dec.UseNumber()
	_ = dec.Decode(&claims) // the fuzzer takes no more than this either
	return claims, values[1], values[2]
}

// What the fuzzer has found goes to the other evaluator too: whatever a token
// claims, what comes of it is open inside, and closed everywhere else.
func TestAnotherEvaluatorAgreesOnTheFuzzersCorpus(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(corpus, "*"))
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	s := sampler{t: t}
	var questions []question
	asked := map[policy.Document]bool{}
	for _, file := range files {
		claims, path, tenant := parseCorpus(t, file)
		subject, _ := claims["sub"].(string)
		for _, g := range grants(s) {
			var order broker.Order
			id := broker.Identity{Issuer: "https://issuer.example/", Subject: subject, Expiry: time.Now().Add(time.Hour), Claims: claims}
			b, err := broker.New(broker.Config{
				Revision: "1", Grants: []broker.Grant{g}, Verifier: stop{identity: id}, Issuer: stop{order: &order}, Auditor: broker.NewAuditLog(io.Discard),
			})
			if err != nil {
				t.Fatal(err)
			}
			req := broker.Request{Token: broker.NewSecret("t"), Path: path, Address: "192.0.2.7"}
			if g.Tenant.Request {
				req.Tenant = tenant
			}
			if _, err := b.Exchange(t.Context(), req); err == nil || order.Document.IsZero() || asked[order.Document] {
				continue
			}
			asked[order.Document] = true
			questions = append(questions, about(order)...)
		}
	}
	enough(t, map[string]int{"questions": len(questions)}, 1000, "questions")
	node := needSimulator(t)
	wrong := 0
	for i, a := range ask(t, node, questions) {
		q := questions[i]
		within := contains(q.scope, q.request)
		if a.Error != "" || len(a.Ignored) > 0 || a.Result != q.ours(t) || (a.Result == "Allowed") != within {
			if wrong++; wrong < 20 {
				t.Errorf("by the simulator %s (%s %q), by our own %s, and in the scope: %t\n%s", a.Result, a.Error, a.Ignored, q.ours(t), within, q)
			}
		}
	}
	t.Log(len(files), "files,", len(questions), "questions")
}

// about asks for every action that there is, inside the order's scope and around it.
func about(o broker.Order) []question {
	s3 := o.Scope.S3
	base := strings.TrimSuffix(s3.Key(), "/")
	keys := []string{s3.Key(), s3.Key() + "x", base + "2/x", base[:len(base)-1] + "/x", "x", s3.Prefix.String() + "../x", "tenants/other/x"}
	var all []question
	for _, action := range actions()[:8] {
		for _, key := range keys {
			arn := "arn:aws:s3:::" + s3.Bucket.String()
			req := iam.Request{Action: action, Resource: arn + "/" + key, Context: map[string][]string{"aws:SourceIp": {"192.0.2.7"}}}
			switch {
			case action == "s3:ListBucket":
				req.Resource, req.Context["s3:prefix"] = arn, []string{key}
			case strings.HasPrefix(action, "kms:"):
				req.Context["kms:ViaService"] = []string{"s3.eu-west-1.amazonaws.com"}
				req.Context["kms:EncryptionContext:aws:s3:arn"] = []string{req.Resource}
				req.Resource = keyARN
			}
			all = append(all, question{kind: "corpus", role: wide, session: o.Document.String(), request: req, scope: s3, claim: exactly})
		}
	}
	return all
}
