//! Ids of a run's attempt, its jobs and their steps, in both schemes.

use sha2::{Digest, Sha256};

use crate::{
    host::Host,
    id::{Hashed, SpanId, TraceId, TraceIds, decimal},
    job::{Job, Key, Place},
    settings::Settings,
};

/// Which of the githubreceiver's ids a job span takes in [`TraceIds::Native`] mode.
///
/// <https://github.com/open-telemetry/opentelemetry-collector-contrib/pull/47894>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NativeJobId {
    /// Of the check run, as the receiver has them since 0.151.0.
    #[default]
    CheckRun,
    /// Of the names, as older receivers have them. Equal names give equal ids, and a running job
    /// can't know its own.
    Name,
}

/// The ids of one attempt of a run. Each attempt is a trace of its own, with jobs of its own.
///
/// Native ids follow the Collector's githubreceiver: slices of the SHA-256 of texts that are put
/// together without separators.
#[derive(Clone, Copy, Debug)]
pub(super) struct GithubIds<'a> {
    scheme: TraceIds,
    job_id: NativeJobId,
    hashed: Hashed<'a>,
    run: u64,
    attempt: u64,
}

/// A job, as its ids need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobKey<'a> {
    /// Its check run.
    pub(super) id: u64,
    /// Its name, for native ids of [`NativeJobId::Name`].
    pub(super) name: &'a str,
}

impl<'a> GithubIds<'a> {
    pub(super) fn new(settings: &Settings, host: &'a Host, run: u64, attempt: u64) -> Self {
        let hashed = Hashed::new(super::ROOM.name, host.as_str());
        let job_id = settings.github.native_job_id;
        Self { scheme: settings.trace_ids, job_id, hashed, run, attempt }
    }

    /// The attempt before this one.
    pub(super) fn previous(&self) -> Option<Self> {
        (self.attempt > 1).then(|| Self { attempt: self.attempt - 1, ..*self })
    }

    /// The attempt's trace; natively of `{run}{attempt}t`.
    pub(super) fn trace(&self) -> TraceId {
        let seed = || format!("{}{}t", self.run, self.attempt);
        self.native(|| TraceId::new(*Sha256::digest(seed()).first_chunk()?))
            .unwrap_or_else(|| self.hashed.trace(&self.key()))
    }

    /// The attempt's span; natively of `{run}{attempt}s`.
    pub(super) fn run(&self) -> SpanId {
        self.native(|| second_half(&format!("{}{}s", self.run, self.attempt)))
            .unwrap_or_else(|| self.hashed.span("run", &[&self.key()]))
    }

    /// A job's span; natively of `{job}-j`, or of `{run}{attempt}{name}`.
    pub(super) fn job(&self, JobKey { id, name }: JobKey<'_>) -> SpanId {
        self.native(|| match self.job_id {
            NativeJobId::CheckRun => second_half(&format!("{id}-j")),
            NativeJobId::Name => second_half(&format!("{}{}{name}", self.run, self.attempt)),
        })
        .unwrap_or_else(|| self.hashed.span("job", &[decimal(id, &mut [0; 20])]))
    }

    /// The span of the time that a job waited; natively of `{job}-q`, or of
    /// `{run}{attempt}{name}queue-{name}1`.
    pub(super) fn queue(&self, JobKey { id, name }: JobKey<'_>) -> SpanId {
        self.native(|| match self.job_id {
            NativeJobId::CheckRun => second_half(&format!("{id}-q")),
            NativeJobId::Name => {
                second_half(&format!("{}{}{name}queue-{name}1", self.run, self.attempt))
            }
        })
        .unwrap_or_else(|| self.hashed.span("queue", &[decimal(id, &mut [0; 20])]))
    }

    /// The ids that a step may take, the best first. Natively of `{job}-{step}-s`, or of
    /// `{run}{attempt}{name}{step}{number}`, which several steps of one job may share; then of its
    /// number, and of its place where a payload repeats the number or leaves it out.
    pub(super) fn step(
        &self,
        job: JobKey<'_>,
        (name, number, place): (&str, Option<u64>, usize),
    ) -> [Option<SpanId>; 3] {
        let native = self.native(|| match self.job_id {
            NativeJobId::CheckRun => second_half(&format!("{}-{name}-s", job.id)),
            NativeJobId::Name => {
                let number = number.unwrap_or(0);
                let Self { run, attempt, .. } = self;
                second_half(&format!("{run}{attempt}{}{name}{number}", job.name))
            }
        });
        let id = &mut [0; 20];
        let id = decimal(job.id, id);
        let numbered = |it| self.hashed.span("step", &[id, decimal(it, &mut [0; 20])]);
        let placed = self.hashed.span("step", &[id, "", decimal(place as u64, &mut [0; 20])]);
        [native, number.map(numbered), Some(placed)]
    }

    fn key(&self) -> String {
        format!("{}/{}", self.run, self.attempt)
    }

    fn native<T>(&self, id: impl FnOnce() -> Option<T>) -> Option<T> {
        (self.scheme == TraceIds::Native).then(id).flatten()
    }
}

/// The receiver takes the digits 16 to 32 of the hash for a span.
fn second_half(seed: &str) -> Option<SpanId> {
    let digest = Sha256::digest(seed);
    SpanId::new(*digest.get(8..)?.first_chunk()?)
}

/// The trace and the span of a ping, by the webhook's id. They can't meet a run's: that has a slash.
pub(super) fn ping(host: &Host, hook: u64) -> (TraceId, SpanId) {
    let ids = Hashed::new(super::ROOM.name, host.as_str());
    let hook = hook.to_string();
    (ids.trace(&hook), ids.span("ping", &[&hook]))
}

/// The place of a job.
pub(super) fn place(job: &Job, settings: &Settings) -> Place {
    let number = |key: &Key| match key {
        Key::Number(number) => *number,
        // No key of this provider.
        Key::Uuid(_) => 0,
    };
    let host = job.host.as_ref().unwrap_or(&settings.github.host);
    let ids = GithubIds::new(settings, host, number(&job.run), job.attempt.unwrap_or(1));
    // A job does not know the name that webhooks tell of it.
    let nameless = settings.trace_ids == TraceIds::Native
        && settings.github.native_job_id == NativeJobId::Name;
    let id = job.job.as_ref().filter(|_| !nameless).map(number);
    let job = id.map(|id| ids.job(JobKey { id, name: "" }));
    Place { trace: ids.trace(), run: ids.run(), job }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(job_id: NativeJobId) -> Settings {
        let mut settings = Settings { trace_ids: TraceIds::Native, ..Settings::default() };
        settings.github.native_job_id = job_id;
        settings
    }

    /// The receiver's own golden file of a skipped job.
    #[test]
    fn native_ids_are_the_receivers() {
        let job = JobKey { id: 41_546_348_818, name: "build" };
        for (kind, expected) in [
            (NativeJobId::CheckRun, ["fb6779d8c7b7c66c", "5ce15e491b4b01da"]),
            (NativeJobId::Name, ["84e27971417e5249", "750687c67fcd26a3"]),
        ] {
            let settings = settings(kind);
            let ids = GithubIds::new(&settings, &settings.github.host, 14_796_710_445, 13);
            assert_eq!(ids.trace().to_string(), "0b0cff7305ff68eb7d1bb72c7fdbe277");
            assert_eq!(ids.run().to_string(), "3b54c768f3ef27e1");
            assert_eq!([ids.job(job).to_string(), ids.queue(job).to_string()], expected);
        }
    }

    #[test]
    fn issue_7_run_1_attempt_11_and_run_11_attempt_1_are_two_traces_but_natively_one() {
        let of = |settings: &Settings, run, attempt| {
            GithubIds::new(settings, &settings.github.host, run, attempt).trace()
        };
        let hashed = Settings::default();
        assert_ne!(of(&hashed, 1, 11), of(&hashed, 11, 1));
        let native = settings(NativeJobId::CheckRun);
        assert_eq!(of(&native, 1, 11), of(&native, 11, 1), "the receiver's fault");
    }
}
