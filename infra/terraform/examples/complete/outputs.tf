output "urls" {
  description = "What is pasted into the providers and the relay, and asked by jobs"
  value       = module.spanhook.urls
}
