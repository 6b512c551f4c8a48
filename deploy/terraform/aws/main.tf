# What `credential-broker iam` prints for the broker's configuration, written from
# the same words. The tests of the repository compare the two.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region
  minted    = var.web_identity.mode == "minted"

  # Whose tokens open sessions: the broker's own, or each issuer's. Of those STS
  # takes `azp`, the client, for the audience; the audience proper is asked for
  # besides. IAM names an issuer without the scheme, with its last slash if it has
  # one; a single value of a condition is a text, several are a list.
  trusted = [for t in local.minted ? [
    { url = var.web_identity.issuer, client_ids = [var.web_identity.audience], audiences = [] }
    ] : [
    for i in var.issuers : { url = i.url, client_ids = i.clients, audiences = i.audiences }
    ] : merge(t, {
      host = trimprefix(t.url, "https://")
      arn  = "arn:${local.partition}:iam::${local.account}:oidc-provider/${trimprefix(t.url, "https://")}"
      aud  = length(t.client_ids) == 1 ? jsonencode(t.client_ids[0]) : jsonencode(t.client_ids)
      oaud = length(t.audiences) == 1 ? jsonencode(t.audiences[0]) : jsonencode(t.audiences)
  })]

  # A grant that is for the tenants of one issuer (claim iss) has a role that
  # trusts no other: in mode forwarded a caller asks STS himself, and another
  # issuer's tenant of the same name would be inside.
  trusts = { for role, grants in local.roles : role => [
    for t in local.trusted : t if local.minted || alltrue([for g in grants : lookup(g.match.claims, "iss", t.url) == t.url])
  ] }

  roles     = { for role in distinct(var.grants[*].role) : role => [for g in var.grants : g if g.role == role] }
  role_arns = { for role in keys(local.roles) : role => "arn:${local.partition}:iam::${local.account}:role/${role}" }

  seconds = { for g in var.grants : g.name => sum([
    for unit, factor in { h = 3600, m = 60, s = 1 } : try(tonumber(regex("([0-9]+)${unit}", g.duration)[0]), 0) * factor
  ]) }

  # Principal tags without which there is no session of a role.
  tags_of = { for role, grants in local.roles : role => concat(["tenant"], anytrue([for g in grants : strcontains(g.prefix, "{user}")]) ? ["user"] : []) }

  trust_policies = { for role in keys(local.roles) : role => jsonencode({
    Version = "2012-10-17"
    Statement = flatten([for i, t in local.trusts[role] : [
      {
        Sid       = "Assume${i + 1}"
        Effect    = "Allow"
        Principal = { Federated = t.arn }
        Action    = ["sts:AssumeRoleWithWebIdentity"]
        Condition = merge(
          {
            StringEquals = { "${t.host}:aud" = jsondecode(t.aud) }
            Null         = { for tag in local.tags_of[role] : "aws:RequestTag/${tag}" => "false" }
          },
          # The broker's tokens name the one role that they are for.
          { for k, v in { Bool = { "sts:RoleAuthorizedByIdp" = "true" } } : k => v if local.minted },
          { for k, v in { "ForAnyValue:StringEquals" = { "${t.host}:oaud" = jsondecode(t.oaud) } } : k => v if !local.minted },
          # Somebody else writes the tags: a slash in one, or nothing at all, would
          # lead into the place of another.
          { for k, v in { StringNotLike = { for tag in local.tags_of[role] : "aws:RequestTag/${tag}" => ["*/*", ""] } } : k => v if !local.minted },
        )
      },
      # In a statement of its own: not every condition key is there when STS asks
      # for tags and source identity.
      {
        Sid       = "Describe${i + 1}"
        Effect    = "Allow"
        Principal = { Federated = t.arn }
        Action    = ["sts:TagSession", "sts:SetSourceIdentity"]
        Condition = {
          StringEquals                = { "${t.host}:aud" = jsondecode(t.aud) }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["tenant", "user"] }
        }
      },
    ]])
  }) }

  # What the grants of a role give in one place is given once.
  places = { for role, grants in local.roles : role => [
    for place in distinct([for g in grants : { bucket = g.bucket, prefix = g.prefix, key = g.kms_key_arn }]) : merge(place, {
      access = flatten([for g in grants : g.access if g.bucket == place.bucket && g.prefix == place.prefix && g.kms_key_arn == place.key])
      bucket = "arn:${local.partition}:s3:::${replace(place.bucket, "{tenant}", local.tag_tenant)}"
      # Where the session's tenant has its files: its principal tag stands in the
      # tenant's place, so that the role opens no other's, with or without a
      # session policy.
      pattern = "${replace(replace(place.prefix, "{tenant}", local.tag_tenant), "{user}", "$${aws:PrincipalTag/user}")}*"
      # KMS names the region's S3; in China by either domain.
      via = place.key == "" ? [] : concat(
        local.partition == "aws-cn" ? ["s3.${split(":", place.key)[3]}.amazonaws.com.cn"] : [],
        ["s3.${split(":", place.key)[3]}.amazonaws.com"],
      )
    })
  ] }
  tag_tenant = "$${aws:PrincipalTag/tenant}"

  object_actions = [for p in [
    { right = "read", actions = ["s3:GetObject"] },
    # The parts of a multipart upload are s3:PutObject; abort and list-parts are not.
    { right = "write", actions = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"] },
    { right = "delete", actions = ["s3:DeleteObject"] },
  ] : p]
  ours = { "aws:ResourceAccount" = local.account }

  role_policies = { for role, places in local.places : role => jsonencode({
    Version = "2012-10-17"
    Statement = flatten([for i, p in places : [
      [for s in [{
        Sid       = "Objects${i + 1}"
        Effect    = "Allow"
        Action    = flatten([for a in local.object_actions : a.actions if contains(p.access, a.right)])
        Resource  = "${p.bucket}/${p.pattern}"
        Condition = { StringEquals = local.ours }
      }] : s if length(s.Action) > 0],
      [for s in [{
        Sid       = "List${i + 1}"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = p.bucket
        Condition = { StringEquals = local.ours, StringLike = { "s3:prefix" = p.pattern } }
      }] : s if contains(p.access, "list")],
      # A multipart upload reads its parts back when it is completed, so that
      # writing needs to decrypt, too.
      [for s in [{
        Sid      = "Key${i + 1}"
        Effect   = "Allow"
        Action   = contains(p.access, "write") ? ["kms:GenerateDataKey", "kms:Decrypt"] : ["kms:Decrypt"]
        Resource = p.key
        Condition = {
          StringEquals = { "kms:ViaService" = jsondecode(length(p.via) == 1 ? jsonencode(p.via[0]) : jsonencode(p.via)) }
          StringLike   = { "kms:EncryptionContext:aws:s3:arn" = [p.bucket, "${p.bucket}/${p.pattern}"] }
        }
      }] : s if p.key != "" && (contains(p.access, "read") || contains(p.access, "write"))],
    ]])
  }) }
}

resource "aws_iam_openid_connect_provider" "this" {
  for_each = { for i, t in local.trusted : t.url => merge(t, { arn = t.arn }) }

  # AWS fetches the keys by itself and trusts the public certificate authorities:
  # a thumbprint is not needed.
  url            = each.key
  client_id_list = each.value.client_ids
  tags           = var.tags

  lifecycle {
    precondition {
      condition     = length(each.value.client_ids) > 0 && length(each.value.client_ids) <= 100
      error_message = "Mode forwarded: issuers[].clients of ${each.key} has to list the clients whose tokens AWS takes, at most 100."
    }
    postcondition {
      condition     = self.arn == each.value.arn
      error_message = "IAM made ${self.arn}, and the trust policies name ${each.value.arn}: the issuer's last slash counts."
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = reverse(split("/", each.key))[0]
  path                 = length(split("/", each.key)) == 1 ? "/" : "/${join("/", slice(split("/", each.key), 0, length(split("/", each.key)) - 1))}/"
  description          = "Opened by the credential broker for ${join(", ", each.value[*].name)}: one tenant's files in each session."
  assume_role_policy   = local.trust_policies[each.key]
  max_session_duration = max(3600, [for g in each.value : local.seconds[g.name]]...) # IAM takes no less
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags

  lifecycle {
    precondition {
      condition     = alltrue([for g in each.value : local.seconds[g.name] >= 900 && local.seconds[g.name] <= 43200])
      error_message = "grants[].duration is from 15m to 12h."
    }
    precondition {
      condition     = length(local.trust_policies[each.key]) <= 2048
      error_message = "The trust policy of ${each.key} has ${length(local.trust_policies[each.key])} characters, and IAM takes 2048: give each issuer a role of its own, or list fewer clients."
    }
    precondition {
      condition     = length(local.trusts[each.key]) > 0
      error_message = "A grant of ${each.key} is for an issuer (match.claims.iss) that is not among the issuers."
    }
    precondition {
      condition     = local.minted || !anytrue([for g in each.value : coalesce(g.tenant.request, false)])
      error_message = "Mode forwarded: the token's tag names the tenant, and a grant of ${each.key} lets the request name it."
    }
    precondition {
      condition     = local.minted || length(each.value) == 1
      error_message = "Mode forwarded: ${join(" and ", each.value[*].name)} share the role ${each.key}. A caller can ask STS himself, and has what all of them give: let each have a role of its own."
    }
    precondition {
      condition     = local.minted || !anytrue(each.value[*].bind_source_ip)
      error_message = "Mode forwarded: a caller can ask STS himself and is bound to no address, and a grant of ${each.key} has bind_source_ip."
    }
  }

  depends_on = [aws_iam_openid_connect_provider.this]
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name   = "tenant"
  role   = aws_iam_role.this[each.key].name
  policy = local.role_policies[each.key]

  lifecycle {
    precondition {
      condition     = length(local.role_policies[each.key]) <= 10240
      error_message = "The policy of ${each.key} has ${length(local.role_policies[each.key])} characters, and IAM takes 10240: give some of the grants a role of their own."
    }
  }
}
