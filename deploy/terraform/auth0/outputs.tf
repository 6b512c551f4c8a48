output "issuers" {
  description = "The broker's `issuers`: this one, for the clients made here."
  value = [{
    url              = "https://${var.domain}/"
    audiences        = [auth0_resource_server.this.identifier]
    algorithms       = ["RS256"]
    clients          = concat(values(auth0_client.page)[*].client_id, values(auth0_client.machine)[*].client_id)
    logout_audiences = var.broker_url == "" ? [] : values(auth0_client.page)[*].client_id
  }]

  # A broker that runs before the tokens have their claims refuses everybody.
  depends_on = [auth0_trigger_action.tenant, auth0_client_grant.machine]
}

output "tenant" {
  description = "The `tenant` of a grant that takes it from the token."
  value       = { claim = var.tenant_from == "organization" ? "org_id" : var.tenant_claim }
}

output "client_ids" {
  description = "The client IDs of pages and machines, by name."
  value       = merge({ for name, c in auth0_client.page : name => c.client_id }, { for name, c in auth0_client.machine : name => c.client_id })
}

output "organization_ids" {
  description = "The IDs of the organizations made here, by name: the tenants."
  value       = { for name, o in auth0_organization.this : name => o.id }
}
