variable "region" {
  description = "The region of everything."
  type        = string
}

variable "mode" {
  description = "minted (recommended) or forwarded: see the README of the broker."
  type        = string
  default     = "minted"

  validation {
    condition     = contains(["minted", "forwarded"], var.mode)
    error_message = "mode is minted or forwarded."
  }
}

variable "auth0_domain" {
  description = "The domain that tokens are issued under, such as acme.eu.auth0.com or a custom domain."
  type        = string
}

variable "auth0_tenant_domain" {
  description = "The Auth0 tenant's own domain, for the Management API, where auth0_domain is a custom one."
  type        = string
  default     = ""
}

variable "audience" {
  description = "The API's identifier, such as https://uploads.acme.example."
  type        = string
}

variable "origins" {
  description = "Where the page is, such as https://app.acme.example."
  type        = list(string)
}

variable "organizations" {
  description = "Organizations, which are the tenants: by name, what they are called and the IDs of the connections that their members sign in by."
  type = map(object({
    display_name = string
    connections  = optional(set(string), [])
  }))
  default = {}
}

variable "bucket" {
  description = "The bucket to create, for the files of all tenants."
  type        = string
}

variable "kms_key_arn" {
  description = "The bucket's KMS key; empty: S3's own encryption."
  type        = string
  default     = ""
}

variable "hostname" {
  description = "The broker's public name, such as broker.acme.example."
  type        = string
}

variable "zone_id" {
  description = "The Route 53 zone of the name; empty: the name is made elsewhere."
  type        = string
  default     = ""
}

variable "certificate_arn" {
  description = "The ACM certificate for the name."
  type        = string
}

variable "image" {
  description = "The broker's image, by digest."
  type        = string
}

variable "ecr_repository_arn" {
  description = "The image's repository, if it is ECR."
  type        = string
  default     = ""
}

variable "signing_keys" {
  description = "Mode minted: the names of the signing keys; the first signs."
  type        = list(string)
  default     = ["first"]
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnet_ids" {
  description = "The load balancer's subnets."
  type        = list(string)
}

variable "private_subnet_ids" {
  description = "The tasks' subnets."
  type        = list(string)
}

variable "cloudtrail_log_bucket" {
  description = "A bucket to create for a trail of every call on an object; empty: no trail."
  type        = string
  default     = ""
}
