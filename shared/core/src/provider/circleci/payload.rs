//! What `CircleCI` sends. Every field may be missing, of another type, or null.

use serde::Deserialize;

use crate::lenient::{Flag, Int, Object, Text};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Event<'a> {
    pub(super) r#type: Text<'a>,
    pub(super) id: Text<'a>,
    pub(super) happened_at: Text<'a>,
    pub(super) webhook: Object<Named<'a>>,
    pub(super) workflow: Object<Workflow<'a>>,
    pub(super) job: Object<Job<'a>>,
    pub(super) pipeline: Object<Pipeline<'a>>,
    pub(super) project: Object<Named<'a>>,
    pub(super) organization: Object<Named<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Named<'a> {
    pub(super) id: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) slug: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Workflow<'a> {
    pub(super) id: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) created_at: Text<'a>,
    pub(super) stopped_at: Text<'a>,
    pub(super) url: Text<'a>,
    pub(super) status: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Job<'a> {
    pub(super) id: Text<'a>,
    pub(super) number: Int,
    pub(super) name: Text<'a>,
    pub(super) started_at: Text<'a>,
    pub(super) stopped_at: Text<'a>,
    pub(super) status: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Pipeline<'a> {
    pub(super) id: Text<'a>,
    pub(super) number: Int,
    pub(super) created_at: Text<'a>,
    pub(super) trigger: Object<Trigger<'a>>,
    pub(super) vcs: Object<Vcs<'a>>,
    pub(super) trigger_parameters: Object<TriggerParameters<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Trigger<'a> {
    pub(super) r#type: Text<'a>,
}

/// Of GitHub OAuth and Bitbucket Cloud organisations.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Vcs<'a> {
    pub(super) provider_name: Text<'a>,
    pub(super) target_repository_url: Text<'a>,
    pub(super) origin_repository_url: Text<'a>,
    pub(super) revision: Text<'a>,
    pub(super) branch: Text<'a>,
    pub(super) tag: Text<'a>,
    pub(super) commit: Object<Commit<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Commit<'a> {
    pub(super) subject: Text<'a>,
}

/// Of GitHub App, GitLab and Bitbucket Data Center organisations: `git` and `circleci` are common,
/// the third object is named after the provider.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct TriggerParameters<'a> {
    pub(super) git: Object<GitParameters<'a>>,
    pub(super) circleci: Object<CircleciParameters<'a>>,
    pub(super) gitlab: Object<ProviderParameters<'a>>,
    pub(super) github_app: Object<ProviderParameters<'a>>,
    pub(super) bitbucket: Object<ProviderParameters<'a>>,
    pub(super) bitbucket_dc: Object<ProviderParameters<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct GitParameters<'a> {
    pub(super) tag: Text<'a>,
    pub(super) branch: Text<'a>,
    pub(super) r#ref: Text<'a>,
    pub(super) checkout_sha: Text<'a>,
    pub(super) checkout_url: Text<'a>,
    pub(super) repo_url: Text<'a>,
    pub(super) commit_message: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct CircleciParameters<'a> {
    pub(super) event_time: Text<'a>,
    pub(super) event_type: Text<'a>,
    pub(super) trigger_type: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct ProviderParameters<'a> {
    pub(super) web_url: Text<'a>,
    pub(super) repo_url: Text<'a>,
    pub(super) branch: Text<'a>,
    pub(super) commit_sha: Text<'a>,
    pub(super) commit_title: Text<'a>,
    pub(super) is_fork_merge_request: Flag,
}
