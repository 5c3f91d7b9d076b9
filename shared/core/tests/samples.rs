//! The spans of every sample delivery of `events/`. A new sample is checked by being there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conventions;
mod deliveries;
mod describe;
mod support;

use std::path::Path;

use deliveries::{describe, ids, payloads, settings};
use spanhook_core::{
    id::TraceIds,
    provider::{Provider, gitlab::JobSpans},
};

/// What the provider's samples become, by default and under each setting that changes it.
fn samples(provider: Provider) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let map = |body: &[u8], ids, spans| describe(provider, body, &settings(ids, spans));
    let describe = |(file, body): (String, Vec<u8>)| {
        let text = map(&body, TraceIds::Hashed, JobSpans::Pipeline);
        let text = if provider == Provider::Gitlab {
            let from_jobs = map(&body, TraceIds::Hashed, JobSpans::Job);
            // What only one of the events gives is told once in full.
            let (from_jobs, spans) = if text.starts_with("ignored: ") {
                (from_jobs, JobSpans::Job)
            } else {
                (ids(&from_jobs), JobSpans::Pipeline)
            };
            let native = ids(&map(&body, TraceIds::Native, spans));
            text + "=== with the spans of jobs from job events\n"
                + &from_jobs
                + "=== with native ids\n"
                + &native
        } else {
            let native = ids(&map(&body, TraceIds::Native, JobSpans::Pipeline));
            text + "=== with native ids\n" + &native
        };
        (format!("{provider}-{}", file.trim_end_matches(".json")), text)
    };
    payloads(&folder.join(provider.as_str())).into_iter().map(describe).collect()
}

#[test]
fn circlecis_samples_become_these_spans() {
    for (name, text) in samples(Provider::Circleci) {
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn gitlabs_samples_become_these_spans() {
    for (name, text) in samples(Provider::Gitlab) {
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn githubs_samples_become_these_spans() {
    for (name, text) in samples(Provider::Github) {
        insta::assert_snapshot!(name, text);
    }
}

/// What the mappings know to tell apart is in some sample, so that no shape is checked only where
/// the recorded deliveries are.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_samples_show_everything_that_the_mappings_tell_apart() {
    let all = |provider| samples(provider).into_iter().map(|it| it.1).collect::<String>();
    let circleci = all(Provider::Circleci);
    for shape in [
        "INTERNAL \"ping\"",
        "SERVER \"RUN\"\n",
        "SERVER \"RUN build-and-deploy\" ERROR",
        "INTERNAL \"job\" ERROR",
        "ignored: this event type gives no span",
        "quarantined: the body is no event of this provider",
        "vcs.provider.name = \"github\"",
        "vcs.provider.name = \"gitlab\"",
        "vcs.provider.name = \"bitbucket\"",
        "vcs.repository.url.full = \"https://bitbucket.example.com/projects/acme/repos/shop\"",
        "vcs.ref.head.type = \"branch\"",
        "vcs.ref.head.type = \"tag\"",
        "vcs.change.id = \"57\"",
        "circleci.vcs.fork = true",
        "circleci.vcs.fork = false",
        "circleci.vcs.origin_repository.url = \"https://github.com/visitor/shop\"",
        "circleci.trigger.type = \"scheduled_pipeline\"",
        "spanhook.provider = \"circleci\"",
        "spanhook.kind = \"run\"",
        "spanhook.kind = \"job\"",
        "spanhook.kind = \"ping\"",
        "spanhook.trigger = \"webhook\"",
        "spanhook.time_repaired = true",
    ] {
        assert!(circleci.contains(shape), "no sample gives {shape}");
    }
    for status in [
        "workflow.status = \"success\"",
        "workflow.status = \"failed\"",
        "workflow.status = \"error\"",
        "workflow.status = \"canceled\"",
        "workflow.status = \"unauthorized\"",
        "workflow.status = \"not_run\"",
        "job.status = \"success\"",
        "job.status = \"failed\"",
        "job.status = \"canceled\"",
        "job.status = \"not_run\"",
        "job.status = \"timedout\"",
        "job.status = \"infrastructure_fail\"",
        "job.status = \"unauthorized\"",
    ] {
        assert!(circleci.contains(status), "no sample has circleci.{status}");
    }
    let gitlab = all(Provider::Gitlab);
    for shape in [
        "SERVER \"RUN\"",
        "SERVER \"RUN acme/shop\"",
        "SERVER \"RUN Deploy the shop\"",
        "SERVER \"RUN Merge train\" ERROR",
        "ignored: the pipeline is not finished",
        "ignored: the job is not finished, or never ran",
        "ignored: job spans come from the pipeline event",
        "ignored: this kind of event gives no span",
        "quarantined: the body is no event of this provider",
        "event \"job not run\"",
        "reason = \"skipped\"",
        "reason = \"manual\"",
        "reason = \"created\"",
        "reason = \"canceled\"",
        "reason = \"stuck_or_timeout_failure\"",
        "INTERNAL \"queue unit\"",
        "vcs.ref.head.type = \"branch\"",
        "vcs.ref.head.type = \"tag\"",
        "vcs.change.state = \"open\"",
        "vcs.change.state = \"closed\"",
        "vcs.change.state = \"merged\"",
        "gitlab.merge_request.fork = true",
        "gitlab.merge_request.fork = false",
        "gitlab.pipeline.status = \"success\"",
        "gitlab.pipeline.status = \"failed\"",
        "gitlab.pipeline.status = \"canceled\"",
        "gitlab.pipeline.status = \"skipped\"",
        "gitlab.upstream.pipeline.id",
        "\n  link ",
        "cicd.pipeline.result = \"failure\"",
        "cicd.pipeline.result = \"timeout\"",
        "cicd.pipeline.result = \"error\"",
        "cicd.pipeline.result = \"unknown\"",
        "cicd.pipeline.task.run.result = \"failure\"",
        "cicd.pipeline.task.run.result = \"timeout\"",
        "cicd.pipeline.task.run.result = \"error\"",
        "cicd.pipeline.task.run.result = \"cancellation\"",
        "cicd.pipeline.task.run.result = \"archived\"",
        "cicd.pipeline.task.run.id = \"unknown\"",
        "cicd.pipeline.task.type = \"build\"",
        "cicd.pipeline.task.type = \"test\"",
        "cicd.pipeline.task.type = \"deploy\"",
        "gitlab.job.bridge = true",
        "gitlab.job.retries_count = 1",
        "gitlab.job.allow_failure = true",
        "gitlab.job.artifacts.size",
        "deployment.environment.name = \"production\"",
        "deployment.environment.name = \"test\"",
        "deployment.environment.name = \"shadow\"",
        "gitlab.runner.type = \"instance_type\"",
        "gitlab.runner.type = \"group_type\"",
        "gitlab.runner.type = \"project_type\"",
        "spanhook.provider = \"gitlab\"",
        "spanhook.kind = \"run\"",
        "spanhook.kind = \"stage\"",
        "spanhook.kind = \"job\"",
        "spanhook.kind = \"queue\"",
        "spanhook.stage = \"test\"",
        "spanhook.job = \"unit 1/3\"",
        "spanhook.attempt = 2",
        "spanhook.trigger = \"merge_request_event\"",
        "spanhook.time_repaired = true",
    ] {
        assert!(gitlab.contains(shape), "no sample gives {shape}");
    }
}
