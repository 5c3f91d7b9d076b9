# The queue. A message that can't be delivered rests longer after every try (up to 15 minutes), so
# that a thousand tries outlast an outage of ten days. What is wrong with a message itself sends it
# to the dead-letter queue at once.

locals {
  queue_retention  = 1209600 # 14 days
  queue_visibility = 365     # six times the forwarder's timeout, and the batching window

  # Patterns, hence StringNotLike below.
  operators = compact([var.operator_role_arn])
  receivers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:role/${var.name}/http/*"]
  forwarder = aws_iam_role.function["forwarder"].arn
}

resource "aws_sqs_queue" "spans" {
  name                       = "${var.name}-spans"
  message_retention_seconds  = local.queue_retention
  visibility_timeout_seconds = local.queue_visibility
  max_message_size           = 1048576
  sqs_managed_sse_enabled    = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 1000
  })

  lifecycle {
    prevent_destroy = true # it holds what was not delivered yet

    precondition {
      condition     = local.queue_visibility >= 6 * local.forwarder_timeout + local.batching_window
      error_message = "A message would come back while the forwarder still works on it: queue_visibility is at least six times forwarder_timeout, plus batching_window."
    }
  }
}

resource "aws_sqs_queue" "dead_letters" {
  name                       = "${var.name}-dead-letters"
  message_retention_seconds  = local.queue_retention
  visibility_timeout_seconds = 300 # time to redrive what was read
  max_message_size           = 1048576
  sqs_managed_sse_enabled    = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.spans.arn]
  })
}

resource "aws_sqs_queue_policy" "spans" {
  queue_url = aws_sqs_queue.spans.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.spans.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyReceiversSend"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.spans.arn
        Condition = { StringNotLike = { "aws:PrincipalArn" = concat(local.receivers, local.operators) } }
      },
      {
        Sid       = "OnlyTheForwarderReceives"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
        Resource  = aws_sqs_queue.spans.arn
        Condition = { StringNotLike = { "aws:PrincipalArn" = concat([local.forwarder], local.operators) } }
      },
    ]
  })
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.dead_letters.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyFunctionsSend"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.dead_letters.arn
        Condition = { StringNotLike = { "aws:PrincipalArn" = concat(local.receivers, [local.forwarder], local.operators) } }
      },
    ]
  })
}
