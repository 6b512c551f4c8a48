locals {
  trail_arn = "arn:${local.partition}:cloudtrail:${local.region}:${local.account}:trail/${var.cloudtrail.name}"

  # What CloudTrail needs to write, for this one trail.
  trail_statements = [
    {
      Sid       = "TrailLooks"
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = "s3:GetBucketAcl"
      Resource  = ["arn:${local.partition}:s3:::${var.cloudtrail.log_bucket}"]
      Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn } }
    },
    {
      Sid       = "TrailWrites"
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = "s3:PutObject"
      Resource  = ["arn:${local.partition}:s3:::${var.cloudtrail.log_bucket}/AWSLogs/${local.account}/*"]
      Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn, "s3:x-amz-acl" = "bucket-owner-full-control" } }
    },
  ]
}

# Who read, wrote and deleted which object. The session's name and source
# identity in it are those of the broker's audit record.
resource "aws_cloudtrail" "this" {
  count = var.cloudtrail.enabled ? 1 : 0

  name                          = var.cloudtrail.name
  s3_bucket_name                = aws_s3_bucket.this[var.cloudtrail.log_bucket].id
  is_multi_region_trail         = false
  include_global_service_events = false
  enable_log_file_validation    = true
  tags                          = var.tags

  advanced_event_selector {
    name = "Objects of the tenants"

    field_selector {
      field  = "eventCategory"
      equals = ["Data"]
    }
    field_selector {
      field  = "resources.type"
      equals = ["AWS::S3::Object"]
    }
    field_selector {
      field       = "resources.ARN"
      starts_with = [for name in distinct(concat(keys(local.wanted), tolist(var.existing_buckets))) : "arn:${local.partition}:s3:::${name}/"]
    }
  }

  depends_on = [aws_s3_bucket_policy.this]
}
