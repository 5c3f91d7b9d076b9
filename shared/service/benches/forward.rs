//! The forwarder's own work: unpack, check, join. The exporter takes everything at once.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use spanhook_core::{
    delivery::{Delivery, Outcome as Processed},
    message::{Content, unpack},
    otlp::Signal,
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};
use spanhook_service::{
    export::{Export, Outcome},
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
    let (headers, rules) = (HeaderMap::new(), ProjectRules::default());
    let delivery = Delivery { headers: &headers, body };
    let processed = delivery.process(Provider::Gitlab, &Settings::default(), &rules);
    let Processed::Accepted(mut accepted) = processed else { panic!() };
    let message = accepted.messages.remove(0);
    let encoding = message.attributes.get("encoding").map(String::as_str);
    let Ok(Content::Otlp(Signal::Traces, raw)) = unpack(&message.body, encoding, None) else {
        panic!()
    };
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
