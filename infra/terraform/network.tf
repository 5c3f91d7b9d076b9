# The forwarder in a VPC: out to the Collector and to AWS's endpoints, nothing else, nothing in. A
# group without rules lets nothing through.

locals {
  settings_service = split(":", "${join("", local.forwarder_settings)}:::")[2]

  endpoints = { for service, it in {
    sqs = {
      enabled   = true
      actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility", "sqs:SendMessage"]
      resources = [aws_sqs_queue.spans.arn, aws_sqs_queue.dead_letters.arn]
    }
    ssm = {
      enabled   = local.settings_service == "ssm"
      actions   = ["ssm:GetParameter"]
      resources = local.forwarder_settings
    }
    secretsmanager = {
      enabled   = local.settings_service == "secretsmanager"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = local.forwarder_settings
    }
  } : service => it if local.use_vpc && it.enabled }
}

resource "aws_security_group" "forwarder" {
  count = local.use_vpc ? 1 : 0

  name        = "${var.name}-forwarder"
  description = "spanhook forwarder, egress only"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "collector" {
  count = local.use_vpc ? 1 : 0

  security_group_id = aws_security_group.forwarder[0].id
  description       = "The Collector"
  ip_protocol       = "tcp"
  from_port         = var.collector_port
  to_port           = var.collector_port
  cidr_ipv4         = var.collector_cidr
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  count = local.use_vpc ? 1 : 0

  security_group_id            = aws_security_group.forwarder[0].id
  description                  = "AWS endpoints"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.endpoints[0].id
}

resource "aws_security_group" "endpoints" {
  count = local.use_vpc ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "AWS endpoints of the spanhook forwarder"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "forwarder" {
  count = local.use_vpc ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "The forwarder"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.forwarder[0].id
}

resource "aws_vpc_endpoint" "service" {
  for_each = local.endpoints

  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  service_name        = "com.amazonaws.${data.aws_region.current.region}.${each.key}"
  vpc_id              = var.vpc_id
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints[0].id]

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = local.forwarder }
      Action    = each.value.actions
      Resource  = each.value.resources
    }]
  })
}
