output "urls" {
  description = "What is pasted into CircleCI and GitLab, and asked by jobs"
  value       = module.spanhook.urls
}
