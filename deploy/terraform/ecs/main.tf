data "aws_partition" "current" {}
data "aws_region" "current" {}

data "aws_subnet" "public" {
  for_each = toset(var.public_subnet_ids)

  id = each.value
}

locals {
  port   = 8080
  folder = "/run/broker"

  # The load balancer's addresses are of its subnets: whose X-Forwarded-For is
  # believed. The admin port stays on the loopback interface of the task.
  configuration = merge(var.configuration, {
    listen          = ":${local.port}"
    admin_listen    = "127.0.0.1:9090"
    trusted_proxies = sort(distinct(values(data.aws_subnet.public)[*].cidr_block))
    web_identity = merge(
      var.configuration.web_identity,
      { for k, v in { signing_keys = [for i, _ in var.signing_keys : "${local.folder}/key-${i}.pem"] } : k => v if length(v) > 0 },
    )
  })

  # One user owns the files, nobody else reads them: the broker refuses a key that
  # others could.
  fill = join("\n", concat(
    ["set -eu", "umask 077", "cd ${local.folder}", "printf '%s' \"$CONFIGURATION\" >config.yaml"],
    [for i, _ in var.signing_keys : "printf '%s\\n' \"$KEY_${i}\" >key-${i}.pem"],
    ["chown -R 65532:65532 ."],
  ))

  log = {
    logDriver = "awslogs"
    options = {
      "awslogs-group"         = aws_cloudwatch_log_group.this.name
      "awslogs-region"        = data.aws_region.current.region
      "awslogs-stream-prefix" = "broker"
      # An audit record that is lost would be a release without a record. So the
      # broker waits for the log, and ECS's own default, to drop lines, is not used.
      "mode" = "blocking"
    }
  }
}

# What the secrets hold is put there by hand (see the README of this module), and
# is in no state file.
resource "aws_secretsmanager_secret" "key" {
  for_each = toset(var.signing_keys)

  name                    = "${var.name}/signing-key/${each.value}"
  description             = "A signing key of the credential broker, as PEM. It has the power of every tenant."
  kms_key_id              = var.secrets_kms_key_arn == "" ? null : var.secrets_kms_key_arn
  recovery_window_in_days = 7
  tags                    = var.tags
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.secrets_kms_key_arn == "" ? null : var.secrets_kms_key_arn
  tags              = var.tags
}

# For ECS to start a task: pull the image, read the keys, write the log. The task
# itself has no role: the broker's calls to STS are not signed, so that whoever
# broke in would find no credentials of AWS.
resource "aws_iam_role" "execution" {
  name = "${var.name}-execution"
  tags = var.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "execution" {
  name = "start"
  role = aws_iam_role.execution.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = flatten([
      [{
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:*"]
      }],
      [for s in [{
        Sid      = "Keys"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = values(aws_secretsmanager_secret.key)[*].arn
      }] : s if length(var.signing_keys) > 0],
      [for s in [{
        Sid       = "Decrypt"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = [var.secrets_kms_key_arn]
        Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${data.aws_region.current.region}.amazonaws.com" } }
      }] : s if var.secrets_kms_key_arn != ""],
      [for s in [
        { Sid = "Registry", Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] },
        { Sid = "Image", Effect = "Allow", Action = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], Resource = [var.ecr_repository_arn] },
      ] : s if var.ecr_repository_arn != ""],
    ])
  })
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  volume {
    name = "files"
  }

  container_definitions = jsonencode([
    {
      name                   = "files"
      image                  = var.init_image
      essential              = false
      user                   = "0:0" # the volume is root's, and the files are to be the broker's
      readonlyRootFilesystem = true
      linuxParameters = { capabilities = { drop = [
        "AUDIT_WRITE", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
      ] } } # all but CHOWN
      entryPoint       = ["/bin/sh", "-c"]
      command          = [local.fill]
      environment      = [{ name = "CONFIGURATION", value = yamlencode(local.configuration) }]
      secrets          = [for i, k in var.signing_keys : { name = "KEY_${i}", valueFrom = aws_secretsmanager_secret.key[k].arn }]
      mountPoints      = [{ sourceVolume = "files", containerPath = local.folder, readOnly = false }]
      logConfiguration = local.log
    },
    {
      name                   = "broker"
      image                  = var.image
      essential              = true
      dependsOn              = [{ containerName = "files", condition = "SUCCESS" }]
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      environment = [
        { name = "BROKER_CONFIG", value = "${local.folder}/config.yaml" },
        { name = "GOMEMLIMIT", value = "${floor(var.memory * 0.9)}MiB" },
      ]
      portMappings     = [{ containerPort = local.port, protocol = "tcp" }]
      mountPoints      = [{ sourceVolume = "files", containerPath = local.folder, readOnly = true }]
      healthCheck      = { command = ["CMD", "/credential-broker", "healthcheck"], interval = 10, timeout = 5, retries = 3, startPeriod = 10 }
      stopTimeout      = 30 # the broker drains for 19 s
      logConfiguration = local.log
    },
  ])
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = aws_ecs_cluster.this.arn
  task_definition = aws_ecs_task_definition.this.arn
  launch_type     = "FARGATE"
  desired_count   = var.min_tasks
  propagate_tags  = "SERVICE"
  tags            = var.tags

  enable_execute_command             = false
  availability_zone_rebalancing      = "ENABLED"
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = var.assign_public_ip
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = "broker"
    container_port   = local.port
  }

  lifecycle {
    ignore_changes = [desired_count] # the scaling's
  }

  depends_on = [aws_lb_listener.this, aws_iam_role_policy.execution]
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  min_capacity       = var.min_tasks
  max_capacity       = var.max_tasks
  tags               = var.tags
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "${var.name}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 50
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
