//! What a step of a TaskRun knows of itself.

use crate::{
    job::{Claim, Job, Key, Place, Shape},
    provider::kubernetes::ids::{Ids, Key as Of},
    settings::Settings,
};

pub(super) const SHAPE: Shape = Shape {
    key: Key::uuid,
    run: "use context.pipelineRun.uid",
    job: "use context.taskRun.uid",
    attempt: "use the number of the attempt, from 1",
    ids: "PipelineRun and TaskRun must be UIDs; use context.pipelineRun.uid and context.taskRun.uid",
    path: "{context.pipelineRun.uid}/{context.taskRun.uid}/{step}",
    example: &[
        "5b1f0c7e-0000-4000-8000-000000000001",
        "5b1f0c7e-0000-4000-8000-000000000002",
        "build",
    ],
    // A TaskRun without a PipelineRun is a run of its own. A step names its attempt where that is
    // not the first.
    segments: |segments| {
        let text = |at: usize| segments.get(at).map(|it| (*it).to_owned());
        matches!(segments.len(), 1..=4).then(|| Claim {
            run_id: text(0),
            job_id: text(1),
            step: text(2),
            attempt: text(3),
            ..Claim::default()
        })
    },
    // Tekton sets none in a step.
    environment: |_| None,
    run_variable: "",
    place,
    // A ServiceAccount's token names its Pod, and not the run.
    claims: |_| None,
};

/// The place of a step, a TaskRun or a PipelineRun: in the trace of what began it, if that is told.
fn place(job: &Job, settings: &Settings) -> Place {
    let cluster = job.host.as_ref().unwrap_or(&settings.kubernetes.cluster);
    let ids = Ids::new(cluster);
    let run = job.run.to_string();
    let trace = ids.trace(match (&job.event, &job.above) {
        (Some(guid), _) => Of::Event(guid),
        (None, Some(name)) => Of::Job(name),
        (None, None) => Of::Object(&run),
    });
    let attempt = usize::try_from(job.attempt.unwrap_or(1)).unwrap_or(1).saturating_sub(1);
    let task = job.job.as_ref().map(ToString::to_string);
    let span = task.as_deref().map(|uid| match &job.step {
        Some(step) => ids.step(uid, attempt, step),
        None => ids.object(uid),
    });
    Place { trace, run: ids.object(&run), job: span }
}
