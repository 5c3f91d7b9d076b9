"""template.yaml and ../terraform, each evaluated for given parameters and brought to one plain form.

What AWS would make up (ARNs, URLs, ids) is made up here, the same way on both sides.
"""

import json
import math
import re
from functools import cache
from pathlib import Path

import hcl2
import yaml
from lark import Token, Tree

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "infra" / "terraform"

STACK, REGION, ACCOUNT = "spanhook", "eu-west-1", "123456789012"


def arn(service, rest, region=REGION):
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"


def snake(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


class Read(dict):
    """Remembers which keys were asked for, so that none is left out of the comparison unseen."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self else default

    def __contains__(self, key):
        self.read.add(key)
        return super().__contains__(key)

    def unread(self):
        return self.keys() - self.read


# CloudFormation


class Call:
    """!Sub, !If and the like, with their argument."""

    def __init__(self, name, argument):
        self.name, self.argument = name, argument


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's tags"""


def call(loader, name, node):
    if isinstance(node, yaml.ScalarNode):
        argument = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        argument = loader.construct_sequence(node, deep=True)
    else:
        argument = loader.construct_mapping(node, deep=True)
    return Call(name, argument)


Loader.add_multi_constructor("!", call)

NOTHING = object()  # AWS::NoValue


@cache
def template_document():
    return yaml.load((ROOT / "template.yaml").read_text(), Loader)


class Template:
    def __init__(self, parameters):
        self.document = template_document()
        unknown = parameters.keys() - self.document["Parameters"].keys()
        assert not unknown, unknown
        self.parameters = {
            name: parameters.get(name, it.get("Default")) for name, it in self.document["Parameters"].items()
        }
        self.created = {}

    def present(self, it):
        return "Condition" not in it or self.condition(it["Condition"])

    def condition(self, name):
        return self.value(self.document["Conditions"][name])

    def resources(self, type_):
        """{logical id: properties} of what this set of parameters creates."""
        found = {}
        for name, it in self.document["Resources"].items():
            if it["Type"] == type_ and self.present(it):
                properties = it.get("Properties", {})
                if type_ == "AWS::Serverless::Function":
                    properties = self.with_globals(properties)
                found[name] = self.created.setdefault(name, Read(self.value(properties)))
        return found

    def types(self):
        return {it["Type"] for it in self.document["Resources"].values()}

    def with_globals(self, properties):
        shared = self.document["Globals"]["Function"]
        variables = shared["Environment"]["Variables"] | properties["Environment"]["Variables"]
        return shared | properties | {"Environment": {"Variables": variables}}

    def value(self, node):
        if isinstance(node, dict):
            pairs = {key: self.value(it) for key, it in node.items()}
            return {key: it for key, it in pairs.items() if it is not NOTHING}
        if isinstance(node, list):
            return [it for it in map(self.value, node) if it is not NOTHING]
        if isinstance(node, Call):
            return getattr(self, node.name.lower())(node.argument)
        return node

    def equals(self, sides):
        left, right = self.value(sides)
        return str(left) == str(right)

    def condition_(self, name):
        return self.condition(name)

    def __getattr__(self, name):
        if name in ("and", "or", "not", "if"):
            return getattr(self, name + "_")
        raise AttributeError(name)

    def and_(self, all_):
        return all(map(self.value, all_))

    def or_(self, any_):
        return any(map(self.value, any_))

    def not_(self, one):
        return not self.value(one[0])

    def if_(self, branches):
        condition, yes, no = branches
        return self.value(yes if self.condition(condition) else no)

    def select(self, argument):
        return self.value(argument[1])[argument[0]]

    def split(self, argument):
        return self.value(argument[1]).split(argument[0])

    def sub(self, text):
        def reference(found):
            name, _, attribute = found[1].partition(".")
            return str(self.getatt(f"{name}.{attribute}") if attribute else self.ref(name))

        return re.sub(r"\$\{([\w:.]+)\}", reference, text)

    def ref(self, name):
        pseudo = {
            "AWS::NoValue": NOTHING,
            "AWS::StackName": STACK,
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
        }
        if name in pseudo:
            return pseudo[name]
        if name in self.parameters:
            return self.parameters[name]
        return self.attribute(name, "Ref")

    def getatt(self, path):
        return self.attribute(*path.split("."))

    def attribute(self, name, attribute):
        resource = self.document["Resources"][name]
        properties = resource["Properties"]

        def named(key):
            return self.value(properties[key])

        match resource["Type"].removeprefix("AWS::"), attribute:
            case "SQS::Queue", "Ref":
                return queue_url(named("QueueName"))
            case "SQS::Queue", "Arn":
                return arn("sqs", named("QueueName"))
            case "SQS::Queue", "QueueName":
                return named("QueueName")
            case "Serverless::Function", "Ref":
                return named("FunctionName")
            case "Serverless::Function", "Arn":
                return function_arn(named("FunctionName"))
            case "Logs::LogGroup", "Ref":
                return named("LogGroupName")
            case "Logs::LogGroup", "Arn":
                return log_arn(named("LogGroupName")) + ":*"  # as CloudFormation does, for the streams
            case "IAM::Role", "Arn":
                return role_arn(self.function_of(name))
            case "Lambda::Url", "FunctionUrl":
                return function_url(named("TargetFunctionArn"))
            case "ApiGatewayV2::Api", "Ref":
                return API
            case "ApiGatewayV2::Integration", "Ref":
                return integration(named("IntegrationUri"))
            case "EC2::SecurityGroup", "Ref":
                return group(named("GroupDescription"))
            case it:
                raise NotImplementedError(it)

    def function_of(self, role):
        """The function, without the stack's name, that has this role."""
        for it in self.document["Resources"].values():
            if it["Type"] == "AWS::Serverless::Function" and it["Properties"]["Role"].argument == f"{role}.Arn":
                return self.value(it["Properties"]["FunctionName"]).removeprefix(STACK + "-")
        raise KeyError(role)


# What AWS makes up

API = "api0123456"


def queue_url(name):
    return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"


def function_arn(name):
    return arn("lambda", f"function:{name}")


def log_arn(name):
    return arn("logs", f"log-group:{name}")


def role_arn(function):
    return arn("iam", f"role/{function}", region="")


def function_url(function):
    return f"https://{function.split(':')[-1]}.lambda-url.{REGION}.on.aws/"


def integration(function):
    return f"integration-{function.split(':')[-1]}"


def group(description):
    return f"sg-{description}"


# Terraform: as much of the language as the module speaks


@cache
def module_blocks(folder):
    """[(kind, labels, body)] of all files."""
    return [it for path in sorted(folder.glob("*.tf")) for it in blocks(hcl2.parses_to_tree(path.read_text()).children[0])]


def blocks(body):
    for it in trees(body):
        if it.data == "block":
            *names, inner = trees(it)
            kind, *labels = [hcl(name).strip('"') for name in names]
            yield kind, labels, inner


def attributes(body):
    """{name: expression}"""
    return {str(it.children[0].children[0]): trees(it)[1] for it in trees(body) if it.data == "attribute"}


def trees(node):
    return [it for it in node.children if isinstance(it, Tree) and it.data != "new_line_or_comment"]


def rows(dictionary_or_list):
    return dictionary_or_list.items() if isinstance(dictionary_or_list, dict) else enumerate(dictionary_or_list)


class Lazy:
    """var, local, a resource type: what is behind a name is evaluated when it is asked for."""

    def __init__(self, get):
        self.get = cache(get)

    def __getitem__(self, name):
        return self.get(name)


class Instance(Read):
    """A resource, with the attributes that AWS makes up."""

    def __init__(self, type_, key, arguments):
        super().__init__(arguments)
        self.type, self.key = type_, key

    def __getitem__(self, attribute):
        return super().__getitem__(attribute) if attribute in self.keys() else self.made_up(attribute)

    def made_up(self, attribute):
        match self.type, attribute:
            case "aws_sqs_queue", "arn":
                return arn("sqs", self["name"])
            case "aws_sqs_queue", "url" | "id":
                return queue_url(self["name"])
            case "aws_lambda_function", "arn":
                return function_arn(self["function_name"])
            case "aws_cloudwatch_log_group", "arn":
                return log_arn(self["name"])
            case "aws_iam_role", "arn":
                return role_arn(self.key)
            case "aws_iam_role", "id":
                return self["name"]
            case "aws_lambda_function_url", "function_url":
                return function_url(self["function_name"])
            case "aws_apigatewayv2_api", "id":
                return API
            case "aws_apigatewayv2_api", "api_endpoint":
                return f"https://{API}.execute-api.{REGION}.amazonaws.com"
            case "aws_apigatewayv2_api", "execution_arn":
                return arn("execute-api", API)
            case "aws_apigatewayv2_integration", "id":
                return integration(self["integration_uri"])
            case "aws_security_group", "id":
                return group(self["description"])
            case it:
                raise KeyError(it)


def one(items):
    assert len(items) < 2, items
    return items[0] if items else None


FUNCTIONS = {
    "compact": lambda items: [it for it in items if it],
    "concat": lambda *lists: sum(lists, []),
    "contains": lambda items, it: it in items,
    "filebase64sha256": lambda path: f"hash of {path}",
    "floor": math.floor,
    "jsonencode": json.dumps,
    "keys": sorted,
    "length": len,
    "merge": lambda *maps: {key: it for map_ in maps for key, it in map_.items()},
    "one": one,
    "split": lambda separator, text: text.split(separator),
    "startswith": str.startswith,
    "toset": lambda items: {it: it for it in sorted(items)},
}

OPERATORS = {
    "&&": lambda left, right: left() and right(),
    "||": lambda left, right: left() or right(),
    "==": lambda left, right: left() == right(),
    "!=": lambda left, right: left() != right(),
    ">": lambda left, right: left() > right(),
    ">=": lambda left, right: left() >= right(),
    "<": lambda left, right: left() < right(),
    "<=": lambda left, right: left() <= right(),
    "+": lambda left, right: left() + right(),
    "*": lambda left, right: left() * right(),
    "/": lambda left, right: left() / right(),
    "%": lambda left, right: left() % right(),
}


class Module:
    def __init__(self, variables, folder=MODULE):
        self.blocks = module_blocks(folder)
        self.expressions = {}
        self.variables = {}
        for kind, labels, body in self.blocks:
            if kind == "locals":
                self.expressions |= attributes(body)
            if kind == "variable":
                default = attributes(body).get("default")
                self.variables[labels[0]] = self.value(default, {}) if default else None
        unknown = variables.keys() - self.variables.keys()
        assert not unknown, unknown
        self.variables |= variables
        self.locals = Lazy(lambda name: self.value(self.expressions[name], {}))
        self.types = Lazy(lambda type_: Lazy(lambda name: self.resource(type_, name)))

    def resources(self, type_):
        """{name or name/key: instance} of what these variables create."""
        found = {}
        for kind, labels, _ in self.blocks:
            if kind == "resource" and labels[0] == type_:
                it = self.types[type_][labels[1]]
                if isinstance(it, Instance):
                    found[labels[1]] = it
                else:
                    found |= {f"{labels[1]}/{key}": instance for key, instance in rows(it)}
        return found

    def names(self):
        """(type, name) of every resource."""
        return [tuple(labels) for kind, labels, _ in self.blocks if kind == "resource"]

    def outputs(self):
        return {
            labels[0]: self.value(attributes(body)["value"], {}) for kind, labels, body in self.blocks if kind == "output"
        }

    def resource(self, type_, name):
        body = next(body for kind, labels, body in self.blocks if kind == "resource" and labels == [type_, name])
        own = attributes(body)
        if "count" in own:
            return [self.instance(type_, it, body, {}) for it in range(self.value(own["count"], {}))]
        if "for_each" in own:
            return {
                key: self.instance(type_, key, body, {"each": {"key": key, "value": it}})
                for key, it in rows(self.value(own["for_each"], {}))
            }
        return self.instance(type_, None, body, {})

    def instance(self, type_, key, body, scope):
        return Instance(type_, key, self.body(body, scope))

    def body(self, body, scope):
        """Arguments, and blocks as lists."""
        found = {
            name: self.value(it, scope)
            for name, it in attributes(body).items()
            if name not in ("count", "for_each", "depends_on")
        }
        found = {name: it for name, it in found.items() if it is not None}
        for kind, labels, inner in blocks(body):
            if kind == "lifecycle":
                continue
            if kind == "dynamic":
                content = next(it for name, _, it in blocks(inner) if name == "content")
                for key, it in rows(self.value(attributes(inner)["for_each"], scope)):
                    one_of = scope | {labels[0]: {"key": key, "value": it}}
                    found.setdefault(labels[0], []).append(self.body(content, one_of))
            else:
                found.setdefault(kind, []).append(self.body(inner, scope))
        return found

    def value(self, node, scope):
        inner = trees(node)
        match node.data:
            case "expr_term" | "interpolation":
                return self.value(inner[0], scope)
            case "literal_value":
                return {"true": True, "false": False, "null": None}[node.children[0]]
            case "int_lit":
                return int(node.children[0])
            case "identifier":
                return self.name(str(node.children[0]), scope)
            case "string":
                parts = [self.part(it.children[0], scope) for it in inner]
                return parts[0] if len(parts) == 1 else "".join(map(str, parts))
            case "tuple":
                return [self.value(it, scope) for it in inner]
            case "object":
                return dict(self.element(it, scope) for it in inner)
            case "conditional":
                return self.value(inner[1] if self.value(inner[0], scope) else inner[2], scope)
            case "unary_op":
                return not self.value(inner[0], scope) if node.children[0] == "!" else -self.value(inner[0], scope)
            case "binary_op":
                operator, right = trees(inner[1])
                return OPERATORS[operator.children[0]](
                    lambda: self.value(inner[0], scope), lambda: self.value(right, scope)
                )
            case "get_attr_expr_term":
                return self.value(inner[0], scope)[str(inner[1].children[1].children[0])]
            case "index_expr_term":
                return self.value(inner[0], scope)[self.value(trees(inner[1])[0], scope)]
            case "full_splat_expr_term":
                (attribute,) = trees(inner[1])
                return [it[str(attribute.children[1].children[0])] for it in self.value(inner[0], scope)]
            case "function_call":
                return self.call(inner, scope)
            case "for_tuple_expr":
                (intro, result), condition = inner[:2], inner[2:]
                return [self.value(result, it) for it in self.loop(intro, condition, scope)]
            case "for_object_expr":
                (intro, key, result), condition = inner[:3], inner[3:]
                return {self.value(key, it): self.value(result, it) for it in self.loop(intro, condition, scope)}
        raise NotImplementedError(node.data)

    def name(self, name, scope):
        if name in scope:
            return scope[name]
        if name == "data":
            return {
                "aws_region": {"current": {"region": REGION}},
                "aws_partition": {"current": {"partition": "aws"}},
                "aws_caller_identity": {"current": {"account_id": ACCOUNT}},
            }
        return {"var": self.variables, "local": self.locals}.get(name) or self.types[name]

    def part(self, part, scope):
        if isinstance(part, Token):
            return json.loads(f'"{part}"').replace("$${", "${")
        return self.value(part, scope)

    def element(self, element, scope):
        key, result = trees(element)
        (name,) = trees(key)
        plain = name.data == "expr_term" and trees(name)[0]
        if plain and plain.data == "identifier" and len(name.children) == 1:
            return str(plain.children[0]), self.value(result, scope)
        return self.value(name, scope), self.value(result, scope)

    def call(self, inner, scope):
        arguments = [self.value(it, scope) for it in trees(inner[1])]
        if inner[1].children[-1] == "...":
            arguments[-1:] = arguments[-1]
        return FUNCTIONS[str(inner[0].children[0])](*arguments)

    def loop(self, intro, condition, scope):
        *names, items = trees(intro)
        names = [str(it.children[0]) for it in names]
        for key, it in rows(self.value(items, scope)):
            inside = scope | dict(zip(names, (key, it) if len(names) == 2 else (it,)))
            if not condition or self.value(trees(condition[0])[-1], inside):
                yield inside


# The plain form


def listed(it):
    return it if isinstance(it, list) else [it]


def statements(policy):
    """By meaning: without names, in no order."""
    policy = json.loads(policy) if isinstance(policy, str) else policy
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


def dashboard(body):
    return json.loads(body)["widgets"]


def template(parameters):
    return template_form(Template(parameters))


def template_form(it):
    return {
        "functions": {
            function["FunctionName"]: {
                "description": function["Description"],
                "memory": function["MemorySize"],
                "timeout": function["Timeout"],
                "runtime": function["Runtime"],
                "handler": function["Handler"],
                "architectures": function["Architectures"],
                "concurrency": function.get("ReservedConcurrentExecutions", -1),
                "log": function["LoggingConfig"],
                "environment": function["Environment"]["Variables"],
                "vpc": function.get("VpcConfig"),
                "role": function["Role"],
            }
            for function in it.resources("AWS::Serverless::Function").values()
        },
        "logs": {
            log["LogGroupName"]: log["RetentionInDays"] for log in it.resources("AWS::Logs::LogGroup").values()
        },
        "roles": {
            it.getatt(f"{name}.Arn"): {
                "assumed": statements(role["AssumeRolePolicyDocument"]),
                "may": [statements(policy["PolicyDocument"]) for policy in role["Policies"]],
            }
            for name, role in it.resources("AWS::IAM::Role").items()
        },
        "queues": {
            queue["QueueName"]: {
                "retention": queue["MessageRetentionPeriod"],
                "visibility": queue["VisibilityTimeout"],
                "size": queue["MaximumMessageSize"],
                "encrypted": queue["SqsManagedSseEnabled"],
                "redrive": queue.get("RedrivePolicy"),
                "redrive from": queue.get("RedriveAllowPolicy"),
            }
            for queue in it.resources("AWS::SQS::Queue").values()
        },
        "queue policies": {
            queue: statements(policy["PolicyDocument"])
            for policy in it.resources("AWS::SQS::QueuePolicy").values()
            for queue in policy["Queues"]
        },
        "sources": [
            {
                "function": source["FunctionName"],
                "queue": source["EventSourceArn"],
                "batch": source["BatchSize"],
                "window": source["MaximumBatchingWindowInSeconds"],
                "answers": source["FunctionResponseTypes"],
                "concurrency": source["ScalingConfig"]["MaximumConcurrency"],
            }
            for source in it.resources("AWS::Lambda::EventSourceMapping").values()
        ],
        "urls": {
            url["TargetFunctionArn"]: url["AuthType"] for url in it.resources("AWS::Lambda::Url").values()
        },
        "permissions": ordered(
            {
                "function": permission["FunctionName"],
                "action": permission["Action"],
                "principal": permission["Principal"],
                "url": permission.get("FunctionUrlAuthType"),
                "by url": permission.get("InvokedViaFunctionUrl"),
                "source": permission.get("SourceArn"),
            }
            for permission in it.resources("AWS::Lambda::Permission").values()
        ),
        "routes": {
            route["RouteKey"]: (route["ApiId"], route["Target"]) for route in it.resources("AWS::ApiGatewayV2::Route").values()
        },
        "integrations": ordered(
            {
                "api": integration["ApiId"],
                "type": integration["IntegrationType"],
                "function": integration["IntegrationUri"],
                "payload": integration["PayloadFormatVersion"],
            }
            for integration in it.resources("AWS::ApiGatewayV2::Integration").values()
        ),
        "apis": [
            (api["Name"], api["Description"], api["ProtocolType"])
            for api in it.resources("AWS::ApiGatewayV2::Api").values()
        ],
        "stages": [
            {
                "api": stage["ApiId"],
                "name": stage["StageName"],
                "deployed": stage["AutoDeploy"],
                "rate": stage["DefaultRouteSettings"]["ThrottlingRateLimit"],
                "burst": stage["DefaultRouteSettings"]["ThrottlingBurstLimit"],
                "log": stage["AccessLogSettings"]["DestinationArn"].removesuffix(":*"),
                "format": json.loads(stage["AccessLogSettings"]["Format"]),
            }
            for stage in it.resources("AWS::ApiGatewayV2::Stage").values()
        ],
        "endpoints": {
            endpoint["ServiceName"]: {
                "type": endpoint["VpcEndpointType"],
                "private dns": endpoint["PrivateDnsEnabled"],
                "vpc": endpoint["VpcId"],
                "subnets": endpoint["SubnetIds"],
                "groups": endpoint["SecurityGroupIds"],
                "policy": statements(endpoint["PolicyDocument"]),
            }
            for endpoint in it.resources("AWS::EC2::VPCEndpoint").values()
        },
        "network": template_network(it),
        "alarms": {alarm["AlarmName"]: template_alarm(alarm) for alarm in it.resources("AWS::CloudWatch::Alarm").values()},
        "dashboards": {
            board["DashboardName"]: dashboard(board["DashboardBody"])
            for board in it.resources("AWS::CloudWatch::Dashboard").values()
        },
        "outputs": {
            snake(name): it.value(output["Value"]) if it.present(output) else None
            for name, output in it.document["Outputs"].items()
        },
    }


def ordered(items):
    return sorted(items, key=lambda it: json.dumps(it, sort_keys=True))


def template_network(it):
    """[(group, direction, protocol, from, to, peer)]"""
    found = []
    for name, group in it.resources("AWS::EC2::SecurityGroup").items():
        for rule in group["SecurityGroupEgress"]:
            # CloudFormation needs a rule where there is to be none.
            if rule.get("CidrIp") != "127.0.0.1/32":
                peer = rule.get("CidrIp") or rule["DestinationSecurityGroupId"]
                found.append((it.ref(name), "out", rule["IpProtocol"], rule["FromPort"], rule["ToPort"], peer))
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
    return Module({"packages": "packages"} | {snake(name): value for name, value in parameters.items()})


def module_form(it):
    queues = it.resources("aws_sqs_queue")
    redrive_from = {
        allowed["queue_url"]: json.loads(allowed["redrive_allow_policy"])
        for allowed in it.resources("aws_sqs_queue_redrive_allow_policy").values()
    }
    roles = it.resources("aws_iam_role")
    return {
        "functions": {
            function["function_name"]: {
                "description": function["description"],
                "memory": function["memory_size"],
                "timeout": function["timeout"],
                "runtime": function["runtime"],
                "handler": function["handler"],
                "architectures": function["architectures"],
                "concurrency": function["reserved_concurrent_executions"],
                "log": {
                    "LogGroup": function["logging_config"][0]["log_group"],
                    "LogFormat": function["logging_config"][0]["log_format"],
                    "SystemLogLevel": function["logging_config"][0]["system_log_level"],
                },
                "environment": function["environment"][0]["variables"],
                "vpc": one(
                    [
                        {"SubnetIds": vpc["subnet_ids"], "SecurityGroupIds": vpc["security_group_ids"]}
                        for vpc in function.get("vpc_config", [])
                    ]
                ),
                "role": function["role"],
            }
            for function in it.resources("aws_lambda_function").values()
        },
        "logs": {
            log["name"]: log["retention_in_days"] for log in it.resources("aws_cloudwatch_log_group").values()
        },
        "roles": {
            role["arn"]: {
                "assumed": statements(role["assume_role_policy"]),
                "may": [
                    statements(policy["policy"])
                    for policy in it.resources("aws_iam_role_policy").values()
                    if policy["role"] == role["name"]
                ],
            }
            for role in roles.values()
        },
        "queues": {
            queue["name"]: {
                "retention": queue["message_retention_seconds"],
                "visibility": queue["visibility_timeout_seconds"],
                "size": queue["max_message_size"],
                "encrypted": queue["sqs_managed_sse_enabled"],
                "redrive": json.loads(queue["redrive_policy"]) if "redrive_policy" in queue else None,
                "redrive from": redrive_from.get(queue["url"]),
            }
            for queue in queues.values()
        },
        "queue policies": {
            policy["queue_url"]: statements(policy["policy"]) for policy in it.resources("aws_sqs_queue_policy").values()
        },
        "sources": [
            {
                "function": source["function_name"],
                "queue": source["event_source_arn"],
                "batch": source["batch_size"],
                "window": source["maximum_batching_window_in_seconds"],
                "answers": source["function_response_types"],
                "concurrency": source["scaling_config"][0]["maximum_concurrency"],
            }
            for source in it.resources("aws_lambda_event_source_mapping").values()
        ],
        "urls": {
            function_arn(url["function_name"]): url["authorization_type"]
            for url in it.resources("aws_lambda_function_url").values()
        },
        "permissions": ordered(
            {
                "function": function_arn(permission["function_name"]),
                "action": permission["action"],
                "principal": permission["principal"],
                "url": permission.get("function_url_auth_type"),
                "by url": permission.get("invoked_via_function_url"),
                "source": permission.get("source_arn"),
            }
            for permission in it.resources("aws_lambda_permission").values()
        ),
        "routes": {
            route["route_key"]: (route["api_id"], route["target"]) for route in it.resources("aws_apigatewayv2_route").values()
        },
        "integrations": ordered(
            {
                "api": integration["api_id"],
                "type": integration["integration_type"],
                "function": integration["integration_uri"],
                "payload": integration["payload_format_version"],
            }
            for integration in it.resources("aws_apigatewayv2_integration").values()
        ),
        "apis": [
            (api["name"], api["description"], api["protocol_type"])
            for api in it.resources("aws_apigatewayv2_api").values()
        ],
        "stages": [
            {
                "api": stage["api_id"],
                "name": stage["name"],
                "deployed": stage["auto_deploy"],
                "rate": stage["default_route_settings"][0]["throttling_rate_limit"],
                "burst": stage["default_route_settings"][0]["throttling_burst_limit"],
                "log": stage["access_log_settings"][0]["destination_arn"],
                "format": json.loads(stage["access_log_settings"][0]["format"]),
            }
            for stage in it.resources("aws_apigatewayv2_stage").values()
        ],
        "endpoints": {
            endpoint["service_name"]: {
                "type": endpoint["vpc_endpoint_type"],
                "private dns": endpoint["private_dns_enabled"],
                "vpc": endpoint["vpc_id"],
                "subnets": endpoint["subnet_ids"],
                "groups": endpoint["security_group_ids"],
                "policy": statements(endpoint["policy"]),
            }
            for endpoint in it.resources("aws_vpc_endpoint").values()
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
        "dashboards": {
            board["dashboard_name"]: dashboard(board["dashboard_body"])
            for board in it.resources("aws_cloudwatch_dashboard").values()
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
    }


def module_variables(folder=MODULE):
    """As above, and the conditions that fit no field of it."""
    evaluator = Module({}, folder)
    found, others = {}, {}
    for kind, labels, body in evaluator.blocks:
        if kind != "variable":
            continue
        own = attributes(body)
        it = {"pattern": None, "values": None, "least": None, "most": None}
        it["type"] = hcl(own["type"])
        it["description"] = evaluator.value(own["description"], {})
        it["default"] = evaluator.value(own["default"], {}) if "default" in own else None
        for name, _, validation in blocks(body):
            assert name == "validation", name
            condition = hcl(attributes(validation)["condition"])
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


def hcl(expression):
    """An expression's text, without comments and without spaces outside of strings."""
    tokens = [it for it in expression.scan_values(lambda _: True) if it.type != "NL_OR_COMMENT"]
    return "".join(str(it) if it.type == "STRING_CHARS" else it.strip() for it in tokens)
