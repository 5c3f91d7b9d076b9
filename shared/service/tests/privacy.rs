//! Secrets and personal data stay where they belong.
//!
//! In a binary of its own: it captures logs, which other tests' threads would disturb.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use spanhook_core::check::{PATH_SECRET, Scheme, sign_hex};
use spanhook_core::{message::Content, otlp::Signal, provider::Provider};
use spanhook_service::export::Export;
use support::{
    Captured, MemoryOutbox, NOW, SECRET, TOKEN, ask, gzip, post, receiver, router, signed,
    signed_standard, vars,
};

#[tokio::test]
async fn secrets_and_personal_data_reach_no_log_answer_or_debug_output() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let vars = vars(&[
        ("CIRCLECI_HOOK_SECRET", SECRET),
        ("GITLAB_SIGNING_TOKEN", TOKEN),
        ("GITHUB_WEBHOOK_SECRET", SECRET),
        ("TRACEPARENT_TOKEN", SECRET),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2-the-secret"),
    ]);
    let export = spanhook_service::export::ExportSettings::parse(&vars).unwrap().unwrap();
    let exporter = spanhook_service::export::Exporter::new(&export).unwrap();
    let gitlab = receiver(Provider::Gitlab, &vars).await;
    let github = receiver(Provider::Github, &vars).await;
    let receiver = receiver(Provider::Circleci, &vars).await;
    let mut said = format!("{export:?} {exporter:?} {receiver:?} {gitlab:?} {github:?}");

    let queue = Arc::new(MemoryOutbox::default());
    let service = router(receiver, &queue, 100_000).await;
    let person = r#"{"type":"job-completed","happened_at":"2022-08-27T20:26:31Z","workflow":{"id":"w"},"job":{"id":"j","started_at":"2022-08-27T20:25:43Z"},
        "pipeline":{"vcs":{"commit":{"subject":"s","body":"private-body","author":{"name":"Private Person","email":"private@example.com"}}}}}"#;
    let broken = r#"{"type":"#.to_owned() + r#""private-payload""#;
    for request in
        [signed(person), signed(&broken), post("/", &[("circleci-signature", "v1=5ec7e7")], person)]
    {
        said += &ask(service.clone(), request).await.1;
    }
    let service = router(gitlab, &queue, 100_000).await;
    let person = r#"{"object_kind":"pipeline","object_attributes":{"id":9,"status":"success","created_at":"2026-11-02 09:30:00 UTC","finished_at":"2026-11-02 09:40:00 UTC"},
        "project":{"web_url":"https://user:private-token@gitlab.com/acme/shop"},
        "user":{"id":1,"name":"Private Person","username":"private","email":"private@example.com"},
        "commit":{"title":"t","message":"private-message","author":{"name":"Private Person","email":"private@example.com"}},
        "builds":[{"id":1,"name":"build","status":"success","started_at":"2026-11-02 09:31:00 UTC","finished_at":"2026-11-02 09:32:00 UTC","user":{"name":"Private Person","username":"private"}}]}"#;
    let mut compressed = signed_standard("/gitlab", gzip(person.as_bytes()));
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    for request in [signed_standard("/gitlab", person), compressed] {
        said += &ask(service.clone(), request).await.1;
    }
    let service = router(github, &queue, 100_000).await;
    let person = r#"{"workflow":{"name":"CI"},"workflow_run":{"id":9,"run_attempt":1,"status":"completed","conclusion":"success",
        "run_started_at":"2026-11-02T09:00:00Z","updated_at":"2026-11-02T09:12:00Z","actor":{"login":"private-login"},
        "head_commit":{"message":"private-message","author":{"name":"Private Person","email":"private@example.com"}}},
        "sender":{"login":"private-login"},"repository":{"html_url":"https://github.com/acme/shop"}}"#;
    for body in [person.to_owned(), broken] {
        let signature = format!("sha256={}", sign_hex(body.as_bytes(), SECRET.as_bytes()).unwrap());
        for signature in [signature.as_str(), "sha256=5ec7e7"] {
            let request = post("/github", &[("x-hub-signature-256", signature)], body.clone());
            said += &ask(service.clone(), request).await.1;
        }
    }
    assert_eq!((queue.sent.lock().unwrap().len(), queue.dead.lock().unwrap().len()), (4, 2));
    // A cluster's doors, with a proof that holds and with one that does not.
    let clusters = [
        (Provider::Kubernetes, "KUBERNETES_TOKEN", "/kubernetes".to_owned()),
        (Provider::Tekton, "TEKTON_TOKEN", "/tekton".to_owned()),
        (Provider::Tekton, "TEKTON_PATH_SECRET", format!("/tekton/{SECRET}")),
        (Provider::Lighthouse, "LIGHTHOUSE_HMAC_KEY", "/lighthouse".to_owned()),
    ];
    for (provider, variable, path) in clusters {
        let receiver = support::receiver(provider, &support::vars(&[(variable, SECRET)])).await;
        said += &format!("{receiver:?}");
        let service = router(receiver, &queue, 100_000).await;
        let checks = provider.room().checks;
        let check = checks.iter().find(|it| it.variable.name == variable).unwrap();
        for (key, path) in [(SECRET, &*path), ("hunter2-is-a-wrong-one-here", "/wrong-hunter2")] {
            let mut request = post(path, &[], "private-payload");
            check.sign(request.headers_mut(), b"private-payload", key.as_bytes(), "id", NOW);
            if check.scheme == Scheme::Path {
                request.headers_mut().remove(PATH_SECRET);
            }
            said += &ask(service.clone(), request).await.1;
        }
    }
    let dead = queue.dead.lock().unwrap().clone();
    assert_eq!(dead.len(), 2 + 4, "each proof held once");
    said += &dead.iter().map(|it| format!("{:?}", it.attributes)).collect::<String>();
    said += &format!(
        "{:?}",
        exporter.export(spanhook_service::export::Signal::Traces, bytes::Bytes::new()).await
    );
    said += &String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    for message in queue.sent.lock().unwrap().iter() {
        let Ok(Content::Otlp(Signal::Traces, raw)) =
            spanhook_core::message::unpack(&message.body, Some("otlp-proto+zstd"), None)
        else {
            panic!("no spans");
        };
        said += &String::from_utf8_lossy(&raw);
    }
    for secret in ["hunter2", "AAECAwQ", "5ec7e7", "private", "Private"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert!(said.contains("delivery rejected"), "logs were captured");
}
