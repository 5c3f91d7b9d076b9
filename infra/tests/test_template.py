"""template.yaml and ../terraform build the same, and give nobody more than is needed."""

import re

import pytest
from cloudformation import ROOT, Template, documents, loops, rows, template_document, written_document
from hcl import MODULE, Module, attributes, blocks, text_of
from templates import (
    module,
    module_form,
    module_variables,
    module_with,
    policies,
    snake,
    statements,
    template,
    template_form,
    template_parameters,
)


def parameter(name, service="ssm"):
    return f"arn:aws:{service}:eu-west-1:123456789012:{name}"


BASE = {"CollectorEndpoint": "https://collector.example.com:4318"}
CIRCLECI = BASE | {"CircleciSettings": parameter("circleci")}
VPC = {"VpcId": "vpc-0123", "SubnetIds": ["subnet-1", "subnet-2"]}
URLS = {"FrontDoor": "function-urls"}
EVERYTHING = (
    BASE
    | VPC
    | {name: parameter(function) for name, function in documents().items()}
    | {
        "BuildEventsSettings": parameter("build-events", "secretsmanager"),
        "SecretsKeyArn": parameter("key/1", "kms"),
        "OperatorRoleArn": "arn:aws:iam::123456789012:role/operator*",
        "AlarmTopicArn": parameter("alarms", "sns"),
    }
)
# Every condition of the template holds in one of these and does not in another.
DEPLOYMENTS = {
    f"{word} alone": BASE | {f"{word}Settings": parameter(row["Name"])} for word, row in rows().items()
} | {
    "nothing behind HTTP": BASE,
    "everything": EVERYTHING,
    "everything with URLs": EVERYTHING | URLS,
    "CircleCI with URLs": CIRCLECI | URLS,
    "shared settings alone": BASE | {"TraceparentSettings": parameter("shared"), "SharedSettings": parameter("shared")},
    "VPC": CIRCLECI | VPC,
    "VPC with Secrets Manager": CIRCLECI | VPC | {"ForwarderSettings": parameter("headers", "secretsmanager")},
    "no reserved concurrency": CIRCLECI | {"WebhookConcurrency": 0},
    "no default value": EVERYTHING
    | {
        "Architecture": "x86_64",
        "CollectorCidr": "192.168.0.0/24",
        "CollectorCompression": "zstd",
        "CollectorPort": 4317,
        "CollectorProtocol": "grpc",
        "DeliveryLagMilliseconds": 60001,
        "ForwarderConcurrency": 7,
        "FrontDoor": "function-urls",
        "HttpApiBurst": 11,
        "HttpApiRate": 13,
        "LogLevel": "debug",
        "LogRetentionDays": 90,
        "OldestMessageSeconds": 301,
        "RefusedRequests": 23,
        "RejectedShare": 17,
        "TelemetryEndpoint": "https://telemetry.example.com",
        "WebhookConcurrency": 19,
    },
}

each_deployment = pytest.mark.parametrize("parameters", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
each_side = pytest.mark.parametrize("side", [template, module], ids=["template", "module"])

WRITE_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
READ_SECRETS = {"ssm:GetParameter", "secretsmanager:GetSecretValue", "kms:Decrypt"}
SEE_NETWORK = {"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"}
# What each function does at AWS.
RECEIVES = WRITE_LOG | READ_SECRETS | {"sqs:SendMessage"}
# Whoever adds a function says here what it does.
NEEDED = {
    "circleci-webhook": RECEIVES,
    "gitlab-webhook": RECEIVES,
    "github-webhook": RECEIVES,
    "kubernetes-webhook": RECEIVES,
    "tekton-webhook": RECEIVES,
    "lighthouse-webhook": RECEIVES,
    "build-events": RECEIVES,
    "otlp": RECEIVES,
    "traceparent": WRITE_LOG | READ_SECRETS,
    "forwarder": WRITE_LOG
    | READ_SECRETS
    | {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"}
    | {"sqs:SendMessage"}
    | {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"}
    | {"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"}
    | SEE_NETWORK,
}

# Names and texts that people read, and what only one of the two has. Nothing else is left out.
NOT_COMPARED = {
    "AWS::CloudWatch::Alarm": {"AlarmDescription"},
    "AWS::EC2::SecurityGroup": {"GroupDescription", "VpcId", "SecurityGroupEgress.Description"},
    "AWS::EC2::SecurityGroupIngress": {"Description"},
    "AWS::IAM::Role": {"Policies.PolicyName"},
    "AWS::Serverless::Function": {"CodeUri"},
    "aws_cloudwatch_metric_alarm": {"alarm_description"},
    "aws_iam_role_policy": {"name"},
    "aws_lambda_function": {"filename", "source_code_hash"},
    "aws_security_group": {"name", "description", "vpc_id"},
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
}


# The same in both


@each_deployment
def test_template_and_module_build_the_same(parameters):
    from_template, from_module = template(parameters), module(parameters)
    differing = [part for part in from_template if from_template[part] != from_module[part]]
    for part in differing:
        assert from_module[part] == from_template[part], f"these differ: {', '.join(differing)}"


def test_the_deployments_try_both_sides_of_every_condition():
    for condition in template_document()["Conditions"]:
        values = {Template(it).condition(condition) for it in DEPLOYMENTS.values()}
        assert values == {True, False}, condition


def test_the_deployments_try_another_value_of_every_parameter():
    defaults = {name: it.get("Default") for name, it in template_document()["Parameters"].items()}
    for name, default in defaults.items():
        assert any(Template(it).parameters[name] != default for it in DEPLOYMENTS.values()), name


def test_nothing_is_left_out_of_the_comparison():
    for parameters in (EVERYTHING, EVERYTHING | URLS):
        from_template, from_module = Template(parameters), module_with(parameters)
        template_form(from_template)
        module_form(from_module)
        for type_ in from_template.types():
            for name, it in from_template.resources(type_).items():
                assert it.unread() <= NOT_COMPARED.get(type_, set()), name
        for type_ in {type_ for type_, _ in from_module.names()}:
            for name, it in from_module.resources(type_).items():
                assert it.unread() <= NOT_COMPARED.get(type_, set()), f"{type_}.{name}"


def test_parameters_are_variables():
    variables, others = module_variables()
    own = {name: variables.pop(name) for name in ("name", "packages", "settings")}
    assert variables == template_parameters()
    assert own["name"]["default"] == "spanhook"
    # What a pattern can't say.
    assert others.keys() == {"settings", "subnet_ids"}
    assert others["subnet_ids"] == ['var.vpc_id==""||length(var.subnet_ids)>0']


def test_a_document_is_an_arn_or_nothing():
    _, others = module_variables()
    (pattern,) = re.findall(r'regex\("(.*?)",it\)', "".join(others["settings"]))
    for name in documents():
        it = template_document()["Parameters"][name]
        assert (it["Default"], it["AllowedPattern"]) == ("", f"^$|{pattern}"), name


def test_a_function_is_in_every_list():
    """A function behind HTTP is one row; what CloudFormation can't derive from it must not be forgotten."""
    document = written_document()
    for section, loop in (("Conditions", "Deployed"), ("Resources", "Http"), ("Outputs", "Urls")):
        _, words, _ = loops(document[section])[loop]
        assert words == list(rows()), section
    names = {row["Name"] for row in rows().values()}
    assert names == NEEDED.keys() - {"forwarder"} == Module({}).locals["http"].keys()
    dashboard = template(BASE)["dashboards"]["spanhook"]["body"]["widgets"]
    for it in dashboard:
        shown = [metric[3] for metric in it["properties"]["metrics"] if metric[0] == "."]
        assert not shown or set(shown) == {f"spanhook-{name}" for name in names}, it["properties"]["title"]
    groups = document["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for it in groups for name in it["Parameters"]) == sorted(document["Parameters"])


@each_side
def test_a_document_brings_its_function(side):
    for name, function in documents().items():
        if function in ("forwarder", "shared"):
            continue
        with_it, without = side(BASE | {name: parameter("it")}), side(BASE)
        assert with_it["functions"].keys() - without["functions"].keys() == {f"spanhook-{function}"}
        assert with_it["logs"].keys() - without["logs"].keys() == {f"/aws/lambda/spanhook-{function}"}
        assert with_it["routes"].keys() - without["routes"].keys()
        assert with_it["outputs"]["urls"].keys() == {function}
        assert {f"spanhook-{function}-{alarm}" for alarm in ("throttles", "401")} <= with_it["alarms"].keys()


@each_side
def test_a_function_reads_its_own_document_and_the_shared_one(side):
    it = side(EVERYTHING)
    for name, role in it["roles"].items():
        function = name.rpartition("/")[2]
        own = EVERYTHING[next(parameter for parameter, key in documents().items() if key == function)]
        shared = [] if function == "forwarder" else [EVERYTHING["SharedSettings"]]
        (reading,) = [may for policy in role["may"] for may in policy if "ssm:GetParameter" in may["actions"]]
        assert reading["resources"] == sorted([own, *shared])
        assert it["functions"][f"spanhook-{function}"]["environment"]["SETTINGS"] == ",".join([own, *shared])


@each_side
def test_the_shared_document_is_enough(side):
    shared = parameter("shared")
    it = side(BASE | {"TraceparentSettings": shared, "SharedSettings": shared})
    assert it["functions"]["spanhook-traceparent"]["environment"]["SETTINGS"] == f"{shared},{shared}"
    assert side(BASE)["functions"]["spanhook-forwarder"]["environment"]["SETTINGS"] == ""


@each_side
def test_addresses_are_where_the_routes_are(side):
    api = side(EVERYTHING)
    for function, url in api["outputs"]["urls"].items():
        path = url.removeprefix("https://api0123456.execute-api.eu-west-1.amazonaws.com")
        (route,) = [it for it in api["routes"] if it.split()[1].removesuffix("/{proxy+}") == path]
        assert api["routes"][route]["target"] == f"integrations/integration-spanhook-{function}"
        by_url = side(EVERYTHING | URLS)["outputs"]["urls"][function]
        assert by_url == f"https://spanhook-{function}.lambda-url.eu-west-1.on.aws{path}"
    others = {
        "POST /": "circleci-webhook",
        "POST /tekton/{secret}": "tekton-webhook",
        "POST /lighthouse/events": "lighthouse-webhook",
        "GET /health": "traceparent",
    }
    for route, function in others.items():
        assert api["routes"][route]["target"] == f"integrations/integration-spanhook-{function}"


@each_side
def test_only_the_forwarder_is_in_the_vpc(side):
    """Webhooks and jobs come from the internet, and issuers' keys are fetched from there."""
    functions = side(EVERYTHING)["functions"]
    assert [name for name, it in functions.items() if it["subnets"]] == ["spanhook-forwarder"]


@each_side
def test_who_may_send_is_known_by_the_roles_path(side):
    it = side(EVERYTHING)
    for policy in it["queue policies"].values():
        (sending,) = [may for may in policy["policy"] if may["actions"] == ["sqs:SendMessage"]]
        patterns = sending["condition"]["StringNotLike"]["aws:PrincipalArn"]
        patterns = [re.escape(text).replace(r"\*", ".*") for text in patterns]
        for name, role in it["roles"].items():
            admitted = any(re.fullmatch(pattern, name) for pattern in patterns)
            assert admitted == (role["path"] == "/spanhook/http/" or "dead-letters" in policy["name"]), name
    denied = {
        (name.rpartition("/")[2], *may["actions"])
        for name, role in it["roles"].items()
        for policy in role["may"]
        for may in policy
        if may["effect"] == "Deny"
    }
    assert denied == {("traceparent", "sqs:SendMessage")}


def test_descriptions_of_outputs_are_the_same():
    from_module = {
        labels[0]: Module({}).value(attributes(body)["description"], {})
        for kind, labels, body in Module({}).blocks
        if kind == "output"
    }
    urls = {f"{word}Url" for word in rows()}
    outputs = template_document()["Outputs"].items()
    from_template = {snake(name): it["Description"] for name, it in outputs if name not in urls}
    assert from_template == {name: it for name, it in from_module.items() if name != "urls"}


def test_the_queues_outlive_the_deployment():
    for name, it in template_document()["Resources"].items():
        if it["Type"] == "AWS::SQS::Queue":
            assert (it["DeletionPolicy"], it["UpdateReplacePolicy"]) == ("Retain", "Retain"), name
    for kind, labels, body in Module({}).blocks:
        if kind == "resource" and labels[0] == "aws_sqs_queue":
            (lifecycle,) = [attributes(inner) for name, _, inner in blocks(body) if name == "lifecycle"]
            assert text_of(lifecycle["prevent_destroy"]) == "true", labels[1]


@pytest.mark.parametrize(
    "door, metrics", [("function-urls", {"Url4xxCount", "Url5xxCount"}), ("http-api", {"4xx", "5xx"})]
)
@each_side
def test_what_no_function_sees_rings_at_the_front_door(side, door, metrics):
    """Lambda refuses an event above 6 MB before the function runs: only the front door counts it."""
    it = side(EVERYTHING | {"FrontDoor": door})
    watched = {}
    for alarm in it["alarms"].values():
        measured = alarm["measured"]
        if isinstance(measured, dict) and measured["metric"] in metrics:
            (place,) = measured["dimensions"].values()
            watched.setdefault(place, {})[measured["metric"]] = alarm["threshold"]
    behind_http = {f"spanhook-{row['Name']}" for row in rows().values()}
    assert watched.keys() == ({"api0123456"} if door == "http-api" else behind_http)
    assert all(place == dict.fromkeys(metrics, 0) for place in watched.values())


# Rights


def allowed(document):
    return [it for it in statements(document) if it["effect"] == "Allow"]


def all_policies(parameters):
    """Every policy on both sides, and where it is."""
    from_template, from_module = Template(parameters), module_with(parameters)
    for type_ in from_template.types():
        for name, it in from_template.resources(type_).items():
            yield from ((name, policy) for policy in policies(it))
    for type_ in {type_ for type_, _ in from_module.names()}:
        for name, it in from_module.resources(type_).items():
            yield from ((f"{type_}.{name}", policy) for policy in policies(it))


@each_deployment
def test_nobody_is_allowed_everything(parameters):
    seen = 0
    for where, document in all_policies(parameters):
        for it in allowed(document):
            seen += 1
            assert it["principal"] != "*" and "*" not in (it["principal"] or {}).values(), where
            assert not any("*" in action for action in it["actions"]), where
            if "*" in it["resources"]:
                assert set(it["actions"]) == SEE_NETWORK, where
    assert seen >= 8


@each_side
def test_a_role_may_do_what_its_function_does(side):
    roles = side(EVERYTHING)["roles"]
    found = {
        name.rpartition("/")[2]: {
            action
            for policy in role["may"]
            for it in policy
            if it["effect"] == "Allow"
            for action in it["actions"]
        }
        for name, role in roles.items()
    }
    assert found == NEEDED


@each_side
def test_a_role_is_for_lambda_and_writes_to_its_own_log(side):
    for name, role in side(EVERYTHING)["roles"].items():
        (trust,) = role["assumed"]
        assert (trust["principal"], trust["actions"]) == ({"Service": "lambda.amazonaws.com"}, ["sts:AssumeRole"])
        (log,) = [it for policy in role["may"] for it in policy if set(it["actions"]) == WRITE_LOG]
        # A stream's ARN is log-group:NAME:log-stream:STREAM.
        function = name.rpartition("/")[2]
        stream = (
            f"arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/spanhook-{function}:log-stream:2026/[$LATEST]0"
        )
        other = stream.replace(function, function + "-2")
        patterns = [re.escape(it).replace(r"\*", ".*") for it in log["resources"]]
        assert any(re.fullmatch(it, stream) for it in patterns)
        assert not any(re.fullmatch(it, other) for it in patterns)


@each_side
@each_deployment
def test_the_queues_refuse_what_does_not_come_by_tls(side, parameters):
    for queue in side(parameters)["queue policies"].values():
        assert {"Bool": {"aws:SecureTransport": ["false"]}} in [
            it["condition"] for it in queue["policy"] if it["effect"] == "Deny" and it["actions"] == ["sqs:*"]
        ]


@each_side
@each_deployment
def test_anybody_may_call_by_url_and_the_api_by_its_arn(side, parameters):
    it = side(parameters)
    open_to_all = [permission for permission in it["permissions"] if permission["principal"] == "*"]
    for permission in open_to_all:
        assert (permission["action"], permission["url"], permission["by_url"]) in (
            ("lambda:InvokeFunctionUrl", "NONE", None),
            ("lambda:InvokeFunction", None, True),
        )
    # Either permission alone is answered 403.
    assert len(open_to_all) == 2 * len(it["urls"])
    for permission in it["permissions"]:
        assert permission["principal"] == "*" or permission["source"]
    forwarder = next(name for name in it["functions"] if name.endswith("-forwarder"))
    assert not any(permission["function"].endswith(forwarder) for permission in it["permissions"])


# Numbers that belong together


@each_side
def test_a_message_stays_hidden_while_the_forwarder_works_on_it(side):
    it = side(EVERYTHING)
    (source,) = it["sources"].values()
    timeout = it["functions"][source["function"]]["timeout"]
    assert it["queues"]["spanhook-spans"]["visibility"] >= 6 * timeout + source["window"]


@each_side
def test_a_function_outlives_the_patience_for_the_queue(side):
    """A provider that never sends again is answered late; cut off before, the answer would be a 502."""
    rooms = (ROOT / "shared/core/src/provider").glob("*/mod.rs")
    written = [re.findall(r"^    patience: (.*),$", room.read_text(), re.M) for room in rooms]
    patience = [re.fullmatch(r"None|Some\(Duration::from_secs\((\d+)\)\)", *it)[1] for it in written]
    assert any(patience)
    timeouts = [it["timeout"] for name, it in side(EVERYTHING)["functions"].items() if name.endswith("-webhook")]
    # A second and a half for what else there is to do, and for a cold start's first request.
    assert min(timeouts) >= max(int(seconds) for seconds in patience if seconds) + 1.5


@each_side
def test_dead_letters_are_kept_as_long_as_messages(side):
    queues = side(EVERYTHING)["queues"]
    assert queues["spanhook-dead-letters"]["retention"] >= queues["spanhook-spans"]["retention"]


@each_side
def test_a_flood_ends_at_the_front_door(side):
    """A public URL's only limit is the function's reserved concurrency, which a stranger can use up."""
    it = side(EVERYTHING)
    assert it["urls"] == {}
    (stage,) = it["stages"].values()
    for route in it["routes"].values():
        name = route["target"].removeprefix("integrations/integration-")
        assert stage["burst"] <= it["functions"][name]["concurrency"]
        assert stage["rate"] <= 10 * it["functions"][name]["concurrency"]


# Documents


@each_side
def test_settings_are_documented(side):
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs/settings.md").read_text()))
    used = {name for it in side(EVERYTHING)["functions"].values() for name in it["environment"]}
    assert used <= documented


@each_deployment
def test_every_alarm_has_a_heading(parameters):
    path = ROOT / "docs/operations.md"
    headings = [it for it in path.read_text().splitlines() if it.startswith("#")]
    functions = "|".join(row["Name"] for row in rows().values())
    for name in template(parameters)["alarms"]:
        short = re.sub(f"^(?:{functions})-", "FUNCTION-", name.removeprefix("spanhook-"))
        assert any(re.search(rf"(?<![\w-]){re.escape(short)}(?![\w-])", it) for it in headings), short


def test_the_readme_names_every_input_and_output():
    named = set(re.findall(r"^\| `(\w+)` \|", (MODULE / "README.md").read_text(), re.M))
    assert named == module_variables()[0].keys() | {
        labels[0] for kind, labels, _ in Module({}).blocks if kind == "output"
    }
