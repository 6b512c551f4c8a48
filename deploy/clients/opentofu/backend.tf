terraform {
  backend "s3" {
    bucket       = "acme-uploads"
    key          = "tenants/org_acme/terraform.tfstate"
    region       = "ap-northeast-1"
    use_lockfile = true # beside the state, below the prefix; no DynamoDB

    # Without it the workspaces are looked for outside of the prefix: AccessDenied.
    workspace_key_prefix = "tenants/org_acme/env"
  }
}
