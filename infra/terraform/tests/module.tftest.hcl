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
  settings           = { "circleci-webhook" = "arn:aws:ssm:eu-west-1:123456789012:parameter/circleci" }
}

run "circleci_by_default_settings" {
  command = plan

  assert {
    condition     = toset(keys(aws_lambda_function.function)) == toset(["circleci-webhook", "forwarder"])
    error_message = "Without a document there is no function, but for the forwarder."
  }
  assert {
    condition     = toset(keys(aws_apigatewayv2_route.function)) == toset(["POST /", "POST /circleci"])
    error_message = "The API has the function's routes and no others."
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
    condition     = length(aws_security_group.forwarder) == 0 && length(aws_vpc_endpoint.service) == 0
    error_message = "There is nothing in a VPC."
  }
  assert {
    condition     = aws_lambda_function.function["circleci-webhook"].reserved_concurrent_executions == 50 && aws_lambda_function.function["forwarder"].reserved_concurrent_executions == -1
    error_message = "Functions behind HTTP reserve concurrency, the forwarder does not."
  }
  assert {
    condition     = output.urls == { "circleci-webhook" = "https://api.execute-api.eu-west-1.amazonaws.com/circleci" }
    error_message = "The output is what is pasted into CircleCI."
  }
  assert {
    condition     = aws_lambda_function.function["circleci-webhook"].environment[0].variables.SETTINGS == var.settings["circleci-webhook"]
    error_message = "The function reads its document."
  }
  assert {
    condition     = !contains([for it in jsondecode(aws_iam_role_policy.function["forwarder"].policy).Statement : it.Sid], "ReadSettings")
    error_message = "Without a document the forwarder may read none."
  }
  assert {
    condition     = [for it in keys(aws_cloudwatch_metric_alarm.alarm) : it if can(regex("[45]xx$", it))] == ["http-api-4xx", "http-api-5xx"]
    error_message = "Answers of 4xx and 5xx are counted at the API."
  }
  assert {
    condition     = alltrue([for it in aws_cloudwatch_metric_alarm.alarm : length(it.alarm_actions) == 0])
    error_message = "Without a topic alarms notify nobody."
  }
}

run "nothing_behind_http" {
  command = plan

  variables {
    settings = {}
  }

  assert {
    condition     = keys(aws_lambda_function.function) == ["forwarder"] && length(aws_apigatewayv2_route.function) == 0
    error_message = "The queue and its forwarder serve whoever else sends."
  }
}

run "function_urls" {
  command = plan

  variables {
    front_door = "function-urls"
    settings = {
      "gitlab-webhook" = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:gitlab-AbCdEf"
      "traceparent"    = "arn:aws:ssm:eu-west-1:123456789012:parameter/traceparent"
    }
  }

  assert {
    condition     = toset(keys(aws_lambda_function_url.function)) == toset(["gitlab-webhook", "traceparent"])
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

run "every_document" {
  command = plan

  variables {
    settings = {
      "build-events"       = "arn:aws:ssm:eu-west-1:123456789012:parameter/build-events"
      "circleci-webhook"   = "arn:aws:ssm:eu-west-1:123456789012:parameter/circleci"
      "forwarder"          = "arn:aws:ssm:eu-west-1:123456789012:parameter/forwarder"
      "github-webhook"     = "arn:aws:ssm:eu-west-1:123456789012:parameter/github"
      "kubernetes-webhook" = "arn:aws:ssm:eu-west-1:123456789012:parameter/kubernetes"
      "tekton-webhook"     = "arn:aws:ssm:eu-west-1:123456789012:parameter/tekton"
      "lighthouse-webhook" = "arn:aws:ssm:eu-west-1:123456789012:parameter/lighthouse"
      "gitlab-webhook"     = "arn:aws:ssm:eu-west-1:123456789012:parameter/gitlab"
      "otlp"               = "arn:aws:ssm:eu-west-1:123456789012:parameter/otlp"
      "shared"             = "arn:aws:ssm:eu-west-1:123456789012:parameter/shared"
      "traceparent"        = "arn:aws:ssm:eu-west-1:123456789012:parameter/traceparent"
    }
    secrets_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
    alarm_topic_arn = "arn:aws:sns:eu-west-1:123456789012:alarms"
  }

  assert {
    condition     = toset(keys(aws_lambda_function.function)) == setsubtract(keys(var.settings), ["shared"])
    error_message = "Every document but the shared one brings its function."
  }
  assert {
    condition     = alltrue([for name in keys(local.http) : aws_lambda_function.function[name].environment[0].variables.SETTINGS == "${var.settings[name]},${var.settings.shared}"])
    error_message = "A function behind HTTP reads its own document, then the shared one."
  }
  assert {
    condition     = aws_lambda_function.function["forwarder"].environment[0].variables.SETTINGS == var.settings.forwarder
    error_message = "The forwarder reads its own alone."
  }
  assert {
    condition = alltrue([for name in keys(local.http) : one([for it in jsondecode(aws_iam_role_policy.function[name].policy).Statement : it.Resource if it.Sid == "ReadSettings"]) == [
      var.settings[name], var.settings.shared
    ]])
    error_message = "A role may read what its function is given and nothing else."
  }
  assert {
    condition     = [for name in keys(local.http) : name if one([for it in jsondecode(aws_iam_role_policy.function[name].policy).Statement : it.Effect if it.Sid == "SendMessages"]) == "Deny"] == ["traceparent"]
    error_message = "What has nothing to send must not."
  }
  assert {
    condition     = alltrue([for name, it in aws_iam_role.function : it.path == (name == "forwarder" ? "/" : "/spanhook/http/")])
    error_message = "The queues' policies know the functions behind HTTP by their roles' path."
  }
  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.rejected)) == toset(keys(local.http)) && length(setsubtract([for it in keys(local.http) : "${it}-throttles"], keys(aws_cloudwatch_metric_alarm.alarm))) == 0
    error_message = "Every function behind HTTP has its alarms."
  }
  assert {
    condition     = alltrue([for it in aws_cloudwatch_metric_alarm.alarm : contains(it.alarm_actions, "arn:aws:sns:eu-west-1:123456789012:alarms")])
    error_message = "Alarms notify the topic."
  }
  assert {
    condition     = toset(keys(output.urls)) == toset(keys(local.http))
    error_message = "Every function behind HTTP has an address."
  }
}

run "vpc" {
  command = plan

  variables {
    vpc_id     = "vpc-0123456789abcdef0"
    subnet_ids = ["subnet-0123456789abcdef0"]
    settings = {
      "circleci-webhook" = "arn:aws:ssm:eu-west-1:123456789012:parameter/circleci"
      "forwarder"        = "arn:aws:ssm:eu-west-1:123456789012:parameter/forwarder"
    }
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.service)) == toset(["sqs", "ssm"])
    error_message = "The forwarder reaches SQS and the service that holds its document."
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
