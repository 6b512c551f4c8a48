variable "domain" {
  description = "The domain that tokens are issued under, without https: the tenant's own or its custom domain, whichever the page uses."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9-]+)+$", var.domain))
    error_message = "domain is a host name such as acme.eu.auth0.com, without https:// and without a slash."
  }
}

variable "audience" {
  description = "The API's identifier: what pages and services ask for, and what the broker wants in `aud`."
  type        = string

  validation {
    condition     = can(regex("^(https://|urn:)[^ ]+$", var.audience))
    error_message = "audience is a URI, such as https://uploads.acme.example; nothing has to answer there."
  }
}

variable "name" {
  description = "What the API and the Actions are called."
  type        = string
  default     = "Credential broker"
}

variable "mode" {
  description = "The broker's web_identity.mode. In mode forwarded the Action writes the tags that STS reads."
  type        = string

  validation {
    condition     = contains(["minted", "forwarded"], var.mode)
    error_message = "mode is minted or forwarded."
  }
}

variable "tenant_from" {
  description = "What names the tenant: `organization` (the one signed in to: claim org_id), or `metadata` (`tenant` in a user's app_metadata or in a client's metadata: claim tenant_claim)."
  type        = string
  default     = "organization"

  validation {
    condition     = contains(["organization", "metadata"], var.tenant_from)
    error_message = "tenant_from is organization or metadata. A user's user_metadata name no tenant: he can edit them."
  }
}

variable "tenant_claim" {
  description = "The claim for the tenant where metadata name it; a URL of yours, as Auth0 wants of custom claims."
  type        = string
  default     = ""

  validation {
    condition     = var.tenant_claim == "" || can(regex("^https://[^/]+/.+$", var.tenant_claim)) && !can(regex("^https://([^/]*\\.)?(auth0|webtask|aws\\.amazon)\\.(com|io)/", var.tenant_claim))
    error_message = "tenant_claim is a URL such as https://acme.example/tenant, and neither Auth0's nor AWS's."
  }
  validation {
    condition     = (var.tenant_from == "metadata") == (var.tenant_claim != "")
    error_message = "tenant_claim is needed where tenant_from is metadata, and only there: an organization is in the claim org_id."
  }
}

variable "token_lifetime" {
  description = "How long an access token lasts, in seconds. It cannot be called back: keep it short. Sessions of AWS last no longer than the token, a quarter of an hour aside."
  type        = number
  default     = 3600

  validation {
    condition     = var.token_lifetime >= 900 && var.token_lifetime <= 7200
    error_message = "token_lifetime is from 900 (the shortest session that AWS has) to 7200 seconds."
  }
}

variable "permissions" {
  description = "The API's permissions, with what they mean. Grants match by them."
  type        = map(string)
  default     = { "upload:files" = "Read and write the files of one's tenant" }

  validation {
    condition     = length(var.permissions) > 0
    error_message = "permissions: at least one, or every token of the API opens what a grant without conditions gives."
  }
}

variable "roles" {
  description = "Roles to give to users, with their permissions."
  type        = map(list(string))
  default     = { "Uploader" = ["upload:files"] }

  validation {
    condition     = alltrue([for permissions in values(var.roles) : length(permissions) > 0 && length(setsubtract(permissions, keys(var.permissions))) == 0])
    error_message = "roles: each with at least one of var.permissions."
  }
}

variable "pages" {
  description = "Single-page applications, by name: where they are. The callbacks are the origin's root and /callback unless others are given."
  type = map(object({
    origins   = list(string)
    callbacks = optional(list(string))
  }))
  default = {}

  validation {
    condition     = alltrue(flatten([for p in values(var.pages) : [for o in p.origins : can(regex("^(https://[a-z0-9.-]+|http://(localhost|127\\.0\\.0\\.1))(:[0-9]+)?$", o))]]))
    error_message = "pages[].origins: https://host[:port] without a path and without *; http only on loopback."
  }
}

variable "machines" {
  description = "Services with a client of their own, by name: their permissions; their tenant, where metadata name it; in which organizations they may ask for a token; and the PEM of their public key. Without a key they have a secret, which is read in Auth0's dashboard: it is not in Terraform's state."
  type = map(object({
    permissions   = list(string)
    tenant        = optional(string)
    organizations = optional(set(string), [])
    public_key    = optional(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for m in values(var.machines) : length(m.permissions) > 0 && length(setsubtract(m.permissions, keys(var.permissions))) == 0])
    error_message = "machines: each with at least one of var.permissions."
  }
  validation {
    condition     = alltrue([for m in values(var.machines) : m.tenant == null ? true : can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", m.tenant))])
    error_message = "machines[].tenant: letters, digits and _-, at most 63, beginning with a letter or digit."
  }
  validation {
    condition     = var.tenant_from == "metadata" || alltrue([for m in values(var.machines) : m.tenant == null])
    error_message = "machines[].tenant is for tenant_from = metadata; otherwise the organization that the service asks for is its tenant."
  }
  validation {
    condition     = alltrue([for m in values(var.machines) : length(setsubtract(m.organizations, keys(var.organizations))) == 0])
    error_message = "machines[].organizations are keys of var.organizations."
  }
}

variable "organizations" {
  description = "Organizations to create, by name: what they are called, and the IDs of the connections that their members sign in by. Others may be made elsewhere."
  type = map(object({
    display_name = string
    connections  = optional(set(string), [])
  }))
  default = {}

  validation {
    condition     = alltrue([for n in keys(var.organizations) : can(regex("^[a-z0-9][a-z0-9_-]{0,49}$", n))])
    error_message = "organizations: a name has lower-case letters, digits and _-, at most 50."
  }
}

variable "broker_url" {
  description = "The broker's public URL, for OIDC Back-Channel Logout: who signs out loses what is cached for him. Empty: none."
  type        = string
  default     = ""

  validation {
    condition     = var.broker_url == "" || can(regex("^https://[^/?#]+(/[^?#]*[^/?#])?$", var.broker_url))
    error_message = "broker_url is https, without a final slash."
  }
}
