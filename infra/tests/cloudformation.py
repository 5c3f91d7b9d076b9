"""template.yaml, evaluated for given parameters."""

import re
from functools import cache
from pathlib import Path

import yaml
from made_up import (
    ACCOUNT,
    API,
    REGION,
    STACK,
    Read,
    arn,
    function_arn,
    function_url,
    group,
    integration,
    log_arn,
    queue_url,
    role_arn,
)

ROOT = Path(__file__).parents[2]


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
def written_document():
    """The template as it is written, loops and all."""
    return yaml.load((ROOT / "template.yaml").read_text(), Loader)


@cache
def template_document():
    return {
        name: unrolled(section) if name in ("Conditions", "Resources", "Outputs") else section
        for name, section in written_document().items()
    }


LOOP = "Fn::ForEach::"


def loops(section):
    return {name.removeprefix(LOOP): it for name, it in section.items() if name.startswith(LOOP)}


def unrolled(section):
    """With the loops' bodies in their place, once for each word."""
    found = {name: it for name, it in section.items() if not name.startswith(LOOP)}
    for variable, words, body in loops(section).values():
        for word in words:
            one_of = worded(body, variable, word)
            assert not found.keys() & one_of.keys()
            found |= one_of
    return found


def worded(node, variable, word):
    """CloudFormation puts the word in place of ${variable} anywhere, and of a reference to the variable."""
    if isinstance(node, dict):
        return {worded(key, variable, word): worded(it, variable, word) for key, it in node.items()}
    if isinstance(node, list):
        return [worded(it, variable, word) for it in node]
    if isinstance(node, Call):
        if (node.name, node.argument) == ("Ref", variable):
            return word
        return Call(node.name, worded(node.argument, variable, word))
    return node.replace("${" + variable + "}", word) if isinstance(node, str) else node


def rows():
    """{word of the loops: what differs} of the functions behind HTTP."""
    return written_document()["Mappings"]["Functions"]


def documents():
    """{parameter: function, or shared}"""
    return {f"{word}Settings": row["Name"] for word, row in rows().items()} | {
        "ForwarderSettings": "forwarder",
        "SharedSettings": "shared",
    }


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
                found[name] = self.created.setdefault(name, self.value(properties))
        return found

    def types(self):
        return {it["Type"] for it in self.document["Resources"].values()}

    def with_globals(self, properties):
        return self.document["Globals"]["Function"] | properties

    def value(self, node):
        if isinstance(node, dict) and node.keys() == {"Ref"}:
            return self.ref(self.value(node["Ref"]))
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

    def findinmap(self, keys):
        map_, row, column = map(self.value, keys)
        return self.document["Mappings"][map_][row][column]

    def sub(self, argument):
        text, own = argument if isinstance(argument, list) else (argument, {})

        def reference(found):
            name, _, attribute = found[1].partition(".")
            if name in own:
                return str(self.value(own[name]))
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
        return self.attribute(*(map(self.value, path) if isinstance(path, list) else path.split(".")))

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
                return role_arn(named("Path") if "Path" in properties else "/", self.function_of(name))
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
            if it["Type"] == "AWS::Serverless::Function" and role == self.role_of(it):
                return self.value(it["Properties"]["FunctionName"]).removeprefix(STACK + "-")
        raise KeyError(role)

    def role_of(self, function):
        role = function["Properties"]["Role"].argument
        return self.value(role[0]) if isinstance(role, list) else role.removesuffix(".Arn")


if __name__ == "__main__":  # each function's logical id without "Function", and its binary: for .ci/run
    for word, row in rows().items():
        print(word, row["Name"])
    print("Forwarder", "forwarder")
