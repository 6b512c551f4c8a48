locals {
  # :: bucket → the key of its encryption, "" for S3's own
  wanted = merge([for g in var.grants : {
    for name in strcontains(g.bucket, "{tenant}") ? [for t in var.tenants : replace(g.bucket, "{tenant}", t)] : [g.bucket] :
    name => g.kms_key_arn if !contains(var.existing_buckets, name)
  }]...)
  logs    = var.cloudtrail.enabled ? { (var.cloudtrail.log_bucket) = "" } : {}
  buckets = merge(local.wanted, local.logs)
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket = each.key
  tags   = var.tags

  lifecycle {
    precondition {
      condition     = alltrue([for g in var.grants : g.kms_key_arn == each.value if g.bucket == each.key])
      error_message = "Grants name different keys for the bucket ${each.key}, which has one."
    }
    precondition {
      condition     = !(contains(keys(local.wanted), each.key) && contains(keys(local.logs), each.key))
      error_message = "cloudtrail.log_bucket is a bucket of a grant: tenants could write the log of what they did."
    }
    precondition { # of tenants to come, too
      condition = !contains(keys(local.logs), each.key) || !anytrue([for g in var.grants :
      can(regex("^${replace(replace(g.bucket, ".", "[.]"), "{tenant}", "[A-Za-z0-9_-]+")}$", each.key))])
      error_message = "cloudtrail.log_bucket is the bucket that some tenant would have: he could write the log of what he did."
    }
    precondition {
      condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", each.key))
      error_message = "${each.key} is not a name that a bucket can have: of a tenant that has capitals or an underscore there is none."
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# No ACLs: whoever uploads, the bucket's owner owns it.
resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    bucket_key_enabled = each.value != "" && var.bucket_keys

    apply_server_side_encryption_by_default {
      sse_algorithm     = each.value == "" ? "AES256" : "aws:kms"
      kms_master_key_id = each.value == "" ? null : each.value
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "OnlyTLS"
          Effect    = "Deny"
          Principal = "*"
          Action    = "s3:*"
          Resource  = ["arn:${local.partition}:s3:::${each.key}", "arn:${local.partition}:s3:::${each.key}/*"]
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        },
        {
          Sid       = "OnlyTLS12"
          Effect    = "Deny"
          Principal = "*"
          Action    = "s3:*"
          Resource  = ["arn:${local.partition}:s3:::${each.key}", "arn:${local.partition}:s3:::${each.key}/*"]
          Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
        },
      ],
      [for s in local.trail_statements : s if contains(keys(local.logs), each.key)],
    )
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# What a page in a browser needs: the AWS SDK and Uppy put the parts of an upload
# together by their ETag, tell errors by x-amz-error-code, and set their clock by
# Date; the other two are what AWS's support asks for.
resource "aws_s3_bucket_cors_configuration" "this" {
  for_each = length(var.allowed_origins) == 0 ? {} : local.wanted

  bucket = aws_s3_bucket.this[each.key].id

  cors_rule {
    allowed_origins = var.allowed_origins
    allowed_methods = ["GET", "PUT", "POST", "DELETE", "HEAD"]
    allowed_headers = ["*"]
    expose_headers  = ["ETag", "Date", "x-amz-error-code", "x-amz-request-id", "x-amz-id-2"]
    max_age_seconds = 600
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  # Whoever closes the page in mid-upload leaves parts that nobody sees and
  # everybody pays for.
  rule {
    id     = "abort-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = var.abort_uploads_after_days
    }
  }

  dynamic "rule" {
    for_each = var.noncurrent_versions_days > 0 ? [var.noncurrent_versions_days] : []

    content {
      id     = "forget-old-versions"
      status = "Enabled"

      filter {}

      noncurrent_version_expiration {
        noncurrent_days = rule.value
      }

      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  dynamic "rule" {
    for_each = contains(keys(local.logs), each.key) ? [var.cloudtrail.retention_days] : []

    content {
      id     = "expire-the-log"
      status = "Enabled"

      filter {}

      expiration {
        days = rule.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
