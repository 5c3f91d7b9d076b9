//! Ids of everything that a cluster's objects and Lighthouse's deliveries tell. All of them follow
//! from what each object carries itself, so nothing is looked up and nothing is remembered.

use crate::{
    host::Host,
    id::{Hashed, SpanId, TraceId, decimal},
};

/// What a trace is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'k> {
    /// A delivery of the code host, by its GUID.
    Event(&'k str),
    /// A commit: its repository (`owner/name` in lower case) and its SHA.
    Commit(&'k str, &'k str),
    /// A LighthouseJob, by its name.
    Job(&'k str),
    /// A PipelineRun, a TaskRun or a Pod, by its UID.
    Object(&'k str),
    /// A pull request: `{host}/{owner}/{name}/{number}`.
    PullRequest(&'k str),
}

/// The ids of one cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids<'a>(Hashed<'a>);

impl<'a> Ids<'a> {
    pub(crate) fn new(cluster: &'a Host) -> Self {
        Self(Hashed::new(super::ROOM.name, cluster.as_str()))
    }

    pub(crate) fn trace(&self, key: Key<'_>) -> TraceId {
        match key {
            Key::Event(guid) => self.0.trace_of(&["event", guid]),
            Key::Commit(repository, sha) => self.0.trace_of(&["commit", repository, sha]),
            Key::Job(name) => self.0.trace_of(&["job", name]),
            Key::Object(uid) => self.0.trace_of(&["object", uid]),
            Key::PullRequest(path) => self.0.trace_of(&["pull_request", path]),
        }
    }

    /// A delivery of the code host.
    pub(crate) fn event(&self, guid: &str) -> SpanId {
        self.0.span("event", &[guid])
    }

    /// The event that brought a commit to a branch, or to the pull request `PR-1`.
    pub(crate) fn commit_event(&self, repository: &str, sha: &str, branch: &str) -> SpanId {
        self.0.span("event", &[repository, sha, branch])
    }

    /// A pull request.
    pub(crate) fn pull_request(&self, path: &str) -> SpanId {
        self.0.span("pull_request", &[path])
    }

    /// A LighthouseJob. Its namespace is left out: the name ends with random letters, and an
    /// activity record has no namespace.
    pub(crate) fn job(&self, name: &str) -> SpanId {
        self.0.span("job", &[name])
    }

    /// A PipelineRun, a TaskRun, a CustomRun, a Pod or a PipelineActivity.
    pub(crate) fn object(&self, uid: &str) -> SpanId {
        self.0.span("object", &[uid])
    }

    /// The wait of a PipelineRun or a TaskRun.
    pub(crate) fn queue(&self, uid: &str) -> SpanId {
        self.0.span("queue", &[uid])
    }

    /// A try before the last one, from 0.
    pub(crate) fn retry(&self, uid: &str, attempt: usize) -> SpanId {
        self.0.span("retry", &[uid, decimal(attempt as u64, &mut [0; 20])])
    }

    /// A step of a try.
    pub(crate) fn step(&self, uid: &str, attempt: usize, name: &str) -> SpanId {
        self.0.span("step", &[uid, decimal(attempt as u64, &mut [0; 20]), name])
    }

    /// A container of a Pod.
    pub(crate) fn container(&self, uid: &str, name: &str, restart: u64) -> SpanId {
        self.0.span("container", &[uid, name, decimal(restart, &mut [0; 20])])
    }

    /// The time until a Pod had a node.
    pub(crate) fn schedule(&self, uid: &str) -> SpanId {
        self.0.span("schedule", &[uid])
    }

    /// The pull of a container's image.
    pub(crate) fn pull(&self, uid: &str, container: &str) -> SpanId {
        self.0.span("pull", &[uid, container])
    }

    /// A pull that failed, which may happen many times: by the Kubernetes event that told it.
    pub(crate) fn failed_pull(&self, uid: &str, container: &str, event: &str) -> SpanId {
        self.0.span("pull", &[uid, container, event])
    }

    /// What a PipelineActivity or an activity record lists, by its place in it.
    pub(crate) fn activity(&self, keys: &[&str]) -> SpanId {
        self.0.span("activity", keys)
    }
}
