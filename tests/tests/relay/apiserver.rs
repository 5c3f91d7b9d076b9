//! A real API server with its etcd, from `$SPANHOOK_PARTS`: one for all tests of this binary, each of
//! which keeps to a namespace of its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use spanhook_tests::parts_alone;
use tempfile::TempDir;
use tokio::sync::{OnceCell, RwLock};

/// Who may do all, who may read what the relay reads, and who may do nothing at first.
pub(crate) const ADMIN: &str = "admin";
pub(crate) const RELAY: &str = "relay";
pub(crate) const APPRENTICE: &str = "apprentice";

/// What the relay watches: its API, and how lists of it are called.
const KINDS: [(&str, &str, &str); 6] = [
    ("lighthouse.jenkins.io/v1alpha1", "LighthouseJob", "lighthousejobs"),
    ("tekton.dev/v1", "PipelineRun", "pipelineruns"),
    ("tekton.dev/v1", "TaskRun", "taskruns"),
    ("jenkins.io/v1", "PipelineActivity", "pipelineactivities"),
    ("v1", "Pod", "pods"),
    ("v1", "Event", "events"),
];

const RIGHTS: &str = "rbac.authorization.k8s.io";

pub(crate) struct ApiServer {
    folder: PathBuf,
    ports: [u16; 3],
    process: Guarded,
    _etcd: Guarded,
}

static SERVER: OnceCell<RwLock<ApiServer>> = OnceCell::const_new();

/// The server. Who stops it takes it for writing.
pub(crate) async fn server() -> &'static RwLock<ApiServer> {
    SERVER.get_or_init(async || RwLock::new(ApiServer::start().await)).await
}

/// A process that ends with this one, however that ends: nothing drops what is static.
struct Guarded(Child);

impl Guarded {
    /// What comes after the end is the shell's `LAST`.
    fn start(name: &str, log: &Path, arguments: &[String], last: &str) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let script = r#""$@" & read -r _; kill -KILL $!; wait $!; eval "$LAST""#;
        let process = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(parts_alone().parts.join("bin").join(name))
            .args(arguments)
            .env("LAST", last)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(process)
    }

    /// SIGKILL.
    fn kill(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl ApiServer {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::new().unwrap().keep();
        // Bound at the same time, so that they differ.
        let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = bound.map(|it| it.local_addr().unwrap().port());
        let etcd = etcd(&folder, ports);
        let key = folder.join("sa.key");
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
        assert!(made.unwrap().status.success());
        let tokens = format!(
            "{ADMIN}-token,{ADMIN},{ADMIN},system:masters\n{RELAY}-token,{RELAY},{RELAY}\n{APPRENTICE}-token,{APPRENTICE},{APPRENTICE}\n"
        );
        std::fs::write(folder.join("tokens.csv"), tokens).unwrap();
        let process = api_server(&folder, ports);
        let server = Self { folder, ports, process, _etcd: etcd };
        server.ready().await;
        for (api_version, kind, plural) in KINDS {
            if let Some((group, version)) = api_version.split_once('/') {
                server.install(group, kind, plural, version).await;
            }
        }
        let role = json!({"apiVersion": format!("{RIGHTS}/v1"), "kind": "ClusterRole", "metadata": {"name": "relay"},
            "rules": [{"apiGroups": ["", "tekton.dev", "lighthouse.jenkins.io", "jenkins.io"],
                "resources": ["pods", "events", "pipelineruns", "taskruns", "customruns", "lighthousejobs", "pipelineactivities"],
                "verbs": ["get", "list", "watch"]}]});
        server.create(&role).await;
        server.bind("ClusterRole", "relay", RELAY, None).await;
        server
    }

    async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            // Its certificate is there a moment after its start.
            if self.folder.join("certs/apiserver.crt").exists() {
                let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
                if self.client(ADMIN).await.request_text(ready).await.is_ok_and(|it| it == "ok") {
                    return;
                }
            }
            let log = std::fs::read_to_string(self.folder.join("api.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, with the same data.
    pub(crate) async fn restart(&mut self) {
        self.process = api_server(&self.folder, self.ports);
        self.ready().await;
    }

    /// Has etcd forget all that was.
    pub(crate) async fn compact(&self) {
        let ask = async |path: &str, body: Value| -> Value {
            let url = format!("http://127.0.0.1:{}/v3/kv/{path}", self.ports[1]);
            let answer = reqwest::Client::new().post(url).body(body.to_string()).send().await;
            let answer = answer.unwrap().error_for_status().unwrap();
            serde_json::from_str(&answer.text().await.unwrap()).unwrap()
        };
        let revision = ask("range", json!({"key": "AA=="})).await["header"]["revision"].clone();
        ask("compaction", json!({"revision": revision, "physical": true})).await;
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// A kubeconfig of one of the users, with the server's port or that of a wire to it.
    pub(crate) fn kubeconfig(&self, user: &str, port: u16) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.folder.join("certs/apiserver.crt"),
            }}],
            "users": [{"name": "u", "user": {"token": format!("{user}-token")}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        })
    }

    pub(crate) async fn client(&self, user: &str) -> Client {
        let config: Kubeconfig =
            serde_json::from_value(self.kubeconfig(user, self.port())).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        Client::try_from(config.unwrap()).unwrap()
    }

    async fn api(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let known = KINDS.iter().find(|it| it.1 == kind);
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: known.map_or_else(|| format!("{}s", kind.to_lowercase()), |it| it.2.to_owned()),
        };
        let client = self.client(ADMIN).await;
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    async fn api_of(&self, object: &Value) -> Api<DynamicObject> {
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let namespace = object["metadata"]["namespace"].as_str();
        self.api(&text(&object["apiVersion"]), &text(&object["kind"]), namespace).await
    }

    /// Creates an object, then writes its status as a controller does. Gives it as it is kept.
    pub(crate) async fn create(&self, object: &Value) -> Value {
        let api = self.api_of(object).await;
        let new: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        // A kind that was installed a moment ago is not served at once.
        let deadline = Instant::now() + Duration::from_secs(30);
        let created = loop {
            match api.create(&PostParams::default(), &new).await {
                Ok(created) => break created,
                Err(error) => assert!(Instant::now() < deadline, "{error}: {object}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if object["status"].is_object() {
            return self.write_status(object, &object["status"]).await;
        }
        serde_json::to_value(created).unwrap()
    }

    /// Writes the status of an object. Gives the object as it is kept.
    pub(crate) async fn write_status(&self, object: &Value, status: &Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap();
        let patch = Patch::Merge(json!({ "status": status }));
        let api = self.api_of(object).await;
        let kept = api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        serde_json::to_value(kept).unwrap()
    }

    /// Deletes it at once, as the last word of a kubelet does.
    pub(crate) async fn delete(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        self.api_of(object)
            .await
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }

    /// All that a namespace has of what the relay watches.
    pub(crate) async fn objects(&self, namespace: &str) -> Vec<Value> {
        let mut all = Vec::new();
        for (api_version, kind, _) in KINDS {
            let list = self.api(api_version, kind, Some(namespace)).await;
            for object in list.list(&ListParams::default()).await.unwrap() {
                let mut object = serde_json::to_value(object).unwrap();
                (object["apiVersion"], object["kind"]) = (api_version.into(), kind.into());
                all.push(object);
            }
        }
        all
    }

    pub(crate) async fn namespace(&self, name: &str) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.create(&namespace).await;
    }

    /// Installs a kind with a status of its own and without a schema.
    pub(crate) async fn install(&self, group: &str, kind: &str, plural: &str, version: &str) {
        let open = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let version = json!({"name": version, "served": true, "storage": true, "schema": open, "subresources": {"status": {}}});
        let names = json!({"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")});
        self.create(&json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
        }))
        .await;
    }

    /// Lets the apprentice read these lists of a namespace.
    pub(crate) async fn permit(&self, namespace: &str, group: &str, plurals: &[&str]) {
        let name = plurals.join("-");
        self.create(&json!({
            "apiVersion": format!("{RIGHTS}/v1"), "kind": "Role", "metadata": {"name": name, "namespace": namespace},
            "rules": [{"apiGroups": [group], "resources": plurals, "verbs": ["get", "list", "watch"]}],
        }))
        .await;
        self.bind("Role", &name, APPRENTICE, Some(namespace)).await;
    }

    async fn bind(&self, role: &str, name: &str, user: &str, namespace: Option<&str>) {
        self.create(&json!({
            "apiVersion": format!("{RIGHTS}/v1"), "kind": format!("{role}Binding"),
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": RIGHTS, "kind": role, "name": name},
            "subjects": [{"apiGroup": RIGHTS, "kind": "User", "name": user}],
        }))
        .await;
    }
}

fn etcd(folder: &Path, [_, client, peer]: [u16; 3]) -> Guarded {
    let of = |port: u16| format!("http://127.0.0.1:{port}");
    let arguments = [
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={}", of(client)),
        format!("--advertise-client-urls={}", of(client)),
        format!("--listen-peer-urls={}", of(peer)),
        "--unsafe-no-fsync".to_owned(),
    ];
    let last = format!("rm -rf '{}'", folder.display());
    Guarded::start("etcd", &folder.join("etcd.log"), &arguments, &last)
}

fn api_server(folder: &Path, [port, etcd, _]: [u16; 3]) -> Guarded {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let arguments = [
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        file("cert-dir", "certs"),
        file("token-auth-file", "tokens.csv"),
        file("service-account-key-file", "sa.key"),
        file("service-account-signing-key-file", "sa.key"),
        format!("--service-account-issuer=https://127.0.0.1:{port}"),
        // No controller makes the account that this one would ask of every Pod.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    Guarded::start("kube-apiserver", &folder.join("api.log"), &arguments, "")
}
