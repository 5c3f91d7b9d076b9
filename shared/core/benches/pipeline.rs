//! Verify, map and encode: what a webhook function does for one delivery.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use serde_json::json;
use spanhook_core::{
    check::Check,
    delivery::{Delivery, Outcome},
    message::Message,
    provider::Provider,
    rules::ProjectRules,
    secret::Secrets,
    settings::Settings,
};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// When everything is signed and verified.
const NOW: u64 = 1;

/// The provider's first check, and the headers that a body needs to pass it.
fn signed(provider: Provider, body: &[u8]) -> (&'static Check, HeaderMap) {
    let check = &provider.room().checks[0];
    let mut headers = HeaderMap::new();
    check.sign(&mut headers, body, KEY, "id", NOW);
    (check, headers)
}

fn messages(provider: Provider, delivery: &Delivery<'_>, settings: &Settings) -> Vec<Message> {
    match delivery.process(provider, settings, &ProjectRules::default()) {
        Outcome::Accepted(accepted) => accepted.messages,
        other => panic!("no spans: {other:?}"),
    }
}

fn circleci_job(criterion: &mut Criterion) {
    let body = include_bytes!("../../../events/circleci/job-completed-unit-tests.json");
    let body =
        serde_json::to_vec(&serde_json::from_slice::<serde_json::Value>(body).unwrap()).unwrap();
    let (secrets, settings) = (Secrets::new([KEY]), Settings::default());
    let (check, headers) = signed(Provider::Circleci, &body);
    let delivery = Delivery { headers: &headers, body: &body };
    criterion.bench_function("circleci job", |bencher| {
        bencher.iter(|| {
            check.verify(&headers, &body, &secrets, NOW).unwrap();
            messages(Provider::Circleci, &delivery, &settings)
        });
    });
}

/// A Pipeline event with the fields and sizes of a real one.
fn pipeline(jobs: u64) -> Vec<u8> {
    let user = json!({ "id": 7, "name": "Sam Sample", "username": "sam", "avatar_url": "https://example.com/avatar.png", "email": "[REDACTED]" });
    let builds: Vec<_> = (0..jobs)
        .map(|id| {
            json!({
                "id": 9_000_000_000 + id, "stage": format!("stage-{}", id % 8), "name": format!("unit tests {id}/{jobs}"),
                "status": if id % 50 == 7 { "failed" } else { "success" }, "created_at": "2026-11-02 09:30:00 UTC",
                "started_at": format!("2026-11-02 09:{:02}:{:02} UTC", 31 + id % 20, id % 60), "finished_at": format!("2026-11-02 09:{:02}:{:02} UTC", 52 + id % 8, id % 60),
                "duration": 61.25 + f64::from(u32::try_from(id % 1000).unwrap()), "queued_duration": 1.5, "failure_reason": if id % 50 == 7 { "script_failure".into() } else { serde_json::Value::Null },
                "when": "on_success", "manual": false, "allow_failure": false, "user": user,
                "runner": { "id": 380_000 + id % 20, "description": format!("shared-runners-manager-{}", id % 20), "runner_type": "instance_type", "active": true, "is_shared": true, "tags": ["linux", "docker"] },
                "artifacts_file": { "filename": null, "size": null }, "environment": null,
            })
        })
        .collect();
    json!({
        "object_kind": "pipeline",
        "object_attributes": { "id": 700_210, "iid": 88, "name": null, "ref": "main", "tag": false, "sha": "0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b5a69788796", "source": "push", "status": "failed", "created_at": "2026-11-02 09:30:00 UTC", "finished_at": "2026-11-02 10:00:00 UTC" },
        "project": { "id": 501, "web_url": "https://gitlab.example.com/acme/shop", "path_with_namespace": "acme/shop" },
        "builds": builds,
    })
    .to_string()
    .into_bytes()
}

fn gitlab_pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gitlab pipeline");
    let (keys, settings) = (Secrets::new([KEY]), Settings::default());
    for jobs in [10, 100, 1_000, 10_000] {
        let body = pipeline(jobs);
        let (check, headers) = signed(Provider::Gitlab, &body);
        let delivery = Delivery { headers: &headers, body: &body };
        group.throughput(Throughput::Elements(jobs));
        group.bench_with_input(
            BenchmarkId::from_parameter(jobs),
            &delivery,
            |bencher, delivery| {
                bencher.iter(|| {
                    check.verify(delivery.headers, delivery.body, &keys, NOW).unwrap();
                    messages(Provider::Gitlab, delivery, &settings)
                });
            },
        );
        if jobs == 1_000 {
            group.bench_function("1000, verify alone", |bencher| {
                bencher.iter(|| check.verify(&headers, &body, &keys, NOW));
            });
            group.bench_function("1000, map alone", |bencher| {
                bencher.iter(|| (Provider::Gitlab.room().map)(&delivery, &settings));
            });
        }
    }
}

criterion_group!(benches, circleci_job, gitlab_pipeline);
criterion_main!(benches);
