variable "web_identity" {
  description = "What STS is shown, as in the broker's configuration: mode minted with the broker's own public URL as the issuer, or mode forwarded."
  type = object({
    mode     = string
    issuer   = optional(string, "")
    audience = optional(string, "sts.amazonaws.com")
  })

  validation {
    condition     = contains(["minted", "forwarded"], var.web_identity.mode)
    error_message = "web_identity.mode is minted or forwarded."
  }
  validation {
    condition     = var.web_identity.mode != "minted" || can(regex("^https://[a-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$", var.web_identity.issuer))
    error_message = "web_identity.issuer is the broker's public URL in mode minted: https, since AWS fetches the keys from there, without query and fragment."
  }
  validation {
    condition     = var.web_identity.mode != "forwarded" || var.web_identity.issuer == ""
    error_message = "web_identity.issuer is for mode minted: in mode forwarded AWS trusts the issuers of the callers' tokens."
  }
  validation {
    condition     = var.web_identity.audience != ""
    error_message = "web_identity.audience is empty: IAM's provider has to list what the token is for."
  }
}

variable "issuers" {
  description = "Whose tokens the broker takes, as in its configuration. In mode forwarded IAM trusts them too, for the clients listed."
  type = list(object({
    url              = string
    audiences        = list(string)
    algorithms       = optional(list(string), ["RS256"])
    clients          = optional(list(string), [])
    logout_audiences = optional(list(string), [])
  }))

  validation {
    condition     = length(var.issuers) > 0 && alltrue([for i in var.issuers : can(regex("^https://[^?#]+$", i.url)) && length(i.audiences) > 0])
    error_message = "issuers: at least one, each with an https url (exactly the token's iss, Auth0's final slash included) and at least one audience."
  }
  validation {
    condition     = length(distinct(var.issuers[*].url)) == length(var.issuers)
    error_message = "issuers: a url occurs twice."
  }
}

variable "grants" {
  description = "The broker's grants, as in its configuration, with `role` (a name, with a path if it has one: team/uploads) in place of `role_arn`, and without `region`, which is the provider's. `match.claims` are compared as text."
  type = list(object({
    name = string
    match = optional(object({
      permissions = optional(list(string), [])
      scopes      = optional(list(string), [])
      claims      = optional(map(string), {})
    }), {})
    role = string
    tenant = object({
      claim   = optional(string)
      request = optional(bool)
      pattern = optional(string)
    })
    bucket         = string
    prefix         = string
    access         = list(string)
    duration       = optional(string, "1h")
    kms_key_arn    = optional(string, "")
    bind_source_ip = optional(bool, false)
  }))

  validation {
    condition     = length(var.grants) > 0 && length(distinct(var.grants[*].name)) == length(var.grants)
    error_message = "grants: at least one, each with a name of its own."
  }
  validation {
    condition     = alltrue([for g in var.grants : can(regex("^([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}$", g.role))])
    error_message = "grants[].role is a role's name, or path/name: letters, digits and _+=,.@-; the name has at most 64."
  }
  validation {
    condition     = alltrue([for g in var.grants : strcontains(g.bucket, "{tenant}") || contains(split("/", g.prefix), "{tenant}")])
    error_message = "grants[]: {tenant} must be in the bucket, or a whole segment of the prefix, or tenants would share files."
  }
  validation {
    condition = alltrue([for g in var.grants : endswith(g.prefix, "/") && alltrue([
      for s in split("/", trimsuffix(g.prefix, "/")) : contains(["{tenant}", "{user}"], s) || can(regex("^[A-Za-z0-9_.=@-]+$", s)) && !contains([".", ".."], s)
    ])])
    error_message = "grants[].prefix ends in \"/\"; a segment is {tenant}, {user}, or letters, digits and _.=@-."
  }
  validation {
    condition     = alltrue([for g in var.grants : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", replace(g.bucket, "{tenant}", "aaa")))])
    error_message = "grants[].bucket is a bucket's name, in which {tenant} may stand."
  }
  validation {
    condition = alltrue([for g in var.grants : length(g.access) > 0 && length(distinct(g.access)) == length(g.access) &&
    length(setsubtract(g.access, ["list", "read", "write", "delete"])) == 0])
    error_message = "grants[].access is of list, read, write and delete, each at most once."
  }
  validation {
    condition     = alltrue([for g in var.grants : can(regex("^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", g.duration)) && g.duration != ""])
    error_message = "grants[].duration is such as 1h, 30m or 1h30m."
  }
  validation {
    condition     = alltrue([for g in var.grants : g.kms_key_arn == "" || can(regex("^arn:(aws|aws-cn|aws-us-gov):kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}$", g.kms_key_arn))])
    error_message = "grants[].kms_key_arn is a key's ARN; an alias does not work in a policy."
  }
  validation {
    condition     = alltrue([for g in var.grants : (g.tenant.claim != null) != coalesce(g.tenant.request, false)])
    error_message = "grants[].tenant names a claim, or has request = true, and not both."
  }
  validation {
    condition     = length(var.issuers) == 1 || alltrue([for g in var.grants : contains(var.issuers[*].url, lookup(g.match.claims, "iss", ""))])
    error_message = "grants[].match.claims.iss: with several issuers, say whose tenants these are, or tenants of one name would be one tenant."
  }
}

variable "tenants" {
  description = "Whose buckets to create, for grants whose bucket has {tenant} in it."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for t in var.tenants : can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", t))])
    error_message = "tenants: letters, digits and _-, at most 63, beginning with a letter or digit."
  }
}

variable "existing_buckets" {
  description = "Buckets of the grants that exist already and are left as they are. They then need by hand what this module gives the others."
  type        = set(string)
  default     = []
}

variable "allowed_origins" {
  description = "Pages that may talk to the buckets: exact origins, https, or http on loopback."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for o in var.allowed_origins : can(regex("^(https://[a-z0-9.-]+|http://(localhost|127\\.0\\.0\\.1))(:[0-9]+)?$", o))])
    error_message = "allowed_origins: exact origins, https://host[:port] without a path and without *; http only on loopback."
  }
}

variable "abort_uploads_after_days" {
  description = "When the parts of an upload that nobody finished are deleted."
  type        = number
  default     = 1

  validation {
    condition     = var.abort_uploads_after_days >= 1 && floor(var.abort_uploads_after_days) == var.abort_uploads_after_days
    error_message = "abort_uploads_after_days: whole days, at least one."
  }
}

variable "noncurrent_versions_days" {
  description = "How long overwritten and deleted files can be brought back; 0 keeps them for ever."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_versions_days >= 0 && floor(var.noncurrent_versions_days) == var.noncurrent_versions_days
    error_message = "noncurrent_versions_days: whole days, or 0."
  }
}

variable "bucket_keys" {
  description = "S3 bucket keys for buckets that are encrypted with a KMS key: fewer calls to KMS; KMS then knows the bucket and no longer the object."
  type        = bool
  default     = false
}

variable "permissions_boundary" {
  description = "ARN of a permissions boundary for the roles; null: none."
  type        = string
  default     = null
}

variable "cloudtrail" {
  description = "A trail of every call on an object of the buckets, into a bucket of its own. It costs by the event."
  type = object({
    enabled        = optional(bool, false)
    name           = optional(string, "credential-broker-data-events")
    log_bucket     = optional(string, "")
    retention_days = optional(number, 365)
  })
  default = {}

  validation {
    condition     = !var.cloudtrail.enabled || var.cloudtrail.log_bucket != ""
    error_message = "cloudtrail.log_bucket names the bucket to create for the log."
  }
  validation {
    condition     = var.cloudtrail.retention_days >= 1
    error_message = "cloudtrail.retention_days: at least one."
  }
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
