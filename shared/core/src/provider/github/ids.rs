//! Ids of a run's attempt and its jobs.

use crate::{
    id::Hashed,
    job::{Job, Key, Place},
    settings::Settings,
};

/// The place of a job. Each attempt is a run of its own, with jobs of its own.
pub(super) fn place(job: &Job, settings: &Settings) -> Place {
    let host = job.host.as_ref().unwrap_or(&settings.github.host);
    let ids = Hashed::new(super::ROOM.name, host.as_str());
    let run = format!("{}/{}", job.run, job.attempt.unwrap_or(1));
    let job = job.job.as_ref().map(Key::to_string).map(|it| ids.span("job", &[&it]));
    Place { trace: ids.trace(&run), run: ids.span("run", &[&run]), job }
}
