//! What the event of a run and the events of its jobs have in common.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::super::{ROOM, ids::GithubIds, payload};
use crate::{
    delivery::Mapped,
    host::Host,
    mapping::{self, Names, mentions},
    otlp::{
        Telemetry,
        span::{Attributes, Group, Link, Trace},
    },
    project::Project,
    semconv as sc,
    settings::Settings,
};

/// What an event tells of its run.
pub(super) struct Facts<'a> {
    pub(super) id: u64,
    pub(super) attempt: Option<u64>,
    /// The workflow's name.
    pub(super) name: Cow<'a, str>,
    pub(super) branch: Cow<'a, str>,
    /// `branch` or `tag`, where the event tells.
    pub(super) branch_type: Option<&'static str>,
    pub(super) sha: Cow<'a, str>,
    /// The one pull request of the run, where the event tells.
    pub(super) change: Option<Change<'a>>,
}

/// A pull request.
pub(super) struct Change<'a> {
    number: String,
    base: Cow<'a, str>,
    base_sha: Cow<'a, str>,
}

impl<'a> Change<'a> {
    /// The pull request of a run that has exactly one: more of them say only that they share a
    /// branch.
    pub(super) fn only(requests: &[&payload::PullRequest<'a>]) -> Option<Self> {
        let [request] = requests else { return None };
        let base = request.base.get();
        Some(Self {
            number: request.number.0?.to_string(),
            base: base.map(|it| it.r#ref.cow()).unwrap_or_default(),
            base_sha: base.map(|it| it.sha.cow()).unwrap_or_default(),
        })
    }

    /// The pull request that a merge queue tries: its branch is
    /// `gh-readonly-queue/{base}/pr-{number}-{sha}`, of which the base may hold slashes.
    ///
    /// <https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue>
    fn queued(branch: &str) -> Option<Self> {
        let (base, head) = branch.strip_prefix("gh-readonly-queue/")?.rsplit_once("/pr-")?;
        let (number, _) = head.split_once('-')?;
        let digits = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
        digits.then(|| Self {
            number: number.to_owned(),
            base: base.to_owned().into(),
            base_sha: Cow::default(),
        })
    }
}

/// A run's attempt: its ids, and the resource that all its spans share.
pub(super) struct Run<'a, 's> {
    settings: &'s Settings,
    host: Host,
    /// The repository's address, of which every other one is made.
    repository_url: String,
    path: Cow<'a, str>,
    id: u64,
    attempt: u64,
    branch: Cow<'a, str>,
    sha: Cow<'a, str>,
    pub(super) resource: Attributes<'a>,
}

impl<'a, 's> Run<'a, 's> {
    pub(super) fn new(
        repository: Option<&payload::Repository<'a>>,
        facts: Facts<'a>,
        settings: &'s Settings,
    ) -> Self {
        let parsed = repository.and_then(|it| mapping::Repository::parse(it.html_url.as_str()));
        let parsed = parsed.unwrap_or_default();
        let mut path = repository.map(|it| it.full_name.cow()).unwrap_or_default();
        if path.is_empty() && !parsed.name.is_empty() {
            path = format!("{}/{}", parsed.owner, parsed.name).into();
        }
        let (owner, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let (owner, name) = (owner.to_owned(), name.to_owned());
        let host = parsed.host.unwrap_or_else(|| settings.github.host.clone());
        let repository_url = match (parsed.url.as_str(), path.as_ref()) {
            ("", "") => format!("https://{host}"),
            ("", path) => format!("https://{host}/{path}"),
            _ => parsed.url,
        };
        let attempt = facts.attempt.filter(|it| *it > 0).unwrap_or(1);
        let login = repository.and_then(|it| it.owner.get()).map(|it| it.login.cow());
        let login = login.filter(|it| !it.is_empty()).unwrap_or(owner.into());
        let url = format!("{repository_url}/actions/runs/{}/attempts/{attempt}", facts.id);

        let mut resource = Attributes::with_capacity(24);
        let names = Names { project: &path, repository: &name, pipeline: &facts.name };
        let service = settings.github.service_name.render(names);
        resource.set(sc::SERVICE_NAME, service);
        resource.set(sc::PROVIDER, ROOM.name);
        resource.set(sc::CICD_PIPELINE_NAME, facts.name.clone());
        resource.set(sc::CICD_PIPELINE_RUN_ID, facts.id.to_string());
        resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, url);
        resource.set(sc::VCS_PROVIDER_NAME, ROOM.name);
        let known = (!path.is_empty()).then(|| repository_url.clone());
        resource.set(sc::VCS_REPOSITORY_URL_FULL, known);
        resource.set(sc::VCS_REPOSITORY_NAME, name);
        resource.set(sc::VCS_OWNER_NAME, login);
        resource.set("github.run.attempt", attempt);
        let mut run = Self {
            settings,
            host,
            repository_url,
            path,
            id: facts.id,
            attempt,
            branch: facts.branch.clone(),
            sha: facts.sha.clone(),
            resource,
        };
        run.refer(repository.map(|it| it.default_branch.as_str()).unwrap_or_default(), facts);
        run.custom_properties(repository);
        run
    }

    /// What the run is of: a reference, a commit, a pull request.
    fn refer(&mut self, default_branch: &str, facts: Facts<'a>) {
        let queued = Change::queued(&facts.branch);
        let kind = match facts.branch.as_ref() {
            "" => None,
            branch if branch == default_branch || queued.is_some() => Some("branch"),
            _ => facts.branch_type,
        };
        let resource = &mut self.resource;
        resource.set(sc::VCS_REF_HEAD_NAME, facts.branch);
        resource.set(sc::VCS_REF_HEAD_TYPE, kind);
        resource.set(sc::VCS_REF_TYPE, kind);
        resource.set(sc::VCS_REF_HEAD_REVISION, facts.sha);
        if let Some(change) = facts.change.or(queued) {
            let base = (!change.base.is_empty()).then_some("branch");
            resource.set(sc::VCS_CHANGE_ID, change.number);
            resource.set(sc::VCS_REF_BASE_NAME, change.base);
            resource.set(sc::VCS_REF_BASE_TYPE, base);
            resource.set(sc::VCS_REF_BASE_REVISION, change.base_sha);
        }
    }

    /// Those that the operator names: they may hold anything.
    fn custom_properties(&mut self, repository: Option<&payload::Repository<'a>>) {
        let Some(properties) = repository.and_then(|it| it.custom_properties.get()) else { return };
        for name in &self.settings.github.custom_properties {
            let key = format!("github.repository.custom_properties.{name}");
            match properties.get(name) {
                Some(Json::String(text)) => self.resource.set(key, text.clone()),
                Some(Json::Array(items)) => {
                    let texts = items.iter().filter_map(Json::as_str);
                    let texts: Vec<Cow<'a, str>> = texts.map(|it| it.to_owned().into()).collect();
                    self.resource.set(key, texts);
                }
                Some(it @ (Json::Bool(_) | Json::Number(_))) => {
                    self.resource.set(key, it.to_string());
                }
                Some(Json::Null | Json::Object(_)) | None => {}
            }
        }
    }

    pub(super) fn ids(&self) -> GithubIds<'_> {
        GithubIds::new(self.settings, &self.host, self.id, self.attempt)
    }

    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Whether steps become spans.
    pub(super) fn step_spans(&self) -> bool {
        self.settings.github.step_spans
    }

    /// The run's span in the attempt before.
    pub(super) fn previous(&self) -> Option<Link> {
        let ids = self.ids().previous()?;
        Some(Link { trace: ids.trace(), span: ids.run() })
    }

    /// The page of a job.
    pub(super) fn job_url(&self, job: u64) -> String {
        format!("{}/actions/runs/{}/job/{job}", self.repository_url, self.id)
    }

    /// Whether a name holds something of this run, which would make one span name a run.
    pub(super) fn varies(&self, name: &str) -> bool {
        let short = self.sha.get(..7).unwrap_or_default();
        let id = self.id.to_string();
        [&self.branch, &self.sha, short, &id].into_iter().any(|it| mentions(name, it))
    }

    /// Whether it is the repository of this name, and no fork of it.
    pub(super) fn is_of(&self, full_name: &str) -> bool {
        self.path.eq_ignore_ascii_case(full_name)
    }

    pub(super) fn finish(&self, groups: Vec<Group<'a>>) -> Mapped<'a> {
        let trace = Trace { id: self.ids().trace(), groups };
        let project = Project::new(self.host.as_str(), self.path.clone());
        Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_of_a_merge_queue_tells_its_pull_request() {
        let read =
            |branch: &str| Change::queued(branch).map(|it| (it.number, it.base.into_owned()));
        let found = |number: &str, base: &str| Some((number.to_owned(), base.to_owned()));
        assert_eq!(read("gh-readonly-queue/main/pr-104-0123abcd"), found("104", "main"));
        assert_eq!(read("gh-readonly-queue/a/pr-1-x/b/pr-9-0123"), found("9", "a/pr-1-x/b"));
        for branch in
            ["main", "gh-readonly-queue/main", "gh-readonly-queue/main/pr-x-0", "x/pr-1-2"]
        {
            assert_eq!(read(branch), None, "{branch}");
        }
    }
}
