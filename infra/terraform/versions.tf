terraform {
  required_version = ">= 1.9" # a validation may look at other variables

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.29" # aws_lambda_permission.invoked_via_function_url
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}
