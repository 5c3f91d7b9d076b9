"""The manifests of ../kubernetes: valid, hardened, and open for the flows in FLOWS only."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
CILIUM = FOLDER / "cilium"
KUBERNETES = kubernetes_validate.latest_version()

# Who may talk to whom: (from, to, port). Each is checked on the side that has a policy.
FLOWS = {
    ("namespace ingress", "spanhook", "3000/TCP"),
    ("namespace ci-jobs", "spanhook", "3000/TCP"),
    ("spanhook", "collector", "4318/TCP"),
    ("collector", "backend", "443/TCP"),
} | {
    (pod, "kube-dns in kube-system", port)
    for pod in ("spanhook", "collector")
    for port in ("53/UDP", "53/TCP")
}
PODS = {"spanhook", "collector"}


def documents(path):
    return [it for it in yaml.safe_load_all(path.read_text()) if it]


def manifests():
    files = [it for it in sorted(FOLDER.glob("*.yaml")) if it.name not in ("kustomization.yaml", "collector.yaml")]
    return [(path.name, document) for path in files for document in documents(path)]


def of_kind(*kinds):
    return [document for _, document in manifests() if document["kind"] in kinds]


def named(kind, name):
    return next(it for it in of_kind(kind) if it["metadata"]["name"] == name)


def workloads():
    return of_kind("StatefulSet", "Deployment")


def containers():
    return [
        (workload["metadata"]["name"], container)
        for workload in workloads()
        for key in ("initContainers", "containers")
        for container in workload["spec"]["template"]["spec"].get(key, [])
    ]


def container(name):
    return next(it for workload, it in containers() if workload == name)


def environment(name):
    return {it["name"]: it for it in container(name)["env"]}


def collector_configuration():
    return yaml.safe_load((FOLDER / "collector.yaml").read_text())


# Shape


@pytest.mark.parametrize(
    "document", [pytest.param(it, id=f"{name}-{it['kind']}-{it['metadata']['name']}") for name, it in manifests()]
)
def test_a_manifest_fits_the_schema(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", [FOLDER, CILIUM], ids=["plain", "cilium"])
def test_the_kustomization_lists_every_file(folder):
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = list(kustomization["resources"])
    for generator in kustomization.get("configMapGenerator", []):
        listed += generator["files"]
    present = {it.name for it in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(listed) == sorted(it for it in present if not it.endswith(".example.yaml"))


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
def test_the_component_replaces_the_plain_policies(tmp_path):
    overlay = {
        "resources": [os.path.relpath(FOLDER, tmp_path.resolve())],
        "components": [os.path.relpath(CILIUM, tmp_path.resolve())],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))

    def build(folder):
        done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
        return [it for it in yaml.safe_load_all(done.stdout) if it]

    def count(built, kind):
        return sum(it["kind"] == kind for it in built)

    plain, cilium = build(FOLDER), build(tmp_path)
    assert (count(plain, "NetworkPolicy"), count(plain, "CiliumNetworkPolicy")) == (4, 0)
    assert (count(cilium, "NetworkPolicy"), count(cilium, "CiliumNetworkPolicy")) == (0, 4)
    for document in plain + cilium:
        where = document["metadata"].get("namespace", document["metadata"]["name"])
        assert where == "spanhook", document["metadata"]
    config = next(it for it in plain if it["kind"] == "ConfigMap")["metadata"]["name"]
    deployment = next(it for it in plain if it["kind"] == "Deployment")
    mounted = [it["configMap"]["name"] for it in deployment["spec"]["template"]["spec"]["volumes"] if "configMap" in it]
    assert mounted == [config]


# Hardening


def test_the_namespace_takes_restricted_pods_only():
    labels = named("Namespace", "spanhook")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("workload", workloads(), ids=lambda it: it["metadata"]["name"])
def test_a_pod_is_hardened(workload):
    pod = workload["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPath" not in it for it in pod.get("volumes", []))
    assert pod["terminationGracePeriodSeconds"] > 30
    # Each has a queue on a volume that only one process may own.
    assert workload["spec"]["replicas"] == 1


@pytest.mark.parametrize("name, container", containers())
def test_a_container_is_hardened(name, container):
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in context
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]
    ports = {it["name"] for it in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def test_a_full_disk_takes_the_pod_out_of_service_and_does_not_start_it_anew():
    container = dict(containers())["spanhook"]
    probes = {it: container[it]["httpGet"]["path"] for it in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {"startupProbe": "/health", "readinessProbe": "/ready", "livenessProbe": "/health"}


def test_images_have_a_version():
    tags = {it["name"]: it["newTag"] for it in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]}
    for _, it in containers():
        tag = tags.get(it["image"]) or it["image"].partition(":")[2]
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag), it["image"]


def test_the_stop_leaves_time_for_open_requests():
    spec = named("StatefulSet", "spanhook")["spec"]["template"]["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    shutdown = int(re.search(r"SHUTDOWN: Duration = Duration::from_secs\((\d+)\)", (ROOT / "cli/src/serve.rs").read_text())[1])
    assert spec["terminationGracePeriodSeconds"] > pause + shutdown


# Settings


def test_settings_are_documented():
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs/settings.md").read_text()))
    assert environment("spanhook").keys() <= documented


def test_the_collector_gets_what_its_configuration_asks_for():
    asked = set(re.findall(r"\$\{env:(\w+)\}", (FOLDER / "collector.yaml").read_text()))
    assert asked == environment("collector").keys() - {"GOMEMLIMIT"}


def test_secrets_are_in_the_example_and_only_there():
    example = {it["metadata"]["name"]: it["stringData"] for it in documents(FOLDER / "secret.example.yaml")}
    used = [
        it["valueFrom"]["secretKeyRef"]
        for name in ("spanhook", "collector")
        for it in environment(name).values()
        if "valueFrom" in it
    ]
    assert {(it["name"], it["key"]) for it in used} == {
        (name, key) for name, values in example.items() for key in values
    }
    assert all("replace-me" in value for values in example.values() for value in values.values())
    assert {name for name, it in manifests() if it["kind"] == "Secret"} == {"secret.example.yaml"}


def test_spanhook_reaches_the_collector_by_its_service():
    assert environment("spanhook")["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"] == "http://collector:4318"
    assert [it["port"] for it in named("Service", "collector")["spec"]["ports"]] == [4318]
    configuration = collector_configuration()
    assert configuration["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert 4318 in [it["containerPort"] for it in container("collector")["ports"]]


def test_the_collector_keeps_on_disk_what_it_acknowledged():
    configuration = collector_configuration()
    mounts = {it["mountPath"] for it in container("collector")["volumeMounts"] if not it.get("readOnly")}
    assert configuration["extensions"]["file_storage"]["directory"] in mounts
    for pipeline in configuration["service"]["pipelines"].values():
        # A batch processor would acknowledge what is only in memory.
        assert pipeline["processors"] == ["memory_limiter"]
        for exporter in pipeline["exporters"]:
            assert configuration["exporters"][exporter]["sending_queue"]["storage"] == "file_storage"
            assert configuration["exporters"][exporter]["retry_on_failure"]["max_elapsed_time"] == 0


def test_the_image_is_what_the_manifest_runs():
    dockerfile = (ROOT / "Dockerfile").read_text()
    pod = named("StatefulSet", "spanhook")["spec"]["template"]["spec"]
    data = environment("spanhook")["SPANHOOK_DATA"]["value"]
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}\n" in dockerfile
    assert f"EXPOSE {container('spanhook')['ports'][0]['containerPort']}\n" in dockerfile
    assert f"VOLUME {data}\n" in dockerfile
    assert [it["mountPath"] for it in container("spanhook")["volumeMounts"]] == [data]
    rust = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
    assert set(re.findall(r"^FROM rust:([\d.]+)-", dockerfile, re.M)) == {rust}


def test_the_build_sees_every_crate():
    members = re.search(r"^members = \[(.*)\]", (ROOT / "Cargo.toml").read_text(), re.M)[1]
    seen = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.M))
    assert {it.split("/")[0] for it in re.findall(r'"([^"]+)"', members)} <= seen
    assert all((ROOT / it).exists() for it in seen)


# The way in


def test_the_ingress_shows_the_webhooks_only():
    paths = [
        (path["path"], path["pathType"])
        for ingress in of_kind("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert sorted(paths) == [
        ("/build-events", "Exact"),
        ("/circleci", "Exact"),
        ("/github", "Exact"),
        ("/gitlab", "Exact"),
        ("/health", "Exact"),
        ("/traceparent", "Prefix"),
        ("/v1/logs", "Exact"),
        ("/v1/metrics", "Exact"),
        ("/v1/traces", "Exact"),
    ]
    for ingress in of_kind("Ingress"):
        assert "defaultBackend" not in ingress["spec"]
        assert ingress["spec"]["tls"][0]["hosts"] == [it["host"] for it in ingress["spec"]["rules"]]


# Network policies


def plain_policies():
    return documents(FOLDER / "network-policies.yaml")


def cilium_policies():
    return documents(CILIUM / "network-policies.yaml")


def only(mapping, *keys):
    """A key that isn't known here would be a rule that isn't counted."""
    assert mapping.keys() <= set(keys), mapping
    return mapping


def pods(selector):
    if not selector:
        return PODS
    return {only(only(selector, "matchLabels")["matchLabels"], "app.kubernetes.io/name")["app.kubernetes.io/name"]}


def place(namespace, app):
    if namespace and app:
        return f"{app} in {namespace}"
    return f"namespace {namespace}" if namespace else app


def plain_peer(peer):
    if "ipBlock" in peer:
        assert not only(peer, "ipBlock")["ipBlock"]["cidr"].endswith("/0"), peer
        return "backend"
    only(peer, "namespaceSelector", "podSelector")
    namespace = only(peer.get("namespaceSelector", {}), "matchLabels").get("matchLabels", {})
    pod = only(peer.get("podSelector", {}), "matchLabels").get("matchLabels", {})
    only(namespace, "kubernetes.io/metadata.name")
    only(pod, "k8s-app", "app.kubernetes.io/name")
    assert namespace or pod, "an empty selector is everybody"
    return place(namespace.get("kubernetes.io/metadata.name"), next(iter(pod.values()), None))


def plain_flows():
    flows = set()
    for policy in plain_policies():
        spec = only(policy["spec"], "podSelector", "policyTypes", "ingress", "egress")
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                only(rule, key, "ports")
                assert rule.get(key) and rule.get("ports"), f"{policy['metadata']['name']}: {rule}"
                for peer in rule[key]:
                    for port in rule["ports"]:
                        only(port, "port", "protocol")
                        for pod in pods(spec["podSelector"]):
                            flows.add((direction, pod, plain_peer(peer), f"{port['port']}/{port['protocol']}"))
    return flows


def cilium_endpoint(endpoint):
    labels = only(endpoint, "matchLabels")["matchLabels"]
    only(labels, "k8s:io.kubernetes.pod.namespace", "k8s:k8s-app", "app.kubernetes.io/name")
    assert labels, "an empty selector is everybody"
    app = labels.get("k8s:k8s-app") or labels.get("app.kubernetes.io/name")
    return place(labels.get("k8s:io.kubernetes.pod.namespace"), app)


def cilium_rules():
    """(direction, pod, peer, port, rules of layer 7)"""
    for policy in cilium_policies():
        spec = only(policy["spec"], "endpointSelector", "ingress", "egress")
        for direction, endpoints in (("ingress", "fromEndpoints"), ("egress", "toEndpoints")):
            for rule in spec.get(direction, []):
                if rule == {}:
                    continue
                only(rule, endpoints, "toPorts", *(["toFQDNs"] if direction == "egress" else []))
                assert rule.get("toPorts"), f"{policy['metadata']['name']}: {rule}"
                peers = {cilium_endpoint(it) for it in rule.get(endpoints, [])}
                for name in rule.get("toFQDNs", []):
                    assert "*" not in only(name, "matchName")["matchName"]
                    peers.add("backend")
                assert peers, f"{policy['metadata']['name']}: {rule}"
                for to in rule["toPorts"]:
                    only(to, "ports", "rules")
                    for port in to["ports"]:
                        for pod in pods(spec["endpointSelector"]):
                            for peer in peers:
                                yield direction, pod, peer, f"{port['port']}/{port['protocol']}", to.get("rules", {})


def cilium_flows():
    return {rule[:4] for rule in cilium_rules()}


def expected():
    inside = {("ingress", to, source, port) for source, to, port in FLOWS if to in PODS}
    return inside | {("egress", source, to, port) for source, to, port in FLOWS if source in PODS}


def test_the_default_is_deny():
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in [it["spec"] for it in plain_policies()]
    assert {"endpointSelector": {}, "ingress": [{}], "egress": [{}]} in [it["spec"] for it in cilium_policies()]


def test_every_direction_with_rules_is_enforced():
    for policy in plain_policies():
        for direction in ("Ingress", "Egress"):
            assert direction.lower() not in policy["spec"] or direction in policy["spec"]["policyTypes"]


def test_the_plain_policies_open_the_flows_and_nothing_else():
    assert plain_flows() == expected()


def test_the_cilium_policies_open_the_same_flows():
    assert cilium_flows() == plain_flows()


def allowed(peer, pod, method, path):
    rules = [rules for *flow, rules in cilium_rules() if flow[:3] == ["ingress", pod, peer]]
    assert rules and all(it.get("http") for it in rules), "a rule without paths opens all of them"
    return any(
        only(it, "method", "path")["method"] == method and re.fullmatch(it["path"], path)
        for rule in rules
        for it in rule["http"]
    )


@pytest.mark.parametrize(
    "method, path, ingress, ci_jobs",
    [
        ("POST", "/circleci", True, False),
        ("POST", "/gitlab", True, False),
        ("POST", "/github", True, False),
        ("GET", "/github", False, False),
        ("POST", "/github/x", False, False),
        ("GET", "/traceparent/github/9/1/", True, True),
        ("POST", "/build-events", True, True),
        ("GET", "/build-events", False, False),
        ("POST", "/v1/traces", True, True),
        ("POST", "/v1/metrics", True, True),
        ("POST", "/v1/logs", True, True),
        ("POST", "/v1/profiles", False, False),
        ("GET", "/v1/traces", False, False),
        ("GET", "/health", True, False),
        ("GET", "/traceparent/gitlab/1/2?instance=gitlab.com", True, True),
        ("POST", "/traceparent/gitlab/1/2", False, False),
        ("GET", "/", False, False),
        ("POST", "/", False, False),
        ("GET", "/api/traces", False, False),
        ("GET", "/traces/e8a005b2bbea3d6ab25bbccc6d8a0d9a", False, False),
        ("GET", "/gitlab", False, False),
        ("GET", "/api/traces?x=/traceparent/", False, False),
    ],
)
def test_cilium_lets_only_these_requests_to_spanhook(method, path, ingress, ci_jobs):
    assert bool(allowed("namespace ingress", "spanhook", method, path)) is ingress
    assert bool(allowed("namespace ci-jobs", "spanhook", method, path)) is ci_jobs


def test_cilium_lets_only_the_three_signals_to_the_collector():
    for signal in ("traces", "metrics", "logs"):
        assert allowed("spanhook", "collector", "POST", f"/v1/{signal}")
    assert not allowed("spanhook", "collector", "POST", "/v1/profiles")
    assert not allowed("spanhook", "collector", "GET", "/v1/traces")


def test_only_the_names_that_are_used_are_resolved():
    backend = environment("collector")["BACKEND_OTLP_ENDPOINT"]["value"].removeprefix("https://")
    names = [
        name["matchName"]
        for policy in cilium_policies()
        for rule in policy["spec"].get("egress", [])
        for name in rule.get("toFQDNs", [])
    ]
    assert names == [backend]
    for direction, _, peer, _, rules in cilium_rules():
        if peer == "kube-dns in kube-system":
            assert rules["dns"] == [{"matchPattern": "*.spanhook.svc.cluster.local"}, {"matchName": backend}]
    # A search list would ask for other names first.
    for workload in workloads():
        assert {"name": "ndots", "value": "1"} in workload["spec"]["template"]["spec"]["dnsConfig"]["options"]
