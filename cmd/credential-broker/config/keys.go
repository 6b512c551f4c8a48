package config

// Key describes one key of the configuration. The list is the only place that
// says which keys there are: what is not in it is refused, and the README's table
// is made of it.
type Key struct {
	Path    string // "issuers[].url": [] is an element of a list
	Type    string
	Default string // Required, or what an absent key means; empty: none
	Doc     string
}

// Required marks a key that must be there.
const Required = "required"

// Keys returns all keys, in the order of the documentation.
func Keys() []Key { //nolint:funlen // a table
	return []Key{
		{"listen", "address", ":8080", "where the broker listens"},
		{"admin_listen", "address", "127.0.0.1:9090", "where `/metrics` is, and probes are answered with detail; never on the public port"},
		{"admin_pprof", "boolean", "false", "profiles of the running program at `/debug/pprof/` of the admin port; one of time must be shorter than 15 s: `?seconds=10`"},
		{"trusted_proxies", "list of CIDRs", "", "whose `X-Forwarded-For` is believed"},
		{"cors", "mapping", "", ""},
		{"cors.allowed_origins", "list of origins", "", "pages that may call from a browser: exact `scheme://host[:port]`, https, or http on loopback"},
		{"issuers", "list", Required, "whose tokens are taken"},
		{"issuers[].url", "URL", Required, "exactly the token's `iss`, Auth0's final slash included"},
		{"issuers[].audiences", "list", Required, "a token's `aud` must hold one"},
		{"issuers[].algorithms", "list", "RS256", "of RS256, RS384, RS512, ES256, ES384, ES512: what STS takes"},
		{"issuers[].clients", "list", "", "`azp` or `client_id` must be one of these; empty: any"},
		{"issuers[].logout_audiences", "list", "", "client IDs whose Back-Channel Logout is heard: a logout token's `aud` must hold one; empty: those of `clients`, and with none there either, none"},
		{"issuers[].jwks_url", "URL", "", "on the issuer's host; empty: by discovery"},
		{"web_identity", "mapping", Required, ""},
		{"web_identity.mode", "`minted` or `forwarded`", Required, "what STS is shown: a token signed here, or the caller's"},
		{"web_identity.issuer", "URL", "", "mode minted: the broker's public URL, the issuer that IAM trusts"},
		{"web_identity.audience", "text", "sts.amazonaws.com", "mode minted: what the IAM OIDC provider has in its client-ID list"},
		{"web_identity.signing_keys", "list of files", "", "mode minted: PEM, RSA or P-256, unreadable for others; the first signs, all are published"},
		{"sts", "mapping", Required, ""},
		{"sts.region", "region", Required, "whose STS is asked"},
		{"sts.endpoint", "URL", "", "another address than the region's own, and not the global one; https, or http on loopback"},
		{"sts.fallback_regions", "list of regions", "", "whose STS is asked, in this order, while that of `sts.region` fails; empty where `sts.endpoint` is set"},
		{"sts.timeout", "duration", "1800ms", "for an exchange with STS, both attempts included; at most 1800ms, since botocore waits 2 s"},
		{"sts.max_concurrent", "number", "32", "calls to STS at a time, at most: the broker finds out how many of them STS takes"},
		{"cache", "mapping", "", ""},
		{"cache.entries", "number", "100000", "credentials that are remembered"},
		{"shared_cache", "mapping", "", "what replicas share through Redis 6.2 or Valkey; a change needs a restart"},
		{"shared_cache.url", "URL", "", "`rediss://[user:password@]host[:port][/database]`, with `?addr=host:port&addr=…` for more nodes, and `master_set=NAME` where they are sentinels; `redis://` on loopback only. Empty: nothing is shared"},
		{"shared_cache.key_file", "file", "", "a key a line, 32 random bytes in base64, unreadable for others: the first seals, all open; the same on every replica"},
		{"shared_cache.timeout", "duration", "50ms", "for each thing that is asked of it; then STS is asked"},
		{"limits", "mapping", "", ""},
		{"limits.token_bytes", "number", "8192", "longest token; at most 8192"},
		{"limits.per_subject_per_minute", "number", "30", "requests for credentials of one subject, cache hits too; beyond: 429. More for a machine client that many processes share"},
		{"limits.per_tenant_per_minute", "number", "600", "requests for credentials in one tenant, cache hits too; beyond: 429"},
		{"limits.per_address_failures_per_minute", "number", "60", "answers 400, 401 and 413 to one address (IPv6: to its /64); beyond: 429 to all it asks. Behind a proxy set `trusted_proxies`, or all callers are one address"},
		{"limits.sts_per_second", "number", "20", "calls to STS a second, second attempts included; a quarter of them may be made at once"},
		{"revoked", "mapping", "", ""},
		{"revoked.subjects", "list", "", "get nothing any more but `403 revoked`, whatever their issuer; nothing is cached for them either"},
		{"revoked.tenants", "list", "", "the same for all of a tenant"},
		{"audit", "mapping", "", ""},
		{"audit.output", "`stdout` or a file", "stdout", "where a JSON line for each decision goes; without it nothing is released. Files may be rotated, by renaming or by copytruncate"},
		{"audit.hash", "list", "", "of `subject`, `address`: kept as keyed hashes instead"},
		{"audit.hash_key", "file", "", "at least 32 random bytes, unreadable for others; read at start"},
		{"telemetry", "mapping", "", ""},
		{"telemetry.trace_tenant", "boolean", "false", "spans name the tenant; nothing else of a token is ever in one"},
		{"grants", "list", Required, "the first that matches wins, unless the caller names one"},
		{"grants[].name", "text", Required, "letters, digits and `_-`; unique"},
		{"grants[].match", "mapping", "", "which tokens; all must hold, an empty one takes every verified token"},
		{"grants[].match.permissions", "list", "", "each in the claim `permissions`"},
		{"grants[].match.scopes", "list", "", "each in the claim `scope`"},
		{"grants[].match.claims", "mapping", "", "claim → text, boolean or whole number, exact"},
		{"grants[].role_arn", "ARN", Required, "the role; its own policy should be bounded by `${aws:PrincipalTag/tenant}`"},
		{"grants[].tenant", "mapping", Required, ""},
		{"grants[].tenant.claim", "claim", "", "names the tenant: as it stands in the token, or a JSON Pointer"},
		{"grants[].tenant.request", "boolean", "false", "the request names the tenant instead: for backends that act for any"},
		{"grants[].tenant.pattern", "regular expression", "[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "the whole name must match; it can only narrow the default"},
		{"grants[].bucket", "bucket", Required, "with `{tenant}` in it, one for each tenant: `{tenant}-uploads`"},
		{"grants[].region", "region", Required, "the bucket's, told to the caller"},
		{"grants[].prefix", "prefix", Required, "ends in `/`; `{tenant}` (needed here or in the bucket) and `{user}` are whole segments"},
		{"grants[].access", "list", Required, "of `list`, `read`, `write`, `delete`"},
		{"grants[].duration", "duration", "1h", "of a session: 15m to 12h, no more than the role allows"},
		{"grants[].kms_key_arn", "ARN", "", "the KMS key of a bucket that is encrypted with one; the session policy then lets S3 use it for the scope"},
		{"grants[].bind_source_ip", "boolean", "false", "credentials work only from the address that asked for them; not through a VPC endpoint"},
	}
}
