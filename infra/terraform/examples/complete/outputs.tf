output "urls" {
  description = "What is pasted into CircleCI, GitLab and GitHub, and asked by jobs"
  value       = module.spanhook.urls
}
