//! The two payloads, as far as spans are made of them. Names are GitLab's.

use serde::Deserialize;

use crate::lenient::{Flag, Int, List, Number, Object, Text};

/// The most jobs of one pipeline that are mapped, bridges included. A job takes a few bytes of a
/// payload and 5 KiB as a span: what has more is kept as it came.
pub(super) const MAX_JOBS: usize = 20_000;

/// The most tags of a runner that are kept.
const MAX_TAGS: usize = 64;

/// Either event; which one, `object_kind` or the shape tells.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Event<'a> {
    pub(super) object_kind: Text<'a>,
    pub(super) object_attributes: Object<Pipeline<'a>>,
    pub(super) merge_request: Object<MergeRequest<'a>>,
    pub(super) project: Object<Project<'a>>,
    pub(super) commit: Object<Commit<'a>>,
    pub(super) builds: List<Object<Build<'a>>, MAX_JOBS>,
    pub(super) bridges: List<Object<Build<'a>>, MAX_JOBS>,
    pub(super) source_pipeline: Object<SourcePipeline<'a>>,
    /// Who started the pipeline; in a Job event, the job.
    pub(super) user: Object<User<'a>>,

    // Job events are flat.
    pub(super) r#ref: Text<'a>,
    pub(super) tag: Flag,
    pub(super) sha: Text<'a>,
    pub(super) retries_count: Int,
    pub(super) build_id: Int,
    pub(super) build_name: Text<'a>,
    pub(super) build_stage: Text<'a>,
    pub(super) build_status: Text<'a>,
    pub(super) build_created_at: Text<'a>,
    pub(super) build_started_at: Text<'a>,
    pub(super) build_finished_at: Text<'a>,
    pub(super) build_created_at_iso: Text<'a>,
    pub(super) build_started_at_iso: Text<'a>,
    pub(super) build_finished_at_iso: Text<'a>,
    pub(super) build_duration: Number,
    pub(super) build_queued_duration: Number,
    pub(super) build_allow_failure: Flag,
    pub(super) build_failure_reason: Text<'a>,
    pub(super) pipeline_id: Int,
    pub(super) project_id: Int,
    pub(super) runner: Object<Runner<'a>>,
    pub(super) environment: Object<Environment<'a>>,
    pub(super) repository: Object<Repository<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Pipeline<'a> {
    pub(super) id: Int,
    pub(super) iid: Int,
    pub(super) name: Text<'a>,
    pub(super) r#ref: Text<'a>,
    pub(super) tag: Flag,
    pub(super) sha: Text<'a>,
    pub(super) source: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) detailed_status: Text<'a>,
    pub(super) created_at: Text<'a>,
    pub(super) finished_at: Text<'a>,
    pub(super) duration: Number,
    pub(super) queued_duration: Number,
    pub(super) protected_ref: Flag,
    pub(super) url: Text<'a>,
    /// Since 19.2
    pub(super) root_pipeline_id: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct MergeRequest<'a> {
    pub(super) iid: Int,
    pub(super) title: Text<'a>,
    pub(super) state: Text<'a>,
    pub(super) draft: Flag,
    pub(super) work_in_progress: Flag,
    pub(super) detailed_merge_status: Text<'a>,
    pub(super) target_branch: Text<'a>,
    pub(super) source_project_id: Int,
    pub(super) target_project_id: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Project<'a> {
    pub(super) id: Int,
    pub(super) web_url: Text<'a>,
    pub(super) path_with_namespace: Text<'a>,
    pub(super) default_branch: Text<'a>,
    pub(super) visibility_level: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Repository<'a> {
    pub(super) homepage: Text<'a>,
    pub(super) visibility_level: Int,
}

/// In a Pipeline event the commit; in a Job event it also holds the pipeline's name.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Commit<'a> {
    pub(super) name: Text<'a>,
    pub(super) title: Text<'a>,
    pub(super) message: Text<'a>,
    pub(super) timestamp: Text<'a>,
    pub(super) author: Object<Author<'a>>,
    pub(super) sha: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Author<'a> {
    pub(super) name: Text<'a>,
    pub(super) email: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct User<'a> {
    pub(super) id: Int,
    pub(super) name: Text<'a>,
    pub(super) username: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Build<'a> {
    pub(super) id: Int,
    pub(super) stage: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) created_at: Text<'a>,
    pub(super) started_at: Text<'a>,
    pub(super) finished_at: Text<'a>,
    pub(super) duration: Number,
    pub(super) queued_duration: Number,
    pub(super) failure_reason: Text<'a>,
    pub(super) when: Text<'a>,
    pub(super) manual: Flag,
    pub(super) allow_failure: Flag,
    pub(super) retries_count: Int,
    pub(super) user: Object<User<'a>>,
    pub(super) runner: Object<Runner<'a>>,
    pub(super) artifacts_file: Object<Artifacts<'a>>,
    pub(super) environment: Object<Environment<'a>>,
    #[serde(skip)]
    pub(super) bridge: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Runner<'a> {
    pub(super) id: Int,
    pub(super) description: Text<'a>,
    #[serde(rename = "runner_type")]
    pub(super) kind: Text<'a>,
    pub(super) is_shared: Flag,
    pub(super) tags: List<Text<'a>, MAX_TAGS>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Artifacts<'a> {
    pub(super) filename: Text<'a>,
    pub(super) size: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Environment<'a> {
    pub(super) name: Text<'a>,
    pub(super) action: Text<'a>,
    pub(super) deployment_tier: Text<'a>,
}

/// What triggered a downstream pipeline.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct SourcePipeline<'a> {
    pub(super) project: Object<Project<'a>>,
    pub(super) pipeline_id: Int,
    pub(super) job_id: Int,
    /// Since 19.2; equal to `job_id` when a trigger job started the pipeline.
    pub(super) bridge_id: Int,
}
