# One bucket, the organizations of one Auth0 tenant, a page, and in mode minted a
# reporting service that may read any organization's files.

locals {
  minted = var.mode == "minted"
  url    = "https://${var.hostname}"
}

module "auth0" {
  source = "../../auth0"

  domain        = var.auth0_domain
  audience      = var.audience
  mode          = var.mode
  organizations = var.organizations
  broker_url    = local.url
  pages         = { "Uploads" = { origins = var.origins } }

  permissions = merge(
    { "upload:files" = "Read and write the files of one's organization" },
    local.minted ? { "broker:act-for-tenant" = "Read the files of any organization that the request names" } : {},
  )
  # The AWS side of mode forwarded knows only the tenant of the token.
  machines = { for name, m in { "Reports" = { permissions = ["broker:act-for-tenant"] } } : name => m if local.minted }
}

module "aws" {
  source = "../../aws"

  web_identity    = { mode = var.mode, issuer = local.minted ? local.url : "" }
  issuers         = module.auth0.issuers
  allowed_origins = var.origins
  cloudtrail      = { enabled = var.cloudtrail_log_bucket != "", log_bucket = var.cloudtrail_log_bucket }

  grants = [for g in [
    {
      name        = "uploads"
      match       = { permissions = ["upload:files"] }
      role        = "tenant-uploads"
      tenant      = module.auth0.tenant
      bucket      = var.bucket
      prefix      = "tenants/{tenant}/"
      access      = ["list", "read", "write", "delete"]
      kms_key_arn = var.kms_key_arn
    },
    {
      name        = "reports"
      match       = { permissions = ["broker:act-for-tenant"] }
      role        = "tenant-reports"
      tenant      = { request = true, pattern = "org_[A-Za-z0-9]{1,40}" }
      bucket      = var.bucket
      prefix      = "tenants/{tenant}/"
      access      = ["list", "read"]
      kms_key_arn = var.kms_key_arn
    },
  ] : g if local.minted || g.name != "reports"]
}

module "ecs" {
  source = "../../ecs"

  image              = var.image
  ecr_repository_arn = var.ecr_repository_arn
  configuration      = merge(module.aws.configuration, { cors = { allowed_origins = var.origins } })
  signing_keys       = local.minted ? var.signing_keys : []
  vpc_id             = var.vpc_id
  public_subnet_ids  = var.public_subnet_ids
  private_subnet_ids = var.private_subnet_ids
  hostname           = var.hostname
  zone_id            = var.zone_id
  certificate_arn    = var.certificate_arn
}
