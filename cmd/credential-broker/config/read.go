package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"credential-broker/broker"
	"credential-broker/policy"
)

// config reads the whole file.
func (r *reader) config(root node) Config {
	m := root.object()
	limits, revoked := m["limits"].object(), m["revoked"].object()
	cfg := Config{
		Listen:      convert(m["listen"], address),
		AdminListen: convert(m["admin_listen"], address),
		AdminPprof:  m["admin_pprof"].boolean(),
		TraceTenant: m["telemetry"].object()["trace_tenant"].boolean(),
		Issuers:     issuers(m["issuers"]),
		WebIdentity: webIdentity(m["web_identity"]),
		STS:         sts(m["sts"], limits["sts_per_second"]),
		// A million entries hold about 3 GB; ten million is where a number is a slip.
		CacheEntries: m["cache"].object()["entries"].integer(1, 10_000_000),
		SharedCache:  sharedCache(m["shared_cache"]),
		TokenBytes:   limits["token_bytes"].integer(256, 8192),
		Limits: Limits{
			PerSubject:         limits["per_subject_per_minute"].integer(1, 1_000_000),
			PerTenant:          limits["per_tenant_per_minute"].integer(1, 1_000_000),
			PerAddressFailures: limits["per_address_failures_per_minute"].integer(1, 1_000_000),
		},
		Revoked: broker.Revoked{Subjects: set(revoked["subjects"].texts()), Tenants: set(revoked["tenants"].texts())},
		Audit:   audit(m["audit"]),
		Grants:  grants(m["grants"]),
	}
	whose(m["grants"], cfg)
	if cfg.WebIdentity.Mode == Forwarded {
		cfg.Notes = append(cfg.Notes, "mode forwarded: a caller can ask STS himself with his token; the role's own policy holds him to his tenant, and to nothing else of a grant: match, a narrower access, bind_source_ip, revoked and the audit record hold only for who asks here")
	}
	cfg.Notes = append(cfg.Notes, unwatched(cfg.WebIdentity, runtime.GOOS)...)
	for _, n := range m["trusted_proxies"].list() {
		cfg.TrustedProxies = append(cfg.TrustedProxies, convert(n, netip.ParsePrefix))
	}
	for _, n := range m["cors"].object()["allowed_origins"].list() {
		cfg.AllowedOrigins = append(cfg.AllowedOrigins, convert(n, origin))
	}
	return cfg
}

// unwatched says that nobody looks at who may read the signing keys: on Windows a
// file's mode, which Go makes up, does not tell.
func unwatched(w WebIdentity, system string) []string {
	if system != "windows" || w.Mode != Minted {
		return nil
	}
	return []string{"on Windows it is not checked who may read the signing keys, which have the power of every tenant: keep them in a folder whose access control list has this service's user alone"}
}

func issuers(n node) []Issuer {
	var all []Issuer
	for _, e := range n.list() {
		m := e.object()
		i := Issuer{
			URL: convert(m["url"], httpsURL), Audiences: m["audiences"].texts(), Clients: m["clients"].texts(),
			JWKSURL: convert(m["jwks_url"], optional(httpsURL)), LogoutAudiences: m["logout_audiences"].texts(),
		}
		if len(i.LogoutAudiences) == 0 {
			i.LogoutAudiences = i.Clients
		}
		for _, a := range m["algorithms"].list() {
			i.Algorithms = append(i.Algorithms, convert(a, algorithm))
		}
		if !m["audiences"].absent() && len(i.Audiences) == 0 {
			m["audiences"].problem("must not be empty: without an audience a token for any API would do")
		}
		if !m["algorithms"].absent() && len(i.Algorithms) == 0 {
			m["algorithms"].problem("must not be empty")
		}
		if slices.ContainsFunc(all, func(o Issuer) bool { return o.URL == i.URL }) {
			m["url"].problem("given twice")
		}
		all = append(all, i)
	}
	if !n.absent() && len(all) == 0 {
		n.problem("must not be empty")
	}
	return all
}

func webIdentity(n node) WebIdentity {
	m := n.object()
	w := WebIdentity{Mode: m["mode"].text(), SigningKeys: m["signing_keys"].texts()}
	before := len(n.r.problems)
	w.Issuer = convert(m["issuer"], optional(httpsURL))
	switch w.Mode {
	case Minted:
		if w.Issuer == "" && len(n.r.problems) == before {
			m["issuer"].problem("is missing: mode minted needs the URL under which AWS finds the broker's keys")
		}
		if w.Audience = m["audience"].text(); w.Audience == "" {
			m["audience"].problem("must not be empty")
		}
		if len(w.SigningKeys) == 0 {
			m["signing_keys"].problem("is missing: mode minted needs a key to sign with")
		}
		for _, path := range w.SigningKeys {
			if broker.Redact(path) != path { // or whoever cannot open it would name it
				m["signing_keys"].problem("holds a key: it must be the path of the key's file")
			}
		}
	case Forwarded:
		// Empty is what a variable without a value leaves.
		for name, given := range map[string]bool{"issuer": w.Issuer != "", "audience": !m["audience"].absent(), "signing_keys": len(w.SigningKeys) > 0} {
			if given {
				m[name].problem("is for mode minted only")
			}
		}
	default:
		if !m["mode"].absent() {
			m["mode"].problem("%q: minted or forwarded", w.Mode)
		}
	}
	return w
}

func sts(n, perSecond node) STS {
	m := n.object()
	s := STS{
		Region:        convert(m["region"], region),
		Endpoint:      convert(m["endpoint"], optional(stsURL)),
		Timeout:       m["timeout"].duration(100*time.Millisecond, 1800*time.Millisecond),
		MaxConcurrent: m["max_concurrent"].integer(1, 1024),
		PerSecond:     perSecond.integer(1, 1_000_000),
	}
	for _, e := range m["fallback_regions"].list() {
		name := convert(e, region)
		switch {
		case name == "":
		case name == s.Region || slices.Contains(s.FallbackRegions, name):
			e.problem("given twice")
		case s.Region != "" && policy.PartitionOf(name) != policy.PartitionOf(s.Region):
			e.problem("is in partition %s, and sts.region in %s: its STS does not know the roles", policy.PartitionOf(name), policy.PartitionOf(s.Region))
		}
		s.FallbackRegions = append(s.FallbackRegions, name)
	}
	if s.Endpoint != "" && len(s.FallbackRegions) > 0 {
		m["fallback_regions"].problem("must be empty where sts.endpoint is set: an endpoint is of one region")
	}
	return s
}

func audit(n node) Audit {
	m := n.object()
	a := Audit{Output: m["output"].text(), Hash: m["hash"].texts(), HashKey: m["hash_key"].text()}
	for _, e := range m["hash"].list() {
		if field := e.text(); field != "subject" && field != "address" {
			e.problem("%q: subject and address are known", field)
		}
	}
	switch {
	case a.Output == "":
		m["output"].problem("must not be empty")
	case len(a.Hash) > 0 && a.HashKey == "":
		n.problem("hash_key is missing: without a key, whoever has a list of names could try them")
	case len(a.Hash) == 0 && a.HashKey != "":
		n.problem("hash_key is for hash")
	}
	return a
}

// sharedCache is no part of the revision: it changes no answer, and replicas whose
// URLs differ share all the same.
func sharedCache(n node) SharedCache {
	effective := n.r.effective
	defer func() { n.r.effective = effective }()
	m := n.object()
	before := len(n.r.problems)
	text := m["url"].text()
	s := SharedCache{URL: broker.NewSecret(text), KeyFile: m["key_file"].text(), Timeout: m["timeout"].duration(time.Millisecond, 500*time.Millisecond)}
	if len(n.r.problems) > before {
		return s
	}
	if err := redisURL(text); text != "" && err != nil {
		m["url"].problem("%v", err)
	}
	if (text == "") != (s.KeyFile == "") {
		n.problem("url and key_file go together")
	}
	return s
}

func grants(n node) []broker.Grant {
	var all []broker.Grant
	for _, e := range n.list() {
		before := len(n.r.problems)
		g := grant(e)
		if len(n.r.problems) == before {
			e.each(g.Validate())
		}
		for _, other := range all {
			e.each(g.Conflict(other))
		}
		all = append(all, g)
	}
	if !n.absent() && len(all) == 0 {
		n.problem("must not be empty")
	}
	return all
}

// whose asks each grant for its issuer where there are several: who may choose an
// organisation's name at one could be a tenant of the other's otherwise.
func whose(n node, cfg Config) {
	for i, e := range n.list() {
		if _, ok := cfg.Grants[i].Match.Claims["iss"].(string); len(cfg.Issuers) > 1 && !ok {
			e.problem("match.claims.iss: is missing: with several issuers, say whose tenants these are, or tenants of one name would be one tenant")
		}
	}
}

func grant(n node) broker.Grant {
	m := n.object()
	match, tenant := m["match"].object(), m["tenant"].object()
	g := broker.Grant{
		Name:     convert(m["name"], grantName),
		Match:    broker.Match{Permissions: match["permissions"].texts(), Scopes: match["scopes"].texts(), Claims: claims(match["claims"])},
		RoleARN:  convert(m["role_arn"], broker.ParseRoleARN),
		Tenant:   broker.TenantRule{Claim: tenant["claim"].text(), Request: tenant["request"].boolean(), Pattern: convert(tenant["pattern"], broker.CompilePattern)},
		Bucket:   convert(m["bucket"], policy.ParseBucketTemplate),
		Region:   convert(m["region"], region),
		Prefix:   convert(m["prefix"], policy.ParseTemplate),
		Duration: m["duration"].duration(broker.MinDuration, broker.MaxDuration),
		KMSKey:   convert(m["kms_key_arn"], policy.ParseKMSKey), BindSourceIP: m["bind_source_ip"].boolean(),
	}
	if !g.Bucket.IsZero() && !g.Prefix.IsZero() {
		if err := g.Layout().Validate(); err != nil {
			m["prefix"].problem("%v", err)
		}
	}
	for _, name := range []string{"permissions", "scopes"} {
		if match[name].emptyText() {
			match[name].problem("must not be empty: it would ask for nothing, and every token would match; leave the key out if that is meant")
		}
	}
	if names := m["access"].texts(); !m["access"].absent() {
		access, err := policy.ParseAccess(names)
		if err != nil {
			m["access"].problem("%v", err)
		}
		g.Access = access
	}
	return g
}

// claims reads the exact values of match.claims.
func claims(n node) map[string]any {
	all := map[string]any{}
	for _, e := range n.entries() {
		c := node{r: n.r, yaml: e.value, path: join(n.path, e.name), key: n.key + "[]"}
		if _, twice := all[e.name]; twice {
			node{r: n.r, yaml: e.key, path: c.path}.problem("given twice")
		}
		switch e.value.ShortTag() {
		case "!!bool":
			all[e.name] = c.boolean()
		case "!!int":
			all[e.name] = int64(c.integer(-1<<53, 1<<53)) // what every reader of JSON can hold exactly
		default:
			all[e.name] = c.text()
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func set(all []string) map[string]bool {
	m := make(map[string]bool, len(all))
	for _, s := range all {
		m[s] = true
	}
	return m
}

// optional lets an empty text pass.
func optional(parse func(string) (string, error)) func(string) (string, error) {
	return func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return parse(s)
	}
}

func address(s string) (string, error) {
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		return "", fmt.Errorf("%q: an address is host:port or :port", s)
	}
	return s, nil
}

// httpsURL takes https, and http on loopback, where nobody listens in.
func httpsURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q: not a URL of scheme, host and path", s)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", fmt.Errorf("%q: https is needed; http is for loopback only", s)
	}
	return s, nil
}

// stsURL refuses the global endpoint: the sessions that it gives are not good in
// every region.
func stsURL(s string) (string, error) {
	if u, err := url.Parse(s); err == nil && strings.EqualFold(u.Hostname(), "sts.amazonaws.com") {
		return "", fmt.Errorf("%q: the global endpoint; leave it empty for that of sts.region", s)
	}
	return httpsURL(s)
}

// redisURL does not repeat the text: it may hold a password.
func redisURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Fragment != "" {
		return errors.New("not a URL rediss://[user:password@]host[:port][/database]")
	}
	if tls := u.Scheme == "rediss" || u.Scheme == "valkeys"; !tls && (u.Scheme != "redis" && u.Scheme != "valkey" || !loopback(u.Hostname())) {
		return errors.New("rediss:// is needed; redis:// is for loopback only")
	}
	for name := range u.Query() {
		if name != "addr" && name != "master_set" {
			return fmt.Errorf("%q: of a query, addr and master_set are known", name)
		}
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func origin(s string) (string, error) {
	if _, err := httpsURL(s); err != nil {
		return "", err
	}
	if u, err := url.Parse(s); err != nil || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) {
		return "", fmt.Errorf("%q: an origin is scheme://host[:port], in lower case, without a path", s)
	}
	return s, nil
}

func algorithm(s string) (string, error) {
	if !slices.Contains([]string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}, s) {
		return "", fmt.Errorf("%q: RS256, RS384, RS512, ES256, ES384 and ES512 are known", s)
	}
	return s, nil
}

var regionName = regexp.MustCompile(`\A[a-z]{2}(-[a-z]+)+-[0-9]{1,2}\z`)

func region(s string) (string, error) {
	if !regionName.MatchString(s) {
		return "", fmt.Errorf("%q: not the name of an AWS region, such as ap-northeast-1", s)
	}
	return s, nil
}

var grantNameForm = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9_-]{0,62}\z`)

func grantName(s string) (string, error) {
	if !grantNameForm.MatchString(s) {
		return "", fmt.Errorf("%q: letters, digits, _ and -, at most 63", s)
	}
	return s, nil
}
