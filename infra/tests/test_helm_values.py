"""What the chart takes and refuses, its way in from outside, and its README."""

import re

import pytest
import yaml
from charts import CHART, KEY, MINIMAL, NAMES, ROOT, VALUES, documents, helm, laid_over, of_kind, refused, rendered, template

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


# Strictness


@pytest.mark.parametrize(
    "more, said",
    [
        ({"serv": {}}, "additional properties 'serv' not allowed"),
        ({"serve": {"confg": {}}}, "additional properties 'confg' not allowed"),
        ({"serve": {"enabled": "yes"}}, "/serve/enabled"),
        ({"serve": {"image": {"tga": "1"}}}, "additional properties 'tga' not allowed"),
        ({"serve": {"image": {"digest": "abc"}}}, "/serve/image/digest"),
        ({"serve": {"persistence": {"size": "two"}}}, "/serve/persistence/size"),
        ({"serve": {"replicas": 0}}, "/serve/replicas"),
        ({"serve": {"forwarders": -1}}, "/serve/forwarders"),
        ({"serve": {"secrets": {"GITHUB_WEBHOOK_SECRET": {"name": "x"}}}}, "missing property 'secret'"),
        ({"serve": {"secrets": {"GITHUB_WEBHOOK_SECRET": 5}}}, "got number, want string or object"),
        ({"signingKey": {"secrt": "x"}}, "missing property 'secret'"),
        ({"cluster": "a b"}, "/cluster"),
        ({"networkPolicy": {"kind": "clium"}}, "must be one of 'plain', 'cilium', 'none'"),
        ({"networkPolicy": {"to": {"serve": [{"ports": [443]}]}}}, "/networkPolicy/to/serve/0"),
        ({"networkPolicy": {"to": {"serve": [{"cidr": "10.0.0.0/8"}]}}}, "missing property 'ports'"),
        ({"networkPolicy": {"jobs": [""]}}, "/networkPolicy/jobs/0"),
        ({"relay": {"namespaces": ["A B"]}}, "/relay/namespaces/0"),
    ],
)
def test_a_mistyped_value_is_an_error_that_names_it(more, said):
    assert said in refused(laid_over(MINIMAL, more))


@pytest.mark.parametrize(
    "more, said",
    [
        ({"serve": {"config": {"GITLAB_HOTS": "x"}}}, "serve.config.GITLAB_HOTS is no setting; use GITLAB_CORRELATION_ID, GITLAB_HOST, "),
        ({"serve": {"config": {"NONSENSE": "x"}}}, "serve.config.NONSENSE is no setting; use ACCESS, "),
        ({"serve": {"config": {"GITHUB_API_URL": "x"}}}, "serve.config.GITHUB_API_URL is no setting"),
        ({"serve": {"config": {"SPANHOOK_ROLE": "x"}}}, "can't be set here; set serve.forwarders"),
        ({"serve": {"config": {"GITHUB_WEBHOOK_SECRET": "x"}}}, "set serve.secrets.GITHUB_WEBHOOK_SECRET"),
        ({"serve": {"secrets": {"GITLAB_HOST": "x"}}}, "set serve.config.GITLAB_HOST"),
        ({"serve": {"config": {"KUBERNETES_CLUSTER": "x"}}}, "can't be set here; set cluster"),
        ({"serve": {"secrets": {"KUBERNETES_SIGNING_KEY": "x"}}}, "can't be set here; set signingKey"),
        ({"serve": {"secrets": {"SPANHOOK_TOKEN": "x"}}}, "serve.secrets.SPANHOOK_TOKEN is no setting"),
        ({"relay": {"config": {"RELAY_BACKFIL": "x"}}}, "relay.config.RELAY_BACKFIL is no setting; use RELAY_BACKFILL, "),
        ({"relay": {"config": {"KUBERNETES_NAMESPACES": "x"}}}, "set relay.namespaces"),
    ],
)
def test_a_setting_that_there_is_not_is_refused_with_what_to_type(more, said):
    assert said in refused(laid_over(laid_over(MINIMAL, {"signingKey": KEY, "relay": {"enabled": True}}), more))


def test_what_could_not_work_is_refused_with_what_to_type():
    for values, said in [
        ({}, "set one of serve.secrets"),
        (laid_over(MINIMAL, {"serve": {"replicas": 2}}), "set serve.config.QUEUE_URL and serve.config.DEAD_LETTER_QUEUE_URL"),
        (laid_over(MINIMAL, {"serve": {"forwarders": 1}}), "set serve.config.QUEUE_URL and serve.config.DEAD_LETTER_QUEUE_URL"),
        (laid_over(VALUES["replicas"], {"serve": {"config": {"DEAD_LETTER_QUEUE_URL": None}}}), "set serve.config.DEAD_LETTER_QUEUE_URL"),
        (laid_over(VALUES["apart"], {"collector": {"enabled": False}, "serve": {"config": {"OTEL_EXPORTER_OTLP_ENDPOINT": None}}}), "set serve.config.OTEL_EXPORTER_OTLP_ENDPOINT, or collector.enabled=true"),
        (laid_over(VALUES["relay-alone"], {"relay": {"config": {"SPANHOOK_ENDPOINT": None}}}), "set relay.config.SPANHOOK_ENDPOINT"),
        (laid_over(VALUES["relay-alone"], {"signingKey": None}), "the KUBERNETES_SIGNING_KEY of the spanhook that the relay sends to"),
        (laid_over(MINIMAL, {"ingress": {"enabled": True}, "networkPolicy": {"ingress": ["nginx"]}}), "set ingress.host"),
        (laid_over(MINIMAL, {"httpRoute": {"enabled": True, "host": "x.example.com"}, "networkPolicy": {"ingress": ["nginx"]}}), "set httpRoute.host, httpRoute.parentRefs"),
    ]:
        assert said in refused(values), said


def test_a_key_is_never_made_where_it_could_not_be_kept():
    said = refused(laid_over(MINIMAL, {"relay": {"enabled": True}}))
    assert "helm template, GitOps" in said and "openssl rand -base64 32" in said


def test_relays_elsewhere_need_no_webhook():
    manifests = documents(template({"signingKey": KEY, "collector": {"enabled": False}}).stdout)
    assert of_kind(manifests, "StatefulSet")


# The way in


def paths_of_rooms():
    rooms = (ROOT / "shared/core/src/provider").glob("*/mod.rs")
    listed = [re.search(r"paths: &\[(.*?)\]", it.read_text())[1] for it in rooms]
    return {path for it in listed for path in re.findall(r'"(.*?)"', it)} - {"/"}


EXPECTED = {
    ("/build-events", "Exact"), ("/circleci", "Exact"), ("/github", "Exact"), ("/gitlab", "Exact"), ("/health", "Exact"),
    ("/v1/traces", "Exact"), ("/v1/metrics", "Exact"), ("/v1/logs", "Exact"),
    ("/kubernetes", "Exact"), ("/lighthouse", "Exact"), ("/lighthouse/events", "Exact"), ("/tekton", "Exact"), ("/tekton", "Prefix"), ("/traceparent", "Prefix"),
}


def test_every_webhook_has_its_path_and_the_page_has_none():
    assert {path for path, _ in EXPECTED} - {"/build-events", "/health", "/traceparent", "/v1/traces", "/v1/metrics", "/v1/logs"} == paths_of_rooms()
    assert "/" not in {path for path, _ in EXPECTED}


def test_the_ingress_shows_the_webhooks_only():
    (ingress,) = of_kind(rendered("full"), "Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert {(it["path"], it["pathType"]) for it in rule["http"]["paths"]} == EXPECTED
    assert len(rule["http"]["paths"]) == len(EXPECTED)
    assert {it["backend"]["service"]["name"] for it in rule["http"]["paths"]} == {NAMES["serve"]}
    assert "defaultBackend" not in ingress["spec"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    (tls,) = ingress["spec"]["tls"]
    assert tls == {"hosts": [rule["host"]], "secretName": f"{NAMES['serve']}-tls"}


def test_a_route_shows_the_same():
    (route,) = of_kind(rendered("gateway"), "HTTPRoute")
    assert route["spec"].keys() == {"parentRefs", "hostnames", "rules"}
    (rule,) = route["spec"]["rules"]
    types = {"Exact": "Exact", "Prefix": "PathPrefix"}
    assert {(it["path"]["value"], it["path"]["type"]) for it in rule["matches"]} == {(path, types[it]) for path, it in EXPECTED}
    methods = {it["path"]["value"]: it["method"] for it in rule["matches"]}
    assert {path for path, it in methods.items() if it == "GET"} == {"/traceparent", "/health"}
    assert set(methods.values()) == {"GET", "POST"}
    assert rule["backendRefs"] == [{"name": NAMES["serve"], "port": 3000}]
    assert not of_kind(rendered("full"), "HTTPRoute") and not of_kind(rendered("gateway"), "Ingress")


# What is told


@pytest.mark.parametrize(
    "name, told, untold",
    [
        ("minimal", ["port-forward telemetry-spanhook-0 3000", "spanhook check http://localhost:3000"], ["relay", "https://"]),
        ("full", ["spanhook check https://ci.example.com", "http://telemetry-spanhook-relay.ci-telemetry:8081/tekton"], ["localhost:3000\n\nNobody"]),
        ("gateway", ["spanhook check https://ci.example.com"], ["/lighthouse"]),
        ("no-policies", ["No network policies"], []),
        ("replicas", ["rollout status deployment/telemetry-spanhook\n", "port-forward deployment/telemetry-spanhook 3000", "How long the queue is"], ["The page with the traces", "deployment/telemetry-spanhook-forward"]),
        ("apart", ["rollout status deployment/telemetry-spanhook\n", "rollout status deployment/telemetry-spanhook-forward\n"], ["statefulset/telemetry-spanhook\n"]),
        ("relay-alone", ["rollout status deployment/telemetry-spanhook-relay"], ["spanhook check"]),
    ],
)
def test_the_notes_say_the_next_command(name, told, untold):
    done = helm("install", "telemetry", str(CHART), "--namespace", "ci-telemetry", "--dry-run=client", values=VALUES[name])
    notes = done.stdout.split("NOTES:")[1]
    assert all(it in notes for it in told) and not any(it in notes for it in untold), notes


def leaves(values, path=""):
    """Names of all values; what is free in form, or of the Collector, is one."""
    if isinstance(values, dict) and values and not path.endswith((".config", ".resources")):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


COMPONENTS = ("serve", "collector", "relay")


def test_the_readme_has_every_value():
    text = (CHART / "README.md").read_text()
    table = text.split("## Values")[1].split("\n## ")[0]
    told = [name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w.]+)`", line.split("|")[1])]
    assert len(set(told)) == len(told)
    of_each = {it.removeprefix("COMPONENT.") for it in told if it.startswith("COMPONENT.")}
    told = {it for it in told if not it.startswith("COMPONENT.")} | {f"{which}.{it}" for which in COMPONENTS for it in of_each}
    assert told == set(leaves(DEFAULTS))


def test_the_readme_names_settings_that_there_are():
    text = (CHART / "README.md").read_text()
    known = yaml.safe_load((CHART / "settings.yaml").read_text())
    names = {name for it in known.values() for place in it.values() for name in place} | {"BACKEND_OTLP_ENDPOINT", "BACKEND_AUTHORIZATION", "GOMEMLIMIT"}
    assert set(re.findall(r"\b(?:serve|relay)\.(?:config|secrets)\.([A-Z_]+)", text)) <= names


def test_what_the_readme_installs_is_taken():
    """Its examples of values, each as it stands."""
    blocks = re.findall(r"```yaml\n(# values\.yaml.*?)```", (CHART / "README.md").read_text(), re.S)
    assert len(blocks) >= 2
    for block in blocks:
        values = yaml.safe_load(block)
        helm("lint", "--strict", str(CHART), values=values)
        template({"signingKey": KEY} | values)
