# tofu test (or terraform test) in this folder. No cloud is asked.

mock_provider "auth0" {}

variables {
  domain     = "acme.eu.auth0.com"
  audience   = "https://uploads.acme.example"
  mode       = "minted"
  broker_url = "https://broker.acme.example"
  pages      = { "Uploads" = { origins = ["https://app.acme.example"] } }
}

run "tokens_are_short_and_hold_permissions" {
  command = plan

  assert {
    condition     = auth0_resource_server.this.enforce_policies && auth0_resource_server.this.token_dialect == "access_token_authz" && auth0_resource_server.this.signing_alg == "RS256"
    error_message = "No RBAC, or no permissions in the token, or a signature that STS does not take."
  }
  assert {
    condition     = auth0_resource_server.this.token_lifetime == 3600 && auth0_resource_server.this.token_lifetime_for_web == 3600
    error_message = "A token lasts too long."
  }
}

run "a_page_signs_in_by_code_to_an_organization" {
  command = plan

  assert {
    condition     = auth0_client.page["Uploads"].app_type == "spa" && auth0_client.page["Uploads"].organization_usage == "require" && toset(auth0_client.page["Uploads"].grant_types) == toset(["authorization_code", "refresh_token"])
    error_message = "The page is ${jsonencode(auth0_client.page["Uploads"])}."
  }
  assert {
    condition     = auth0_client.page["Uploads"].refresh_token[0].rotation_type == "rotating" && auth0_client.page["Uploads"].callbacks == tolist(["https://app.acme.example/", "https://app.acme.example/callback"])
    error_message = "Refresh tokens do not rotate, or the callbacks are others."
  }
  assert {
    condition     = auth0_client.page["Uploads"].oidc_logout[0].backchannel_logout_urls == toset(["https://broker.acme.example/v1/backchannel-logout"])
    error_message = "The broker does not hear of a log-out."
  }
}

run "minted_with_organizations_needs_no_action" {
  command = plan

  assert {
    condition     = length(auth0_action.tenant) == 0 && output.tenant.claim == "org_id"
    error_message = "There is an Action for what Auth0 does by itself."
  }
}

run "forwarded_has_the_action_that_writes_the_tags" {
  command = plan

  variables {
    mode = "forwarded"
  }

  assert {
    condition     = toset([for t in values(auth0_trigger_action.tenant) : t.trigger]) == toset(["post-login", "credentials-exchange"])
    error_message = "The Action is not bound to both triggers."
  }
  assert {
    condition     = alltrue([for a in values(auth0_action.tenant) : a.deploy && a.code == file("../../auth0/tenant.js")])
    error_message = "The Action is not the one that is tested, or is not deployed."
  }
  assert {
    condition = alltrue([for a in values(auth0_action.tenant) : tomap({ for s in a.secrets : s.name => s.value }) ==
    tomap({ AUDIENCE = "https://uploads.acme.example", TENANT_FROM = "organization", TAGS = "true" })])
    error_message = "The Action's settings are others."
  }
}

run "metadata_name_the_tenant" {
  command = plan

  variables {
    tenant_from  = "metadata"
    tenant_claim = "https://acme.example/tenant"
    machines     = { "Importer" = { permissions = ["upload:files"], tenant = "acme" } }
  }

  assert {
    condition     = auth0_client.machine["Importer"].client_metadata == tomap({ tenant = "acme" }) && auth0_client.page["Uploads"].organization_usage == "deny" && output.tenant.claim == "https://acme.example/tenant"
    error_message = "The tenant is not where the Action looks for it."
  }
  assert {
    condition     = alltrue([for a in values(auth0_action.tenant) : { for s in a.secrets : s.name => s.value }["TAGS"] == "false"])
    error_message = "Tags in mode minted."
  }
}

run "a_machine_with_a_key_in_one_organization" {
  command = plan

  variables {
    organizations = { "acme" = { display_name = "Acme", connections = ["con_1"] } }
    machines      = { "Importer" = { permissions = ["upload:files"], organizations = ["acme"], public_key = "-----BEGIN PUBLIC KEY-----" } }
  }

  assert {
    condition     = auth0_client_grant.machine["Importer"].organization_usage == "require" && !auth0_client_grant.machine["Importer"].allow_any_organization && length(auth0_organization_client_grant.machine) == 1
    error_message = "The service may ask for other organizations."
  }
  assert {
    condition     = auth0_client_credentials.machine["Importer"].authentication_method == "private_key_jwt"
    error_message = "The service has a secret."
  }
  assert {
    condition     = alltrue([for c in values(auth0_organization_connection.this) : !c.assign_membership_on_login])
    error_message = "Whoever has an account becomes a member."
  }
}

run "no_long_tokens" {
  command = plan
  variables {
    token_lifetime = 86400
  }
  expect_failures = [var.token_lifetime]
}

run "no_url_for_a_domain" {
  command = plan
  variables {
    domain = "https://acme.eu.auth0.com/"
  }
  expect_failures = [var.domain]
}

run "no_user_metadata" {
  command = plan
  variables {
    tenant_from = "user_metadata"
  }
  expect_failures = [var.tenant_from]
}

run "metadata_need_a_claim" {
  command = plan
  variables {
    tenant_from = "metadata"
  }
  expect_failures = [var.tenant_claim]
}

run "no_claim_of_aws" {
  command = plan
  variables {
    tenant_from  = "metadata"
    tenant_claim = "https://aws.amazon.com/tags"
  }
  expect_failures = [var.tenant_claim]
}

run "a_role_gives_what_there_is" {
  command = plan
  variables {
    roles = { "Admin" = ["delete:everything"] }
  }
  expect_failures = [var.roles]
}

run "no_star_among_the_origins" {
  command = plan
  variables {
    pages = { "Uploads" = { origins = ["https://*.acme.example"] } }
  }
  expect_failures = [var.pages]
}

run "a_machines_tenant_is_a_name" {
  command = plan
  variables {
    tenant_from  = "metadata"
    tenant_claim = "https://acme.example/tenant"
    machines     = { "Importer" = { permissions = ["upload:files"], tenant = "a/b" } }
  }
  expect_failures = [var.machines]
}
