terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
    auth0 = {
      source  = "auth0/auth0"
      version = ">= 1.14"
    }
  }
}

provider "aws" {
  region = var.region
}

# AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET of a machine client of the Management
# API are in the environment.
provider "auth0" {
  domain = var.auth0_tenant_domain == "" ? var.auth0_domain : var.auth0_tenant_domain
}
