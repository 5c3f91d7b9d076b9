"""template.yaml and ../terraform, each brought to one plain form."""

import json
import re

from cloudformation import Template, documents, rows, template_document
from hcl import Module, attributes, blocks, one, text_of
from made_up import function_arn, listed, queue_url


def snake(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def statements(policy):
    """By meaning: without names, in no order."""
    policy = json.loads(policy if isinstance(policy, str) else json.dumps(policy))
    assert policy["Version"] == "2012-10-17"
    found = []
    for it in policy["Statement"]:
        unknown = it.keys() - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert not unknown, unknown
        found.append(
            {
                "effect": it["Effect"],
                "principal": it.get("Principal"),
                "actions": sorted(listed(it["Action"])),
                "resources": sorted(listed(it.get("Resource", []))),
                "condition": {
                    operator: {key: sorted(listed(value)) for key, value in keys.items()}
                    for operator, keys in it.get("Condition", {}).items()
                },
            }
        )
    return sorted(found, key=json.dumps)


def policies(it):
    """Every document with statements, wherever it is."""
    if isinstance(it, str) and it.startswith("{"):
        it = json.loads(it)
    if isinstance(it, dict):
        if "Statement" in it.keys():
            yield it
        it = list(it.values())
    if isinstance(it, list):
        for one_of in it:
            yield from policies(one_of)


# What a part is made of: its name here, the template's property and the module's argument.
PARTS = {
    "functions": (
        "AWS::Serverless::Function",
        "aws_lambda_function",
        """
        name             FunctionName                    function_name
        description      Description                     description
        memory           MemorySize                      memory_size
        timeout          Timeout                         timeout
        runtime          Runtime                         runtime
        handler          Handler                         handler
        architecture     Architectures                   architectures
        concurrency      ReservedConcurrentExecutions    reserved_concurrent_executions
        role             Role                            role
        environment      Environment.Variables           environment.variables
        log              LoggingConfig.LogGroup          logging_config.log_group
        log_format       LoggingConfig.LogFormat         logging_config.log_format
        log_level        LoggingConfig.SystemLogLevel    logging_config.system_log_level
        subnets          VpcConfig.SubnetIds             vpc_config.subnet_ids
        groups           VpcConfig.SecurityGroupIds      vpc_config.security_group_ids
        """,
    ),
    "logs": (
        "AWS::Logs::LogGroup",
        "aws_cloudwatch_log_group",
        """
        name             LogGroupName                    name
        days             RetentionInDays                 retention_in_days
        """,
    ),
    "queues": (
        "AWS::SQS::Queue",
        "aws_sqs_queue",
        """
        name             QueueName                       name
        retention        MessageRetentionPeriod          message_retention_seconds
        visibility       VisibilityTimeout               visibility_timeout_seconds
        size             MaximumMessageSize              max_message_size
        encrypted        SqsManagedSseEnabled            sqs_managed_sse_enabled
        redrive          RedrivePolicy                   redrive_policy
        """,
    ),
    "queue policies": (
        "AWS::SQS::QueuePolicy",
        "aws_sqs_queue_policy",
        """
        name             Queues                          queue_url
        policy           PolicyDocument                  policy
        """,
    ),
    "sources": (
        "AWS::Lambda::EventSourceMapping",
        "aws_lambda_event_source_mapping",
        """
        name             EventSourceArn                  event_source_arn
        function         FunctionName                    function_name
        batch            BatchSize                       batch_size
        window           MaximumBatchingWindowInSeconds  maximum_batching_window_in_seconds
        answers          FunctionResponseTypes           function_response_types
        concurrency      ScalingConfig.MaximumConcurrency  scaling_config.maximum_concurrency
        """,
    ),
    "urls": (
        "AWS::Lambda::Url",
        "aws_lambda_function_url",
        """
        name             TargetFunctionArn               function_name
        authorization    AuthType                        authorization_type
        """,
    ),
    "permissions": (
        "AWS::Lambda::Permission",
        "aws_lambda_permission",
        """
        function         FunctionName                    function_name
        action           Action                          action
        principal        Principal                       principal
        url              FunctionUrlAuthType             function_url_auth_type
        by_url           InvokedViaFunctionUrl           invoked_via_function_url
        source           SourceArn                       source_arn
        """,
    ),
    "apis": (
        "AWS::ApiGatewayV2::Api",
        "aws_apigatewayv2_api",
        """
        name             Name                            name
        description      Description                     description
        protocol         ProtocolType                    protocol_type
        """,
    ),
    "stages": (
        "AWS::ApiGatewayV2::Stage",
        "aws_apigatewayv2_stage",
        """
        name             StageName                       name
        api              ApiId                           api_id
        deployed         AutoDeploy                      auto_deploy
        rate             DefaultRouteSettings.ThrottlingRateLimit   default_route_settings.throttling_rate_limit
        burst            DefaultRouteSettings.ThrottlingBurstLimit  default_route_settings.throttling_burst_limit
        log              AccessLogSettings.DestinationArn  access_log_settings.destination_arn
        format           AccessLogSettings.Format        access_log_settings.format
        """,
    ),
    "integrations": (
        "AWS::ApiGatewayV2::Integration",
        "aws_apigatewayv2_integration",
        """
        name             IntegrationUri                  integration_uri
        api              ApiId                           api_id
        type             IntegrationType                 integration_type
        payload          PayloadFormatVersion            payload_format_version
        """,
    ),
    "routes": (
        "AWS::ApiGatewayV2::Route",
        "aws_apigatewayv2_route",
        """
        name             RouteKey                        route_key
        api              ApiId                           api_id
        target           Target                          target
        """,
    ),
    "endpoints": (
        "AWS::EC2::VPCEndpoint",
        "aws_vpc_endpoint",
        """
        name             ServiceName                     service_name
        type             VpcEndpointType                 vpc_endpoint_type
        private_dns      PrivateDnsEnabled               private_dns_enabled
        vpc              VpcId                           vpc_id
        subnets          SubnetIds                       subnet_ids
        groups           SecurityGroupIds                security_group_ids
        policy           PolicyDocument                  policy
        """,
    ),
    "dashboards": (
        "AWS::CloudWatch::Dashboard",
        "aws_cloudwatch_dashboard",
        """
        name             DashboardName                   dashboard_name
        body             DashboardBody                   dashboard_body
        """,
    ),
}


def picked(it, path):
    for key in path.split("."):
        if isinstance(it, list):  # a block of Terraform's
            it = one(it)
        it = it.get(key) if it else None
    return plain(it)


def plain(it):
    """One form for what AWS takes in several."""
    if isinstance(it, str) and it.startswith("{"):
        it = json.loads(it)
    if isinstance(it, dict):
        return statements(it) if "Statement" in it.keys() else dict(it)
    if isinstance(it, list):
        return it[0] if len(it) == 1 else sorted(it)
    if isinstance(it, str):
        return it.removeprefix(function_arn("")).removesuffix(":*")
    return None if it == -1 else it  # the module's word for no reserved concurrency


def parts(resources, column):
    """The parts of one side: column 0 is the template, 1 the module."""
    found = {}
    for part, (*types, table) in PARTS.items():
        columns = [line.split() for line in table.strip().splitlines()]
        items = [
            {name: picked(it, paths[column]) for name, *paths in columns} for it in resources(types[column]).values()
        ]
        if columns[0][0] == "name":
            found[part] = {it["name"]: it for it in items}
            assert len(found[part]) == len(items), part
        else:
            found[part] = sorted(items, key=json.dumps)
    return found


def template(parameters):
    return template_form(Template(parameters))


def template_form(it):
    urls = {f"{word}Url": row["Name"] for word, row in rows().items()}
    return parts(it.resources, 0) | {
        "roles": {
            it.getatt(f"{name}.Arn"): {
                "assumed": statements(role["AssumeRolePolicyDocument"]),
                "may": [statements(policy["PolicyDocument"]) for policy in role["Policies"]],
                "path": role.get("Path", "/"),
            }
            for name, role in it.resources("AWS::IAM::Role").items()
        },
        "redrive from": {
            queue_url(queue["QueueName"]): dict(queue["RedriveAllowPolicy"])
            for queue in it.resources("AWS::SQS::Queue").values()
            if "RedriveAllowPolicy" in queue
        },
        "network": template_network(it),
        "alarms": {
            alarm["AlarmName"]: template_alarm(alarm) for alarm in it.resources("AWS::CloudWatch::Alarm").values()
        },
        "outputs": {
            snake(name): it.value(output["Value"])
            for name, output in it.document["Outputs"].items()
            if it.present(output) and name not in urls
        }
        | {
            "urls": {
                function: it.value(it.document["Outputs"][name]["Value"])
                for name, function in urls.items()
                if it.present(it.document["Outputs"][name])
            }
        },
    }


def template_network(it):
    """[(group, direction, protocol, from, to, peer)]"""
    found = []
    for name, group in it.resources("AWS::EC2::SecurityGroup").items():
        for rule in group["SecurityGroupEgress"]:
            peer = rule.get("CidrIp") or rule["DestinationSecurityGroupId"]
            flow = (it.ref(name), "out", rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), peer)
            # CloudFormation needs a rule where there is to be none.
            if peer != "127.0.0.1/32":
                found.append(flow)
        assert "SecurityGroupIngress" not in group
    for rule in it.resources("AWS::EC2::SecurityGroupIngress").values():
        peer = rule["SourceSecurityGroupId"]
        found.append((rule["GroupId"], "in", rule["IpProtocol"], rule["FromPort"], rule["ToPort"], peer))
    return sorted(found)


def template_alarm(alarm):
    def metric(it):
        return {
            "namespace": it["Namespace"],
            "metric": it["MetricName"],
            "dimensions": {dimension["Name"]: dimension["Value"] for dimension in it["Dimensions"]},
        }

    if "Metrics" in alarm:
        measured = [
            {
                "id": it["Id"],
                "expression": it.get("Expression"),
                "label": it.get("Label"),
                "returned": it.get("ReturnData", True),
                "metric": metric(it["MetricStat"]["Metric"])
                | {"statistic": it["MetricStat"]["Stat"], "period": it["MetricStat"]["Period"]}
                if "MetricStat" in it
                else None,
            }
            for it in alarm["Metrics"]
        ]
    else:
        statistic = alarm.get("Statistic") or alarm["ExtendedStatistic"]
        measured = metric(alarm) | {"statistic": statistic, "period": alarm["Period"]}
    return {
        "measured": measured,
        "comparison": alarm["ComparisonOperator"],
        "threshold": alarm["Threshold"],
        "periods": alarm["EvaluationPeriods"],
        "missing": alarm["TreatMissingData"],
        "alarm": alarm.get("AlarmActions", []),
        "ok": alarm.get("OKActions", []),
    }


def module(parameters):
    return module_form(module_with(parameters))


def module_with(parameters):
    """The template's parameters are the module's variables, and its documents one of them."""
    settings = {key: parameters[name] for name, key in documents().items() if parameters.get(name)}
    others = {snake(name): value for name, value in parameters.items() if name not in documents()}
    return Module({"packages": "packages", "settings": settings} | others)


def module_form(it):
    return parts(it.resources, 1) | {
        "roles": {
            role["arn"]: {
                "assumed": statements(role["assume_role_policy"]),
                "may": [
                    statements(policy["policy"])
                    for policy in it.resources("aws_iam_role_policy").values()
                    if policy["role"] == role["name"]
                ],
                "path": role["path"],
            }
            for role in it.resources("aws_iam_role").values()
        },
        "redrive from": {
            allowed["queue_url"]: json.loads(allowed["redrive_allow_policy"])
            for allowed in it.resources("aws_sqs_queue_redrive_allow_policy").values()
        },
        "network": sorted(
            (
                rule["security_group_id"],
                direction,
                rule["ip_protocol"],
                rule["from_port"],
                rule["to_port"],
                rule.get("cidr_ipv4") or rule["referenced_security_group_id"],
            )
            for direction, type_ in (("out", "egress"), ("in", "ingress"))
            for rule in it.resources(f"aws_vpc_security_group_{type_}_rule").values()
        ),
        "alarms": {
            alarm["alarm_name"]: module_alarm(alarm) for alarm in it.resources("aws_cloudwatch_metric_alarm").values()
        },
        "outputs": it.outputs(),
    }


def module_alarm(alarm):
    def metric(it):
        return {"namespace": it["namespace"], "metric": it["metric_name"], "dimensions": it["dimensions"]}

    if "metric_query" in alarm:
        measured = [
            {
                "id": it["id"],
                "expression": it.get("expression"),
                "label": it.get("label"),
                "returned": it.get("return_data", False),
                "metric": metric(it["metric"][0])
                | {"statistic": it["metric"][0]["stat"], "period": it["metric"][0]["period"]}
                if "metric" in it
                else None,
            }
            for it in alarm["metric_query"]
        ]
    else:
        statistic = alarm.get("statistic") or alarm["extended_statistic"]
        measured = metric(alarm) | {"statistic": statistic, "period": alarm["period"]}
    return {
        "measured": measured,
        "comparison": alarm["comparison_operator"],
        "threshold": alarm["threshold"],
        "periods": alarm["evaluation_periods"],
        "missing": alarm["treat_missing_data"],
        "alarm": alarm["alarm_actions"],
        "ok": alarm["ok_actions"],
    }


# Parameters and variables


def template_parameters():
    types = {"String": "string", "Number": "number", "CommaDelimitedList": "list(string)"}
    return {
        snake(name): {
            "type": types[it["Type"]],
            "description": it["Description"],
            "default": ([] if it["Type"] == "CommaDelimitedList" else it["Default"]) if "Default" in it else None,
            "pattern": it.get("AllowedPattern"),
            "values": it.get("AllowedValues"),
            "least": it.get("MinValue"),
            "most": it.get("MaxValue"),
        }
        for name, it in template_document()["Parameters"].items()
        if name not in documents()
    }


def module_variables():
    """As above, and the conditions that fit no field of it."""
    evaluator = Module({})
    found, others = {}, {}
    for kind, labels, body in evaluator.blocks:
        if kind != "variable":
            continue
        own = attributes(body)
        it = {"pattern": None, "values": None, "least": None, "most": None}
        it["type"] = text_of(own["type"])
        it["description"] = evaluator.value(own["description"], {})
        it["default"] = evaluator.value(own["default"], {}) if "default" in own else None
        for name, _, validation in blocks(body):
            assert name == "validation", name
            condition = text_of(attributes(validation)["condition"])
            variable = re.escape(f"var.{labels[0]}")
            if fits := re.fullmatch(rf'can\(regex\((".*"),{variable}\)\)', condition):
                it["pattern"] = json.loads(fits[1])
            elif fits := re.fullmatch(rf"contains\((\[.*\]),{variable}\)", condition):
                it["values"] = json.loads(fits[1])
            elif fits := re.fullmatch(rf"{variable}>=(\d+)(?:&&{variable}<=(\d+))?", condition):
                it["least"], it["most"] = int(fits[1]), fits[2] and int(fits[2])
            else:
                others.setdefault(labels[0], []).append(condition)
        found[labels[0]] = it
    return found, others
