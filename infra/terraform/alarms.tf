# docs/operations.md says of each what it means and what to do.

locals {
  alarm_actions = compact([var.alarm_topic_arn])
  api_id        = one(aws_apigatewayv2_api.http[*].id)

  queue_alarms = {
    dead-letters = {
      description = "Messages in the dead-letter queue; spanhook inspect shows them and why"
      metric      = ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.dead_letters.name]
      statistic   = "Maximum"
      period      = 60
      threshold   = 0
      periods     = 1
    }
    oldest-message = {
      description = "The queue is not emptied; the Collector is down, slow or refuses"
      metric      = ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", aws_sqs_queue.spans.name]
      statistic   = "Maximum"
      period      = 60
      threshold   = var.oldest_message_seconds
      periods     = 5
    }
  }

  forwarder_alarms = {
    misconfigured = {
      description = "The Collector answers 401, 403, 404 or the like; only an operator can mend it"
      metric      = ["spanhook", "misconfigured", "function", "${var.name}-forwarder"]
      statistic   = "Sum"
      period      = 300
      threshold   = 0
      periods     = 1
    }
    partially-rejected = {
      description = "The Collector refused spans of a request that it took; they are lost"
      metric      = ["spanhook", "partially_rejected", "function", "${var.name}-forwarder"]
      statistic   = "Sum"
      period      = 300
      threshold   = 0
      periods     = 1
    }
    delivery-lag = {
      description = "Traces come late (95th percentile from the end of the work to the Collector)"
      metric      = ["spanhook", "delivery_lag", "function", "${var.name}-forwarder"]
      statistic   = "p95"
      period      = 300
      threshold   = var.delivery_lag_milliseconds
      periods     = 3
    }
    forwarder-errors = {
      description = "The forwarder crashes, runs out of memory or out of time"
      metric      = ["AWS/Lambda", "Errors", "FunctionName", "${var.name}-forwarder"]
      statistic   = "Sum"
      period      = 300
      threshold   = 0
      periods     = 1
    }
    forwarder-throttles = {
      description = "The account has no concurrency left for the forwarder"
      metric      = ["AWS/Lambda", "Throttles", "FunctionName", "${var.name}-forwarder"]
      statistic   = "Sum"
      period      = 300
      threshold   = 0
      periods     = 3
    }
  }

  server_error_alarms = { for name in keys(local.behind_http) : "${name}-5xx" => {
    description = "Requests are answered 5xx; GitLab switches a hook off after four in a row, and jobs do not send again"
    metric      = ["AWS/Lambda", "Url5xxCount", "FunctionName", "${var.name}-${name}"]
    statistic   = "Sum"
    period      = 300
    threshold   = 0
    periods     = 1
  } if !local.use_http_api }

  refused_alarms = { for name in keys(local.behind_http) : "${name}-4xx" => {
    description = "Requests are answered 4xx; above 6 MB Lambda refuses them before the function sees them, and GitLab switches a hook off after four in a row"
    metric      = ["AWS/Lambda", "Url4xxCount", "FunctionName", "${var.name}-${name}"]
    statistic   = "Sum"
    period      = 300
    threshold   = var.refused_requests
    periods     = 1
  } if !local.use_http_api }

  throttle_alarms = { for name in keys(local.behind_http) : "${name}-throttles" => {
    description = "Requests are answered 429; raise webhook_concurrency"
    metric      = ["AWS/Lambda", "Throttles", "FunctionName", "${var.name}-${name}"]
    statistic   = "Sum"
    period      = 300
    threshold   = 0
    periods     = 1
  } }

  http_api_alarms = { for name, it in {
    http-api-5xx = {
      description = "Requests are answered 5xx; GitLab switches a hook off after four in a row"
      metric      = "5xx"
      threshold   = 0
    }
    http-api-4xx = {
      description = "Requests are answered 4xx; above 6 MB Lambda refuses a delivery unseen, and GitLab switches a hook off after four in a row"
      metric      = "4xx"
      threshold   = var.refused_requests
    }
    } : name => {
    description = it.description
    metric      = ["AWS/ApiGateway", it.metric, "ApiId", local.api_id]
    statistic   = "Sum"
    period      = 300
    threshold   = it.threshold
    periods     = 1
  } if local.use_http_api }
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = merge(local.queue_alarms, local.forwarder_alarms, local.server_error_alarms, local.refused_alarms, local.throttle_alarms, local.http_api_alarms)

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.metric[0]
  metric_name         = each.value.metric[1]
  dimensions          = { (each.value.metric[2]) = each.value.metric[3] }
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  period              = each.value.period
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "rejected" {
  for_each = local.behind_http

  alarm_name          = "${var.name}-${each.key}-401"
  alarm_description   = "Many requests have a bad signature or token; a secret was changed on one side only, or somebody tries"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.rejected_share
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions

  metric_query {
    id          = "share"
    expression  = "IF(received >= 10, 100 * rejected / received, 0)"
    label       = "percent of requests with a bad signature or token"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = ["rejected", "received"]

    content {
      id = metric_query.value

      metric {
        namespace   = "spanhook"
        metric_name = metric_query.value
        dimensions  = { function = "${var.name}-${each.key}" }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}
