output "urls" {
  description = "Where each function is reached, by its name; docs/operations.md says what is pasted where"
  value       = { for name, it in local.behind_http : name => "${local.urls[name]}${it.path}" }
}

output "queue_url" {
  description = "What waits for the Collector"
  value       = aws_sqs_queue.spans.url
}

output "dead_letter_queue_url" {
  description = "What could not be delivered or mapped; for spanhook inspect and spanhook redrive"
  value       = aws_sqs_queue.dead_letters.url
}

output "dashboard_url" {
  description = "The CloudWatch dashboard"
  value       = "https://${data.aws_region.current.region}.console.aws.amazon.com/cloudwatch/home?region=${data.aws_region.current.region}#dashboards:name=${var.name}"
}
