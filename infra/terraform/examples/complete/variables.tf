variable "region" {
  type        = string
  description = "AWS region"
  default     = "eu-west-1"
}

variable "collector_endpoint" {
  type        = string
  description = "Base URL of the Collector, such as https://collector.example.com:4318"
}

variable "email" {
  type        = string
  description = "Who hears of alarms; AWS sends a mail that must be confirmed"
}
