output "circleci_webhook_url" {
  description = "Paste it into CircleCI, Project Settings, Webhooks"
  value       = module.spanhook.circleci_webhook_url
}

output "gitlab_webhook_url" {
  description = "Paste it into GitLab, Settings, Webhooks, with Pipeline events ticked"
  value       = module.spanhook.gitlab_webhook_url
}

output "traceparent_url" {
  description = "A CI step asks it for its trace context"
  value       = module.spanhook.traceparent_url
}
