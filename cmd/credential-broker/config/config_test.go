package config_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-broker/broker"
	"credential-broker/cmd/credential-broker/config"
	"credential-broker/policy"
)

var update = flag.Bool("update", false, "rewrite the README's table of keys")

const good = `
issuers:
  - url: https://acme.eu.auth0.com/
    audiences: [https://uploads.acme.example]
web_identity:
  mode: minted
  issuer: https://broker.acme.example
  signing_keys: [/run/secrets/web-identity.pem]
sts: {region: ap-northeast-1}
grants:
  - name: uploads
    match: {permissions: [upload:files], claims: {plan: gold, beta: true, level: 3}}
    role_arn: arn:aws:iam::123456789012:role/tenant-uploads
    tenant: {claim: org_id}
    bucket: acme-uploads
    region: ap-northeast-1
    prefix: tenants/{tenant}/
    access: [list, read]
`

func parse(text string, env map[string]string) (config.Config, error) {
	return config.Parse("c.yaml", []byte(text), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestAbsentKeysHaveTheDocumentedDefaults(t *testing.T) {
	cfg, err := parse(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != ":8080" || cfg.AdminListen != "127.0.0.1:9090" || cfg.CacheEntries != 100000 || cfg.TokenBytes != 8192 || cfg.Audit.Output != "stdout" ||
		cfg.STS.Timeout != 1800*time.Millisecond || cfg.STS.MaxConcurrent != 32 || cfg.STS.PerSecond != 20 || cfg.STS.FallbackRegions != nil || cfg.WebIdentity.Audience != "sts.amazonaws.com" || len(cfg.Notes) != 0 {
		t.Errorf("%+v", cfg)
	}
	if diff := cmp.Diff([]string{"RS256"}, cfg.Issuers[0].Algorithms); diff != "" {
		t.Error(diff)
	}
	g := cfg.Grants[0]
	if g.Duration != time.Hour || g.Access != policy.List|policy.Read || g.Tenant.Pattern == nil || g.Tenant.Request || g.Prefix.String() != "tenants/{tenant}/" {
		t.Errorf("%+v", g)
	}
	if diff := cmp.Diff(broker.Match{Permissions: []string{"upload:files"}, Claims: map[string]any{"plan": "gold", "beta": true, "level": int64(3)}}, g.Match); diff != "" {
		t.Error(diff)
	}
	if err := broker.ValidateGrants(cfg.Grants); err != nil {
		t.Error(err)
	}
}

// replace is the good configuration with one part changed.
func replace(t testing.TB, old, with string) string {
	t.Helper()
	if !strings.Contains(good, old) {
		t.Fatalf("%q is not in the good configuration", old)
	}
	return strings.Replace(good, old, with, 1)
}

func TestEachProblemIsSaidWithItsPlace(t *testing.T) {
	const keys = "  signing_keys: [/run/secrets/web-identity.pem]\n"
	for name, tc := range map[string]struct{ text, want string }{
		"empty":                   {"", "c.yaml:1:1: empty"},
		"not YAML":                {"a: [", "c.yaml:1:1: not YAML"},
		"not a mapping":           {"- a", "must be a mapping"},
		"two documents":           {good + "---\na: b\n", "more than one document"},
		"too long":                {good + strings.Repeat("# x\n", 1<<18), "at most 1048576"},
		"an unknown key":          {good + "lisen: x\n", "c.yaml:19:1: lisen: unknown key"},
		"an unknown key inside":   {replace(t, "sts: {", "sts: {x: 1, "), "sts.x: unknown key"},
		"a key twice":             {good + "sts: {region: eu-west-1}\n", "c.yaml:19:1: sts: given twice"},
		"an anchor":               {replace(t, "sts: {", "sts: &a {"), "anchors, aliases and tags are not taken"},
		"a tag":                   {replace(t, "name: uploads", "name: !!str uploads"), "anchors, aliases and tags are not taken"},
		"a key of no text":        {good + "1: x\n", "a key must be plain text"},
		"a number for text":       {replace(t, "name: uploads", "name: 12"), "must be text, not int"},
		"a list for text":         {replace(t, "name: uploads", "name: [a]"), "must be text, not a list"},
		"a mapping for a list":    {replace(t, "[list, read]", "{read: true}"), "grants[0].access: must be a list"},
		"text for grants":         {good[:strings.Index(good, "grants:")] + "grants: uploads\n", "c.yaml:10:9: grants: must be a list"},
		"a gap in a list":         {replace(t, "[list, read]", "list,,read"), "c.yaml:18:13: grants[0].access[1]: empty or given twice"},
		"an end of a list":        {replace(t, "[list, read]", "'list, read,'"), "grants[0].access[2]: empty or given twice"},
		"nothing for a list":      {replace(t, "[https://uploads.acme.example]", "''"), "issuers[0].audiences: must not be empty"},
		"a list for a mapping":    {replace(t, "{claim: org_id}", "[claim]"), "grants[0].tenant: must be a mapping"},
		"no issuers":              {replace(t, "issuers:\n  - url: https://acme.eu.auth0.com/\n    audiences: [https://uploads.acme.example]\n", ""), "issuers: is missing"},
		"issuers empty":           {replace(t, "issuers:\n  - url: https://acme.eu.auth0.com/\n    audiences: [https://uploads.acme.example]\n", "issuers: []\n"), "issuers: must not be empty"},
		"whose tenants":           {replace(t, "web_identity:", "  - {url: https://b.eu.auth0.com/, audiences: [a]}\nweb_identity:"), "grants[0]: match.claims.iss: is missing"},
		"a tenant for a bucket":   {replace(t, "bucket: acme-uploads", "bucket: \"{tenant}\""), "put something of your own beside {tenant}"},
		"an issuer twice":         {replace(t, "web_identity:", "  - {url: https://acme.eu.auth0.com/, audiences: [a]}\nweb_identity:"), "issuers[1].url: given twice"},
		"no audience":             {replace(t, "    audiences: [https://uploads.acme.example]\n", ""), "issuers[0].audiences: is missing"},
		"audiences empty":         {replace(t, "[https://uploads.acme.example]", "[]"), "issuers[0].audiences: must not be empty"},
		"an empty audience":       {replace(t, "[https://uploads.acme.example]", `[""]`), "issuers[0].audiences[0]: empty or given twice"},
		"http":                    {replace(t, "https://acme.eu.auth0.com/", "http://acme.eu.auth0.com/"), "https is needed"},
		"no URL":                  {replace(t, "https://acme.eu.auth0.com/", "acme"), "not a URL"},
		"a URL with a query":      {replace(t, "https://acme.eu.auth0.com/", "https://acme.eu.auth0.com/?a"), "not a URL"},
		"an unknown algorithm":    {replace(t, "    audiences", "    algorithms: [HS256]\n    audiences"), "issuers[0].algorithms[0]: \"HS256\""},
		"algorithms empty":        {replace(t, "    audiences", "    algorithms: []\n    audiences"), "issuers[0].algorithms: must not be empty"},
		"no mode":                 {replace(t, "  mode: minted\n", ""), "web_identity.mode: is missing"},
		"an unknown mode":         {replace(t, "mode: minted", "mode: both"), "minted or forwarded"},
		"no web identity":         {replace(t, "web_identity:\n  mode: minted\n  issuer: https://broker.acme.example\n"+keys, ""), "web_identity: is missing"},
		"minted, no issuer":       {replace(t, "  issuer: https://broker.acme.example\n", ""), "web_identity.issuer: is missing"},
		"minted, no audience":     {replace(t, keys, keys+"  audience: \"\"\n"), "web_identity.audience: must not be empty"},
		"minted, no key":          {replace(t, keys, ""), "web_identity.signing_keys: is missing"},
		"a key for its path":      {replace(t, keys, "  signing_keys: [\"-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49\"]\n"), "web_identity.signing_keys: holds a key: it must be the path"},
		"forwarded with a key":    {replace(t, "mode: minted", "mode: forwarded"), "web_identity.signing_keys: is for mode minted only"},
		"forwarded, an issuer":    {replace(t, "mode: minted", "mode: forwarded"), "web_identity.issuer: is for mode minted only"},
		"a list for an issuer":    {replace(t, "issuer: https://broker.acme.example", "issuer: [a]"), "c.yaml:7:11: web_identity.issuer: must be text, not a list"},
		"no region":               {replace(t, "sts: {region: ap-northeast-1}", "sts: {}"), "sts.region: is missing"},
		"a wrong region":          {replace(t, "sts: {region: ap-northeast-1}", "sts: {region: tokyo}"), "not the name of an AWS region"},
		"a plain endpoint":        {replace(t, "sts: {", "sts: {endpoint: \"http://sts.example\", "), "sts.endpoint"},
		"too patient":             {replace(t, "sts: {", "sts: {timeout: 2s, "), "from 100ms to 1.8s"},
		"no duration":             {replace(t, "sts: {", "sts: {timeout: 1800, "), "sts.timeout: must be text"},
		"no place":                {replace(t, "sts: {", "sts: {max_concurrent: 0, "), "from 1 to 1024"},
		"the global endpoint":     {replace(t, "sts: {", "sts: {endpoint: \"https://STS.amazonaws.com\", "), "c.yaml:9:17: sts.endpoint: \"https://STS.amazonaws.com\": the global endpoint"}, // threat case ST20
		"the global region":       {replace(t, "sts: {region: ap-northeast-1}", "sts: {region: aws-global}"), "not the name of an AWS region"},
		"a fallback to nowhere":   {replace(t, "sts: {", "sts: {fallback_regions: [tokyo], "), "c.yaml:9:26: sts.fallback_regions[0]: \"tokyo\": not the name of an AWS region"},
		"a fallback to itself":    {replace(t, "sts: {", "sts: {fallback_regions: [ap-northeast-1], "), "c.yaml:9:26: sts.fallback_regions[0]: given twice"},
		"a fallback twice":        {replace(t, "sts: {", "sts: {fallback_regions: [eu-west-1, eu-west-1], "), "c.yaml:9:37: sts.fallback_regions[1]: given twice"},
		"a fallback to China":     {replace(t, "sts: {", "sts: {fallback_regions: [cn-north-1], "), "sts.fallback_regions[0]: is in partition aws-cn, and sts.region in aws"},
		"a fallback to GovCloud":  {replace(t, "sts: {", "sts: {fallback_regions: [us-gov-west-1], "), "sts.fallback_regions[0]: is in partition aws-us-gov, and sts.region in aws"},
		"a fallback from China":   {replace(t, "sts: {region: ap-northeast-1}", "sts: {region: cn-north-1, fallback_regions: [eu-west-1]}"), "sts.fallback_regions[0]: is in partition aws, and sts.region in aws-cn"},
		"fallbacks of an address": {replace(t, "sts: {", "sts: {endpoint: \"https://sts.example\", fallback_regions: [eu-west-1], "), "c.yaml:9:58: sts.fallback_regions: must be empty where sts.endpoint is set"},
		"a Redis without TLS":     {good + "shared_cache: {url: \"redis://canary@redis.example\", key_file: k}\n", "shared_cache.url: rediss:// is needed"},
		"a Redis unverified":      {good + "shared_cache: {url: \"rediss://redis.example?skip_verify=1\", key_file: k}\n", "shared_cache.url: \"skip_verify\""},
		"what is no Redis":        {good + "shared_cache: {url: redis.example, key_file: k}\n", "shared_cache.url: not a URL"},
		"a Redis without a key":   {good + "shared_cache: {url: \"rediss://redis.example\"}\n", "shared_cache: url and key_file go together"},
		"a key without a Redis":   {good + "shared_cache: {key_file: k}\n", "shared_cache: url and key_file go together"},
		"a patient Redis":         {good + "shared_cache: {url: \"rediss://redis.example\", key_file: k, timeout: 2s}\n", "shared_cache.timeout"},
		"no entries":              {good + "cache: {entries: 0}\n", "cache.entries: \"0\""},
		"words for a number":      {good + "cache: {entries: many}\n", "cache.entries: \"many\""},
		"a longer token":          {good + "limits: {token_bytes: 8193}\n", "limits.token_bytes"},
		"a limit of nothing":      {good + "limits: {sts_per_second: 0}\n", "limits.sts_per_second"},
		"a wrong proxy":           {good + "trusted_proxies: [10.0.0.1]\n", "trusted_proxies[0]"},
		"any origin":              {good + "cors: {allowed_origins: [\"*\"]}\n", "cors.allowed_origins[0]"},
		"an origin with a path":   {good + "cors: {allowed_origins: [\"https://a.example/\"]}\n", "an origin is scheme://host[:port]"},
		"an origin in capitals":   {good + "cors: {allowed_origins: [\"https://A.example\"]}\n", "an origin is scheme://host[:port]"},
		"no address":              {good + "listen: localhost\n", "listen: \"localhost\""},
		"no grants":               {regexp.MustCompile(`(?s)grants:.*`).ReplaceAllString(good, ""), "grants: is missing"},
		"grants empty":            {regexp.MustCompile(`(?s)grants:.*`).ReplaceAllString(good, "grants: []\n"), "grants: must not be empty"},
		"a wrong name":            {replace(t, "name: uploads", "name: \"up loads\""), "grants[0].name"},
		"a wrong role":            {replace(t, "role/tenant-uploads", "user/alice"), "grants[0].role_arn: role ARN"},
		"no tenant":               {replace(t, "{claim: org_id}", "{}"), "tenant needs either a claim or request: true"},
		"two tenants":             {replace(t, "{claim: org_id}", "{claim: org_id, request: true}"), "tenant needs either a claim or request: true"},
		"request of words":        {replace(t, "{claim: org_id}", "{request: yes}"), "true or false"},
		"a pattern that breaks":   {replace(t, "{claim: org_id}", "{claim: org_id, pattern: \"a)|(b\"}"), "grants[0].tenant.pattern"},
		"a wrong bucket":          {replace(t, "bucket: acme-uploads", "bucket: Acme"), "grants[0].bucket"},
		"a bucket of a user":      {replace(t, "bucket: acme-uploads", "bucket: \"{user}-uploads\""), "{tenant} is the only variable"},
		"a prefix without slash":  {replace(t, "tenants/{tenant}/", "tenants/{tenant}"), "grants[0].prefix: invalid prefix"},
		"a prefix for all":        {replace(t, "tenants/{tenant}/", "tenants/"), "grants[0].prefix: invalid prefix \"tenants/\": {tenant} must occur in it, or in the bucket"},
		"an unknown right":        {replace(t, "[list, read]", "[list, admin]"), "grants[0].access"},
		"no right":                {replace(t, "[list, read]", "[]"), "grants[0].access"},
		"a life too short":        {good + "    duration: 14m\n", "grants[0].duration"},
		"a life too long":         {good + "    duration: 13h\n", "grants[0].duration"},
		"a wrong KMS key":         {good + "    kms_key_arn: arn:aws:kms:x\n", "grants[0].kms_key_arn: invalid KMS key"},
		"a KMS key elsewhere":     {good + "    kms_key_arn: arn:aws:kms:eu-west-1:123456789012:key/x\n", "the KMS key is of region eu-west-1"},
		"a foreign KMS key":       {good + "    kms_key_arn: arn:aws-cn:kms:ap-northeast-1:123456789012:key/x\n", "is not in partition aws"},
		"a bound address of text": {good + "    bind_source_ip: always\n", "grants[0].bind_source_ip"},
		"a policy too long": {
			strings.Replace(replace(t, "tenants/{tenant}/\n    access: [list, read]", strings.Repeat("a/", 119)+"{tenant}/{user}/"), "acme-uploads\n", strings.Repeat("b", 63)+"\n    access: [list, read, write, delete]\n", 1) + "    bind_source_ip: true\n    kms_key_arn: " + keyARN + "\n",
			"bytes, at most 2048",
		},
		"a claim of a fraction":   {replace(t, "level: 3", "level: 3.5"), "match.claims.level: must be text, not float"},
		"a claim twice":           {replace(t, "level: 3", "plan: gold"), "match.claims.plan: given twice"},
		"a name twice":            {good + "  - {name: uploads, role_arn: \"arn:aws:iam::123456789012:role/r\", tenant: {claim: a}, bucket: other-one, region: eu-west-1, prefix: \"{tenant}/\", access: [read]}\n", "grants[1]: grant \"uploads\": the name is taken"},
		"prefixes that meet":      {good + "  - {name: b, role_arn: \"arn:aws:iam::123456789012:role/r\", tenant: {claim: a}, bucket: acme-uploads, region: eu-west-1, prefix: \"{tenant}/\", access: [read]}\n", "can meet for different tenants"},
		"a variable that is none": {replace(t, "bucket: acme-uploads", "bucket: ${BUCKET}"), "c.yaml:15:13: grants[0].bucket: the environment variable BUCKET is not set"},
		"a variable misspelt":     {replace(t, "bucket: acme-uploads", "bucket: \"${BUCKET\""), "a variable is written ${NAME}"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := parse(tc.text, nil)
			var problems config.Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if cfg.Revision != "" || len(cfg.Grants) != 0 {
				t.Error("a broken configuration is half there")
			}
			for _, p := range problems {
				if p.File != "c.yaml" || p.Line < 1 || p.Column < 1 {
					t.Errorf("%q has no place", p)
				}
			}
		})
	}
}

const keyARN = "arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func TestEveryShapeOfAGrantIsRead(t *testing.T) {
	text := strings.NewReplacer("bucket: acme-uploads", `bucket: "{tenant}-uploads"`, "tenants/{tenant}/", "u/{user}/").Replace(good)
	cfg, err := parse(text+"    kms_key_arn: "+keyARN+"\n    bind_source_ip: true\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	g := cfg.Grants[0]
	if g.Bucket.String() != "{tenant}-uploads" || g.Prefix.String() != "u/{user}/" || g.KMSKey.String() != keyARN || !g.BindSourceIP {
		t.Errorf("%+v", g)
	}
}

func TestTheRegionsOfSTSAreReadInTheirOrder(t *testing.T) {
	text := replace(t, "sts: {region: ap-northeast-1}", "sts: {region: ap-northeast-1, fallback_regions: [us-west-2, ap-northeast-3]}") + "limits: {sts_per_second: 7}\n"
	cfg, err := parse(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"us-west-2", "ap-northeast-3"}, cfg.STS.FallbackRegions); diff != "" || cfg.STS.Region != "ap-northeast-1" || cfg.STS.PerSecond != 7 || len(cfg.Notes) != 0 {
		t.Errorf("%+v\n%s", cfg.STS, diff)
	}
	if _, err := parse(replace(t, "sts: {region: ap-northeast-1}", "sts: {region: cn-north-1, fallback_regions: [cn-northwest-1]}"), nil); err != nil {
		t.Error(err)
	}
}

func TestAllProblemsAreReportedTogetherInOrder(t *testing.T) {
	broken := strings.NewReplacer("https://acme.eu.auth0.com/", "ftp://acme", "mode: minted", "mode: both", "region: ap-northeast-1}", "region: tokyo}",
		"tenants/{tenant}/", "tenants", "[list, read]", "[fly]", "bucket: acme-uploads", "bukket: x").Replace(good)
	_, err := parse(broken, nil)
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) < 7 {
		t.Fatalf("%v", err)
	}
	for i := 1; i < len(problems); i++ {
		if a, b := problems[i-1], problems[i]; a.Line > b.Line || a.Line == b.Line && a.Column > b.Column {
			t.Errorf("%s before %s", a, b)
		}
	}
}

func TestVariablesAreFilledIntoValuesAndNowhereElse(t *testing.T) {
	text := strings.NewReplacer("bucket: acme-uploads", `bucket: "${BUCKET:-${}"`, "name: uploads", "name: ${NAME}").Replace(good)
	text = strings.Replace(text, `"${BUCKET:-${}"`, `"${BUCKET:-fallback-bucket}"`, 1) + "cache: {entries: \"${ENTRIES:-5}\"}\nrevoked: {tenants: [\"$${x}\"]}\n"
	cfg, err := parse(text, map[string]string{"NAME": "a", "BUCKET": ""})
	if err != nil {
		t.Fatal(err)
	}
	if g := cfg.Grants[0]; g.Name != "a" || g.Bucket.String() != "fallback-bucket" || cfg.CacheEntries != 5 || !cfg.Revoked.Tenants["${x}"] {
		t.Errorf("%+v", cfg)
	}
	// What a variable holds is one value, however it looks.
	if _, err := parse(text, map[string]string{"NAME": "a\naccess: [delete]"}); err == nil || !strings.Contains(err.Error(), "grants[0].name") {
		t.Errorf("got %v", err)
	}
}

func TestTheRevisionChangesWithWhatIsEffective(t *testing.T) {
	revision := func(text string, env map[string]string) string {
		cfg, err := parse(text, env)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Revision
	}
	first := revision(good, nil)
	if len(first) != 16 || revision("# a comment\n"+good, nil) != first || revision(good+"listen: \":8080\"\n", nil) != first {
		t.Errorf("revision %q is not of what is effective", first)
	}
	variable := replace(t, "bucket: acme-uploads", "bucket: ${B}")
	if revision(variable, map[string]string{"B": "acme-uploads"}) != first || revision(variable, map[string]string{"B": "acme-uploads2"}) == first {
		t.Error("what a variable holds does not count")
	}
}

func TestLimitsAreSoManyAMinute(t *testing.T) {
	for text, want := range map[string]config.Limits{
		"": {PerSubject: 30, PerTenant: 600, PerAddressFailures: 60},
		"limits: {per_subject_per_minute: 1, per_tenant_per_minute: 2, per_address_failures_per_minute: 1000000}\n": {PerSubject: 1, PerTenant: 2, PerAddressFailures: 1_000_000},
	} {
		cfg, err := parse(good+text, nil)
		if err != nil || cfg.Limits != want {
			t.Errorf("%q: %+v, %v", text, cfg.Limits, err)
		}
	}
	for _, name := range []string{"per_subject_per_minute", "per_tenant_per_minute", "per_address_failures_per_minute"} {
		for _, value := range []string{"0", "-1", "1000001", "many"} {
			if _, err := parse(good+"limits: {"+name+": "+value+"}\n", nil); err == nil || !strings.Contains(err.Error(), "limits."+name) {
				t.Errorf("%s: %s: %v", name, value, err)
			}
		}
	}
}

func TestLogOutsAreHeardOfTheClientsUnlessOthersAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "[]",
		"    clients: [a, b]\n":       "[a b]",
		"    logout_audiences: [c]\n": "[c]",
		"    clients: [a]\n    logout_audiences: [c, d]\n": "[c d]",
	} {
		cfg, err := parse(replace(t, "    audiences", text+"    audiences"), nil)
		if err != nil || fmt.Sprint(cfg.Issuers[0].LogoutAudiences) != want {
			t.Errorf("%q: %+v, %v", text, cfg.Issuers, err)
		}
	}
	if _, err := parse(replace(t, "    audiences", "    logout_audiences: [\"\"]\n    audiences"), nil); err == nil {
		t.Error("an empty one is taken")
	}
}

func TestWhatModeForwardedDoesNotHoldIsSaid(t *testing.T) {
	forwarded := replace(t, "  mode: minted\n  issuer: https://broker.acme.example\n  signing_keys: [/run/secrets/web-identity.pem]\n", "  mode: forwarded\n")
	for text, want := range map[string]int{good: 0, forwarded: 1} {
		cfg, err := parse(text, nil)
		if err != nil || len(cfg.Notes) != want || want > 0 && !strings.Contains(cfg.Notes[0], "hold only for who asks here") {
			t.Errorf("%q, %v", cfg.Notes, err)
		}
	}
}

func TestOnWindowsItIsSaidThatNobodyLooksAtTheKeysModes(t *testing.T) {
	minted, forwarded := config.WebIdentity{Mode: config.Minted}, config.WebIdentity{Mode: config.Forwarded}
	if n := config.Unwatched(minted, "windows"); len(n) != 1 || !strings.Contains(n[0], "access control list") {
		t.Errorf("%q", n)
	}
	if n := append(config.Unwatched(forwarded, "windows"), config.Unwatched(minted, "linux")...); len(n) > 0 {
		t.Errorf("%q", n)
	}
}

// The README's table of keys is made of the keys.
func TestTheREADMEListsEveryKey(t *testing.T) {
	const file = "../../../README.md"
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("<!-- config:begin -->\n| key | value | default | what |\n|---|---|---|---|\n")
	for _, k := range config.Keys() {
		if k.Doc == "" && k.Type == "mapping" {
			continue // its keys follow
		}
		value := k.Default
		switch value {
		case "":
			value = "–"
		case config.Required:
			value = "**required**"
		default:
			value = "`" + value + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", k.Path, k.Type, value, k.Doc)
	}
	table.WriteString("<!-- config:end -->")
	between := regexp.MustCompile(`(?s)<!-- config:begin -->.*<!-- config:end -->`)
	if !between.Match(readme) {
		t.Fatal("the README has no place for the table")
	}
	got := between.ReplaceAllLiteral(readme, []byte(table.String()))
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(readme), string(got)); diff != "" {
		t.Errorf("run `go test ./cmd/credential-broker/config -update`\n%s", diff)
	}
}

// Whatever the file: what is taken is whole, and taken the same again.
func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("issuers: [{url: \"${X:-https://a/}\"}]")
	f.Add("a: &b {c: *b}")
	f.Add("? {a: b}\n: c")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := parse(text, map[string]string{"X": "x"})
		if err != nil {
			var problems config.Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("an error without a problem: %v", err)
			}
			return
		}
		if err := broker.ValidateGrants(cfg.Grants); err != nil {
			t.Fatalf("taken, and %v", err)
		}
		if again, err := parse(text, map[string]string{"X": "x"}); err != nil || again.Revision != cfg.Revision {
			t.Fatalf("another the second time: %v", err)
		}
	})
}

// What replicas share changes no answer: where it is may differ between them, and its
// password is in nothing that is printed.
func TestTheSharedCacheIsNoPartOfTheRevision(t *testing.T) {
	revisions := map[string]bool{}
	for _, more := range []string{"", "shared_cache: {url: \"rediss://u:canary@redis.example\", key_file: k}\n", "shared_cache: {url: \"redis://127.0.0.1\", key_file: j, timeout: 20ms}\n"} {
		cfg, err := config.Parse("c.yaml", []byte(good+more), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		revisions[cfg.Revision] = true
		if more == "" != cfg.SharedCache.URL.IsZero() || strings.Contains(fmt.Sprintf("%+v", cfg), "canary") {
			t.Errorf("%+v", cfg.SharedCache)
		}
	}
	if len(revisions) != 1 {
		t.Errorf("%d revisions", len(revisions))
	}
}
