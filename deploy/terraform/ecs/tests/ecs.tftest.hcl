# tofu test (or terraform test) in this folder. No cloud is asked.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "ap-northeast-1" }
  }
  mock_data "aws_subnet" {
    defaults = { cidr_block = "10.0.0.0/24" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:key-a1b2c3" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/x" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:ap-northeast-1:123456789012:log-group:x" }
  }
}

variables {
  image              = "registry.example/credential-broker@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  vpc_id             = "vpc-1"
  public_subnet_ids  = ["subnet-1", "subnet-2"]
  private_subnet_ids = ["subnet-3", "subnet-4"]
  hostname           = "broker.acme.example"
  certificate_arn    = "arn:aws:acm:ap-northeast-1:123456789012:certificate/1"
  signing_keys       = ["second", "first"]
  configuration = {
    issuers      = [{ url = "https://acme.eu.auth0.com/", audiences = ["https://uploads.acme.example"] }]
    web_identity = { mode = "minted", issuer = "https://broker.acme.example" }
    sts          = { region = "ap-northeast-1" }
    grants       = []
  }
}

run "the_broker_is_hardened" {
  command = apply

  assert {
    condition = alltrue([for c in jsondecode(aws_ecs_task_definition.this.container_definitions) :
    c.readonlyRootFilesystem && !lookup(c, "privileged", false) && c.logConfiguration.options.mode == "blocking"])
    error_message = "A container may write its root, or loses lines of its log."
  }
  assert {
    condition = alltrue([for c in jsondecode(aws_ecs_task_definition.this.container_definitions) :
    c.user == "65532:65532" && c.linuxParameters.capabilities.drop == ["ALL"] && c.mountPoints[0].readOnly && length(lookup(c, "secrets", [])) == 0 if c.name == "broker"])
    error_message = "The broker is root, or has capabilities, or may change its configuration, or has keys in its environment."
  }
  assert {
    condition     = aws_ecs_task_definition.this.task_role_arn == null && aws_ecs_service.this.enable_execute_command == false
    error_message = "The task has credentials of AWS, or a shell."
  }
  assert {
    condition     = alltrue([for c in jsondecode(aws_ecs_task_definition.this.container_definitions) : c.healthCheck.command == ["CMD", "/credential-broker", "healthcheck"] && c.stopTimeout >= 20 if c.name == "broker"])
    error_message = "The broker is not asked how it is, or not given the time to drain."
  }
}

run "the_first_key_signs_and_both_are_there" {
  command = apply

  assert {
    condition     = yamldecode(output.configuration).web_identity.signing_keys == ["/run/broker/key-0.pem", "/run/broker/key-1.pem"]
    error_message = "The keys are others."
  }
  assert {
    condition     = alltrue([for c in jsondecode(aws_ecs_task_definition.this.container_definitions) : [for s in c.secrets : s.name] == ["KEY_0", "KEY_1"] if c.name == "files"]) && toset(keys(output.signing_key_secrets)) == toset(["first", "second"])
    error_message = "A key does not get to its file."
  }
}

run "the_admin_port_is_nobodys" {
  command = apply

  assert {
    condition     = yamldecode(output.configuration).admin_listen == "127.0.0.1:9090" && alltrue([for c in jsondecode(aws_ecs_task_definition.this.container_definitions) : [for p in c.portMappings : p.containerPort] == [8080] if c.name == "broker"])
    error_message = "The admin port is open."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.tasks.from_port == 8080 && aws_vpc_security_group_ingress_rule.tasks.to_port == 8080 && aws_vpc_security_group_ingress_rule.tasks.cidr_ipv4 == null
    error_message = "Others than the load balancer reach the tasks."
  }
  assert {
    condition     = toset(one(one(aws_lb_listener_rule.this.condition).path_pattern).values) == toset(["/v1/*", "/s3/sts", "/openapi.yaml", "/.well-known/openid-configuration", "/.well-known/jwks.json"]) && aws_lb_listener.this.default_action[0].type == "fixed-response"
    error_message = "More paths are public than the routes for others."
  }
  assert {
    condition     = aws_lb_listener.this.protocol == "HTTPS" && alltrue([for r in values(aws_vpc_security_group_ingress_rule.lb) : r.from_port == 443 && r.to_port == 443]) && aws_lb.this.drop_invalid_header_fields
    error_message = "There is a way in without TLS."
  }
}

run "forwarded_has_no_keys" {
  command = apply

  variables {
    signing_keys = []
    internal     = true
    configuration = {
      issuers      = [{ url = "https://acme.eu.auth0.com/", audiences = ["https://uploads.acme.example"] }]
      web_identity = { mode = "forwarded" }
      sts          = { region = "ap-northeast-1" }
      grants       = []
    }
  }

  assert {
    condition     = !can(yamldecode(output.configuration).web_identity.signing_keys) && !strcontains(aws_iam_role_policy.execution.policy, "secretsmanager")
    error_message = "Keys in mode forwarded."
  }
}

run "minted_is_not_internal" {
  command = plan
  variables {
    internal = true
  }
  expect_failures = [var.internal]
}

run "minted_needs_a_key" {
  command = plan
  variables {
    signing_keys = []
  }
  expect_failures = [var.signing_keys]
}

run "no_latest" {
  command = plan
  variables {
    image = "registry.example/credential-broker:latest"
  }
  expect_failures = [var.image]
}

run "no_single_task" {
  command = plan
  variables {
    min_tasks = 1
  }
  expect_failures = [var.min_tasks]
}

run "no_ports_of_ones_own" {
  command = plan
  variables {
    configuration = {
      admin_listen = "0.0.0.0:9090"
      issuers      = []
      web_identity = { mode = "minted" }
      sts          = { region = "ap-northeast-1" }
      grants       = []
    }
  }
  expect_failures = [var.configuration]
}
