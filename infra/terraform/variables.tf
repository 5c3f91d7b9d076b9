variable "name" {
  type        = string
  description = "First part of every resource's name"
  default     = "spanhook"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,29}$", var.name)) # a role's has 64: NAME-FUNCTION-REGION
    error_message = "name is letters, digits and dashes, at most 30, and begins with a letter."
  }
}

variable "packages" {
  type        = string
  description = "Folder with <function>/bootstrap.zip, as cargo lambda leaves them in target/lambda"
  nullable    = false
}

# Where spans go

variable "collector_endpoint" {
  type        = string
  description = "Base URL of the Collector, such as https://collector.example.com:4318"
  nullable    = false

  validation {
    condition     = can(regex("^https?://.+$", var.collector_endpoint))
    error_message = "collector_endpoint begins with https:// or http://."
  }
}

variable "collector_protocol" {
  type        = string
  description = "OTLP over HTTP (port 4318) or gRPC (port 4317)"
  default     = "http/protobuf"
  nullable    = false

  validation {
    condition     = contains(["http/protobuf", "grpc"], var.collector_protocol)
    error_message = "collector_protocol is one of http/protobuf, grpc."
  }
}

variable "collector_compression" {
  type        = string
  description = "Compression of what is sent to the Collector"
  default     = "gzip"
  nullable    = false

  validation {
    condition     = contains(["gzip", "zstd", "none"], var.collector_compression)
    error_message = "collector_compression is one of gzip, zstd, none."
  }
}

variable "telemetry_endpoint" {
  type        = string
  description = "OTLP/HTTP base URL for spanhook's own spans and metrics; empty for CloudWatch metrics only"
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^$|^https?://.+$", var.telemetry_endpoint))
    error_message = "telemetry_endpoint is empty, or begins with https:// or http://."
  }
}

# Settings and secrets

variable "settings" {
  type        = map(string)
  description = "ARNs of the documents with settings and secrets (docs/settings.md), by function, and shared for the one that all behind HTTP read; a function without one is not deployed, the forwarder needs none"
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.settings), concat(keys(local.http), ["forwarder", "shared"]))) == 0
    error_message = "settings has the keys ${join(", ", keys(local.http))}, forwarder and shared."
  }

  validation {
    condition     = alltrue([for it in values(var.settings) : can(regex("^arn:aws[a-z-]*:(ssm|secretsmanager):.+$", it))])
    error_message = "settings holds ARNs of SSM parameters or Secrets Manager secrets."
  }
}

# Access

variable "secrets_key_arn" {
  type        = string
  description = "ARN of the KMS key of the documents, when it is not AWS's own"
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^$|^arn:aws[a-z-]*:kms:.+$", var.secrets_key_arn))
    error_message = "secrets_key_arn is empty, or the ARN of a KMS key."
  }
}

variable "operator_role_arn" {
  type        = string
  description = "Role of the people who may read, send and redrive messages besides the functions (* stands for any text); empty for none"
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^$|^arn:aws[a-z-]*:iam::.+$", var.operator_role_arn))
    error_message = "operator_role_arn is empty, or the ARN of a role."
  }
}

# Size

variable "architecture" {
  type        = string
  description = "Processor of the functions; arm64 costs a fifth less"
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is one of arm64, x86_64."
  }
}

variable "front_door" {
  type        = string
  description = "One HTTP API before the functions, whose throttling keeps others from using up their concurrency (a dollar a million requests), or a URL for each"
  default     = "http-api"
  nullable    = false

  validation {
    condition     = contains(["http-api", "function-urls"], var.front_door)
    error_message = "front_door is one of http-api, function-urls."
  }
}

variable "webhook_concurrency" {
  type        = number
  description = "Reserved concurrency of each function behind HTTP; ten times as many requests a second, then 429. 0 reserves none"
  default     = 50
  nullable    = false

  validation {
    condition     = var.webhook_concurrency >= 0 && var.webhook_concurrency <= 1000
    error_message = "webhook_concurrency is from 0 to 1000."
  }
}

variable "forwarder_concurrency" {
  type        = number
  description = "Most batches that are forwarded at a time"
  default     = 5
  nullable    = false

  validation {
    condition     = var.forwarder_concurrency >= 2 && var.forwarder_concurrency <= 1000
    error_message = "forwarder_concurrency is from 2 to 1000."
  }
}

variable "http_api_rate" {
  type        = number
  description = "Requests a second that the HTTP API lets through"
  default     = 500
  nullable    = false

  validation {
    condition     = var.http_api_rate >= 1
    error_message = "http_api_rate is at least 1."
  }
}

variable "http_api_burst" {
  type        = number
  description = "Requests that it lets through at once; not above WebhookConcurrency, or a flood reaches the functions"
  default     = 50
  nullable    = false

  validation {
    condition     = var.http_api_burst >= 1
    error_message = "http_api_burst is at least 1."
  }
}

variable "log_retention_days" {
  type        = number
  description = "How long logs are kept"
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 180, 365], var.log_retention_days)
    error_message = "log_retention_days is one of 1, 3, 5, 7, 14, 30, 60, 90, 180, 365."
  }
}

variable "log_level" {
  type        = string
  description = "Least level that is logged; info tells of pings and of the first delivery of each kind, debug of every one"
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["error", "warn", "info", "debug"], var.log_level)
    error_message = "log_level is one of error, warn, info, debug."
  }
}

# Network of the forwarder

variable "vpc_id" {
  type        = string
  description = "VPC of the forwarder alone (its endpoints serve nobody else, and private DNS sends everybody in the VPC to them), when the Collector is only reachable there; empty for none"
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^$|^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id is empty, or the id of a VPC."
  }
}

variable "subnet_ids" {
  type        = list(string)
  description = "Private subnets of that VPC"
  default     = []
  nullable    = false

  validation {
    condition     = var.vpc_id == "" || length(var.subnet_ids) > 0
    error_message = "subnet_ids names at least one subnet when vpc_id is set."
  }
}

variable "collector_port" {
  type        = number
  description = "The Collector's port, the only one that the forwarder may reach in the VPC besides HTTPS endpoints"
  default     = 4318
  nullable    = false
}

variable "collector_cidr" {
  type        = string
  description = "Address range of the Collector"
  default     = "10.0.0.0/16"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9.]+/[0-9]+$", var.collector_cidr))
    error_message = "collector_cidr is an address range such as 10.0.0.0/16."
  }
}

# Alarms

variable "alarm_topic_arn" {
  type        = string
  description = "SNS topic that alarms notify; empty for none"
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^$|^arn:aws[a-z-]*:sns:.+$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn is empty, or the ARN of an SNS topic."
  }
}

variable "oldest_message_seconds" {
  type        = number
  description = "Age of the oldest message that raises an alarm, in seconds"
  default     = 300
  nullable    = false

  validation {
    condition     = var.oldest_message_seconds >= 300
    error_message = "oldest_message_seconds is at least 300."
  }
}

variable "delivery_lag_milliseconds" {
  type        = number
  description = "Time from the end of the work to the Collector that raises an alarm (95th percentile), in milliseconds"
  default     = 300000
  nullable    = false

  validation {
    condition     = var.delivery_lag_milliseconds >= 60000
    error_message = "delivery_lag_milliseconds is at least 60000."
  }
}

variable "rejected_share" {
  type        = number
  description = "Percent of deliveries with a bad signature that raises an alarm"
  default     = 20
  nullable    = false

  validation {
    condition     = var.rejected_share >= 1 && var.rejected_share <= 100
    error_message = "rejected_share is from 1 to 100."
  }
}

variable "refused_requests" {
  type        = number
  description = "Requests in five minutes that may be answered 4xx before an alarm is raised"
  default     = 0
  nullable    = false

  validation {
    condition     = var.refused_requests >= 0
    error_message = "refused_requests is at least 0."
  }
}
