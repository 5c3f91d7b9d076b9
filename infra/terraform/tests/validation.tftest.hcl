mock_provider "aws" {}

variables {
  packages           = "./tests/packages"
  collector_endpoint = "https://collector.example.com:4318"
}

run "a_secret_in_place_of_its_arn" {
  command = plan

  variables {
    settings = { "circleci-webhook" = "s3cret" }
  }

  expect_failures = [var.settings]
}

run "a_document_of_nobody" {
  command = plan

  variables {
    settings = { "jenkins-webhook" = "arn:aws:ssm:eu-west-1:123456789012:parameter/jenkins" }
  }

  expect_failures = [var.settings]
}

run "an_arn_of_another_service" {
  command = plan

  variables {
    settings          = { "shared" = "arn:aws:s3:::shared" }
    secrets_key_arn   = "arn:aws:s3:::key"
    operator_role_arn = "arn:aws:s3:::role"
    alarm_topic_arn   = "arn:aws:s3:::topic"
  }

  expect_failures = [var.settings, var.secrets_key_arn, var.operator_role_arn, var.alarm_topic_arn]
}

run "a_network_that_is_none" {
  command = plan

  variables {
    vpc_id         = "my-vpc"
    subnet_ids     = ["subnet-0123456789abcdef0"]
    collector_cidr = "collector.internal"
  }

  expect_failures = [var.vpc_id, var.collector_cidr]
}

run "an_endpoint_without_scheme" {
  command = plan

  variables {
    telemetry_endpoint = "collector:4318"
    collector_endpoint = "collector:4318"
  }

  expect_failures = [var.collector_endpoint, var.telemetry_endpoint]
}

run "unknown_words" {
  command = plan

  variables {
    collector_protocol    = "http/json"
    collector_compression = "br"
    front_door            = "alb"
    architecture          = "arm"
    log_level             = "trace"
  }

  expect_failures = [var.collector_protocol, var.collector_compression, var.front_door, var.architecture, var.log_level]
}

run "numbers_out_of_range" {
  command = plan

  variables {
    webhook_concurrency       = 1001
    forwarder_concurrency     = 1
    http_api_rate             = 0
    http_api_burst            = 0
    log_retention_days        = 31
    oldest_message_seconds    = 299
    delivery_lag_milliseconds = 59999
    rejected_share            = 101
    refused_requests          = -1
  }

  expect_failures = [var.webhook_concurrency, var.forwarder_concurrency, var.http_api_rate, var.http_api_burst, var.log_retention_days, var.oldest_message_seconds, var.delivery_lag_milliseconds, var.rejected_share, var.refused_requests]
}

run "a_vpc_without_subnets" {
  command = plan

  variables {
    vpc_id = "vpc-0123456789abcdef0"
  }

  expect_failures = [var.subnet_ids]
}

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "a-name-of-two-and-thirty-letters"
  }

  expect_failures = [var.name]
}
