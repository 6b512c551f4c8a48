# tofu test (or terraform test) in this folder. No cloud is asked.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { region = "ap-northeast-1" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/broker.acme.example" }
  }
}

variables {
  web_identity    = { mode = "minted", issuer = "https://broker.acme.example" }
  issuers         = [{ url = "https://acme.eu.auth0.com/", audiences = ["https://uploads.acme.example"], clients = ["spa"] }]
  allowed_origins = ["https://app.acme.example"]
  grants = [{
    name   = "uploads"
    match  = { permissions = ["upload:files"] }
    role   = "tenant-uploads"
    tenant = { claim = "org_id" }
    bucket = "acme-uploads"
    prefix = "tenants/{tenant}/"
    access = ["list", "read", "write", "delete"]
  }]
}

run "a_bucket_is_closed_and_fit_for_a_browser" {
  command = plan

  assert {
    condition = alltrue([for b in values(aws_s3_bucket_public_access_block.this) :
    b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets]) && length(aws_s3_bucket_public_access_block.this) == 1
    error_message = "Block Public Access is not whole."
  }
  assert {
    condition     = aws_s3_bucket_ownership_controls.this["acme-uploads"].rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "ACLs are on."
  }
  assert {
    condition     = aws_s3_bucket_versioning.this["acme-uploads"].versioning_configuration[0].status == "Enabled"
    error_message = "There are no versions."
  }
  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this["acme-uploads"].rule).apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"
    error_message = "The encryption is not S3's own."
  }
  assert {
    condition     = alltrue([for c in aws_s3_bucket_cors_configuration.this["acme-uploads"].cors_rule : contains(c.expose_headers, "ETag") && toset(c.allowed_origins) == toset(["https://app.acme.example"]) && !contains(c.allowed_origins, "*")])
    error_message = "CORS hides ETag, or lets in others than the page."
  }
  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["acme-uploads"].rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 1
    error_message = "Parts of unfinished uploads stay."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_s3_bucket_policy.this["acme-uploads"].policy).Statement :
    s.Effect == "Deny" && s.Principal == "*"]) && jsondecode(aws_s3_bucket_policy.this["acme-uploads"].policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    error_message = "The bucket's policy allows something, or does without TLS."
  }
  assert {
    condition     = length(aws_cloudtrail.this) == 0
    error_message = "There is a trail that nobody asked for."
  }
}

run "a_bucket_with_a_key" {
  command = plan

  variables {
    grants = [{
      name        = "sealed", role = "tenant-sealed", tenant = { claim = "org_id" }, bucket = "acme-sealed", prefix = "{tenant}/", access = ["read", "write"],
      kms_key_arn = "arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd"
    }]
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this["acme-sealed"].rule).apply_server_side_encryption_by_default[0].kms_master_key_id == "arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd"
    error_message = "The bucket is not encrypted with its key."
  }
}

run "a_bucket_for_each_tenant" {
  command = plan

  variables {
    tenants = ["acme", "globex"]
    grants = [{
      name = "own", role = "tenant-own", tenant = { claim = "org_id" }, bucket = "{tenant}-files", prefix = "data/", access = ["read"]
    }]
  }

  assert {
    condition     = toset(keys(aws_s3_bucket.this)) == toset(["acme-files", "globex-files"])
    error_message = "The buckets are ${join(", ", keys(aws_s3_bucket.this))}."
  }
}

run "an_existing_bucket_is_left_alone" {
  command = plan

  variables {
    existing_buckets = ["acme-uploads"]
  }

  assert {
    condition     = length(aws_s3_bucket.this) == 0 && length(aws_s3_bucket_policy.this) == 0
    error_message = "The bucket is touched."
  }
}

run "a_trail" {
  command = plan

  variables {
    cloudtrail = { enabled = true, log_bucket = "acme-trail" }
  }

  assert {
    condition = anytrue([for f in one(aws_cloudtrail.this[0].advanced_event_selector).field_selector :
    f.field == "resources.ARN" && f.starts_with == tolist(["arn:aws:s3:::acme-uploads/"])])
    error_message = "The trail is not of the files."
  }
  assert {
    condition = toset([for s in jsondecode(aws_s3_bucket_policy.this["acme-trail"].policy).Statement :
    s.Condition.StringEquals["aws:SourceArn"] if s.Effect == "Allow"]) == toset(["arn:aws:cloudtrail:ap-northeast-1:123456789012:trail/credential-broker-data-events"])
    error_message = "Another trail may write the log."
  }
  assert {
    condition     = length(aws_s3_bucket_cors_configuration.this) == 1 && length(aws_s3_bucket_public_access_block.this) == 2
    error_message = "Pages may read the log, or it is public."
  }
}

run "sessions_are_as_long_as_the_longest_grant" {
  command = plan

  variables {
    grants = [
      { name = "a", role = "team/r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "a/{tenant}/", access = ["read"], duration = "15m" },
      { name = "b", role = "team/r", tenant = { request = true }, bucket = "acme-uploads", prefix = "b/{tenant}/", access = ["read"], duration = "1h30m" },
    ]
  }

  assert {
    condition     = aws_iam_role.this["team/r"].max_session_duration == 5400 && aws_iam_role.this["team/r"].path == "/team/" && aws_iam_role.this["team/r"].name == "r"
    error_message = "The role is ${jsonencode(aws_iam_role.this["team/r"])}."
  }
}

run "no_http_issuer" {
  command = plan
  variables {
    web_identity = { mode = "minted", issuer = "http://broker.acme.example" }
  }
  expect_failures = [var.web_identity]
}

run "no_third_mode" {
  command = plan
  variables {
    web_identity = { mode = "both" }
  }
  expect_failures = [var.web_identity]
}

run "no_prefix_without_a_tenant" {
  command = plan
  variables {
    grants = [{ name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "all/", access = ["read"] }]
  }
  expect_failures = [var.grants]
}

run "no_prefix_without_a_slash" {
  command = plan
  variables {
    grants = [{ name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "t/{tenant}", access = ["read"] }]
  }
  expect_failures = [var.grants]
}

run "no_star_in_a_prefix" {
  command = plan
  variables {
    grants = [{ name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "t*/{tenant}/", access = ["read"] }]
  }
  expect_failures = [var.grants]
}

run "no_unknown_right" {
  command = plan
  variables {
    grants = [{ name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "{tenant}/", access = ["admin"] }]
  }
  expect_failures = [var.grants]
}

run "no_tenant_from_two_places" {
  command = plan
  variables {
    grants = [{ name = "a", role = "r", tenant = { claim = "org_id", request = true }, bucket = "acme-uploads", prefix = "{tenant}/", access = ["read"] }]
  }
  expect_failures = [var.grants]
}

run "no_star_among_the_origins" {
  command = plan
  variables {
    allowed_origins = ["*"]
  }
  expect_failures = [var.allowed_origins]
}

run "forwarded_lists_the_clients" {
  command = plan
  variables {
    web_identity = { mode = "forwarded" }
    issuers      = [{ url = "https://acme.eu.auth0.com/", audiences = ["https://uploads.acme.example"] }]
  }
  expect_failures = [aws_iam_openid_connect_provider.this]
}

run "a_provider_of_another_name_is_noticed" {
  command = plan
  override_resource {
    target = aws_iam_openid_connect_provider.this
    values = { arn = "arn:aws:iam::123456789012:oidc-provider/broker.acme.example/" }
  }
  expect_failures = [aws_iam_openid_connect_provider.this]
}

run "forwarded_has_a_role_for_each_grant" {
  command = plan
  override_resource {
    target = aws_iam_openid_connect_provider.this
    values = { arn = "arn:aws:iam::123456789012:oidc-provider/acme.eu.auth0.com/" }
  }
  variables {
    web_identity = { mode = "forwarded" }
    grants = [
      { name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "a/{tenant}/", access = ["read"] },
      { name = "b", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "b/{tenant}/", access = ["read"] },
    ]
  }
  expect_failures = [aws_iam_role.this]
}

run "forwarded_lets_no_request_name_the_tenant" {
  command = plan
  override_resource {
    target = aws_iam_openid_connect_provider.this
    values = { arn = "arn:aws:iam::123456789012:oidc-provider/acme.eu.auth0.com/" }
  }
  variables {
    web_identity = { mode = "forwarded" }
    grants       = [{ name = "a", role = "r", tenant = { request = true }, bucket = "acme-uploads", prefix = "a/{tenant}/", access = ["read"] }]
  }
  expect_failures = [aws_iam_role.this]
}

run "forwarded_binds_no_address" {
  command = plan
  override_resource {
    target = aws_iam_openid_connect_provider.this
    values = { arn = "arn:aws:iam::123456789012:oidc-provider/acme.eu.auth0.com/" }
  }
  variables {
    web_identity = { mode = "forwarded" }
    grants       = [{ name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "a/{tenant}/", access = ["read"], bind_source_ip = true }]
  }
  expect_failures = [aws_iam_role.this]
}

run "the_log_is_not_a_tenants_bucket" {
  command = plan
  variables {
    cloudtrail = { enabled = true, log_bucket = "acme-uploads" }
  }
  expect_failures = [aws_s3_bucket.this]
}

run "nor_the_bucket_of_a_tenant_to_come" {
  command = plan
  variables {
    cloudtrail = { enabled = true, log_bucket = "audit-files" }
    grants     = [{ name = "own", role = "r", tenant = { claim = "org_id" }, bucket = "{tenant}-files", prefix = "u/{tenant}/", access = ["read"] }]
    tenants    = ["acme"]
  }
  expect_failures = [aws_s3_bucket.this]
}

run "one_bucket_has_one_key" {
  command = plan
  variables {
    grants = [
      { name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "a/{tenant}/", access = ["read"], kms_key_arn = "arn:aws:kms:ap-northeast-1:123456789012:key/x" },
      { name = "b", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "b/{tenant}/", access = ["read"] },
    ]
  }
  expect_failures = [aws_s3_bucket.this]
}

run "too_short_a_session" {
  command = plan
  variables {
    grants = [{ name = "a", role = "r", tenant = { claim = "org_id" }, bucket = "acme-uploads", prefix = "a/{tenant}/", access = ["read"], duration = "5m" }]
  }
  expect_failures = [aws_iam_role.this]
}
