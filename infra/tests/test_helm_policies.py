"""What the chart's network policies let through, for the values in charts.VALUES: the flows here and nothing else."""

import itertools

import pytest
from charts import NAMESPACE, RELEASE, VALUES, laid_over, refused, rendered, template, documents, workloads
from policies import Outside, Pod, allowed, policies, resolved


def own(component, release=RELEASE):
    labels = {"app.kubernetes.io/name": "spanhook", "app.kubernetes.io/instance": release, "app.kubernetes.io/component": component}
    return Pod(NAMESPACE, labels)


OWN = {it: own(it) for it in ("serve", "forward", "collector", "relay")}
OTHERS = {
    "another release": own("serve", "other"),
    "stranger": Pod(NAMESPACE, {"app": "stranger"}),
    "outsider": Pod("default", {"app": "outsider"}),
    "nginx": Pod("ingress-nginx", {"app": "nginx"}),
    "gateway": Pod("gateways", {"app": "gateway"}),
    "job": Pod("ci-jobs", {"app": "job"}),
    "tekton": Pod("tekton-pipelines", {"app": "controller"}),
    "lighthouse": Pod("jx", {"app": "lighthouse-webhooks"}),
    "prometheus": Pod("monitoring", {"app": "prometheus"}),
    "dns": Pod("kube-system", {"k8s-app": "kube-dns"}),
    "kube-system": Pod("kube-system", {"k8s-app": "metrics"}),
    "opensearch": Pod("opensearch", {"app": "opensearch"}),
    "clickhouse": Pod("clickhouse", {"app": "clickhouse"}),
    "clickhouse's neighbour": Pod("clickhouse", {"app": "backup"}),
    "queue": Pod("queue", {"app": "elasticmq"}),
    "sqs": Outside("192.0.2.65", "sqs.eu-west-1.amazonaws.com"),
    "sts": Outside("192.0.2.66", "sts.eu-west-1.amazonaws.com"),
    "api server": Outside("192.0.2.1", "kubernetes.default.svc.cluster.local", "kube-apiserver"),
    "backend": Outside("203.0.113.9", "otlp.example.com"),
    "issuer": Outside("198.51.100.7", "gitlab.example.com"),
    "front": Outside("198.51.100.7", "ci.example.com"),
    "silent issuer": Outside("233.252.0.1", "gitlab.internal"),
    "aws": Outside("233.252.0.2", "ssm.eu-central-1.amazonaws.com"),
    "bucket": Outside("233.252.0.3", "evil.s3.eu-central-1.amazonaws.com"),
    "internet": Outside("233.252.0.4", "evil.example.com"),
    "cilium's ingress": Outside("233.252.0.5", "", "ingress"),
}
PORTS = [53, 80, 443, 3000, 4317, 4318, 6443, 8080, 8081, 8123, 8888, 9000, 9200, 9324, 13133]

DNS = {(it, "dns", 53) for it in ("serve", "collector", "relay")}
SERVE = {("serve", "dns", 53)}
COLLECTOR = {("serve", "collector", 4318), ("collector", "dns", 53), ("collector", "backend", 443)}
FULL = SERVE | COLLECTOR | DNS | {
    ("nginx", "serve", 3000),
    ("job", "serve", 3000),
    ("job", "collector", 4318),
    ("relay", "serve", 3000),
    ("relay", "api server", 6443),
    ("tekton", "relay", 8081),
    ("lighthouse", "relay", 8081),
    ("prometheus", "relay", 8080),
    ("serve", "issuer", 443),
    ("collector", "opensearch", 9200),
    ("collector", "clickhouse", 8123),
    ("collector", "clickhouse", 9000),
}
DNS_APART = {("serve", "dns", 53), ("forward", "dns", 53)}
AWS = {(it, name, 443) for it in ("serve", "forward") for name in ("sqs", "sts")}
ANYWHERE = {("relay", name, port) for name, it in OTHERS.items() if isinstance(it, Outside) for port in (443, 6443)}
API = {("relay", "api server", port) for port in (443, 6443)}
FLOWS = {
    "minimal": SERVE,
    "minimal-cilium": SERVE,
    "with-collector": SERVE | COLLECTOR,
    # An address is all that a plain policy sees.
    "full": FULL | {("serve", "front", 443)},
    "full-cilium": FULL | {("cilium's ingress", "serve", 3000)},
    "external-collector": SERVE | {("serve", "backend", 4318)},
    "external-collector-cilium": SERVE | {("serve", "backend", 4318), ("serve", "aws", 443), ("serve", "sts", 443)},
    "replicas": SERVE | COLLECTOR | {("serve", "queue", 9324)},
    "apart-cilium": DNS_APART | AWS | {("serve", "issuer", 443), ("forward", "backend", 4318)},
    # What is opened for one of both is opened for the other too: a plain policy does not know what is asked there.
    "apart": DNS_APART | AWS | {(it, name, 443) for it in ("serve", "forward") for name in ("issuer", "front")} | (COLLECTOR - {("serve", "collector", 4318)}) | {("forward", "collector", 4318)},
    # The API server's address is not known unless it is given.
    "relay-alone": {("relay", "dns", 53)} | ANYWHERE,
    "relay-alone-cilium": {("relay", "dns", 53), ("relay", "front", 443)} | API,
    "namespaces": SERVE | {("relay", "dns", 53), ("relay", "serve", 3000)} | ANYWHERE,
    "gateway": SERVE | {("gateway", "serve", 3000)},
}


def components(manifests):
    return {it["metadata"]["labels"]["app.kubernetes.io/component"] for it in workloads(manifests)}


def flows(manifests):
    """What is let through of everything that there could be."""
    here = {name: it for name, it in OWN.items() if name in components(manifests)}
    ends = here | OTHERS
    return {
        (source, destination, port)
        for source, destination in itertools.permutations(ends, 2)
        if source in here or destination in here
        for port in PORTS
        if allowed(manifests, ends[source], ends[destination], port)
    }


def test_every_set_of_values_with_policies_is_judged():
    assert FLOWS.keys() == VALUES.keys() - {"no-policies"}


@pytest.mark.parametrize("name", FLOWS)
def test_the_policies_open_these_flows_and_nothing_else(name):
    assert flows(rendered(name)) == FLOWS[name]


@pytest.mark.parametrize("name", FLOWS)
def test_udp_is_for_dns_alone(name):
    manifests = rendered(name)
    ends = {it: OWN[it] for it in components(manifests)} | OTHERS
    for source, destination in itertools.permutations(ends, 2):
        if source in OWN:
            open_ports = [port for port in PORTS if allowed(manifests, ends[source], ends[destination], port, "UDP")]
            assert open_ports == ([53] if destination == "dns" else []), (source, destination)


@pytest.mark.parametrize("name", FLOWS)
def test_pods_of_others_are_left_alone(name):
    strangers = [OTHERS["stranger"], OTHERS["another release"], OTHERS["outsider"], OTHERS["internet"]]
    for source, destination in itertools.permutations(strangers, 2):
        assert allowed(rendered(name), source, destination, 443), (source, destination)


def test_without_policies_there_are_none():
    assert policies(rendered("no-policies")) == []


REQUESTS = [
    # method, path, of the ingress controller, of jobs, of the relay
    ("POST", "/circleci", True, False, False),
    ("POST", "/gitlab", True, False, False),
    ("POST", "/github", True, False, False),
    ("POST", "/kubernetes", True, False, True),
    ("POST", "/tekton", True, False, True),
    ("POST", "/tekton/of-the-sink-and-secret", True, False, False),
    ("GET", "/tekton/of-the-sink-and-secret", False, False, False),
    ("POST", "/lighthouse", True, False, True),
    ("POST", "/lighthouse/events", True, False, False),
    ("GET", "/github", False, False, False),
    ("POST", "/github/x", False, False, False),
    ("GET", "/kubernetes", False, False, False),
    ("GET", "/traceparent/github/9/1/", True, True, False),
    ("GET", "/traceparent/gitlab/1/2?instance=gitlab.com", True, True, False),
    ("POST", "/traceparent/gitlab/1/2", False, False, False),
    ("POST", "/build-events", True, True, False),
    ("GET", "/build-events", False, False, False),
    ("POST", "/v1/traces", True, True, False),
    ("POST", "/v1/metrics", True, True, False),
    ("POST", "/v1/logs", True, True, False),
    ("POST", "/v1/profiles", False, False, False),
    ("GET", "/v1/traces", False, False, False),
    ("GET", "/health", True, False, False),
    ("GET", "/ready", False, False, False),
    ("GET", "/", False, False, False),
    ("POST", "/", False, False, False),
    ("GET", "/api/traces", False, False, False),
    ("GET", "/api/traces?x=/traceparent/", False, False, False),
    ("GET", "/traces/e8a005b2bbea3d6ab25bbccc6d8a0d9a", False, False, False),
]


@pytest.mark.parametrize("method, path, controller, job, relay", REQUESTS)
def test_cilium_lets_only_these_requests_to_spanhook(method, path, controller, job, relay):
    def asks(source):
        return allowed(rendered("full-cilium"), source, OWN["serve"], 3000, request=(method, path))

    assert asks(OTHERS["nginx"]) is controller
    assert asks(OTHERS["cilium's ingress"]) is controller
    assert asks(OTHERS["job"]) is job
    assert asks(OWN["relay"]) is relay


@pytest.mark.parametrize(
    "source, destination, port, method, path, expected",
    [
        ("serve", "collector", 4318, "POST", "/v1/traces", True),
        ("serve", "collector", 4318, "POST", "/v1/metrics", True),
        ("serve", "collector", 4318, "POST", "/v1/logs", True),
        ("job", "collector", 4318, "POST", "/v1/traces", True),
        ("serve", "collector", 4318, "POST", "/v1/profiles", False),
        ("job", "collector", 4318, "GET", "/v1/traces", False),
        ("tekton", "relay", 8081, "POST", "/tekton", True),
        ("lighthouse", "relay", 8081, "POST", "/lighthouse", True),
        ("lighthouse", "relay", 8081, "POST", "/lighthouse/events", True),
        ("lighthouse", "relay", 8081, "POST", "/kubernetes", False),
        ("tekton", "relay", 8081, "GET", "/tekton", False),
        ("prometheus", "relay", 8080, "GET", "/metrics", True),
        ("prometheus", "relay", 8080, "GET", "/healthz", False),
    ],
)
def test_cilium_lets_only_these_requests_to_the_others(source, destination, port, method, path, expected):
    ends = OWN | OTHERS
    assert allowed(rendered("full-cilium"), ends[source], ends[destination], port, request=(method, path)) is expected


@pytest.mark.parametrize(
    "name, component, names",
    [
        ("full-cilium", "serve", {"gitlab.example.com"}),
        ("full-cilium", "collector", {"otlp.example.com", "os.opensearch.svc.cluster.local", "ch.clickhouse.svc.cluster.local"}),
        ("full-cilium", "relay", set()),
        ("external-collector-cilium", "serve", {"otlp.example.com", "ssm.eu-central-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"}),
        ("relay-alone-cilium", "relay", {"ci.example.com"}),
        ("apart-cilium", "serve", {"gitlab.example.com", "sqs.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"}),
        ("apart-cilium", "forward", {"otlp.example.com", "sqs.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"}),
        ("minimal-cilium", "serve", set()),
    ],
)
def test_cilium_resolves_only_the_names_that_are_used(name, component, names):
    asked = {it.host for it in OTHERS.values() if isinstance(it, Outside)} | {"os.opensearch.svc.cluster.local", "ch.clickhouse.svc.cluster.local"}
    resolves = {it for it in asked if resolved(rendered(name), OWN[component], it)}
    assert resolves == names
    assert resolved(rendered(name), OWN[component], f"telemetry-spanhook.{NAMESPACE}.svc.cluster.local")
    assert not resolved(rendered(name), OWN[component], f"data.evil.{NAMESPACE}.svc.cluster.local")


def test_a_pod_that_policies_would_cut_off_is_refused_and_told_what_to_type():
    minimal, collector, apart = VALUES["minimal"], VALUES["with-collector"], VALUES["apart"]
    issuers = {"serve": {"config": {"OIDC_ISSUERS": "https://gitlab.com,https://gitlab.example.com"}}}
    for values, said in [
        (laid_over(collector, {"networkPolicy": {"to": {"collector": []}}}), "networkPolicy.to.collector"),
        (laid_over(minimal, issuers), "gitlab.com would not be reached"),
        (laid_over(apart, {"serve": {"config": {"OIDC_ISSUERS": None}}, "networkPolicy": {"to": {"serve": []}}}), "sqs.eu-west-1.amazonaws.com would not be reached"),
        (laid_over(minimal, {"serve": {"secrets": {"GITHUB_WEBHOOK_SECRET": "ssm:/github"}}}), "networkPolicy.to.serve"),
        (laid_over(minimal, {"ingress": {"enabled": True, "host": "a.example.com"}}), "networkPolicy.ingress"),
        (laid_over(VALUES["full"], {"networkPolicy": {"deliveries": []}}), "networkPolicy.deliveries"),
        (laid_over(minimal, {"networkPolicy": {"to": {"serve": [{"host": "a.example.com", "ports": [443]}]}}}), "set cidr beside it"),
        (laid_over(VALUES["relay-alone"], {"networkPolicy": {"to": {"relay": []}}}), "networkPolicy.to.relay"),
        (
            laid_over(VALUES["minimal-cilium"], {"serve": {"config": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel.monitoring.svc:4318"}}}),
            "networkPolicy.to.serve",
        ),
    ]:
        assert said in refused(values), said


def test_addresses_in_settings_are_opened_without_saying_them_again():
    def opened(more):
        manifests = documents(template(laid_over(VALUES["minimal-cilium"], {"serve": {"config": more}})).stdout)
        ends = {it: Outside("233.252.0.9", it) for it in ("a.example.com", "b.example.com", "c.example.com")} | {"ip": Outside("10.1.2.3")}
        return {(it, port) for it, end in ends.items() for port in (80, 443, 4317, 8443) if allowed(manifests, OWN["serve"], end, port)}

    assert opened({"OIDC_ISSUERS": "https://a.example.com, https://b.example.com:8443"}) == {("a.example.com", 443), ("b.example.com", 8443)}
    described = [{"issuer": "https://a.example.com", "jwks_url": "https://c.example.com/keys"}, {"issuer": "https://b.example.com", "jwks": {"keys": []}}]
    assert opened({"TEKTON_OIDC_ISSUERS": described}) == {("c.example.com", 443)}
    assert opened({"KUBERNETES_OIDC_ISSUERS": '[{"issuer": "https://a.example.com", "subjects": ["x"]}]'}) == {("a.example.com", 443)}
    assert opened({"TELEMETRY_OTLP_ENDPOINT": "http://10.1.2.3:4317"}) == {("ip", 4317)}
    assert opened({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a.example.com/v1/traces"}) == {("a.example.com", 80)}
    assert opened({"TEKTON_DASHBOARD_URL": "https://a.example.com"}) == set()
