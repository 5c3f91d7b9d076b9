locals {
  has_circleci = var.circleci_secret != ""
  has_gitlab   = var.gitlab_signing_token != "" || var.gitlab_secret_token != ""
  use_vpc      = var.vpc_id != ""

  has_build_events = var.build_events_signing_key != "" || var.build_events_token != "" || var.oidc_issuers != ""

  forwarder_timeout = 60
  batching_window   = 5

  read_secret = ["ssm:GetParameter", "secretsmanager:GetSecretValue"]
  rules_arn   = startswith(var.project_rules, "arn:") ? [var.project_rules] : []
  access_arn  = startswith(var.access, "arn:") ? [var.access] : []
  ec2_arn     = "arn:${data.aws_partition.current.partition}:ec2:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:*"

  queue_environment = {
    QUEUE_URL             = aws_sqs_queue.spans.url
    DEAD_LETTER_QUEUE_URL = aws_sqs_queue.dead_letters.url
  }

  identity_environment = {
    OIDC_ISSUERS  = var.oidc_issuers
    OIDC_AUDIENCE = var.oidc_audience
    ACCESS        = var.access
  }

  # What differs between the functions. A statement without resources is left out of the role.
  functions = { for name, it in {
    "circleci-webhook" = {
      enabled     = local.has_circleci
      description = "CircleCI webhooks to span messages in SQS"
      memory      = 256 # twice the processor of 128 MB for half the time: the same price
      timeout     = 10
      environment = merge(local.queue_environment, {
        CIRCLECI_HOOK_SECRET  = var.circleci_secret
        CIRCLECI_HOST         = var.circleci_host
        CIRCLECI_SERVICE_NAME = var.circleci_service_name
        TRACE_IDS             = var.trace_ids
        PROJECT_RULES         = var.project_rules
      })
      statements = {
        SendMessages = { actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.spans.arn, aws_sqs_queue.dead_letters.arn] }
        ReadSecret   = { actions = local.read_secret, resources = compact([var.circleci_secret]) }
        ReadRules    = { actions = ["ssm:GetParameter"], resources = local.rules_arn }
      }
    }
    "gitlab-webhook" = {
      enabled     = local.has_gitlab
      description = "GitLab webhooks to span messages in SQS"
      memory      = 256
      timeout     = 10
      environment = merge(local.queue_environment, {
        GITLAB_SIGNING_TOKEN = var.gitlab_signing_token
        GITLAB_SECRET_TOKEN  = var.gitlab_secret_token
        GITLAB_HOST          = var.gitlab_host
        GITLAB_SERVICE_NAME  = var.gitlab_service_name
        GITLAB_JOB_SPANS     = var.gitlab_job_spans
        GITLAB_NATIVE_JOB_ID = var.gitlab_native_job_id
        TRACE_IDS            = var.trace_ids
        PROJECT_RULES        = var.project_rules
      })
      statements = {
        SendMessages     = { actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.spans.arn, aws_sqs_queue.dead_letters.arn] }
        ReadSigningToken = { actions = local.read_secret, resources = compact([var.gitlab_signing_token]) }
        ReadSecretToken  = { actions = local.read_secret, resources = compact([var.gitlab_secret_token]) }
        ReadRules        = { actions = ["ssm:GetParameter"], resources = local.rules_arn }
      }
    }
    # What jobs report of themselves. Not in a VPC: it fetches the issuers' keys over the internet, and
    # jobs come from there.
    "build-events" = {
      enabled     = local.has_build_events
      description = "Build events of CI jobs to span messages in SQS"
      memory      = 256
      timeout     = 10
      environment = merge(local.queue_environment, local.identity_environment, {
        BUILD_EVENTS_SIGNING_KEY = var.build_events_signing_key
        BUILD_EVENTS_TOKEN       = var.build_events_token
        CIRCLECI_HOST            = var.circleci_host
        GITLAB_HOST              = var.gitlab_host
        GITLAB_NATIVE_JOB_ID     = var.gitlab_native_job_id
        TRACE_IDS                = var.trace_ids
        PROJECT_RULES            = var.project_rules
      })
      statements = {
        SendMessages   = { actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.spans.arn, aws_sqs_queue.dead_letters.arn] }
        ReadSigningKey = { actions = local.read_secret, resources = compact([var.build_events_signing_key]) }
        ReadToken      = { actions = local.read_secret, resources = compact([var.build_events_token]) }
        ReadRules      = { actions = ["ssm:GetParameter"], resources = local.rules_arn }
        ReadAccess     = { actions = ["ssm:GetParameter"], resources = local.access_arn }
      }
    }
    # Not in a VPC, as above.
    "traceparent" = {
      enabled     = true
      description = "The trace context of a running CI job"
      memory      = 256
      timeout     = 10
      environment = merge(local.identity_environment, {
        TRACEPARENT_TOKEN    = var.traceparent_token
        CIRCLECI_HOST        = var.circleci_host
        GITLAB_HOST          = var.gitlab_host
        GITLAB_NATIVE_JOB_ID = var.gitlab_native_job_id
        TRACE_IDS            = var.trace_ids
        PROJECT_RULES        = var.project_rules
      })
      statements = {
        ReadSecret = { actions = local.read_secret, resources = compact([var.traceparent_token]) }
        ReadRules  = { actions = ["ssm:GetParameter"], resources = local.rules_arn }
        ReadAccess = { actions = ["ssm:GetParameter"], resources = local.access_arn }
      }
    }
    "forwarder" = {
      enabled     = true
      description = "Span messages from SQS to the OpenTelemetry Collector"
      memory      = 512 # a batch of a thousand messages, unpacked and joined
      timeout     = local.forwarder_timeout
      environment = merge(local.queue_environment, {
        OTEL_EXPORTER_OTLP_ENDPOINT    = var.collector_endpoint
        OTEL_EXPORTER_OTLP_PROTOCOL    = var.collector_protocol
        OTEL_EXPORTER_OTLP_COMPRESSION = var.collector_compression
        OTEL_EXPORTER_OTLP_HEADERS     = var.collector_headers
      })
      statements = {
        TakeMessages   = { actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"], resources = [aws_sqs_queue.spans.arn] }
        RejectMessages = { actions = ["sqs:SendMessage"], resources = [aws_sqs_queue.dead_letters.arn] }
        ReadHeaders    = { actions = local.read_secret, resources = compact([var.collector_headers]) }
        AttachToVpc    = { actions = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"], resources = local.use_vpc ? [local.ec2_arn] : [] }
        # EC2 knows no narrower resource for these.
        SeeVpc = { actions = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"], resources = local.use_vpc ? ["*"] : [] }
      }
    }
  } : name => it if it.enabled }

  behind_http = [for name in keys(local.functions) : name if name != "forwarder"]
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
  reserved_concurrent_executions = contains(local.behind_http, each.key) && var.webhook_concurrency > 0 ? var.webhook_concurrency : -1

  environment {
    variables = merge(each.value.environment, {
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
      for sid, it in merge(each.value.statements, {
        WriteOwnLog    = { actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"] }
        DecryptSecrets = { actions = ["kms:Decrypt"], resources = compact([var.secrets_key_arn]) }
      }) : { Sid = sid, Effect = "Allow", Action = it.actions, Resource = it.resources } if length(it.resources) > 0
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
