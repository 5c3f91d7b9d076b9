"""The chart on a real API server: installed, upgraded, taken away; what is rendered there runs."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from apiserver import ApiServer, definitions
from charts import (
    CHART, KEY, MINIMAL, NAMES, NAMESPACE, RELEASE, ROOT, VALUES, container, documents, environment, helm, laid_over, named,
    of_kind, pod, workloads,
)
from collector import free_ports, get, opener, until

# What the relay watches.
KINDS = [
    ("tekton.dev", "PipelineRun", "pipelineruns", "v1"),
    ("tekton.dev", "TaskRun", "taskruns", "v1"),
    ("tekton.dev", "CustomRun", "customruns", "v1beta1"),
    ("lighthouse.jenkins.io", "LighthouseJob", "lighthousejobs", "v1alpha1"),
    ("jenkins.io", "PipelineActivity", "pipelineactivities", "v1"),
]
MADE = (
    "statefulsets,deployments,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,ingresses,networkpolicies,"
    "ciliumnetworkpolicies,httproutes,roles,rolebindings,clusterroles,clusterrolebindings,persistentvolumeclaims"
)
RELAY = f"system:serviceaccount:{NAMESPACE}:{NAMES['relay']}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("apiserver")) as server:
        for definition in definitions():
            server.define(definition)
        for kind in KINDS:
            server.install_kind(*kind)
        for name in (NAMESPACE, "jx", "tekton"):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            if name == NAMESPACE:
                namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
            server.kubectl("create", "-f", "-", stdin=json.dumps(namespace))
        yield server


@pytest.fixture
def release(server):
    """Runs Helm on the server, and takes the release away at the end."""

    def run(action, values, check=True):
        return helm(action, RELEASE, str(CHART), "--namespace", NAMESPACE, values=values, env={"KUBECONFIG": str(server.kubeconfig)}, check=check)

    yield run
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", env={"KUBECONFIG": str(server.kubeconfig)})


def kept(server):
    """What is there of the release, by kind, namespace and name: the object."""
    found = server.objects(MADE, "--all-namespaces", "-l", f"app.kubernetes.io/instance={RELEASE}")
    return {(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]): it for it in found}


def applied(server):
    return documents(helm("get", "manifest", RELEASE, "--namespace", NAMESPACE, env={"KUBECONFIG": str(server.kubeconfig)}).stdout)


def ids(manifests):
    return {(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in manifests}


@pytest.mark.parametrize("name", VALUES)
def test_a_release_is_installed_applied_again_and_taken_away(server, release, name):
    done = release("install", VALUES[name])
    assert "arning" not in done.stdout + done.stderr, done.stdout + done.stderr
    first = kept(server)
    assert first.keys() == ids(applied(server))

    # A field that the server doesn't know would be left out silently.
    text = yaml.safe_dump_all(applied(server))
    server.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)

    release("upgrade", VALUES[name])
    again = kept(server)
    assert again.keys() == first.keys()
    for key, it in again.items():
        # A new generation would be a restart.
        assert it["metadata"].get("generation") == first[key]["metadata"].get("generation"), key
        assert it.get("data") == first[key].get("data"), key

    # Pods as the controllers would make them, where only restricted ones are let in.
    for workload in workloads(applied(server)):
        template = workload["spec"]["template"]
        template["metadata"]["name"] = "pod"
        made = {"apiVersion": "v1", "kind": "Pod", **template}
        claims = [it["metadata"]["name"] for it in workload["spec"].get("volumeClaimTemplates", [])]
        made["spec"].setdefault("volumes", []).extend({"name": it, "persistentVolumeClaim": {"claimName": it}} for it in claims)
        done = server.kubectl("create", "--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(made))
        assert "arning" not in done.stderr, done.stderr

    helm("uninstall", RELEASE, "--namespace", NAMESPACE, env={"KUBECONFIG": str(server.kubeconfig)})
    assert kept(server) == {}
    assert [it["metadata"]["name"] for it in server.objects("secrets", "-n", NAMESPACE)] == []


def test_a_release_changes_into_any_other(server, release):
    release("install", VALUES["minimal"])
    for name in ("full", "namespaces", "replicas", "apart", "full-cilium", "apart-cilium", "with-collector", "minimal"):
        release("upgrade", VALUES[name])
        assert kept(server).keys() == ids(applied(server)), name


def test_pods_that_are_not_restricted_are_refused_there(server):
    open_one = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    done = server.kubectl("create", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(open_one), check=False)
    assert "violates PodSecurity" in done.stderr


def test_the_relay_is_switched_on_later_and_keeps_the_key_that_was_made_for_it(server, release):
    def key():
        secret = kept(server)["Secret", NAMESPACE, f"{NAMES['serve']}-signing-key"]
        return base64.b64decode(secret["data"]["KUBERNETES_SIGNING_KEY"]).decode()

    def generation(which):
        kind = "Deployment" if which == "relay" else "StatefulSet"
        return kept(server)[kind, NAMESPACE, NAMES[which]]["metadata"]["generation"]

    release("install", MINIMAL)
    assert not any("signing-key" in name for _, _, name in kept(server))
    before = generation("serve")

    relay = {"relay": {"enabled": True}}
    release("upgrade", laid_over(MINIMAL, relay))
    made = key()
    assert len(base64.b64decode(made.removeprefix("whsec_"), validate=True)) == 32 and made.startswith("whsec_")
    assert generation("serve") == before + 1  # who tells of Lighthouse, and the key

    release("upgrade", laid_over(MINIMAL, relay | {"serve": {"config": {"LOG_LEVEL": "debug"}}}))
    assert key() == made
    assert (generation("serve"), generation("relay")) == (before + 2, 1)

    release("upgrade", laid_over(MINIMAL, relay | {"signingKey": KEY}))
    assert key() == KEY
    assert generation("relay") == 2

    done = release("upgrade", laid_over(MINIMAL, relay | {"serve": {"config": {"LOG_LEVLE": "debug"}}}), check=False)
    assert "LOG_LEVEL" in done.stderr and key() == KEY


def may(server, verb, resource, namespace):
    resource, _, part = resource.partition("/")
    done = server.kubectl("auth", "can-i", verb, resource, f"--subresource={part}", f"--as={RELAY}", "-n", namespace, check=False)
    assert done.stdout.strip() in ("yes", "no"), done
    return done.stdout.strip() == "yes"


def rights(server, account, namespace):
    """What is told of an account's rights, beyond those that every account has."""

    def lines(account):
        return set(server.kubectl("auth", "can-i", "--list", f"--as={account}", "-n", namespace).stdout.splitlines())

    more = lines(account) - lines(f"system:serviceaccount:{NAMESPACE}:nobody")
    return {(line.split()[0], line[line.rindex("[") :]) for line in more}


READ = {
    (it, "[get list watch]")
    for it in (
        "pods", "events", "pipelineruns.tekton.dev", "taskruns.tekton.dev", "customruns.tekton.dev",
        "lighthousejobs.lighthouse.jenkins.io", "pipelineactivities.jenkins.io",
    )
}


@pytest.mark.parametrize("name, everywhere", [("full", True), ("namespaces", False)])
def test_the_relay_may_read_its_kinds_and_nothing_else(server, release, name, everywhere):
    release("install", VALUES[name])
    until(lambda: may(server, "watch", "pods", "jx"))
    for namespace in ("jx", "tekton", "default", NAMESPACE):
        expected = READ if everywhere or namespace in ("jx", "tekton") else set()
        until(lambda: rights(server, RELAY, namespace) == expected, 10)
    assert may(server, "list", "pods", "default") is everywhere
    for verb, resource in [
        ("get", "secrets"), ("list", "nodes"), ("get", "pods/log"), ("create", "pods/exec"), ("create", "pods"),
        ("patch", "pods"), ("update", "taskruns.tekton.dev/status"), ("delete", "pipelineruns.tekton.dev"),
    ]:
        assert not may(server, verb, resource, "jx"), (verb, resource)


# What is rendered runs


def program(name):
    """A binary that `cargo test --workspace` has built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = target / "debug" / name
    if not path.exists():
        pytest.skip(f"{path} is not built: cargo build -p {name}")
    return path


@contextlib.contextmanager
def running(command, env, log):
    with log.open("w") as file:
        process = subprocess.Popen([str(it) for it in command], env=env, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def with_secrets(variables, manifests, more):
    """Variables as the kubelet gives them: `more` has what is in Secrets that the chart did not make."""
    made = {it["metadata"]["name"]: it["stringData"] for it in of_kind(manifests, "Secret")}
    stored = {(name, key): value for name, data in made.items() for key, value in data.items()} | more
    return {name: it if isinstance(it, str) else stored[it] for name, it in variables.items()}


def answers(url, process, log):
    def asked():
        assert process.poll() is None, log.read_text()
        try:
            return get(url)
        except (OSError, urllib.error.HTTPError):
            return None

    return until(asked)


def test_what_is_rendered_runs_and_the_relay_is_believed(server, release, tmp_path):
    release("install", laid_over(VALUES["full"], {"signingKey": None, "relay": {"config": {"RELAY_BATCH_WAIT": "50ms"}}}))
    manifests = applied(server)
    page, metrics, deliveries, nobody = free_ports(4)
    # Secrets that are there without the chart.
    others = {("ci", "gitlab"): KEY, ("lighthouse-hmac-token", "hmac"): "a-key-of-lighthouse"}
    serve = with_secrets(environment(manifests, "serve"), manifests, others)
    relay = with_secrets(environment(manifests, "relay"), manifests, others)
    serve |= {
        "SPANHOOK_LISTEN": f"127.0.0.1:{page}", "SPANHOOK_DATA": str(tmp_path / "data"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{nobody}",
    }
    (item,) = [it for volume in pod(manifests, "relay")["volumes"] for it in volume["secret"]["items"]]
    key = tmp_path / item["path"]
    key.write_text(named(manifests, "Secret", f"{NAMES['serve']}-signing-key")["stringData"][item["key"]])
    kubeconfig = tmp_path / "kubeconfig"
    token = server.kubectl("create", "token", NAMES["relay"], "-n", NAMESPACE).stdout.strip()
    kubeconfig.write_text(json.dumps(server.config(token)))
    relay |= {
        "SPANHOOK_ENDPOINT": f"http://127.0.0.1:{page}", "KUBERNETES_SIGNING_KEY_FILE": str(key), "KUBECONFIG": str(kubeconfig),
        "RELAY_LISTEN": f"127.0.0.1:{metrics}", "RELAY_DELIVERIES": f"127.0.0.1:{deliveries}",
    }
    logs = tmp_path / "serve.log", tmp_path / "relay.log"
    with running([program("spanhook"), "serve"], serve, logs[0]) as first, running([program("spanhook-relay")], relay, logs[1]) as second:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container(manifests, "serve")[probe]["httpGet"]["path"]
            answers(f"http://127.0.0.1:{page}{path}", first, logs[0])
            path = container(manifests, "relay")[probe]["httpGet"]["path"]
            answers(f"http://127.0.0.1:{metrics}{path}", second, logs[1])
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        run = {
            "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": "build", "namespace": "jx"}, "spec": {"pipelineRef": {"name": "build"}},
            "status": {"startTime": now, "completionTime": now, "conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded", "lastTransitionTime": now}]},
        }
        server.kubectl("create", "-f", "-", stdin=json.dumps(run))
        url = f"http://127.0.0.1:{metrics}/metrics"
        until(lambda: 'posts_total{status="202"} 1' in answers(url, second, logs[1]).decode())
        # What comes from Tekton itself is signed with the same key.
        stored = json.loads(server.kubectl("get", "pipelineruns.tekton.dev", "build", "-n", "jx", "-o", "json").stdout)
        assert posted(f"http://127.0.0.1:{deliveries}/tekton", stored) == 202
    assert not any("may not" in it.read_text() for it in logs)


def posted(url, run):
    """The status of an answer to a CloudEvent of Tekton's."""
    of_event = {"specversion": "1.0", "id": "1", "source": "/x", "type": "dev.tekton.event.pipelinerun.successful.v1"}
    headers = {"content-type": "application/json"} | {f"ce-{name}": value for name, value in of_event.items()}
    request = urllib.request.Request(url, json.dumps({"pipelineRun": run}).encode(), headers)
    with opener().open(request, timeout=30) as answer:
        return answer.status
