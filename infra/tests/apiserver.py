"""A real API server with its etcd, from `$SPANHOOK_PARTS`. There are no controllers and no nodes: what is applied is
judged and kept, and Pods stay pending."""

import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from collector import free_ports, until

# What the chart asks for, in Chart.yaml.
OLDEST = (1, 30)


def binaries():
    """Paths of etcd and kube-apiserver; skips the test where they are not, or are too old for the chart."""
    folder = Path(os.environ.get("SPANHOOK_PARTS", "")) / "bin"
    found = [folder / "kube-apiserver", folder / "etcd"]
    if not (os.environ.get("SPANHOOK_PARTS") and all(Path(it).exists() for it in found)):
        pytest.skip("no API server is below SPANHOOK_PARTS: tests/parts/install.sh apiserver")
    text = subprocess.run([found[0], "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(it) for it in re.findall(r"v(\d+)\.(\d+)", text)[0])
    if version < OLDEST:
        pytest.skip(f"the API server is {text.strip()}, and the chart needs {'.'.join(map(str, OLDEST))}")
    return found


def definitions():
    """Custom resources whose schemas others publish."""
    found = sorted((Path(os.environ["SPANHOOK_PARTS"]) / "crds").glob("*.yaml"))
    if not found:
        pytest.skip("no definitions are below SPANHOOK_PARTS: tests/parts/install.sh crds")
    return [it.read_text() for it in found]


class ApiServer:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.processes = []
        self.port, self.etcd, self.peer = free_ports(3)
        self.kubeconfig = self.folder / "kubeconfig"

    def __enter__(self):
        server, etcd = binaries()
        key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text("admin-token,admin,admin,system:masters\n")
        client = f"http://127.0.0.1:{self.etcd}"
        self._start(
            etcd, f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls=http://127.0.0.1:{self.peer}", "--unsafe-no-fsync",
        )
        self._start(
            server, f"--etcd-servers={client}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC",
            f"--cert-dir={self.folder / 'certs'}", f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            f"--service-account-issuer=https://127.0.0.1:{self.port}",
            # No controller makes the account that this one would ask of every Pod.
            "--disable-admission-plugins=ServiceAccount",
        )
        self.certificate = self.folder / "certs" / "apiserver.crt"
        until(self._ready, 180)
        self.kubeconfig.write_text(yaml.safe_dump(self.config("admin-token")))
        return self

    def __exit__(self, *_):
        for it in reversed(self.processes):
            it.kill()
            it.wait()

    def _start(self, program, *args):
        log = (self.folder / f"{Path(program).name}.log").open("w")
        self.processes.append(subprocess.Popen([program, *args], stdout=log, stderr=log))

    def _ready(self):
        assert all(it.poll() is None for it in self.processes), (self.folder / "kube-apiserver.log").read_text()[-3000:]
        try:
            return self.get("/readyz", "admin-token") == "ok"
        except (OSError, urllib.error.HTTPError):
            return False

    def get(self, path, token):
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"})
        context = ssl.create_default_context(cafile=self.certificate)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=10) as answer:
            return answer.read().decode()

    def config(self, token):
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.certificate)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }

    def kubectl(self, *args, stdin=None, check=True):
        """kubectl's answer: what it prints, with what it complains about."""
        program = shutil.which("kubectl")
        if not program:
            pytest.skip("kubectl is not here")
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [program, f"--kubeconfig={self.kubeconfig}", f"--cache-dir={home}", *args],
                input=stdin, capture_output=True, text=True, check=False,
            )
        assert not check or done.returncode == 0, done.stderr
        return done

    def objects(self, kinds, *args):
        return json.loads(self.kubectl("get", kinds, "-o", "json", *args).stdout)["items"]

    def install_kind(self, group, kind, plural, *versions):
        """A custom kind without a schema."""
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        served = [{"name": it, "served": True, "storage": it == versions[0], "schema": schema} for it in versions]
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        spec = {"group": group, "scope": "Namespaced", "names": names, "versions": served}
        metadata = {"name": f"{plural}.{group}"}
        self.define(json.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec}))

    def define(self, definition):
        """Installs a custom kind by its definition."""
        self.kubectl("create", "-f", "-", stdin=definition)
        self.kubectl("wait", "--for=condition=Established", f"crd/{yaml.safe_load(definition)['metadata']['name']}", "--timeout=60s")
