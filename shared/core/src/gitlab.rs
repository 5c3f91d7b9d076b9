//! GitLab: Pipeline and Job events to spans.
//!
//! The whole trace comes from the terminal Pipeline event, so one delivery gives all of it,
//! whatever order events arrive in. <https://docs.gitlab.com/user/project/integrations/webhook_events/>

mod map;
mod payload;

pub use self::{
    map::{GitlabSettings, JobSpans, map},
    payload::MAX_JOBS,
};
