"""Renders ../helm/spanhook for tests, with a table of values."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "infra" / "helm" / "spanhook"
NAMESPACE = "ci-telemetry"
RELEASE = "telemetry"
# Names of what a release called so has.
NAMES = {"serve": "telemetry-spanhook", "forward": "telemetry-spanhook-forward", "collector": "telemetry-spanhook-collector", "relay": "telemetry-spanhook-relay"}

KEY = "whsec_" + "c3Bhbmhvb2stdGVzdC1rZXktMzItYnl0ZXMtbG9uZyE="
SECRETS = {"CIRCLECI_HOOK_SECRET": "a-secret-of-circleci", "GITLAB_SIGNING_TOKEN": {"secret": "ci", "key": "gitlab"}}
BACKEND = [{"host": "otlp.example.com", "cidr": "203.0.113.0/24", "ports": [443]}]
OUT = [{"host": "gitlab.example.com", "cidr": "198.51.100.0/24", "ports": [443]}]

MINIMAL = {"serve": {"secrets": SECRETS}, "collector": {"enabled": False}}
FULL = {
    "cluster": "prod",
    "signingKey": KEY,
    "labels": {"team": "ci"},
    "annotations": {"example.com/owner": "ci"},
    "imagePullSecrets": [{"name": "registry"}],
    "serve": {
        "config": {
            "GITLAB_HOST": "gitlab.example.com",
            "MAX_BODY_BYTES": 10485760,
            "OIDC_ISSUERS": ["https://gitlab.example.com", {"issuer": "https://gitlab.internal", "provider": "gitlab", "jwks_url": "https://gitlab.example.com/keys"}],
            "OIDC_AUDIENCE": "https://ci.example.com",
            "PROJECT_RULES": {"allow": ["acme/*"]},
            "ACCESS": [{"projects": "acme/*", "by": ["oidc"]}],
        },
        "secrets": SECRETS | {"LIGHTHOUSE_HMAC_KEY": {"secret": "lighthouse-hmac-token", "key": "hmac"}},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "ci", "operator": "Exists"}],
        "topologySpreadConstraints": [],
        "affinity": {"podAntiAffinity": {}},
        "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
    },
    "collector": {
        "env": {"BACKEND_OTLP_ENDPOINT": "https://otlp.example.com"},
        "secrets": {"BACKEND_AUTHORIZATION": "Bearer a-token"},
    },
    "relay": {"enabled": True, "deliveries": True, "config": {"RELAY_BACKFILL": "2h"}},
    "ingress": {"enabled": True, "className": "nginx", "host": "ci.example.com"},
    "networkPolicy": {
        "ingress": ["ingress-nginx"],
        "jobs": ["ci-jobs"],
        "jobSpans": True,
        "deliveries": ["tekton-pipelines", "jx"],
        "scrapers": ["monitoring"],
        "to": {
            "serve": OUT,
            "collector": BACKEND
            + [
                {"namespace": "opensearch", "ports": [9200]},
                {"namespace": "clickhouse", "podLabels": {"app": "clickhouse"}, "ports": [8123, 9000]},
            ],
        },
        "apiServer": {"cidrs": ["192.0.2.1/32"], "ports": [6443]},
    },
}


def laid_over(values, more):
    """Values as Helm lays one file over another."""
    both = dict(values)
    for key, value in more.items():
        inner = isinstance(value, dict) and isinstance(values.get(key), dict)
        both[key] = laid_over(values[key], value) if inner else value
    return both


QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012"
SHARED = {
    "serve": {
        "secrets": SECRETS | {"OTEL_EXPORTER_OTLP_HEADERS": {"secret": "collector"}},
        "config": {
            "QUEUE_URL": f"{QUEUE}/spans",
            "DEAD_LETTER_QUEUE_URL": f"{QUEUE}/dead-letters",
            "OIDC_ISSUERS": "https://gitlab.example.com",
            "OIDC_AUDIENCE": "https://ci.example.com",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com:4318",
        },
        "replicas": 3,
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/spanhook"}},
    },
    "collector": {"enabled": False},
}
CILIUM = {"networkPolicy": {"kind": "cilium"}}
VALUES = {
    "minimal": MINIMAL,
    "minimal-cilium": laid_over(MINIMAL, CILIUM),
    "with-collector": {
        "serve": {"secrets": SECRETS},
        "collector": {"env": {"BACKEND_OTLP_ENDPOINT": "https://otlp.example.com"}},
        "networkPolicy": {"to": {"collector": BACKEND}},
    },
    "full": FULL,
    "full-cilium": laid_over(FULL, {"networkPolicy": {"kind": "cilium", "ciliumIngress": True}}),
    "external-collector": {
        "serve": {"secrets": SECRETS, "config": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com:4318"}},
        "collector": {"enabled": False},
        "networkPolicy": {"to": {"serve": [{"cidr": "203.0.113.0/24", "ports": [4318]}]}},
    },
    "external-collector-cilium": laid_over(
        MINIMAL,
        CILIUM | {"serve": {"config": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com:4318", "SETTINGS": "ssm:/spanhook"}}},
    ),
    # A server in the cluster that speaks SQS, and the chart's Collector.
    "replicas": {
        "serve": {
            "secrets": SECRETS,
            "replicas": 2,
            "config": {
                "QUEUE_URL": "http://elasticmq.queue.svc.cluster.local:9324/000000000000/spans",
                "DEAD_LETTER_QUEUE_URL": "http://elasticmq.queue.svc.cluster.local:9324/000000000000/dead-letters",
                "AWS_ENDPOINT_URL_SQS": "http://elasticmq.queue.svc.cluster.local:9324",
            },
        },
        "collector": {"env": {"BACKEND_OTLP_ENDPOINT": "https://otlp.example.com"}},
        "networkPolicy": {"to": {"collector": BACKEND, "serve": [{"namespace": "queue", "ports": [9324]}]}},
    },
    "apart-cilium": laid_over(SHARED, CILIUM | {"serve": {"forwarders": 2}}),
    "apart": laid_over(
        SHARED,
        {
            "serve": {"replicas": 1, "forwarders": 1, "config": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{NAMES['collector']}:4318"}},
            "collector": {"enabled": True, "env": {"BACKEND_OTLP_ENDPOINT": "https://otlp.example.com"}},
            "networkPolicy": {"to": {"collector": BACKEND, "serve": OUT + [{"cidr": "192.0.2.64/26", "ports": [443]}]}},
        },
    ),
    "relay-alone": {
        "signingKey": {"secret": "relay"},
        "serve": {"enabled": False},
        "collector": {"enabled": False},
        "relay": {"enabled": True, "config": {"SPANHOOK_ENDPOINT": "https://ci.example.com"}},
        "networkPolicy": {"to": {"relay": [{"cidr": "198.51.100.7/32", "ports": [443]}]}},
    },
    "relay-alone-cilium": {
        "signingKey": {"secret": "relay"},
        "serve": {"enabled": False},
        "collector": {"enabled": False},
        "relay": {"enabled": True, "config": {"SPANHOOK_ENDPOINT": "https://ci.example.com"}},
        "networkPolicy": {"kind": "cilium"},
    },
    "namespaces": laid_over(MINIMAL, {"signingKey": KEY, "relay": {"enabled": True, "namespaces": ["jx", "tekton"]}}),
    "gateway": laid_over(
        MINIMAL,
        {
            "httpRoute": {"enabled": True, "host": "ci.example.com", "parentRefs": [{"name": "public", "namespace": "gateways"}]},
            "networkPolicy": {"ingress": ["gateways"]},
        },
    ),
    "no-policies": laid_over(MINIMAL, {"networkPolicy": {"kind": "none"}, "serve": {"podDisruptionBudget": False}}),
}


def binary():
    """Helm of the parts; without it the test is skipped."""
    if not (found := shutil.which("helm", path=f"{os.environ.get('SPANHOOK_PARTS')}/bin:{os.environ['PATH']}")):
        pytest.skip("helm is not here: tests/parts/install.sh helm")
    return found


def helm(*args, values=None, env=None, check=True):
    """Runs Helm with values from a file, apart from what the machine has of Helm's."""
    with tempfile.TemporaryDirectory() as folder:
        if values is not None:
            path = Path(folder) / "values.yaml"
            path.write_text(yaml.safe_dump(values))
            args += ("--values", str(path))
        homes = {f"HELM_{it}_HOME": folder for it in ("CACHE", "CONFIG", "DATA")}
        env = {**os.environ, **homes, **(env or {})}
        done = subprocess.run([binary(), *args], capture_output=True, text=True, check=False, env=env)
        assert not check or done.returncode == 0, done.stderr
        return done


def template(values, *args, check=True):
    return helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *args, values=values, check=check)


def documents(text):
    return [it for it in yaml.safe_load_all(text) if it]


@functools.cache
def rendered(name):
    return documents(template(VALUES[name]).stdout)


def refused(values):
    """What Helm says to values that it does not take."""
    done = template(values, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


def of_kind(manifests, *kinds):
    return [it for it in manifests if it["kind"] in kinds]


def named(manifests, kind, name):
    (found,) = [it for it in of_kind(manifests, kind) if it["metadata"]["name"] == name]
    return found


def workloads(manifests):
    return of_kind(manifests, "StatefulSet", "Deployment")


def component(workload):
    return workload["metadata"]["labels"]["app.kubernetes.io/component"]


def pod(manifests, which):
    (found,) = [it for it in workloads(manifests) if component(it) == which]
    return found["spec"]["template"]["spec"]


def container(manifests, which):
    (only,) = pod(manifests, which)["containers"]
    return only


def environment(manifests, which):
    """Plain values, and for a secret where it is: (name, key)."""

    def value(it):
        if "value" in it:
            return it["value"]
        ref = it["valueFrom"]["secretKeyRef"]
        return ref["name"], ref["key"]

    listed = container(manifests, which)["env"]
    names = [it["name"] for it in listed]
    assert len(set(names)) == len(names), names
    return {it["name"]: value(it) for it in listed}
