//! A real API server with its etcd, from `$SPANHOOK_PARTS`.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::choose_provider;

pub(crate) struct ApiServer {
    folder: TempDir,
    ports: [u16; 3],
    etcd: Child,
    process: Child,
}

impl ApiServer {
    /// Starts both, and waits until requests are answered.
    pub(crate) async fn start() -> Self {
        choose_provider();
        let folder = tempfile::tempdir().unwrap();
        // Bound at the same time, so that they differ.
        let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = bound.map(|it| it.local_addr().unwrap().port());
        let [_, client, peer] = ports;
        let of = |port: u16| format!("http://127.0.0.1:{port}");
        let etcd = command("etcd", &folder.path().join("etcd.log"))
            .arg(format!("--data-dir={}", folder.path().join("etcd").display()))
            .args([
                format!("--listen-client-urls={}", of(client)),
                format!("--advertise-client-urls={}", of(client)),
            ])
            .args([format!("--listen-peer-urls={}", of(peer)), "--unsafe-no-fsync".to_owned()])
            .spawn()
            .unwrap();
        let key = folder.path().join("sa.key");
        let made = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048")
            .output()
            .unwrap();
        assert!(made.status.success());
        let tokens = "admin-token,admin,admin,system:masters\nrelay-token,relay,relay\n";
        std::fs::write(folder.path().join("tokens.csv"), tokens).unwrap();
        let process = api_server(folder.path(), ports);
        let server = Self { folder, ports, etcd, process };
        server.ready().await;
        server
    }

    async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            // Its certificate is there a moment after its start.
            if self.folder.path().join("certs/apiserver.crt").exists() {
                let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
                if self
                    .client("admin-token")
                    .await
                    .request_text(ready)
                    .await
                    .is_ok_and(|it| it == "ok")
                {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("api.log")).unwrap_or_default()
    }

    /// Kills it, and starts it with the same data.
    pub(crate) async fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = api_server(self.folder.path(), self.ports);
        self.ready().await;
    }

    /// As somebody with this token.
    pub(crate) async fn client(&self, token: &str) -> Client {
        let config: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.ports[0]),
                "certificate-authority": self.folder.path().join("certs/apiserver.crt"),
            }}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }))
        .unwrap();
        let config =
            Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    async fn api(&self, object: &Value) -> Api<DynamicObject> {
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let plural = match kind.as_str() {
            "PipelineActivity" => "pipelineactivities".to_owned(),
            kind => format!("{}s", kind.to_lowercase()),
        };
        let (group, version) = (group.to_owned(), version.to_owned());
        let resource =
            ApiResource { group, version, api_version: api_version.clone(), kind, plural };
        let client = self.client("admin-token").await;
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    /// Creates an object, then writes its status as a controller does. Gives its uid.
    pub(crate) async fn create(&self, object: &Value) -> String {
        let api = self.api(object).await;
        let mut new = object.clone();
        for field in ["uid", "creationTimestamp", "managedFields"] {
            new["metadata"].as_object_mut().unwrap().remove(field);
        }
        let new: DynamicObject = serde_json::from_value(new).unwrap();
        // A kind that was installed a moment ago is not served at once.
        let deadline = Instant::now() + Duration::from_secs(30);
        let created = loop {
            match api.create(&PostParams::default(), &new).await {
                Ok(created) => break created,
                Err(error) => assert!(Instant::now() < deadline, "{error}: {object}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if object["status"].is_object() {
            self.end(object).await;
        }
        created.metadata.uid.unwrap()
    }

    /// Writes the status of an object.
    pub(crate) async fn end(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let patch = Patch::Merge(json!({"status": object["status"]}));
        self.api(object).await.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Deletes it at once, as the last word of a kubelet does.
    pub(crate) async fn delete(&self, object: &Value) {
        let now = kube::api::DeleteParams::default().grace_period(0);
        let name = object["metadata"]["name"].as_str().unwrap();
        self.api(object).await.delete(name, &now).await.unwrap();
    }

    /// Installs a kind with a status of its own and without a schema.
    pub(crate) async fn install(&self, group: &str, kind: &str, plural: &str, versions: &[&str]) {
        let open = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let versions = versions.iter().enumerate().map(|(index, name)| {
            json!({"name": name, "served": true, "storage": index == 0, "schema": open, "subresources": {"status": {}}})
        });
        let names = json!({"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")});
        self.create(&json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions.collect::<Vec<_>>()},
        }))
        .await;
    }

    /// Lets the relay get, list and watch these kinds, and nothing else.
    pub(crate) async fn permit(&self, name: &str, groups: &[&str], plurals: &[&str]) {
        let api = "rbac.authorization.k8s.io";
        let rules =
            json!([{"apiGroups": groups, "resources": plurals, "verbs": ["get", "list", "watch"]}]);
        self.create(&json!({
            "apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules,
        }))
        .await;
        self.create(&json!({
            "apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": api, "kind": "User", "name": "relay"}],
        }))
        .await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in [&mut self.process, &mut self.etcd] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn command(name: &str, log: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "names a folder of the test's")]
    let parts: PathBuf = std::env::var("SPANHOOK_PARTS").unwrap().into();
    let mut command = Command::new(parts.join("bin").join(name));
    let log = std::fs::File::create(log).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    command
}

fn api_server(folder: &Path, [port, etcd, _]: [u16; 3]) -> Child {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    command("kube-apiserver", &folder.join("api.log"))
        .args([format!("--etcd-servers=http://127.0.0.1:{etcd}"), format!("--secure-port={port}")])
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .args(["--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC"])
        .args([file("cert-dir", "certs"), file("token-auth-file", "tokens.csv")])
        .args([
            file("service-account-key-file", "sa.key"),
            file("service-account-signing-key-file", "sa.key"),
        ])
        .arg(format!("--service-account-issuer=https://127.0.0.1:{port}"))
        // No controller makes the account that this one would ask of every Pod.
        .arg("--disable-admission-plugins=ServiceAccount")
        .spawn()
        .unwrap()
}
