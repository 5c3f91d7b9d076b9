//! The forwarder's own work: unpack, check, join. The exporter takes everything at once.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spanhook_core::{
    encode::{Limits, encode},
    gitlab::{self, GitlabSettings, JobSpans},
    id::{GitlabJobKind, TraceIds},
    mapping::{Mapped, Provider},
    message::{Content, unpack},
};
use spanhook_service::{
    export::{Export, Outcome, Signal},
    forward::{Tally, forward},
    queue::Received,
};
use tokio::time::Instant;

struct TakingExporter;

impl Export for TakingExporter {
    async fn export(&self, _: Signal, request: Bytes) -> Outcome {
        black_box(request);
        Outcome::Delivered { partial: None }
    }
}

fn merge(criterion: &mut Criterion) {
    let body = include_bytes!("../../../events/gitlab/pipeline-failed.json");
    let settings = GitlabSettings {
        trace_ids: TraceIds::Hashed,
        job_kind: GitlabJobKind::Default,
        job_spans: JobSpans::Pipeline,
        host: "gitlab.com".into(),
        service_name: "gitlab".parse().unwrap(),
    };
    let Ok(Mapped::Trace { trace, project }) = gitlab::map(body, &settings) else { panic!() };
    let message = encode(&trace, Provider::Gitlab, &project, Limits::default()).remove(0);
    let encoding = message.attributes.get("encoding").map(String::as_str);
    let Ok(Content::Traces(raw)) = unpack(&message.body, encoding, None) else { panic!() };
    let batch: Vec<_> = (0..1000)
        .map(|id| Received {
            id: format!("{id}"),
            receipt: format!("{id}"),
            body: message.body.clone(),
            attributes: message.attributes.clone(),
            receive_count: 1,
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut group = criterion.benchmark_group("forwarder");
    group.throughput(Throughput::Bytes(1000 * raw.len() as u64));
    group.bench_function("merge of 1000 messages", |bencher| {
        bencher.iter(|| {
            let deadline = Instant::now() + Duration::from_secs(60);
            runtime.block_on(forward(&batch, &TakingExporter, deadline, &mut Tally::default()))
        });
    });
}

criterion_group!(benches, merge);
criterion_main!(benches);
