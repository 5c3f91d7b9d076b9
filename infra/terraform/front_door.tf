locals {
  use_http_api = var.front_door == "http-api"
  with_url     = toset(local.use_http_api ? [] : keys(local.behind_http))
  with_api     = toset(local.use_http_api ? keys(local.behind_http) : [])

  routes = merge([for name in local.with_api : { for route in local.http[name].routes : route => name }]...)

  urls = { for name in keys(local.behind_http) : name =>
    local.use_http_api ? "${aws_apigatewayv2_api.http[0].api_endpoint}/" : aws_lambda_function_url.function[name].function_url
  }
}

# A URL for each function. Anybody may call it, the signature or token decides. Since October 2025
# a URL needs both permissions.

resource "aws_lambda_function_url" "function" {
  for_each = local.with_url

  function_name      = aws_lambda_function.function[each.key].function_name
  authorization_type = "NONE"
}

resource "aws_lambda_permission" "url" {
  for_each = local.with_url

  function_name          = aws_lambda_function.function[each.key].function_name
  action                 = "lambda:InvokeFunctionUrl"
  principal              = "*"
  function_url_auth_type = "NONE"
}

resource "aws_lambda_permission" "url_invoke" {
  for_each = local.with_url

  function_name            = aws_lambda_function.function[each.key].function_name
  action                   = "lambda:InvokeFunction"
  principal                = "*"
  invoked_via_function_url = true
}

# Or one HTTP API, with the same functions behind it.

resource "aws_apigatewayv2_api" "http" {
  count = local.use_http_api ? 1 : 0

  name          = var.name
  description   = "spanhook"
  protocol_type = "HTTP"
}

resource "aws_cloudwatch_log_group" "http_api" {
  count = local.use_http_api ? 1 : 0

  name              = "/aws/http-api/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_apigatewayv2_stage" "http" {
  count = local.use_http_api ? 1 : 0

  api_id      = aws_apigatewayv2_api.http[0].id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit  = var.http_api_rate
    throttling_burst_limit = var.http_api_burst
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.http_api[0].arn
    format = jsonencode({
      requestId        = "$context.requestId"
      route            = "$context.routeKey"
      status           = "$context.status"
      latency          = "$context.responseLatency"
      integrationError = "$context.integrationErrorMessage"
    })
  }
}

resource "aws_apigatewayv2_integration" "function" {
  for_each = local.with_api

  api_id                 = aws_apigatewayv2_api.http[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.function[each.key].arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "function" {
  for_each = local.routes

  api_id    = aws_apigatewayv2_api.http[0].id
  route_key = each.key
  target    = "integrations/${aws_apigatewayv2_integration.function[each.value].id}"
}

resource "aws_lambda_permission" "api" {
  for_each = local.with_api

  function_name = aws_lambda_function.function[each.key].function_name
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.http[0].execution_arn}/*/*"
}
