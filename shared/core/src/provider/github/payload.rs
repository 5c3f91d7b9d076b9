//! The two payloads, and the ping, as far as spans are made of them. Names are GitHub's.
//!
//! Of people nothing is read: no actor, sender, author or committer.
//! <https://docs.github.com/en/webhooks/webhook-events-and-payloads>

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;

use crate::lenient::{Int, List, Object, Text};

/// The most steps of a job that are mapped; GitHub was never seen to send more than a few dozen.
const MAX_STEPS: usize = 20_000;

/// The most labels, pull requests and called workflows.
const MAX_ITEMS: usize = 100;

/// Any event; which one, its shape tells: nothing proves the header that names it.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Event<'a> {
    pub(super) workflow_job: Keyed<Job<'a>>,
    pub(super) workflow_run: Keyed<WorkflowRun<'a>>,
    pub(super) workflow: Keyed<Workflow<'a>>,
    pub(super) repository: Object<Repository<'a>>,
    /// Beside a job: that of its environment.
    pub(super) deployment: Object<Deployment<'a>>,

    // A ping's.
    pub(super) zen: Text<'a>,
    pub(super) hook: Object<Hook<'a>>,
    pub(super) hook_id: Int,

    // What other events hold that have a run in them too.
    pub(super) deployment_status: Option<IgnoredAny>,
    pub(super) deployment_review: Option<IgnoredAny>,
    pub(super) check_run: Option<IgnoredAny>,
    pub(super) environment: Option<IgnoredAny>,
    pub(super) workflow_job_run: Option<IgnoredAny>,

    // Of which every event has at least one.
    pub(super) action: Option<IgnoredAny>,
    pub(super) sender: Option<IgnoredAny>,
    pub(super) organization: Option<IgnoredAny>,
    pub(super) enterprise: Option<IgnoredAny>,
    pub(super) installation: Option<IgnoredAny>,
}

/// An object under a key that tells the event even where the object is null.
pub(super) struct Keyed<T> {
    pub(super) present: bool,
    pub(super) object: Option<T>,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self { present: false, object: None }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(deserializer).map(|it| Self { present: true, object: it.0 })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Job<'a> {
    /// That of its check run, which a running job knows as `job.check_run_id`.
    pub(super) id: Int,
    pub(super) run_id: Int,
    /// Missing in payloads of 2021.
    pub(super) run_attempt: Int,
    pub(super) name: Text<'a>,
    /// Missing in payloads of early 2022.
    pub(super) workflow_name: Text<'a>,
    /// A tag's name for tags, and nothing says so.
    pub(super) head_branch: Text<'a>,
    pub(super) head_sha: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) conclusion: Text<'a>,
    pub(super) created_at: Text<'a>,
    pub(super) started_at: Text<'a>,
    pub(super) completed_at: Text<'a>,
    pub(super) html_url: Text<'a>,
    pub(super) steps: List<Object<Step<'a>>, MAX_STEPS>,
    /// Those that were asked for.
    pub(super) labels: List<Text<'a>, MAX_ITEMS>,
    /// Null before a runner has it, and 0 where none ever had.
    pub(super) runner_id: Int,
    pub(super) runner_name: Text<'a>,
    pub(super) runner_group_id: Int,
    pub(super) runner_group_name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Step<'a> {
    pub(super) name: Text<'a>,
    /// With gaps: each step reserves one for what it does afterwards.
    pub(super) number: Int,
    pub(super) status: Text<'a>,
    pub(super) conclusion: Text<'a>,
    pub(super) started_at: Text<'a>,
    pub(super) completed_at: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Deployment<'a> {
    pub(super) id: Int,
    pub(super) environment: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct WorkflowRun<'a> {
    pub(super) id: Int,
    /// Missing in payloads of 2021.
    pub(super) run_attempt: Int,
    pub(super) run_number: Int,
    pub(super) workflow_id: Int,
    pub(super) check_suite_id: Int,
    /// The run's own title if its file sets one (`run-name`), and may be empty.
    pub(super) name: Text<'a>,
    pub(super) path: Text<'a>,
    pub(super) event: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) conclusion: Text<'a>,
    /// Of the first attempt.
    pub(super) created_at: Text<'a>,
    /// Of this attempt; missing in payloads of 2021.
    pub(super) run_started_at: Text<'a>,
    /// The end.
    pub(super) updated_at: Text<'a>,
    pub(super) head_branch: Text<'a>,
    pub(super) head_sha: Text<'a>,
    pub(super) display_title: Text<'a>,
    pub(super) head_repository: Object<Repository<'a>>,
    /// Empty for those of forks.
    pub(super) pull_requests: List<Object<PullRequest<'a>>, MAX_ITEMS>,
    pub(super) referenced_workflows: List<Object<ReferencedWorkflow<'a>>, MAX_ITEMS>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct PullRequest<'a> {
    pub(super) number: Int,
    pub(super) base: Object<Reference<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Reference<'a> {
    pub(super) r#ref: Text<'a>,
    pub(super) sha: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct ReferencedWorkflow<'a> {
    pub(super) path: Text<'a>,
    pub(super) r#ref: Text<'a>,
}

/// The file of a run.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Workflow<'a> {
    pub(super) name: Text<'a>,
    pub(super) path: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Repository<'a> {
    pub(super) html_url: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) full_name: Text<'a>,
    pub(super) owner: Object<Owner<'a>>,
    pub(super) default_branch: Text<'a>,
    /// Text, null, or a list of texts.
    pub(super) custom_properties: Object<BTreeMap<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Owner<'a> {
    pub(super) login: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Hook<'a> {
    pub(super) id: Int,
    pub(super) r#type: Text<'a>,
    pub(super) created_at: Text<'a>,
    pub(super) updated_at: Text<'a>,
}
