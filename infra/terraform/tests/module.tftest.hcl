# The provider is mocked: no account is needed. These are the values that policies are made of.
mock_provider "aws" {
  override_during = plan

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = {
      arn = "arn:aws:sqs:eu-west-1:123456789012:queue"
      url = "https://sqs.eu-west-1.amazonaws.com/123456789012/queue"
    }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:log" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/role" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:function" }
  }
  mock_resource "aws_lambda_function_url" {
    defaults = { function_url = "https://function.lambda-url.eu-west-1.on.aws/" }
  }
  mock_resource "aws_apigatewayv2_api" {
    defaults = {
      id            = "api"
      api_endpoint  = "https://api.execute-api.eu-west-1.amazonaws.com"
      execution_arn = "arn:aws:execute-api:eu-west-1:123456789012:api"
    }
  }
  mock_resource "aws_security_group" {
    defaults = { id = "sg-0123456789abcdef0" }
  }
}

variables {
  packages           = "./tests/packages"
  collector_endpoint = "https://collector.example.com:4318"
  circleci_secret    = "arn:aws:ssm:eu-west-1:123456789012:parameter/circleci"
}

run "circleci_by_default_settings" {
  command = plan

  assert {
    condition     = toset(keys(aws_lambda_function.function)) == toset(["circleci-webhook", "forwarder", "traceparent"])
    error_message = "Without GitLab's secrets there is no function for GitLab."
  }
  assert {
    condition     = length(aws_security_group.forwarder) == 0 && length(aws_vpc_endpoint.service) == 0
    error_message = "There is nothing in a VPC."
  }
  assert {
    condition     = aws_lambda_function.function["circleci-webhook"].reserved_concurrent_executions == 50 && aws_lambda_function.function["forwarder"].reserved_concurrent_executions == -1
    error_message = "Functions behind HTTP reserve concurrency, the forwarder does not."
  }
  assert {
    condition     = output.circleci_webhook_url == "https://api.execute-api.eu-west-1.amazonaws.com/circleci" && output.gitlab_webhook_url == null
    error_message = "The output is what is pasted into CircleCI."
  }
  assert {
    condition     = output.build_events_url == null
    error_message = "Without a proof that jobs can give there is nothing to send build events to."
  }
  assert {
    condition     = [for it in jsondecode(aws_iam_role_policy.function["traceparent"].policy).Statement : it.Sid] == ["WriteOwnLog"]
    error_message = "Without a token or rules in SSM the traceparent function may write its log and nothing else."
  }
  assert {
    condition     = alltrue([for it in aws_cloudwatch_metric_alarm.alarm : length(it.alarm_actions) == 0])
    error_message = "Without a topic alarms notify nobody."
  }
}

run "function_urls" {
  command = plan

  variables {
    front_door = "function-urls"
  }

  assert {
    condition     = toset(keys(aws_lambda_function_url.function)) == toset(["circleci-webhook", "traceparent"])
    error_message = "Each function behind HTTP has a URL, the forwarder has none."
  }
  assert {
    condition     = alltrue([for it in aws_lambda_permission.url : it.action == "lambda:InvokeFunctionUrl" && it.function_url_auth_type == "NONE"])
    error_message = "A URL may be called without AWS credentials."
  }
  assert {
    condition     = alltrue([for it in aws_lambda_permission.url_invoke : it.action == "lambda:InvokeFunction" && it.invoked_via_function_url])
    error_message = "The second permission that a URL needs is limited to calls by URL."
  }
  assert {
    condition     = keys(aws_lambda_permission.url) == keys(aws_lambda_function_url.function) && keys(aws_lambda_permission.url_invoke) == keys(aws_lambda_function_url.function)
    error_message = "Every URL has both permissions."
  }
  assert {
    condition     = length(aws_apigatewayv2_api.http) == 0 && length(aws_apigatewayv2_route.function) == 0
    error_message = "There is no HTTP API besides the URLs."
  }
}

run "no_reserved_concurrency" {
  command = plan

  variables {
    webhook_concurrency = 0
  }

  assert {
    condition     = alltrue([for it in aws_lambda_function.function : it.reserved_concurrent_executions == -1])
    error_message = "0 reserves none."
  }
}

run "only_gitlab" {
  command = plan

  variables {
    circleci_secret      = ""
    gitlab_signing_token = "arn:aws:ssm:eu-west-1:123456789012:parameter/gitlab"
    project_rules        = "arn:aws:ssm:eu-west-1:123456789012:parameter/rules"
    secrets_key_arn      = "arn:aws:kms:eu-west-1:123456789012:key/1"
    alarm_topic_arn      = "arn:aws:sns:eu-west-1:123456789012:alarms"
  }

  assert {
    condition     = toset(keys(aws_lambda_function.function)) == toset(["forwarder", "gitlab-webhook", "traceparent"])
    error_message = "Without CircleCI's secret there is no function for CircleCI."
  }
  assert {
    condition = toset([for it in jsondecode(aws_iam_role_policy.function["gitlab-webhook"].policy).Statement : it.Sid]) == toset(
      ["DecryptSecrets", "ReadRules", "ReadSigningToken", "SendMessages", "WriteOwnLog"]
    )
    error_message = "The role reads what is set, and not the secret token, which is not."
  }
  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.rejected)) == toset(["gitlab"])
    error_message = "There are no alarms for CircleCI."
  }
  assert {
    condition     = alltrue([for it in aws_cloudwatch_metric_alarm.alarm : contains(it.alarm_actions, "arn:aws:sns:eu-west-1:123456789012:alarms")])
    error_message = "Alarms notify the topic."
  }
  assert {
    condition     = output.circleci_webhook_url == null && endswith(output.gitlab_webhook_url, "/gitlab")
    error_message = "The output is what is pasted into GitLab."
  }
}

run "build_events" {
  command = plan

  variables {
    front_door               = "function-urls"
    build_events_signing_key = "arn:aws:ssm:eu-west-1:123456789012:parameter/build-events"
    oidc_issuers             = "https://gitlab.example.com"
    oidc_audience            = "https://ci.example.com"
    access                   = "arn:aws:ssm:eu-west-1:123456789012:parameter/access"
  }

  assert {
    condition     = toset(keys(aws_lambda_function.function)) == toset(["build-events", "circleci-webhook", "forwarder", "traceparent"])
    error_message = "A key or issuers bring the function of build events."
  }
  assert {
    condition     = aws_lambda_function.function["build-events"].reserved_concurrent_executions == 50 && length(aws_lambda_function.function["build-events"].vpc_config) == 0
    error_message = "It reserves concurrency as the webhooks do, and is not in a VPC."
  }
  assert {
    condition = toset([for it in jsondecode(aws_iam_role_policy.function["build-events"].policy).Statement : it.Sid]) == toset(
      ["ReadAccess", "ReadSigningKey", "SendMessages", "WriteOwnLog"]
    )
    error_message = "The role reads what is set, and not the token, which is not."
  }
  assert {
    condition     = alltrue([for it in ["build-events", "traceparent"] : aws_lambda_function.function[it].environment[0].variables.OIDC_AUDIENCE == "https://ci.example.com"])
    error_message = "Both functions that jobs call judge by the same issuers."
  }
  assert {
    condition     = contains([for it in jsondecode(aws_iam_role_policy.function["traceparent"].policy).Statement : it.Sid], "ReadAccess")
    error_message = "The traceparent function reads the same rules."
  }
  assert {
    condition     = contains(keys(aws_cloudwatch_metric_alarm.rejected), "build-events") && length(setsubtract(["build-events-5xx", "build-events-throttles"], keys(aws_cloudwatch_metric_alarm.alarm))) == 0
    error_message = "It has the alarms that webhooks have."
  }
  assert {
    condition     = output.build_events_url == "https://function.lambda-url.eu-west-1.on.aws"
    error_message = "The output is what senders append /build-events to."
  }
}

run "http_api" {
  command = plan

  variables {
    gitlab_secret_token = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:gitlab-AbCdEf"
    build_events_token  = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:build-events-AbCdEf"
  }

  assert {
    condition = toset(keys(aws_apigatewayv2_route.function)) == toset(
      ["GET /health", "GET /traceparent/{proxy+}", "POST /", "POST /build-events", "POST /circleci", "POST /gitlab"]
    )
    error_message = "The API has these routes and no others."
  }
  assert {
    condition     = length(aws_lambda_function_url.function) == 0 && length(aws_lambda_permission.url) == 0 && length(aws_lambda_permission.url_invoke) == 0
    error_message = "No function has a URL besides the API."
  }
  assert {
    condition     = alltrue([for it in aws_lambda_permission.api : it.principal == "apigateway.amazonaws.com" && it.source_arn == "arn:aws:execute-api:eu-west-1:123456789012:api/*/*"])
    error_message = "Only this API may call the functions."
  }
  assert {
    condition     = output.gitlab_webhook_url == "https://api.execute-api.eu-west-1.amazonaws.com/gitlab" && output.build_events_url == "https://api.execute-api.eu-west-1.amazonaws.com"
    error_message = "The output is an address of the API."
  }
  assert {
    condition     = [for it in keys(aws_cloudwatch_metric_alarm.alarm) : it if can(regex("[45]xx$", it))] == ["http-api-4xx", "http-api-5xx"]
    error_message = "Answers of 4xx and 5xx are counted at the API."
  }
}

run "vpc" {
  command = plan

  variables {
    vpc_id            = "vpc-0123456789abcdef0"
    subnet_ids        = ["subnet-0123456789abcdef0"]
    collector_headers = "arn:aws:ssm:eu-west-1:123456789012:parameter/headers"
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.service)) == toset(["sqs", "ssm"])
    error_message = "The forwarder reaches SQS and the service that holds its headers."
  }
  assert {
    condition     = length(aws_lambda_function.function["forwarder"].vpc_config) == 1 && length(aws_lambda_function.function["circleci-webhook"].vpc_config) == 0
    error_message = "Only the forwarder is in the VPC."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.collector[0].from_port == 4318 && aws_vpc_security_group_egress_rule.collector[0].cidr_ipv4 == "10.0.0.0/16"
    error_message = "The way out is to the Collector's port."
  }
  assert {
    condition     = contains([for it in jsondecode(aws_iam_role_policy.function["forwarder"].policy).Statement : it.Sid], "AttachToVpc")
    error_message = "The role may attach the function to the VPC."
  }
}
