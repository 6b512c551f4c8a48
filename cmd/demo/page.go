package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"credential-broker/broker/brokertest/localauth0"
	"credential-broker/cmd/credential-broker/config"
)

// pageConfig is /config.json: where the page finds everything. It holds no secret.
type pageConfig struct {
	Issuer       string    `json:"issuer"`
	ClientID     string    `json:"clientId"`
	Audience     string    `json:"audience"`
	Organization string    `json:"organization,omitempty"`
	Broker       string    `json:"broker"`
	S3           string    `json:"s3,omitempty"` // empty: AWS
	STS          string    `json:"sts"`
	Region       string    `json:"region"`
	Demo         *pageDemo `json:"demo,omitempty"`

	buckets []string // hosts of S3 that the page may talk to beside S3
}

// pageDemo is what the page tells of the demo's world.
type pageDemo struct {
	Users []pageUser `json:"users"`
	Files []string   `json:"files"` // of several tenants, to reach for
}

type pageUser struct {
	Email  string `json:"email"`
	Tenant string `json:"tenant"`
}

// connects are the origins that the page may talk to, and no others.
func (c pageConfig) connects() ([]string, error) {
	all := []string{"'self'"}
	for _, address := range append([]string{c.Issuer, c.Broker, c.S3, c.STS}, c.buckets...) {
		if address == "" {
			continue
		}
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || strings.ContainsAny(u.Host, " ;,'\"") {
			return nil, fmt.Errorf("the page cannot be let talk to %q", address)
		}
		if origin := u.Scheme + "://" + u.Host; !slices.Contains(all, origin) {
			all = append(all, origin)
		}
	}
	return all, nil
}

// newPage serves what was built into dist, and the configuration. The page may
// run its own scripts only, talk to what it is for only, and be framed by nobody.
func newPage(dist string, c pageConfig) (http.Handler, error) {
	connects, err := c.connects()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write the page's configuration: %w", err)
	}
	root := os.DirFS(dist)
	if _, err := fs.Stat(root, "index.html"); err != nil {
		return nil, fmt.Errorf("the page is not built: %w", err)
	}
	policy := strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "worker-src 'self'", "style-src 'self'",
		"img-src 'self' blob: data:", // previews of files, and the icons in Uppy's style sheet
		"connect-src " + strings.Join(connects, " "),
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	}, "; ")
	files := http.FileServerFS(root)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-cache")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		case r.URL.Path == "/config.json":
			h.Set("Content-Type", "application/json")
			_, _ = w.Write(text) // who is gone need not hear
		case r.URL.Path != "/" && strings.HasSuffix(r.URL.Path, "/"):
			http.NotFound(w, r) // no folder is listed
		default:
			if strings.HasPrefix(r.URL.Path, "/assets/") {
				h.Set("Cache-Control", "public, max-age=31536000, immutable") // their names hold their digest
			}
			files.ServeHTTP(w, r)
		}
	}), nil
}

// demoPage is the page's configuration in the demo's own world.
func (s *story) demoPage() pageConfig {
	demo := &pageDemo{Files: []string{}}
	for _, u := range localauth0.DemoUsers() {
		demo.Users = append(demo.Users, pageUser{u.Email, u.Organization})
	}
	for _, f := range seeds() {
		demo.Files = append(demo.Files, f.key)
	}
	return pageConfig{
		Issuer: s.Issuer, ClientID: localauth0.DemoSPA, Audience: s.Audience, Broker: s.Broker, S3: s.S3, STS: s.STS, Region: s.Region, Demo: demo,
	}
}

// ownPage is the page's configuration for a real tenant: the service's own
// configuration says all but the client.
func (s *story) ownPage(cfg config.Config, o options) pageConfig {
	c := pageConfig{
		Issuer: s.Issuer, ClientID: o.ClientID, Audience: s.Audience, Organization: o.Organization, Broker: s.Broker, S3: s.S3, STS: s.STS, Region: cfg.STS.Region,
	}
	if c.S3 != "" {
		return c
	}
	for _, g := range cfg.Grants {
		host := "s3." + g.Region + "." + domain(g.Region)
		bucket := g.Bucket.String()
		if strings.Contains(bucket, "{tenant}") {
			bucket = "*" // a source of a policy names whole labels or any
		}
		c.buckets = append(c.buckets, "https://"+host, "https://"+bucket+"."+host)
	}
	return c
}

// domain is that of AWS for a region.
func domain(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// seed is a file that is there before anybody signs in.
type seed struct{ key, contentType, text string }

// seeds are a welcome for each tenant, and something of each to reach for.
func seeds() []seed {
	const text = "text/plain; charset=utf-8"
	return []seed{
		{"tenants/org_acme/welcome.txt", text, "Welcome. Only members of org_acme can read this: S3 sees to it.\n"},
		{"tenants/org_acme/plans/2027.txt", text, "Acme's plans for 2027: more anvils.\n"},
		{"tenants/org_globex/payroll.txt", text, "Globex's payroll. If you are not of org_globex and read this, a wall has a hole.\n"},
		{"tenants/org_globex/welcome.txt", text, "Welcome. Only members of org_globex can read this: S3 sees to it.\n"},
	}
}

// sow puts the seeds into the local S3.
func (s *story) sow() error {
	for _, f := range seeds() {
		if err := s.aws.S3.Seed(s.Bucket, f.key, f.contentType, []byte(f.text)); err != nil {
			return fmt.Errorf("put %s into the local S3: %w", filepath.Base(f.key), err)
		}
	}
	return nil
}
