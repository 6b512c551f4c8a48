output "configuration" {
  description = "The broker's whole configuration, as YAML: what the tasks run with, but for the paths of the keys the same anywhere."
  value       = yamlencode(local.configuration)
}

output "url" {
  description = "Where the broker answers."
  value       = "https://${var.hostname}"
}

output "dns_name" {
  description = "The load balancer's own name: what the public name points to."
  value       = aws_lb.this.dns_name
}

output "signing_key_secrets" {
  description = "The secrets whose values are to be put there, by the key's name."
  value       = { for name, s in aws_secretsmanager_secret.key : name => s.arn }
}

output "service" {
  description = "Cluster and service: for aws ecs update-service."
  value       = { cluster = aws_ecs_cluster.this.name, service = aws_ecs_service.this.name }
}

output "log_group" {
  description = "The log, which holds the audit records."
  value       = aws_cloudwatch_log_group.this.name
}
