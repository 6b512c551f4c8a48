package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"credential-broker/broker"
	"credential-broker/broker/brokertest/iam"
	"credential-broker/policy"
)

// inPrefix is what may stand in a key of a scope before its path, whatever the
// claims were.
var inPrefix = regexp.MustCompile(`\A(tenants|users|data|sealed)/([A-Za-z0-9][A-Za-z0-9_-]{0,62}/)?([a-z2-7]{52}/)?\z`)

// Whatever a token claims: there is no scope, or one whose document is proved,
// in which nobody but the claimed tenant occurs, and which opens, by evaluation,
// its own keys and no neighbour's. Threat case DS20.
func FuzzClaimsToPolicy(f *testing.F) {
	for _, seed := range []string{
		`{"sub":"auth0|alice","org_id":"org_acme","permissions":["upload:files"]}`,
		`{"sub":"a","app":{"tenant":"acme"},"scope":"openid files"}`,
		`{"sub":"a","https://acme.test/tenant":"acme","plan":"gold"}`,
		`{"sub":"a*","org_id":"org_*","permissions":["upload:files"]}`,
		`{"sub":"a","org_id":"${aws:username}","permissions":["upload:files"]}`,
		`{"sub":"a","org_id":"../org_b","permissions":["upload:files"]}`,
		`{"sub":"a","org_id":["org_a"],"permissions":"upload:files"}`,
		`{"sub":"a","app":{"tenant":"A_b"},"scope":"files"}`,
		`{"sub":"\u0000","org_id":"\ud800","permissions":["upload:files"]}`,
	} {
		f.Add([]byte(seed), "", "")
		f.Add([]byte(seed), "in/", "acme")
		f.Add([]byte(seed), "a/../../b", "*")
	}
	grants := []broker.Grant{
		grant(f, "claim", nil),
		grant(f, "pointer", func(g *broker.Grant) {
			g.Match = broker.Match{Scopes: []string{"files"}}
			g.Tenant = broker.TenantRule{Claim: "/app/tenant"}
			g.Prefix = template(f, "users/{tenant}/{user}/")
		}),
		grant(f, "bucket", func(g *broker.Grant) {
			g.Match = broker.Match{Claims: map[string]any{"plan": "gold"}}
			g.Tenant = broker.TenantRule{Claim: "https://acme.test/tenant"}
			g.Bucket, g.Prefix = bucket(f, "{tenant}-files"), template(f, "data/")
		}),
		grant(f, "request", func(g *broker.Grant) {
			g.Match, g.Tenant = broker.Match{}, broker.TenantRule{Request: true}
			g.Prefix, g.BindSourceIP = template(f, "sealed/{tenant}/"), true
			g.KMSKey = kmsKey(f, "arn:aws:kms:eu-west-1:123456789012:key/x")
		}),
	}
	f.Fuzz(func(t *testing.T, data []byte, path, tenant string) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var claims broker.Claims
		if err := dec.Decode(&claims); err != nil {
			return
		}
		w := newWorld(t)
		subject, _ := claims["sub"].(string)
		w.identity = broker.Identity{Issuer: "https://acme.eu.auth0.com/", Subject: subject, Expiry: noon.Add(broker.MaxDuration), Claims: claims}
		w.cfg.Grants = grants
		for _, g := range grants {
			req := broker.Request{Grant: g.Name, Path: path, Address: "192.0.2.7"}
			if g.Tenant.Request {
				req.Tenant = tenant
			}
			few := only(claims, broker.ClaimsOf(grants))
			w.identity.Claims = few
			_, fewErr := w.exchange(t, req)
			w.identity.Claims = claims
			creds, err := w.exchange(t, req)
			if fmt.Sprint(fewErr) != fmt.Sprint(err) {
				t.Fatalf("%s: %v, but with the claims that the grants ask for alone: %v", g.Name, err, fewErr)
			}
			if err != nil {
				if errors.Is(err, broker.ErrInternal) && subject != "" {
					t.Fatalf("%s: %v", g.Name, err)
				}
				continue
			}
			if all, few := w.orders[len(w.orders)-1], w.orders[len(w.orders)-2]; all.Document.String() != few.Document.String() {
				t.Fatalf("%s: %s, but with the claims that the grants ask for alone: %s", g.Name, all.Document, few.Document)
			}
			mustBeApart(t, w.orders[len(w.orders)-1], creds.Scope)
		}
	})
}

// only returns the claims of these names.
func only(claims broker.Claims, names []string) broker.Claims {
	few := broker.Claims{}
	for _, name := range names {
		if value, ok := claims[name]; ok {
			few[name] = value
		}
	}
	return few
}

// mustBeApart holds an order to what its scope says, by other means than those
// that made it.
func mustBeApart(t *testing.T, o broker.Order, scope broker.Scope) {
	t.Helper()
	s := scope.S3
	if err := policy.Confined(o.Document.String(), s); err != nil {
		t.Fatal(err)
	}
	name := scope.Tenant.String()
	place := s.Bucket.String() + "/" + s.Prefix.String()
	if !inPrefix.MatchString(s.Prefix.String()) || !strings.Contains(place, "/"+name+"/") && !strings.HasPrefix(place, name+"-files/") {
		t.Fatalf("tenant %q is at %s", name, place)
	}
	doc, err := iam.Parse([]byte(o.Document.String()))
	if err != nil {
		t.Fatal(err)
	}
	allowed := func(key string) bool {
		return iam.Decide(iam.Request{
			Action: "s3:GetObject", Resource: "arn:aws:s3:::" + s.Bucket.String() + "/" + key, Context: map[string][]string{"aws:SourceIp": {"192.0.2.7"}},
		}, doc).Allowed()
	}
	own, base := s.Key(), strings.TrimSuffix(s.Key(), "/")
	if !s.Path.IsObject() {
		own += "x"
	}
	if !allowed(own) {
		t.Fatalf("%s is closed to its tenant: %s", own, o.Document)
	}
	for _, outside := range []string{"", "x", base + "2/x", base[:len(base)-1] + "/x", base + "-x", "tenants/" + name + "2/x", "users/x", s.Prefix.String() + "../x"} {
		if !strings.HasPrefix(outside, s.Key()) && allowed(outside) {
			t.Fatalf("%q is open: %s", outside, o.Document)
		}
	}
}
