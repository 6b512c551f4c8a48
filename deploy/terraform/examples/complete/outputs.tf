output "configuration" {
  description = "The broker's configuration, as YAML: for credential-broker check, iam, explain and doctor on your own machine. In mode minted name the key's file there."
  value       = module.ecs.configuration
}

output "url" {
  description = "Where the broker answers."
  value       = module.ecs.url
}

output "dns_name" {
  description = "What the public name has to point to, without zone_id."
  value       = module.ecs.dns_name
}

output "client_ids" {
  description = "What the page and the services identify themselves by at Auth0."
  value       = module.auth0.client_ids
}

output "organization_ids" {
  description = "The tenants."
  value       = module.auth0.organization_ids
}

output "signing_key_secrets" {
  description = "Where to put the signing keys."
  value       = module.ecs.signing_key_secrets
}

output "trust_policies" {
  description = "The roles' trust policies, to compare with credential-broker iam."
  value       = module.aws.trust_policies
}

output "role_policies" {
  description = "The roles' own policies, to compare with credential-broker iam."
  value       = module.aws.role_policies
}
