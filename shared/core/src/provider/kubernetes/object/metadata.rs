//! What every object says of itself. Labels and annotations are copied from a LighthouseJob to its
//! PipelineRun, its TaskRuns and their Pods, so that each of them tells alone where it belongs.
//!
//! <https://github.com/jenkins-x/lighthouse/blob/main/pkg/util/labels.go>,
//! <https://tekton.dev/docs/pipelines/labels/>

use serde::Deserialize;

use crate::lenient::{List, Object, Text};

/// The most owners of an object that are read; it has one as a rule.
const MAX_OWNERS: usize = 16;

/// `metadata`.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(crate) struct Metadata<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) namespace: Text<'a>,
    pub(crate) uid: Text<'a>,
    pub(crate) creation_timestamp: Text<'a>,
    pub(crate) deletion_timestamp: Text<'a>,
    labels: Object<Labels<'a>>,
    annotations: Object<Annotations<'a>>,
    owner_references: List<Object<Owner<'a>>, MAX_OWNERS>,
}

impl<'a> Metadata<'a> {
    /// Its labels, empty where there are none.
    pub(crate) fn labels(&self) -> Labels<'a> {
        self.labels.get().cloned().unwrap_or_default()
    }

    /// Those of its annotations that are read.
    pub(crate) fn annotations(&self) -> Annotations<'a> {
        self.annotations.get().cloned().unwrap_or_default()
    }

    /// Its owner of that kind.
    pub(crate) fn owner(&self, kind: &str) -> Option<&Owner<'a>> {
        let mut owners = self.owner_references.items.iter().filter_map(|it| it.get());
        owners.find(|it| it.kind.as_str() == kind)
    }
}

/// The labels that are read.
#[derive(Clone, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct Labels<'a> {
    /// The delivery of the code host that began it all; not set for GitLab and Azure DevOps.
    #[serde(rename = "event-GUID")]
    pub(crate) event: Text<'a>,
    /// The LighthouseJob's name, on everything below it.
    #[serde(rename = "lighthouse.jenkins-x.io/id")]
    pub(crate) job_id: Text<'a>,
    /// The job among others of its repository, cut to 63 characters.
    #[serde(rename = "lighthouse.jenkins-x.io/job")]
    pub(crate) job: Text<'a>,
    #[serde(rename = "lighthouse.jenkins-x.io/type")]
    pub(crate) job_type: Text<'a>,
    /// `PR-42` for a pull request, `batch` for several.
    #[serde(rename = "lighthouse.jenkins-x.io/branch")]
    pub(crate) branch: Text<'a>,
    #[serde(rename = "lighthouse.jenkins-x.io/baseSHA")]
    pub(crate) base_revision: Text<'a>,
    #[serde(rename = "lighthouse.jenkins-x.io/lastCommitSHA")]
    pub(crate) revision: Text<'a>,
    /// In lower case.
    #[serde(rename = "lighthouse.jenkins-x.io/refs.org")]
    pub(crate) owner: Text<'a>,
    #[serde(rename = "lighthouse.jenkins-x.io/refs.repo")]
    pub(crate) repository: Text<'a>,
    #[serde(rename = "lighthouse.jenkins-x.io/refs.pull")]
    pub(crate) change: Text<'a>,
    /// The Pipeline's name, or the PipelineRun's where the pipeline is written into it.
    #[serde(rename = "tekton.dev/pipeline")]
    pub(crate) pipeline: Text<'a>,
    #[serde(rename = "tekton.dev/pipelineRun")]
    pub(crate) pipeline_run: Text<'a>,
    /// Since Tekton 0.63.
    #[serde(rename = "tekton.dev/pipelineRunUID")]
    pub(crate) pipeline_run_uid: Text<'a>,
    /// The task among others of its pipeline.
    #[serde(rename = "tekton.dev/pipelineTask")]
    pub(crate) pipeline_task: Text<'a>,
    #[serde(rename = "tekton.dev/task")]
    pub(crate) task: Text<'a>,
    /// Since Tekton 0.63.
    #[serde(rename = "tekton.dev/taskRunUID")]
    pub(crate) task_run_uid: Text<'a>,
    /// The name that a PipelineRun of Pipelines-as-Code has in its file.
    #[serde(rename = "pipelinesascode.tekton.dev/original-prname")]
    pub(crate) file_name: Text<'a>,
    #[serde(rename = "pipelinesascode.tekton.dev/sha")]
    pub(crate) file_revision: Text<'a>,
    #[serde(rename = "pipelinesascode.tekton.dev/pull-request")]
    pub(crate) file_change: Text<'a>,
    #[serde(rename = "pipelinesascode.tekton.dev/event-type")]
    pub(crate) file_event: Text<'a>,
}

/// The annotations that are read.
#[derive(Clone, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct Annotations<'a> {
    /// The repository's address.
    #[serde(rename = "lighthouse.jenkins-x.io/cloneURI")]
    pub(crate) clone_url: Text<'a>,
    /// As the label, whole.
    #[serde(rename = "lighthouse.jenkins-x.io/job")]
    pub(crate) job: Text<'a>,
    /// The span that another telemetry plugin made of this object.
    #[serde(rename = "lighthouse.jenkins-x.io/traceparent")]
    pub(crate) plugin_context: Text<'a>,
    /// JSON with a `traceparent`, which whoever made the PipelineRun or Tekton itself wrote.
    #[serde(rename = "tekton.dev/pipelinerunSpanContext")]
    pub(crate) pipeline_run_context: Text<'a>,
    /// The same, written by Tekton for a TaskRun.
    #[serde(rename = "tekton.dev/taskrunSpanContext")]
    pub(crate) task_run_context: Text<'a>,
    #[serde(rename = "pipelinesascode.tekton.dev/repo-url")]
    pub(crate) file_repository: Text<'a>,
    #[serde(rename = "pipelinesascode.tekton.dev/branch")]
    pub(crate) file_branch: Text<'a>,
}

/// One of `ownerReferences`.
#[derive(Clone, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct Owner<'a> {
    pub(crate) kind: Text<'a>,
    pub(crate) name: Text<'a>,
    pub(crate) uid: Text<'a>,
}
