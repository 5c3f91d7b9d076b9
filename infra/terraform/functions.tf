locals {
  use_vpc = var.vpc_id != ""

  forwarder_timeout  = 60
  forwarder_settings = [for it in ["forwarder"] : var.settings[it] if contains(keys(var.settings), it)]
  shared_settings    = [for it in ["shared"] : var.settings[it] if contains(keys(var.settings), it)]
  batching_window    = 5

  ec2_arn = "arn:${data.aws_partition.current.partition}:ec2:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:*"

  # What differs between the functions behind HTTP: a new one is an entry here. They are not in a VPC: webhooks and
  # jobs come from the internet, and issuers' keys are fetched from there.
  http = {
    "circleci-webhook" = {
      description = "CircleCI webhooks to span messages in SQS"
      path        = "circleci"
      routes      = ["POST /circleci", "POST /"] # for circleci-hook's users, whose webhooks have no path
      sends       = true
    }
    "gitlab-webhook" = {
      description = "GitLab webhooks to span messages in SQS"
      path        = "gitlab"
      routes      = ["POST /gitlab"]
      sends       = true
    }
    "github-webhook" = {
      description = "GitHub webhooks to span messages in SQS"
      path        = "github"
      routes      = ["POST /github"]
      sends       = true
    }
    "kubernetes-webhook" = {
      description = "Batches of a cluster's objects to span messages in SQS"
      path        = "kubernetes"
      routes      = ["POST /kubernetes"]
      sends       = true
    }
    "tekton-webhook" = {
      description = "Tekton's events to span messages in SQS"
      path        = "tekton"
      routes      = ["POST /tekton", "POST /tekton/{secret}"] # for TEKTON_PATH_SECRET
      sends       = true
    }
    "lighthouse-webhook" = {
      description = "Lighthouse's deliveries to span messages in SQS"
      path        = "lighthouse"
      routes      = ["POST /lighthouse", "POST /lighthouse/events"] # as lighthouse-telemetry-plugin has it
      sends       = true
    }
    "build-events" = {
      description = "Build events of CI jobs to span messages in SQS"
      path        = "build-events"
      routes      = ["POST /build-events"]
      sends       = true
    }
    "otlp" = {
      description = "What CI jobs export as OTLP to messages in SQS"
      path        = "v1/traces"
      routes      = ["POST /v1/traces", "POST /v1/metrics", "POST /v1/logs"]
      sends       = true
    }
    "traceparent" = {
      description = "The trace context of a running CI job"
      path        = "traceparent"
      routes      = ["GET /traceparent/{proxy+}", "GET /health"]
      sends       = false
    }
  }

  behind_http = { for name, it in local.http : name => it if contains(keys(var.settings), name) }

  functions = merge(
    { for name, it in local.behind_http : name => {
      description = it.description
      memory      = 256 # twice the processor of 128 MB for half the time: the same price
      timeout     = 10
      role_path   = "/${var.name}/http/" # the queues' policies know them by it
      settings    = concat([var.settings[name]], local.shared_settings)
      environment = {}
      statements = {
        SendMessages = { effect = it.sends ? "Allow" : "Deny", actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.spans.arn, aws_sqs_queue.dead_letters.arn] }
      }
    } },
    { "forwarder" = {
      description = "Span messages from SQS to the OpenTelemetry Collector"
      memory      = 512 # a batch of a thousand messages, unpacked and joined
      timeout     = local.forwarder_timeout
      role_path   = "/"
      settings    = local.forwarder_settings
      environment = {
        OTEL_EXPORTER_OTLP_ENDPOINT    = var.collector_endpoint
        OTEL_EXPORTER_OTLP_PROTOCOL    = var.collector_protocol
        OTEL_EXPORTER_OTLP_COMPRESSION = var.collector_compression
      }
      statements = {
        TakeMessages   = { effect = "Allow", actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"], resources = [aws_sqs_queue.spans.arn] }
        RejectMessages = { effect = "Allow", actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.dead_letters.arn] }
        AttachToVpc    = { effect = "Allow", actions = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"], resources = local.use_vpc ? [local.ec2_arn] : [] }
        # EC2 knows no narrower resource for these.
        SeeVpc = { effect = "Allow", actions = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"], resources = local.use_vpc ? ["*"] : [] }
      }
    } }
  )
}

resource "aws_lambda_function" "function" {
  for_each = local.functions

  function_name    = "${var.name}-${each.key}"
  description      = each.value.description
  role             = aws_iam_role.function[each.key].arn
  filename         = "${var.packages}/${each.key}/bootstrap.zip"
  source_code_hash = filebase64sha256("${var.packages}/${each.key}/bootstrap.zip")
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = each.value.memory
  timeout          = each.value.timeout

  # -1 reserves none. The forwarder's concurrency is limited where it takes messages.
  reserved_concurrent_executions = contains(keys(local.behind_http), each.key) && var.webhook_concurrency > 0 ? var.webhook_concurrency : -1

  environment {
    variables = merge(each.value.environment, {
      SETTINGS                = join(",", each.value.settings)
      QUEUE_URL               = aws_sqs_queue.spans.url
      DEAD_LETTER_QUEUE_URL   = aws_sqs_queue.dead_letters.url
      LOG_LEVEL               = var.log_level
      TELEMETRY_OTLP_ENDPOINT = var.telemetry_endpoint
    })
  }

  logging_config {
    log_group        = aws_cloudwatch_log_group.function[each.key].name
    log_format       = "JSON"
    system_log_level = "WARN"
  }

  dynamic "vpc_config" {
    for_each = each.key == "forwarder" ? aws_security_group.forwarder : []

    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = [vpc_config.value.id]
    }
  }

  # Lambda tries the role when it attaches a function to a VPC or a queue.
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  # Roles have no region, so that their names need one.
  name = "${var.name}-${each.key}-${data.aws_region.current.region}"
  path = each.value.role_path

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name = "least"
  role = aws_iam_role.function[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # A statement without resources is left out.
      for sid, it in merge(each.value.statements, {
        WriteOwnLog     = { effect = "Allow", actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"] }
        ReadSettings    = { effect = "Allow", actions = ["ssm:GetParameter", "secretsmanager:GetSecretValue"], resources = each.value.settings }
        DecryptSettings = { effect = "Allow", actions = ["kms:Decrypt"], resources = compact([var.secrets_key_arn]) }
      }) : { Sid = sid, Effect = it.effect, Action = it.actions, Resource = it.resources } if length(it.resources) > 0
    ]
  })
}

resource "aws_lambda_event_source_mapping" "forwarder" {
  function_name                      = aws_lambda_function.function["forwarder"].arn
  event_source_arn                   = aws_sqs_queue.spans.arn
  batch_size                         = 1000
  maximum_batching_window_in_seconds = local.batching_window
  function_response_types            = ["ReportBatchItemFailures"] # without it a 200 would delete what failed

  scaling_config {
    maximum_concurrency = var.forwarder_concurrency
  }
}
