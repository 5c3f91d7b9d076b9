"""../terraform, evaluated for given variables: as much of the language as the module speaks."""

import json
import math
from functools import cache
from pathlib import Path

import hcl2
from lark import Token, Tree
from made_up import (
    ACCOUNT,
    API,
    REGION,
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

MODULE = Path(__file__).parents[1] / "terraform"


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
            kind, *labels = [text_of(name).strip('"') for name in names]
            yield kind, labels, inner


def attributes(body):
    """{name: expression}"""
    return {str(it.children[0].children[0]): trees(it)[1] for it in trees(body) if it.data == "attribute"}


def trees(node):
    return [it for it in node.children if isinstance(it, Tree) and it.data != "new_line_or_comment"]


def entries(dictionary_or_list):
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
                return role_arn(self["path"], self.key)
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
    "join": str.join,
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
                    found |= {f"{labels[1]}/{key}": instance for key, instance in entries(it)}
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
                for key, it in entries(self.value(own["for_each"], {}))
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
                for key, it in entries(self.value(attributes(inner)["for_each"], scope)):
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
        for key, it in entries(self.value(items, scope)):
            inside = scope | dict(zip(names, (key, it) if len(names) == 2 else (it,)))
            if not condition or self.value(trees(condition[0])[-1], inside):
                yield inside


def text_of(expression):
    """An expression's text, without comments and without spaces outside of strings."""
    tokens = [it for it in expression.scan_values(lambda _: True) if it.type != "NL_OR_COMMENT"]
    return "".join(str(it) if it.type == "STRING_CHARS" else it.strip() for it in tokens)
