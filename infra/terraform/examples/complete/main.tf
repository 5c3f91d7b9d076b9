# spanhook for CircleCI and GitLab, with alarms by mail. The secrets are put into SSM by hand, so that
# no value is ever in Terraform's state:
#
#   aws ssm put-parameter --type SecureString --name /spanhook/circleci-secret --value ...

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.29"
    }
  }

  # State that a team shares is kept in a bucket:
  # backend "s3" {
  #   bucket       = "my-terraform-state"
  #   key          = "spanhook.tfstate"
  #   region       = "eu-west-1"
  #   use_lockfile = true
  # }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { service = "spanhook" }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  # Built from the names: data "aws_ssm_parameter" would read the value into the state.
  parameters = "arn:${data.aws_partition.current.partition}:ssm:${var.region}:${data.aws_caller_identity.current.account_id}:parameter/spanhook"
}

module "spanhook" {
  source = "../.."

  packages           = "${path.module}/../../../../target/lambda"
  collector_endpoint = var.collector_endpoint
  collector_headers  = "${local.parameters}/collector-headers"

  circleci_secret      = "${local.parameters}/circleci-secret"
  gitlab_signing_token = "${local.parameters}/gitlab-signing-token"
  traceparent_token    = "${local.parameters}/traceparent-token"
  project_rules        = "${local.parameters}/project-rules"

  alarm_topic_arn = aws_sns_topic.alarms.arn
}

resource "aws_sns_topic" "alarms" {
  # Not encrypted: CloudWatch can't use AWS's own key of SNS, and an alarm holds no secret.
  name = "spanhook-alarms"
}

resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.email
}
