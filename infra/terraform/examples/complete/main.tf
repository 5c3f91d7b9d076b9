# spanhook for every provider, with alarms by mail: leave out of `settings` what you don't have. The documents with settings and secrets are put into
# SSM by hand, so that no value is ever in Terraform's state:
#
#   aws ssm put-parameter --type SecureString --name /spanhook/circleci-webhook --value file://circleci.env

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

  settings = { for name in ["circleci-webhook", "gitlab-webhook", "github-webhook", "lighthouse-webhook", "tekton-webhook", "kubernetes-webhook", "traceparent", "forwarder", "shared"] : name => "${local.parameters}/${name}" }

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
