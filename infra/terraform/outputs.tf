output "circleci_webhook_url" {
  description = "Paste it into CircleCI, Project Settings, Webhooks"
  value       = local.has_circleci ? "${local.urls["circleci-webhook"]}circleci" : null
}

output "gitlab_webhook_url" {
  description = "Paste it into GitLab, Settings, Webhooks, with Pipeline events ticked"
  value       = local.has_gitlab ? "${local.urls["gitlab-webhook"]}gitlab" : null
}

output "traceparent_url" {
  description = "A CI step asks it for its trace context; append /circleci/... or /gitlab/..."
  value       = "${local.urls["traceparent"]}traceparent"
}

output "build_events_url" {
  description = "Paste it as SPANHOOK_ENDPOINT into CI jobs; they append /build-events"
  value       = local.has_build_events ? trimsuffix(local.urls["build-events"], "/") : null
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
