resource "auth0_resource_server" "this" {
  name       = var.name
  identifier = var.audience

  # STS takes RS256, and no token that is encrypted or bound to a key.
  signing_alg = "RS256"

  # RBAC, and the permissions in the token. Of the token's two forms this is the
  # one with `azp`, which STS takes for the audience; the other, with openid among
  # the scopes, it refuses.
  enforce_policies = true
  token_dialect    = "access_token_authz"

  token_lifetime         = var.token_lifetime
  token_lifetime_for_web = var.token_lifetime

  allow_offline_access                            = true
  skip_consent_for_verifiable_first_party_clients = true
}

resource "auth0_resource_server_scopes" "this" {
  resource_server_identifier = auth0_resource_server.this.identifier

  dynamic "scopes" {
    for_each = var.permissions

    content {
      name        = scopes.key
      description = scopes.value
    }
  }
}

resource "auth0_role" "this" {
  for_each = var.roles

  name        = each.key
  description = "${var.name}: ${join(", ", each.value)}"
}

resource "auth0_role_permissions" "this" {
  for_each = var.roles

  role_id = auth0_role.this[each.key].id

  dynamic "permissions" {
    for_each = toset(each.value)

    content {
      name                       = permissions.value
      resource_server_identifier = auth0_resource_server.this.identifier
    }
  }

  depends_on = [auth0_resource_server_scopes.this]
}

resource "auth0_organization" "this" {
  for_each = var.organizations

  name         = each.key
  display_name = each.value.display_name
}

resource "auth0_organization_connection" "this" {
  for_each = merge([for name, o in var.organizations : { for c in o.connections : "${name} ${c}" => { organization = name, connection = c } }]...)

  organization_id = auth0_organization.this[each.value.organization].id
  connection_id   = each.value.connection

  # Whoever has an account at the connection is no member by that.
  assign_membership_on_login = false
}

resource "auth0_client" "page" {
  for_each = var.pages

  name            = each.key
  app_type        = "spa"
  is_first_party  = true
  oidc_conformant = true

  callbacks           = each.value.callbacks != null ? each.value.callbacks : flatten([for o in each.value.origins : ["${o}/", "${o}/callback"]])
  allowed_logout_urls = flatten([for o in each.value.origins : [o, "${o}/"]])
  web_origins         = each.value.origins

  # Code with PKCE, and refresh tokens that are good once.
  grant_types = ["authorization_code", "refresh_token"]

  # Who signs in says to which organization, or has no tenant.
  organization_usage            = var.tenant_from == "organization" ? "require" : "deny"
  organization_require_behavior = var.tenant_from == "organization" ? "post_login_prompt" : null

  jwt_configuration {
    alg = "RS256"
  }

  refresh_token {
    rotation_type                = "rotating"
    expiration_type              = "expiring"
    leeway                       = 0
    token_lifetime               = 2592000 # 30 days
    idle_token_lifetime          = 1296000 # 15 days
    infinite_token_lifetime      = false
    infinite_idle_token_lifetime = false
  }

  dynamic "oidc_logout" {
    for_each = var.broker_url == "" ? [] : ["${var.broker_url}/v1/backchannel-logout"]

    content {
      backchannel_logout_urls = [oidc_logout.value]
    }
  }
}

resource "auth0_client" "machine" {
  for_each = var.machines

  name            = each.key
  app_type        = "non_interactive"
  is_first_party  = true
  oidc_conformant = true
  grant_types     = ["client_credentials"]
  client_metadata = { for k, v in { tenant = each.value.tenant } : k => v if v != null }

  jwt_configuration {
    alg = "RS256"
  }
}

# A service that signs with a key of its own has no secret that could leak.
resource "auth0_client_credentials" "machine" {
  for_each = { for name, m in var.machines : name => m if m.public_key != null }

  client_id             = auth0_client.machine[each.key].client_id
  authentication_method = "private_key_jwt"

  private_key_jwt {
    credentials {
      name            = each.key
      credential_type = "public_key"
      algorithm       = "RS256"
      pem             = each.value.public_key
    }
  }
}

resource "auth0_client_grant" "machine" {
  for_each = var.machines

  client_id              = auth0_client.machine[each.key].client_id
  audience               = auth0_resource_server.this.identifier
  scopes                 = each.value.permissions
  organization_usage     = length(each.value.organizations) > 0 ? "require" : "deny"
  allow_any_organization = false

  depends_on = [auth0_resource_server_scopes.this]
}

resource "auth0_organization_client_grant" "machine" {
  for_each = merge([for name, m in var.machines : { for o in m.organizations : "${name} ${o}" => { machine = name, organization = o } }]...)

  organization_id = auth0_organization.this[each.value.organization].id
  grant_id        = auth0_client_grant.machine[each.value.machine].id
}

# The Action, once for each trigger: users, and machine clients. Where the
# organization is the tenant and nobody needs tags, Auth0 writes org_id by itself.
resource "auth0_action" "tenant" {
  for_each = var.mode == "forwarded" || var.tenant_from == "metadata" ? { "post-login" = "v3", "credentials-exchange" = "v2" } : {}

  name    = "${var.name}: tenant (${each.key})"
  runtime = "node22"
  code    = file("${path.module}/../../auth0/tenant.js")
  deploy  = true

  supported_triggers {
    id      = each.key
    version = each.value
  }

  dynamic "secrets" {
    for_each = { for k, v in {
      AUDIENCE     = var.audience
      TENANT_FROM  = var.tenant_from
      TENANT_CLAIM = var.tenant_claim
      TAGS         = var.mode == "forwarded" ? "true" : "false"
    } : k => v if v != "" }

    content {
      name  = secrets.key
      value = secrets.value
    }
  }
}

resource "auth0_trigger_action" "tenant" {
  for_each = auth0_action.tenant

  trigger      = each.key
  action_id    = each.value.id
  display_name = each.value.name
}
