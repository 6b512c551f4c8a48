output "configuration" {
  description = "The part of the broker's configuration that this module knows: issuers, web_identity, sts and grants. In mode minted web_identity.signing_keys is missing."
  value = {
    issuers      = var.issuers
    web_identity = { for k, v in var.web_identity : k => v if k == "mode" || local.minted }
    sts          = { region = local.region }
    grants = [for g in var.grants : {
      name           = g.name
      match          = g.match
      role_arn       = local.role_arns[g.role]
      tenant         = { for k, v in g.tenant : k => v if v != null }
      bucket         = g.bucket
      region         = local.region
      prefix         = g.prefix
      access         = g.access
      duration       = g.duration
      kms_key_arn    = g.kms_key_arn
      bind_source_ip = g.bind_source_ip
    }]
  }
  depends_on = [aws_iam_role_policy.this]
}

output "role_arns" {
  description = "The roles' ARNs, by name."
  value       = local.role_arns
}

output "oidc_provider_arns" {
  description = "The IAM OIDC providers' ARNs."
  value       = distinct(flatten(values(local.trusts)))[*].arn
}

output "trust_policies" {
  description = "The roles' trust policies, by the role's name, as JSON."
  value       = local.trust_policies
}

output "role_policies" {
  description = "The roles' own policies, by the role's name, as JSON."
  value       = local.role_policies
}

output "buckets" {
  description = "The buckets that were made for tenants' files."
  value       = keys(local.wanted)
}
