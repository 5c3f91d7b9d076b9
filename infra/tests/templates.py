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
        """What was not asked for, also inside of what was. Without a key asked for it was taken whole."""
        found = self.keys() - self.read
        for key, it in self.items():
            for inner in listed(it):
                if isinstance(inner, Read) and inner.read:
                    found |= {f"{key}.{name}" for name in inner.unread()}
        return found


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

    def broken_rules(self):
        return [
            name
            for name, rule in self.document["Rules"].items()
            if self.value(rule.get("RuleCondition", True))
            and not all(self.value(it["Assert"]) for it in rule["Assertions"])
        ]

    def resources(self, type_):
        """{logical id: properties} of what this set of parameters creates."""
        found = {}
        for name, it in self.document["Resources"].items():
            if it["Type"] == type_ and self.present(it):
                properties = it.get("Properties", {})
                if type_ == "AWS::Serverless::Function":
                    properties = self.with_globals(properties)
                found[name] = self.created.setdefault(name, self.value(properties))
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
            return Read({key: it for key, it in pairs.items() if it is not NOTHING})
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

    def join(self, argument):
        return argument[0].join(self.value(argument[1]))

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
    return [
        it for path in sorted(folder.glob("*.tf")) for it in blocks(hcl2.parses_to_tree(path.read_text()).children[0])
    ]


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
    "trimsuffix": str.removesuffix,
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
            labels[0]: self.value(attributes(body)["value"], {})
            for kind, labels, body in self.blocks
            if kind == "output"
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
                    found.setdefault(labels[0], []).append(Read(self.body(content, one_of)))
            else:
                found.setdefault(kind, []).append(Read(self.body(inner, scope)))
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
    return parts(it.resources, 0) | {
        "roles": {
            it.getatt(f"{name}.Arn"): {
                "assumed": statements(role["AssumeRolePolicyDocument"]),
                "may": [statements(policy["PolicyDocument"]) for policy in role["Policies"]],
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
            snake(name): it.value(output["Value"]) if it.present(output) else None
            for name, output in it.document["Outputs"].items()
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
    return Module({"packages": "packages"} | {snake(name): value for name, value in parameters.items()})


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
