"""template.yaml and ../terraform build the same, and give nobody more than is needed."""

import re

import pytest
from templates import (
    MODULE,
    ROOT,
    Module,
    Template,
    attributes,
    blocks,
    hcl,
    module,
    module_form,
    module_variables,
    module_with,
    policies,
    snake,
    statements,
    template,
    template_document,
    template_form,
    template_parameters,
)


def parameter(name, service="ssm"):
    return f"arn:aws:{service}:eu-west-1:123456789012:{name}"


BASE = {"CollectorEndpoint": "https://collector.example.com:4318"}
CIRCLECI = BASE | {"CircleciSecret": parameter("circleci")}
GITLAB = BASE | {"GitlabSigningToken": parameter("signing")}
ISSUERS = {"OidcIssuers": "https://gitlab.com", "OidcAudience": "https://ci.example.com"}
VPC = {"VpcId": "vpc-0123", "SubnetIds": ["subnet-1", "subnet-2"]}
URLS = {"FrontDoor": "function-urls"}
EVERYTHING = (
    CIRCLECI
    | ISSUERS
    | VPC
    | {
        "GitlabSigningToken": parameter("signing"),
        "GitlabSecretToken": parameter("secret", "secretsmanager"),
        "TraceparentToken": parameter("traceparent"),
        "CollectorHeaders": parameter("headers"),
        "ProjectRules": parameter("rules"),
        "BuildEventsSigningKey": parameter("build-events-key"),
        "BuildEventsToken": parameter("build-events-token", "secretsmanager"),
        "Access": parameter("access"),
        "SecretsKeyArn": parameter("key/1", "kms"),
        "OperatorRoleArn": "arn:aws:iam::123456789012:role/operator*",
        "AlarmTopicArn": parameter("alarms", "sns"),
    }
)
# Every condition of the template holds in one of these and does not in another.
DEPLOYMENTS = {
    "CircleCI": CIRCLECI,
    "GitLab": GITLAB,
    "GitLab's secret token": BASE | {"GitlabSecretToken": parameter("secret", "secretsmanager")},
    "everything": EVERYTHING,
    "everything with URLs": EVERYTHING | URLS,
    "CircleCI with URLs": CIRCLECI | URLS,
    "GitLab with URLs": GITLAB | URLS,
    "VPC": CIRCLECI | VPC,
    "VPC with Secrets Manager": CIRCLECI | VPC | {"CollectorHeaders": parameter("headers", "secretsmanager")},
    "no reserved concurrency": CIRCLECI | {"WebhookConcurrency": 0},
    "build events with a key": CIRCLECI | {"BuildEventsSigningKey": parameter("key", "secretsmanager")},
    "build events with a token": GITLAB | {"BuildEventsToken": parameter("token")},
    "build events with issuers": CIRCLECI
    | ISSUERS
    | {"Access": '[{"projects": "acme/*", "by": ["oidc"]}]', "AlarmTopicArn": parameter("alarms", "sns")},
    "build events with URLs": GITLAB | ISSUERS | URLS,
    "access without build events": CIRCLECI | {"Access": parameter("access")},
    "no default value": EVERYTHING
    | {
        "Architecture": "x86_64",
        "CircleciHost": "ci.example.com",
        "CircleciServiceName": "one",
        "CollectorCidr": "192.168.0.0/24",
        "CollectorCompression": "zstd",
        "CollectorPort": 4317,
        "CollectorProtocol": "grpc",
        "DeliveryLagMilliseconds": 60001,
        "ForwarderConcurrency": 7,
        "FrontDoor": "function-urls",
        "GitlabHost": "git.example.com",
        "GitlabJobSpans": "job",
        "GitlabNativeJobId": "export",
        "GitlabServiceName": "two",
        "HttpApiBurst": 11,
        "HttpApiRate": 13,
        "LogLevel": "debug",
        "LogRetentionDays": 90,
        "OldestMessageSeconds": 301,
        "RefusedRequests": 23,
        "RejectedShare": 17,
        "TelemetryEndpoint": "https://telemetry.example.com",
        "TraceIds": "native",
        "WebhookConcurrency": 19,
    },
}

each_deployment = pytest.mark.parametrize("parameters", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
each_side = pytest.mark.parametrize("side", [template, module], ids=["template", "module"])

WRITE_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
READ_SECRETS = {"ssm:GetParameter", "secretsmanager:GetSecretValue", "kms:Decrypt"}
SEE_NETWORK = {"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"}
# What each function does at AWS.
NEEDED = {
    "circleci-webhook": WRITE_LOG | READ_SECRETS | {"sqs:SendMessage"},
    "gitlab-webhook": WRITE_LOG | READ_SECRETS | {"sqs:SendMessage"},
    "build-events": WRITE_LOG | READ_SECRETS | {"sqs:SendMessage"},
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
    own = {name: variables.pop(name) for name in ("name", "packages")}
    assert variables == template_parameters()
    assert own["name"]["default"] == "spanhook"
    # What a pattern can't say: the template has the first and the last among its rules.
    assert others == {
        "circleci_secret": ['var.circleci_secret!=""||var.gitlab_signing_token!=""||var.gitlab_secret_token!=""'],
        "subnet_ids": ['var.vpc_id==""||length(var.subnet_ids)>0'],
        "oidc_audience": ['var.oidc_issuers==""||var.oidc_audience!=""'],
    }
    assert list(template_document()["Rules"]) == ["SomeWebhook", "SomeAudience"]


@pytest.mark.parametrize(
    "parameters, broken",
    [(it, []) for it in DEPLOYMENTS.values()]
    + [(BASE, ["SomeWebhook"]), (CIRCLECI | {"OidcIssuers": "https://gitlab.com"}, ["SomeAudience"])],
)
def test_rules_refuse_what_could_not_work(parameters, broken):
    assert Template(parameters).broken_rules() == broken


@pytest.mark.parametrize(
    "set_",
    [{"BuildEventsSigningKey": parameter("key")}, {"BuildEventsToken": parameter("token")}, ISSUERS],
    ids=lambda it: next(iter(it)),
)
@each_side
def test_any_proof_brings_the_function_of_build_events(side, set_):
    name = "spanhook-build-events"
    with_it, without = side(CIRCLECI | set_), side(CIRCLECI)
    assert with_it["functions"].keys() - without["functions"].keys() == {name}
    role = "arn:aws:iam::123456789012:role/build-events"
    for policy in with_it["queue policies"].values():
        (sending,) = [it for it in policy["policy"] if it["actions"] == ["sqs:SendMessage"]]
        assert role in sending["condition"]["StringNotLike"]["aws:PrincipalArn"]
    assert without["outputs"]["build_events_url"] is None
    # Senders append the path to it.
    assert with_it["outputs"]["build_events_url"] == "https://api0123456.execute-api.eu-west-1.amazonaws.com"
    assert with_it["routes"].keys() - without["routes"].keys() == {"POST /build-events"}
    by_url = side(CIRCLECI | set_ | URLS)
    assert by_url["outputs"]["build_events_url"] == f"https://{name}.lambda-url.eu-west-1.on.aws"


@each_side
def test_what_asks_issuers_for_keys_is_not_in_the_vpc(side):
    functions = side(EVERYTHING)["functions"]
    assert [name for name, it in functions.items() if it["subnets"]] == ["spanhook-forwarder"]
    asking = {name for name, it in functions.items() if "OIDC_ISSUERS" in it["environment"]}
    assert asking == {"spanhook-build-events", "spanhook-traceparent"}


def test_descriptions_of_outputs_are_the_same():
    from_module = {
        labels[0]: Module({}).value(attributes(body)["description"], {})
        for kind, labels, body in Module({}).blocks
        if kind == "output"
    }
    assert from_module == {snake(name): it["Description"] for name, it in template_document()["Outputs"].items()}


def test_the_queues_outlive_the_deployment():
    for name, it in template_document()["Resources"].items():
        if it["Type"] == "AWS::SQS::Queue":
            assert (it["DeletionPolicy"], it["UpdateReplacePolicy"]) == ("Retain", "Retain"), name
    for kind, labels, body in Module({}).blocks:
        if kind == "resource" and labels[0] == "aws_sqs_queue":
            (lifecycle,) = [attributes(inner) for name, _, inner in blocks(body) if name == "lifecycle"]
            assert hcl(lifecycle["prevent_destroy"]) == "true", labels[1]


@pytest.mark.parametrize("door, metrics", [("function-urls", {"Url4xxCount", "Url5xxCount"}), ("http-api", {"4xx", "5xx"})])
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
    receivers = {f"spanhook-{name}" for name in ("circleci-webhook", "gitlab-webhook", "build-events")}
    assert watched.keys() == ({"api0123456"} if door == "http-api" else receivers)
    assert all(place == dict.fromkeys(metrics, 0) for place in watched.values())


# Rights


def allowed(document):
    return [it for it in statements(document) if it["effect"] == "Allow"]


def documents(parameters):
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
    for where, document in documents(parameters):
        for it in allowed(document):
            seen += 1
            assert it["principal"] != "*" and "*" not in (it["principal"] or {}).values(), where
            assert not any("*" in action for action in it["actions"]), where
            if "*" in it["resources"]:
                assert set(it["actions"]) == SEE_NETWORK, where
    assert seen >= 10


@each_side
def test_a_role_may_do_what_its_function_does(side):
    roles = side(EVERYTHING)["roles"]
    found = {
        name.rpartition("/")[2]: {action for policy in role["may"] for it in policy for action in it["actions"]}
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
    if not path.exists():
        pytest.skip("docs/operations.md is not written yet")
    headings = [it for it in path.read_text().splitlines() if it.startswith("#")]
    for name in template(parameters)["alarms"]:
        short = name.removeprefix("spanhook-")
        assert any(re.search(rf"(?<![\w-]){re.escape(short)}(?![\w-])", it) for it in headings), short


def test_the_readme_names_every_input_and_output():
    named = set(re.findall(r"^\| `(\w+)` \|", (MODULE / "README.md").read_text(), re.M))
    assert named == module_variables()[0].keys() | {
        labels[0] for kind, labels, _ in Module({}).blocks if kind == "output"
    }
