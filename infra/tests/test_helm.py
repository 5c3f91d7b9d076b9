"""The chart ../helm/spanhook, rendered: valid, hardened, with every setting, and strict about what is typed."""

import re
import subprocess

import kubernetes_validate
import pytest
import yaml
from charts import (
    CHART, FULL, KEY, MINIMAL, NAMES, NAMESPACE, ROOT, VALUES, component, container, documents, environment, helm,
    laid_over, named, of_kind, pod, refused, rendered, template, workloads,
)
from collector import binary as collector_binary

KUBERNETES = kubernetes_validate.latest_version()
# Custom resources have no schema there; test_helm_policies.py and the tests below know each of their keys.
CUSTOM = ("CiliumNetworkPolicy", "HTTPRoute")
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SETTINGS = yaml.safe_load((CHART / "settings.yaml").read_text())

# Pods that share a queue, by set of values and component.
SHARED_BY = {"replicas": {"serve": 2}, "apart": {"serve": 1, "forward": 1}, "apart-cilium": {"serve": 3, "forward": 2}}

every_set = pytest.mark.parametrize("name", VALUES)


def rendered_with(more, base=MINIMAL):
    return documents(template(laid_over(base, more)).stdout)


def pods(names=tuple(VALUES)):
    return [pytest.param(name, it, id=f"{name}-{component(it)}") for name in names for it in workloads(rendered(name))]


# Shape


@every_set
def test_helm_finds_nothing_to_complain_about(name):
    helm("lint", "--strict", str(CHART), values=VALUES[name])


def test_helm_lints_the_values_of_the_chart_alone():
    helm("lint", "--strict", str(CHART))


@every_set
def test_a_manifest_fits_the_schema(name):
    for document in rendered(name):
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@every_set
def test_objects_are_the_releases(name):
    manifests = rendered(name)
    ids = [(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in manifests]
    assert len(set(ids)) == len(ids)
    for it in manifests:
        labels = it["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "telemetry" and labels["app.kubernetes.io/managed-by"] == "Helm"
        expected = {"jx", "tekton"} if it["kind"].startswith("Role") else {None} if it["kind"].startswith("Cluster") else {NAMESPACE}
        assert it["metadata"].get("namespace") in expected, it


def test_labels_and_annotations_are_on_everything():
    for it in rendered("full"):
        assert it["metadata"]["labels"]["team"] == "ci"
        assert it["metadata"]["annotations"]["example.com/owner"] == "ci"


@every_set
def test_services_and_budgets_select_one_component(name):
    manifests = rendered(name)
    labels = {component(it): it["spec"]["template"]["metadata"]["labels"] for it in workloads(manifests)}
    for it in of_kind(manifests, "Service", "PodDisruptionBudget"):
        selector = it["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        assert [which for which, has in labels.items() if selector.items() <= has.items()] == [component(it)]
    for it in workloads(manifests):
        assert it["spec"]["selector"]["matchLabels"].items() <= labels[component(it)].items()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("minimal", {"serve"}),
        ("with-collector", {"serve", "collector"}),
        ("full", {"serve", "collector", "relay"}),
        ("relay-alone", {"relay"}),
    ],
)
def test_only_what_is_enabled_is_there(name, expected):
    manifests = rendered(name)
    assert {component(it) for it in workloads(manifests)} == expected
    assert {component(it) for it in of_kind(manifests, "Service", "ServiceAccount")} == expected
    assert {it["metadata"]["name"] for it in workloads(manifests)} == {NAMES[it] for it in expected}


def test_two_releases_share_a_namespace_and_one_name_two_namespaces():
    def ids(release, namespace):
        done = helm("template", release, str(CHART), "--namespace", namespace, values=FULL)
        return {(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in documents(done.stdout)}

    assert not ids("a", "x") & ids("b", "x")
    assert not ids("a", "x") & ids("a", "y")


def test_names_follow_the_release():
    def name(release, **more):
        done = helm("template", release, str(CHART), values=laid_over(MINIMAL, more))
        return named(documents(done.stdout), "StatefulSet", more.get("fullnameOverride", release))

    assert name("spanhook") and name("my-spanhook") and name("x", fullnameOverride="hook")


# Hardening


@pytest.mark.parametrize("name, workload", pods())
def test_a_pod_is_hardened(name, workload):
    spec = workload["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is (component(workload) == "relay")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all("hostPath" not in it for it in spec.get("volumes", []))
    assert spec["terminationGracePeriodSeconds"] > 30
    assert workload["spec"]["replicas"] == (1 if workload["kind"] == "StatefulSet" or component(workload) == "relay" else SHARED_BY[name][component(workload)])
    # A search list would ask for other names first, which the Cilium policies refuse.
    assert {"name": "ndots", "value": "1"} in spec["dnsConfig"]["options"]
    assert named(rendered(name), "ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"] is False


def test_replicas_share_a_queue_and_have_no_volume():
    for name, pods in SHARED_BY.items():
        manifests = rendered(name)
        spanhook = [it for it in workloads(manifests) if component(it) in ("serve", "forward")]
        assert {component(it) for it in spanhook} == set(pods)
        for it in spanhook:
            spec = it["spec"]
            assert it["kind"] == "Deployment" and "volumeClaimTemplates" not in spec and "volumes" not in spec["template"]["spec"]
            # No moment without one that takes deliveries.
            assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
            variables = environment(manifests, component(it))
            assert variables["QUEUE_URL"].endswith("/spans") and variables["DEAD_LETTER_QUEUE_URL"].endswith("/dead-letters")
            assert "SPANHOOK_DATA" not in variables
            assert "volumeMounts" not in container(manifests, component(it))
        roles = {it: environment(manifests, it)["SPANHOOK_ROLE"] for it in pods}
        assert roles == ({"serve": "receive", "forward": "forward"} if "forward" in pods else {"serve": "all"})
        budget = named(manifests, "PodDisruptionBudget", NAMES["serve"])["spec"]
        assert ("maxUnavailable" if pods["serve"] > 1 else "minAvailable") in budget
    assert environment(rendered("minimal"), "serve")["SPANHOOK_ROLE"] == "all"
    assert not of_kind(rendered("replicas"), "PersistentVolumeClaim")


@pytest.mark.parametrize("name", ["apart", "apart-cilium"])
def test_receivers_and_forwarders_know_only_the_secrets_of_their_half(name):
    manifests = rendered(name)
    secrets = {which: {it for it, value in environment(manifests, which).items() if isinstance(value, tuple)} for which in ("serve", "forward")}
    assert secrets == {"serve": {"CIRCLECI_HOOK_SECRET", "GITLAB_SIGNING_TOKEN"}, "forward": {"OTEL_EXPORTER_OTLP_HEADERS"}}
    # The queue is reached with one role; what is posted goes to receivers alone.
    assert {pod(manifests, it)["serviceAccountName"] for it in secrets} == {NAMES["serve"]}
    assert named(manifests, "ServiceAccount", NAMES["serve"])["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert not [it for it in of_kind(manifests, "Service") if component(it) == "forward"]
    assert "lifecycle" not in container(manifests, "forward")


@pytest.mark.parametrize("name, workload", pods())
def test_a_container_is_hardened(name, workload):
    (it,) = workload["spec"]["template"]["spec"]["containers"]
    context = it["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in context
    assert {"cpu", "memory"} <= it["resources"]["requests"].keys()
    assert "memory" in it["resources"]["limits"]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", it["image"]), it["image"]
    ports = {it["name"] for it in it["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert it[probe]["httpGet"]["port"] in ports


def test_an_image_may_have_a_digest():
    digest = "sha256:" + "0" * 64
    manifests = rendered_with({"serve": {"image": {"repository": "r.example.com/spanhook", "digest": digest}}})
    assert container(manifests, "serve")["image"] == f"r.example.com/spanhook@{digest}"


def test_a_pod_goes_where_it_is_told():
    spec = pod(rendered("full"), "serve")
    assert spec["priorityClassName"] == "system-cluster-critical" and spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] and spec["affinity"] and spec["imagePullSecrets"] == [{"name": "registry"}]
    account = named(rendered("full"), "ServiceAccount", NAMES["serve"])
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    manifests = rendered_with({"serve": {"serviceAccount": {"name": "mine"}}})
    assert pod(manifests, "serve")["serviceAccountName"] == "mine" and not of_kind(manifests, "ServiceAccount")


@pytest.mark.parametrize(
    "which, paths", [("serve", ("/health", "/ready", "/health")), ("relay", ("/healthz", "/readyz", "/healthz")), ("collector", ("/", "/", "/"))]
)
def test_what_a_new_start_does_not_mend_takes_the_pod_out_of_service_only(which, paths):
    it = container(rendered("full"), which)
    assert tuple(it[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")) == paths


def test_the_stop_leaves_time_for_open_requests():
    pause = container(rendered("full"), "serve")["lifecycle"]["preStop"]["sleep"]["seconds"]
    shutdown = int(re.search(r"SHUTDOWN: Duration = Duration::from_secs\((\d+)\)", (ROOT / "cli/src/serve.rs").read_text())[1])
    assert pod(rendered("full"), "serve")["terminationGracePeriodSeconds"] > pause + shutdown
    flush = int(re.search(r'RELAY_FLUSH", default_value = "(\d+)s"', (ROOT / "relay/src/options.rs").read_text())[1])
    assert pod(rendered("full"), "relay")["terminationGracePeriodSeconds"] > flush


def test_queues_are_on_volumes_that_outlive_the_release():
    for which, path in (("serve", "/data"), ("collector", "/var/lib/collector")):
        (it,) = [it for it in workloads(rendered("full")) if component(it) == which]
        (claim,) = it["spec"]["volumeClaimTemplates"]
        (mount,) = [it["mountPath"] for it in container(rendered("full"), which)["volumeMounts"] if it["name"] == claim["metadata"]["name"]]
        assert mount == path
        # Kubernetes lets nobody change this, so nothing is in it that an upgrade would.
        assert claim["metadata"].keys() == {"name"}


# The relay's rights


@pytest.mark.parametrize("name, kind, where", [("full", "ClusterRole", [None]), ("namespaces", "Role", ["jx", "tekton"])])
def test_the_relay_may_read_its_kinds_and_nothing_else(name, kind, where):
    text = (ROOT / "relay/README.md").read_text().split("## Permissions")[1].split("##")[0]
    kinds = {"": {"pods", "events"}}
    for names, group in re.findall(r"((?:`\w+`,? )+)\(`([\w.]+)`\)", text):
        kinds[group] = set(re.findall(r"`(\w+)`", names))
    roles, bindings = of_kind(rendered(name), kind), of_kind(rendered(name), f"{kind}Binding")
    assert [it["metadata"].get("namespace") for it in roles] == [it["metadata"].get("namespace") for it in bindings] == where
    for role, binding in zip(roles, bindings):
        assert all(set(rule["verbs"]) == {"get", "list", "watch"} and len(rule) == 3 for rule in role["rules"])
        assert {rule["apiGroups"][0]: set(rule["resources"]) for rule in role["rules"]} == kinds
        assert binding["roleRef"]["name"] == role["metadata"]["name"] and binding["roleRef"]["kind"] == kind
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAMES["relay"], "namespace": NAMESPACE}]
    others = {"ClusterRole", "Role"} - {kind}
    assert not of_kind(rendered(name), *others)


# Settings


def documented(path, column, fits):
    rows = [[it.strip() for it in line.strip("|").split("|")] for line in (ROOT / path).read_text().splitlines() if line.startswith("| ")]
    return {name for row in rows if fits(row) for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row[column])}


def test_every_setting_of_serve_is_in_the_chart():
    def fits(row):
        used = re.split(r", ", row[1])
        return len(row) == 4 and bool({"serve", "all", "all functions", "all but the forwarder"} & set(used))

    names = documented("docs/settings.md", 0, fits)
    names |= {it.replace("OTLP_", "OTLP_TRACES_", 1) for it in names if re.match(r"OTEL_EXPORTER_OTLP_(?!TRACES|METRICS|LOGS)", it)}
    known = SETTINGS["serve"]
    assert {*known["config"], *known["secrets"], *known["chart"]} == names
    secret = re.compile(r"_(SECRET|TOKEN|SIGNING_KEY|HMAC_KEY|HEADERS)$")
    assert {it for it in names if secret.search(it)} == {*known["secrets"], "KUBERNETES_SIGNING_KEY"}


def test_every_setting_of_the_relay_is_in_the_chart():
    names = documented("relay/README.md", 1, lambda row: len(row) == 4)
    known = SETTINGS["relay"]
    assert {*known["config"], *known["secrets"], *known["chart"]} == names
    source = (ROOT / "relay/src/options.rs").read_text()
    assert set(re.findall(r'env = "(\w+)"', source)) | {"KUBERNETES_SIGNING_KEY", "LOG_LEVEL"} == names


@pytest.mark.parametrize("which", ["serve", "relay"])
def test_every_setting_can_be_set(which):
    known = SETTINGS[which]
    more = {"config": {it: f"value of {it}" for it in known["config"]}}
    if known["secrets"]:
        more["secrets"] = {it: f"secret of {it}" for it in known["secrets"]} | {"CIRCLECI_OTLP_X_TEAM": "a header"}
    net = {"networkPolicy": {"kind": "none"}, "signingKey": KEY, "relay": {"enabled": True}}
    manifests = rendered_with(laid_over(net, {which: more}))
    variables = environment(manifests, which)
    assert {it: variables[it] for it in known["config"]} == more["config"]
    for name, value in more.get("secrets", {}).items():
        secret, key = variables[name]
        assert named(manifests, "Secret", secret)["stringData"][key] == value
        assert value not in str([it for it in manifests if it["kind"] != "Secret"])
    # With a queue that is shared there is no folder.
    follow = {"RELAY_DELIVERIES", "KUBERNETES_NAMESPACES", "KUBERNETES_SIGNING_KEY", "SPANHOOK_DATA"}
    assert known["chart"].keys() - follow <= variables.keys()


def test_values_arrive_as_the_component_reads_them():
    variables = environment(rendered("full"), "serve")
    assert variables["MAX_BODY_BYTES"] == "10485760"
    assert variables["PROJECT_RULES"] == '{"allow":["acme/*"]}'
    assert variables["GITLAB_HOST"] == "gitlab.example.com"
    assert variables["AWS_REGION"] == "eu-central-1"
    odd = {"LOG_LEVEL": 'a "b" \\ $(c) ü: #\nd', "WEBHOOK_METRICS": True, "OTEL_EXPORTER_OTLP_TIMEOUT": 5000, "GITLAB_HOST": None}
    variables = environment(rendered_with({"serve": {"config": odd}}), "serve")
    assert variables["LOG_LEVEL"] == odd["LOG_LEVEL"]
    assert (variables["WEBHOOK_METRICS"], variables["OTEL_EXPORTER_OTLP_TIMEOUT"]) == ("true", "5000")
    assert "GITLAB_HOST" not in variables
    secret = rendered_with({"serve": {"secrets": {"CIRCLECI_HOOK_SECRET": odd["LOG_LEVEL"]}}})
    assert named(secret, "Secret", NAMES["serve"])["stringData"]["CIRCLECI_HOOK_SECRET"] == odd["LOG_LEVEL"]


def test_a_secret_that_is_there_is_used_and_not_made():
    variables = environment(rendered("full"), "serve")
    assert variables["GITLAB_SIGNING_TOKEN"] == ("ci", "gitlab")
    assert variables["LIGHTHOUSE_HMAC_KEY"] == ("lighthouse-hmac-token", "hmac")
    assert named(rendered("full"), "Secret", NAMES["serve"])["stringData"] == {"CIRCLECI_HOOK_SECRET": "a-secret-of-circleci"}
    manifests = rendered_with({"serve": {"secrets": {"CIRCLECI_HOOK_SECRET": {"secret": "mine"}}}})
    assert environment(manifests, "serve")["CIRCLECI_HOOK_SECRET"] == ("mine", "CIRCLECI_HOOK_SECRET")
    assert not of_kind(manifests, "Secret")


@pytest.mark.parametrize(
    "relay, lighthouse, own, expected",
    [
        (False, False, None, "hooks"),
        (False, True, None, "hooks"),
        (True, False, None, "objects"),
        (True, True, None, "both"),
        (True, True, "objects", "objects"),
        (False, False, "both", "both"),
    ],
)
def test_who_tells_of_lighthouse_follows_from_what_is_enabled(relay, lighthouse, own, expected):
    serve = {"secrets": {"LIGHTHOUSE_HMAC_KEY": "a-key-of-lighthouse"} if lighthouse else {}, "config": {"LIGHTHOUSE_SOURCES": own} if own else {}}
    manifests = rendered_with({"signingKey": KEY, "serve": serve, "relay": {"enabled": relay}})
    assert environment(manifests, "serve")["LIGHTHOUSE_SOURCES"] == expected


def test_spanhook_and_the_relay_agree_on_cluster_address_and_key():
    manifests = rendered("full")
    serve, relay = environment(manifests, "serve"), environment(manifests, "relay")
    assert serve["KUBERNETES_CLUSTER"] == relay["KUBERNETES_CLUSTER"] == "prod"
    service = named(manifests, "Service", NAMES["serve"])
    assert relay["SPANHOOK_ENDPOINT"] == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    (volume,) = pod(manifests, "relay")["volumes"]
    (mount,) = container(manifests, "relay")["volumeMounts"]
    (item,) = volume["secret"]["items"]
    assert relay["KUBERNETES_SIGNING_KEY_FILE"] == f"{mount['mountPath']}/{item['path']}"
    key = (volume["secret"]["secretName"], item["key"])
    assert serve["KUBERNETES_SIGNING_KEY"] == key
    # What the relay passes on from Tekton it signs with the key that it has.
    assert serve["TEKTON_SIGNING_KEY"] == key
    assert named(manifests, "Secret", key[0])["stringData"] == {key[1]: KEY}


def test_the_relay_takes_deliveries_at_a_service_when_it_is_told_to():
    ports = {it["name"]: it["port"] for it in named(rendered("full"), "Service", NAMES["relay"])["spec"]["ports"]}
    assert ports == {"metrics": 8080, "deliveries": 8081}
    assert environment(rendered("full"), "relay")["RELAY_DELIVERIES"] == "0.0.0.0:8081"
    assert environment(rendered("full"), "relay")["RELAY_LISTEN"] == "0.0.0.0:8080"
    quiet = rendered("namespaces")
    assert "RELAY_DELIVERIES" not in environment(quiet, "relay") and "TEKTON_SIGNING_KEY" not in environment(quiet, "serve")
    assert [it["port"] for it in named(quiet, "Service", NAMES["relay"])["spec"]["ports"]] == [8080]
    assert environment(quiet, "relay")["KUBERNETES_NAMESPACES"] == "jx,tekton"


def test_a_change_of_what_is_read_at_the_start_restarts_the_pod():
    def checksums(more):
        return {
            component(it): it["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for it in workloads(rendered_with(more, FULL))
        }

    before = checksums({})
    for more, restarted in [
        ({"serve": {"secrets": {"CIRCLECI_HOOK_SECRET": "another-secret"}}}, {"serve"}),
        ({"collector": {"secrets": {"BACKEND_AUTHORIZATION": "Bearer another"}}}, {"collector"}),
        ({"collector": {"config": {"processors": {"memory_limiter": {"limit_percentage": 70}}}}}, {"collector"}),
        ({"signingKey": KEY + "\n" + KEY}, {"serve", "collector", "relay"}),
        ({"ingress": {"className": "other"}}, set()),
    ]:
        after = checksums(more)
        assert {it for it in after if after[it] != before[it]} == restarted, more


# The Collector


def collector_configuration(manifests):
    return yaml.safe_load(named(manifests, "ConfigMap", NAMES["collector"])["data"]["collector.yaml"])


def test_spanhook_reaches_the_collector_by_its_service():
    manifests = rendered("full")
    assert environment(manifests, "serve")["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://{NAMES['collector']}:4318"
    assert [it["port"] for it in named(manifests, "Service", NAMES["collector"])["spec"]["ports"]] == [4318]
    assert collector_configuration(manifests)["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert 4318 in [it["containerPort"] for it in container(manifests, "collector")["ports"]]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in environment(rendered("minimal"), "serve")


def test_the_collector_keeps_on_disk_what_it_acknowledged():
    manifests = rendered("full")
    configuration = collector_configuration(manifests)
    mounts = {it["mountPath"] for it in container(manifests, "collector")["volumeMounts"] if not it.get("readOnly")}
    assert configuration["extensions"]["file_storage"]["directory"] in mounts
    for pipeline in configuration["service"]["pipelines"].values():
        # A batch processor would acknowledge what is only in memory.
        assert pipeline["processors"] == ["memory_limiter"]
        for exporter in pipeline["exporters"]:
            assert configuration["exporters"][exporter]["sending_queue"]["storage"] == "file_storage"
            assert configuration["exporters"][exporter]["retry_on_failure"]["max_elapsed_time"] == 0


def test_the_collector_gets_what_its_configuration_asks_for():
    asked = set(re.findall(r"\$\{env:(\w+)", named(rendered("full"), "ConfigMap", NAMES["collector"])["data"]["collector.yaml"]))
    assert asked == environment(rendered("full"), "collector").keys() - {"GOMEMLIMIT"}
    more = {"exporters": {"otlp_http": {"headers": {"x-team": "${env:TEAM}"}}}}
    assert "set collector.env.TEAM" in refused(laid_over(VALUES["with-collector"], {"collector": {"config": more}}))
    assert "set collector.env.BACKEND_OTLP_ENDPOINT" in refused({"serve": MINIMAL["serve"]})


def test_the_collectors_configuration_is_laid_over_the_charts():
    more = {
        "exporters": {"otlp_http": None, "debug": {}},
        "service": {"pipelines": {"metrics": None, "logs": None, "traces": {"exporters": ["debug"]}}},
    }
    manifests = rendered_with({"collector": {"config": more}}, VALUES["with-collector"])
    configuration = collector_configuration(manifests)
    assert configuration["exporters"] == {"debug": {}} and configuration["service"]["pipelines"].keys() == {"traces"}
    assert configuration["receivers"] == DEFAULTS["collector"]["config"]["receivers"]


@pytest.mark.parametrize("name", ["with-collector", "full"])
def test_a_collector_takes_the_configuration(name, tmp_path):
    configuration = collector_configuration(rendered(name))
    for place in (configuration["extensions"]["file_storage"], configuration["extensions"]["file_storage"]["compaction"]):
        place["directory"] = str(tmp_path)
    (tmp_path / "collector.yaml").write_text(yaml.safe_dump(configuration))
    env = {it: value for it, value in environment(rendered(name), "collector").items() if isinstance(value, str)}
    done = subprocess.run(
        [collector_binary(), "validate", f"--config={tmp_path / 'collector.yaml'}"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# The image


def stages():
    """Lines of the Dockerfile by what they build."""
    found = {}
    for stage in re.split(r"(?m)^(?=FROM )", (ROOT / "Dockerfile").read_text())[1:]:
        name = re.match(r"FROM \S+ AS (\S+)", stage)
        found[name[1] if name else "spanhook"] = stage
    return found


def test_the_image_is_what_the_manifest_runs():
    image, spec = stages()["spanhook"], pod(rendered("full"), "serve")
    data = environment(rendered("full"), "serve")["SPANHOOK_DATA"]
    user = spec["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}\n" in image
    assert f"EXPOSE {container(rendered('full'), 'serve')['ports'][0]['containerPort']}\n" in image
    assert f"VOLUME {data}\n" in image
    assert [it["mountPath"] for it in container(rendered("full"), "serve")["volumeMounts"]] == [data]
    assert environment(rendered("full"), "serve")["SPANHOOK_LISTEN"] in image


def test_the_relays_image_is_what_the_manifest_runs():
    image, spec = stages()["relay"], pod(rendered("full"), "relay")
    user = spec["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}\n" in image
    assert re.findall(r"EXPOSE (.*)", image) == [" ".join(str(it["containerPort"]) for it in container(rendered("full"), "relay")["ports"])]
    assert "VOLUME" not in image


@pytest.mark.parametrize("name, program", [("spanhook", "spanhook"), ("relay", "spanhook-relay")])
def test_an_image_holds_a_program_and_roots_of_trust_and_nothing_else(name, program):
    image = stages()[name]
    assert image.startswith("FROM scratch") and f'ENTRYPOINT ["/{program}"]' in image
    copied = set(re.findall(r"^COPY .* (\S+)$", image, re.M))
    assert copied == {"/", "/etc/ssl/certs/"} | ({"/data"} if name == "spanhook" else set())
    assert "RUN" not in image


def test_images_are_built_with_the_pinned_rust():
    rust = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
    assert set(re.findall(r"^FROM rust:([\d.]+)-", (ROOT / "Dockerfile").read_text(), re.M)) == {rust}


def test_the_build_sees_every_crate():
    members = re.search(r"^members = \[(.*)\]", (ROOT / "Cargo.toml").read_text(), re.M)[1]
    seen = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.M))
    assert {it.split("/")[0] for it in re.findall(r'"([^"]+)"', members)} <= seen
    assert all((ROOT / it).exists() for it in seen)


def test_the_chart_has_the_projects_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert chart["appVersion"] == version
    assert container(rendered("full"), "relay")["image"] == f"spanhook-relay:{version}"
