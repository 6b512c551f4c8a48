variable "name" {
  description = "What the service and everything around it is called."
  type        = string
  default     = "credential-broker"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,26}$", var.name))
    error_message = "name: lower-case letters, digits and -, at most 27, beginning with a letter."
  }
}

variable "image" {
  description = "The broker's image; by digest, so that what runs is what was tested."
  type        = string

  validation {
    condition     = !endswith(var.image, ":latest") && can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9._-]+)$", var.image))
    error_message = "image names a version, better a digest (…@sha256:…), and not :latest."
  }
}

variable "init_image" {
  description = "An image with sh and chown, which puts configuration and keys into files before the broker starts. It is root there and sees the signing keys: copy it into a registry of your own, and name it by digest."
  type        = string
  default     = "public.ecr.aws/docker/library/busybox:1.37.0"

  validation {
    condition     = !endswith(var.init_image, ":latest") && can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9._-]+)$", var.init_image))
    error_message = "init_image names a version, better a digest (…@sha256:…), and not :latest."
  }
}

variable "architecture" {
  description = "X86_64 or ARM64, as the image is."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "architecture is X86_64 or ARM64."
  }
}

variable "configuration" {
  description = "The broker's configuration, as its YAML has it. This module adds listen, admin_listen, trusted_proxies and web_identity.signing_keys."
  type        = any

  validation {
    condition     = can(var.configuration.web_identity.mode) && can(var.configuration.issuers) && can(var.configuration.grants) && can(var.configuration.sts.region)
    error_message = "configuration has at least issuers, web_identity, sts and grants: the output `configuration` of module aws."
  }
  validation {
    condition     = length(setintersection(keys(var.configuration), ["listen", "admin_listen", "trusted_proxies"])) == 0
    error_message = "configuration: listen, admin_listen and trusted_proxies are this module's to say."
  }
}

variable "signing_keys" {
  description = "Mode minted: names of the signing keys; the first signs, all are published. A secret is made for each, and its value is put there by hand, so that it is not in Terraform's state."
  type        = list(string)
  default     = []

  validation {
    condition     = length(distinct(var.signing_keys)) == length(var.signing_keys) && alltrue([for k in var.signing_keys : can(regex("^[A-Za-z0-9_-]{1,64}$", k))])
    error_message = "signing_keys: letters, digits, _ and -, each once."
  }
  validation {
    condition     = (try(var.configuration.web_identity.mode, "") == "minted") == (length(var.signing_keys) > 0)
    error_message = "signing_keys: at least one in mode minted, and none in mode forwarded."
  }
}

variable "secrets_kms_key_arn" {
  description = "A KMS key for the secrets and the log; empty: AWS's own."
  type        = string
  default     = ""
}

variable "ecr_repository_arn" {
  description = "The repository of the image, if it is ECR; empty: another registry, without a password."
  type        = string
  default     = ""
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnet_ids" {
  description = "Where the load balancer is: at least two."
  type        = list(string)

  validation {
    condition     = length(var.public_subnet_ids) >= 2
    error_message = "public_subnet_ids: a load balancer has at least two."
  }
}

variable "private_subnet_ids" {
  description = "Where the tasks are: at least two, with a way out to Auth0 and STS (NAT)."
  type        = list(string)

  validation {
    condition     = length(var.private_subnet_ids) >= 2
    error_message = "private_subnet_ids: at least two, so that the loss of a zone is not the loss of the broker."
  }
}

variable "assign_public_ip" {
  description = "Give tasks a public address, where the subnets have no NAT. Nothing reaches them by it: their security group admits the load balancer alone."
  type        = bool
  default     = false
}

variable "internal" {
  description = "A load balancer inside the VPC only; for mode forwarded, since in mode minted AWS fetches the keys from it."
  type        = bool
  default     = false

  validation {
    condition     = !(var.internal && try(var.configuration.web_identity.mode, "") == "minted")
    error_message = "internal: in mode minted AWS has to reach /.well-known/ over the internet."
  }
}

variable "allowed_cidrs" {
  description = "Who may reach the load balancer. In mode minted AWS must."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "certificate_arn" {
  description = "The certificate for the broker's public name."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:acm:", var.certificate_arn))
    error_message = "certificate_arn is the ARN of an ACM certificate of the load balancer's region."
  }
}

variable "hostname" {
  description = "The broker's public name."
  type        = string
}

variable "zone_id" {
  description = "The Route 53 zone for the name; empty: the name is made elsewhere, for the output dns_name."
  type        = string
  default     = ""
}

variable "access_logs_bucket" {
  description = "A bucket for the load balancer's access log; empty: none. There are no headers in it, hence no tokens."
  type        = string
  default     = ""
}

variable "deletion_protection" {
  description = "Keep the load balancer from being deleted by mistake."
  type        = bool
  default     = true
}

variable "cpu" {
  description = "CPU units of a task."
  type        = number
  default     = 512
}

variable "memory" {
  description = "Memory of a task, in MiB."
  type        = number
  default     = 1024

  validation {
    condition     = var.memory >= 512
    error_message = "memory: at least 512 MiB."
  }
}

variable "min_tasks" {
  description = "Tasks at least."
  type        = number
  default     = 2

  validation {
    condition     = var.min_tasks >= 2
    error_message = "min_tasks: at least two, in different zones."
  }
}

variable "max_tasks" {
  description = "Tasks at most. Each asks STS up to limits.sts_per_second times a second."
  type        = number
  default     = 6

  validation {
    condition     = var.max_tasks >= var.min_tasks
    error_message = "max_tasks: not less than min_tasks."
  }
}

variable "log_retention_days" {
  description = "How long the log, which holds the audit records, is kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, 0], var.log_retention_days)
    error_message = "log_retention_days: one of CloudWatch's numbers, such as 30, 90, 365 or 3653; 0 is for ever."
  }
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
