locals {
  forwarder_name = "${var.name}-forwarder"

  # "." is what the metric before has there.
  others = [for name in keys(local.http) : [".", ".", ".", "${var.name}-${name}"]]

  # Three in a row, in this order.
  widgets = [
    {
      title   = "Deliveries received"
      stat    = "Sum"
      metrics = concat([["spanhook", "received", "function", local.forwarder_name, { visible = false }]], local.others)
    },
    {
      title   = "Rejected: bad signature or token"
      stat    = "Sum"
      metrics = concat([["spanhook", "rejected", "function", local.forwarder_name, { visible = false }]], local.others)
    },
    {
      title   = "Refused: queue did not take them"
      stat    = "Sum"
      metrics = concat([["spanhook", "refused", "function", local.forwarder_name, { visible = false }]], local.others)
    },
    {
      title   = "Spans queued"
      stat    = "Sum"
      metrics = concat([["spanhook", "spans", "function", local.forwarder_name, { visible = false }]], local.others)
    },
    {
      title   = "Spans delivered"
      stat    = "Sum"
      metrics = [["spanhook", "spans", "function", local.forwarder_name]]
    },
    {
      title   = "Delivery lag, ms"
      stat    = "Sum"
      metrics = [for it in ["p50", "p95", "p99"] : ["spanhook", "delivery_lag", "function", local.forwarder_name, { stat = it }]]
    },
    {
      title   = "Messages in the queue"
      stat    = "Maximum"
      metrics = [for it in ["Visible", "NotVisible"] : ["AWS/SQS", "ApproximateNumberOfMessages${it}", "QueueName", aws_sqs_queue.spans.name]]
    },
    {
      title   = "Age of the oldest message, s"
      stat    = "Maximum"
      metrics = [["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", aws_sqs_queue.spans.name]]
    },
    {
      title   = "Dead letters"
      stat    = "Maximum"
      metrics = [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.dead_letters.name]]
    },
    {
      title   = "Forwarder: retried, rejected, misconfigured"
      stat    = "Sum"
      metrics = [for it in ["retried", "dead_lettered", "partially_rejected", "misconfigured"] : ["spanhook", it, "function", local.forwarder_name]]
    },
    {
      title   = "Function errors and throttles"
      stat    = "Sum"
      metrics = concat([["AWS/Lambda", "Errors", "FunctionName", local.forwarder_name]], local.others, [["AWS/Lambda", "Throttles", "FunctionName", local.forwarder_name]], local.others)
    },
    {
      title   = "Duration, ms (p95)"
      stat    = "p95"
      metrics = concat([["AWS/Lambda", "Duration", "FunctionName", local.forwarder_name]], local.others)
    },
    {
      title   = "Cost: invocations"
      stat    = "Sum"
      metrics = concat([["AWS/Lambda", "Invocations", "FunctionName", local.forwarder_name]], local.others)
    },
    {
      title   = "Cost: SQS requests"
      stat    = "Sum"
      metrics = [for it in ["NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfEmptyReceives"] : ["AWS/SQS", it, "QueueName", aws_sqs_queue.spans.name]]
    },
    {
      title   = "Projects off or sampled away: deliveries"
      stat    = "Sum"
      metrics = [[{ expression = "SEARCH('{spanhook,function,provider,reason} MetricName=\"ignored\" reason=(\"denied\" OR \"not_sampled\")', 'Sum', 300)" }]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "spanhook" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [for index, it in local.widgets : {
      type   = "metric"
      x      = index % 3 * 8
      y      = floor(index / 3) * 6
      width  = 8
      height = 6
      properties = {
        title   = it.title
        region  = data.aws_region.current.region
        view    = "timeSeries"
        stat    = it.stat
        period  = 300
        metrics = it.metrics
      }
    }]
  })
}
