//! What Lighthouse sends its external plugins: webhooks as Go's own names of go-scm's fields, and
//! activities.
//!
//! Go reads names in any case, and so does this; the fields are in lower case here. Of people
//! nothing is read.
//! <https://github.com/jenkins-x/go-scm/blob/main/scm/webhook.go>,
//! <https://github.com/jenkins-x/lighthouse/blob/main/pkg/apis/lighthouse/v1alpha1/types.go>

use serde::Deserialize;
use serde_json::Value;

use crate::lenient::{Flag, Int, List, Object, Text};

/// The most stages, and steps of a stage, that are mapped.
const MAX_STAGES: usize = 1000;

/// A delivery. Which one, its shape tells: the headers that name it are not signed.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Delivered {
    // A webhook's.
    pub(super) guid: Text<'static>,
    pub(super) action: Text<'static>,
    pub(super) r#ref: Text<'static>,
    pub(super) before: Text<'static>,
    pub(super) after: Text<'static>,
    pub(super) deleted: Flag,
    pub(super) repo: Object<Repository>,
    pub(super) commit: Object<Commit>,
    pub(super) pullrequest: Object<PullRequest>,
    pub(super) issue: Object<Numbered>,
    pub(super) comment: Object<Numbered>,
    pub(super) review: Object<Numbered>,
    pub(super) label: Object<Named>,
    pub(super) deploymentstatus: Object<Numbered>,
    pub(super) deployment: Object<Deployment>,

    // An activity's.
    pub(super) jobid: Text<'static>,
    pub(super) name: Text<'static>,
    pub(super) owner: Text<'static>,
    /// What is the whole repository in a webhook is its name in an activity.
    #[serde(skip)]
    pub(super) reponame: String,
    pub(super) branch: Text<'static>,
    pub(super) context: Text<'static>,
    pub(super) giturl: Text<'static>,
    pub(super) linkurl: Text<'static>,
    pub(super) logurl: Text<'static>,
    pub(super) status: Text<'static>,
    pub(super) basesha: Text<'static>,
    pub(super) lastcommitsha: Text<'static>,
    pub(super) starttime: Text<'static>,
    pub(super) completiontime: Text<'static>,
    pub(super) stages: List<Object<Stage>, MAX_STAGES>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Repository {
    pub(super) namespace: Text<'static>,
    pub(super) name: Text<'static>,
    pub(super) clone: Text<'static>,
    pub(super) link: Text<'static>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Commit {
    pub(super) committer: Object<Signature>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Signature {
    pub(super) date: Text<'static>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct PullRequest {
    pub(super) number: Int,
    pub(super) title: Text<'static>,
    pub(super) body: Text<'static>,
    pub(super) sha: Text<'static>,
    pub(super) source: Text<'static>,
    pub(super) target: Text<'static>,
    pub(super) base: Object<Reference>,
    pub(super) link: Text<'static>,
    pub(super) merged: Flag,
    pub(super) created: Text<'static>,
    pub(super) updated: Text<'static>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Reference {
    pub(super) sha: Text<'static>,
}

/// A comment, an issue, a review, a status of a deployment.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Numbered {
    pub(super) id: Text<'static>,
    pub(super) number: Int,
    pub(super) environment: Text<'static>,
    pub(super) created: Text<'static>,
    pub(super) updated: Text<'static>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Named {
    pub(super) name: Text<'static>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Deployment {
    pub(super) sha: Text<'static>,
    pub(super) r#ref: Text<'static>,
}

/// A task of the pipeline.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Stage {
    #[serde(flatten)]
    pub(super) part: Part,
    pub(super) steps: List<Object<Part>, MAX_STAGES>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub(super) struct Part {
    pub(super) name: Text<'static>,
    pub(super) status: Text<'static>,
    pub(super) starttime: Text<'static>,
    pub(super) completiontime: Text<'static>,
}

/// The same JSON with every key in lower case.
pub(super) fn lowered(json: Value) -> Value {
    match json {
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| (key.to_lowercase(), lowered(value));
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(items) => items.into_iter().map(lowered).collect(),
        scalar => scalar,
    }
}
