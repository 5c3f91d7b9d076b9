//! What is watched.

use kube::{api::ApiResource, runtime::watcher};

/// How many objects of a list are asked for at a time.
const PAGE: u32 = 100;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Lighthouse's order to run something.
    LighthouseJob,
    /// A run of a Tekton pipeline.
    PipelineRun,
    /// A run of a Tekton task.
    TaskRun,
    /// A run of what another controller knows, within a Tekton pipeline.
    CustomRun,
    /// Jenkins X's record of a run.
    PipelineActivity,
    /// A Pod of a TaskRun.
    Pod,
    /// What happened to such a Pod.
    Event,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LighthouseJob,
        Self::PipelineRun,
        Self::TaskRun,
        Self::CustomRun,
        Self::PipelineActivity,
        Self::Pod,
        Self::Event,
    ];

    /// The kind's name in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LighthouseJob => "LighthouseJob",
            Self::PipelineRun => "PipelineRun",
            Self::TaskRun => "TaskRun",
            Self::CustomRun => "CustomRun",
            Self::PipelineActivity => "PipelineActivity",
            Self::Pod => "Pod",
            Self::Event => "Event",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// The group and its versions that are understood, the newest first: which of them a cluster
    /// has depends on the age of what is installed there.
    #[must_use]
    pub fn versions(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::LighthouseJob => ("lighthouse.jenkins.io", &["v1alpha1"]),
            Self::PipelineRun | Self::TaskRun => ("tekton.dev", &["v1", "v1beta1"]),
            Self::CustomRun => ("tekton.dev", &["v1beta1"]),
            Self::PipelineActivity => ("jenkins.io", &["v1"]),
            Self::Pod | Self::Event => ("", &["v1"]),
        }
    }

    /// The name of its lists.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::LighthouseJob => "lighthousejobs",
            Self::PipelineRun => "pipelineruns",
            Self::TaskRun => "taskruns",
            Self::CustomRun => "customruns",
            Self::PipelineActivity => "pipelineactivities",
            Self::Pod => "pods",
            Self::Event => "events",
        }
    }

    /// Where one version of it is served.
    #[must_use]
    pub fn resource(self, version: &str) -> ApiResource {
        let group = self.versions().0;
        let api_version =
            if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: self.as_str().to_owned(),
            plural: self.plural().to_owned(),
        }
    }

    /// What the API server is asked for. Every Pod of a TaskRun has the label, while
    /// `app.kubernetes.io/managed-by` can be set to something else in Tekton's `config-defaults`:
    /// <https://tekton.dev/docs/pipelines/labels/>
    #[must_use]
    pub fn selection(self) -> watcher::Config {
        // A page is in memory whole, of every kind at the same time, and a PipelineRun may have a
        // megabyte.
        let pages = watcher::Config::default().page_size(PAGE);
        match self {
            Self::Pod => pages.labels("tekton.dev/taskRun"),
            Self::Event => pages.fields("involvedObject.kind=Pod"),
            _ => pages,
        }
    }
}
