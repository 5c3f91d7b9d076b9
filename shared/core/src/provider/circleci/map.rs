//! Events to spans: one span each, final when it arrives.

use std::borrow::Cow;

use uuid::Uuid;

use super::{
    ids::CircleciIds,
    payload::{Event, GitParameters, Job, Named, Pipeline, ProviderParameters, Vcs, Workflow},
};
use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    lenient::{Int, Text},
    mapping::{Names, Outcome, Repository, first_line, mark_repaired, path, public_url, read},
    otlp::{
        Telemetry,
        span::{Attributes, Group, Kind, Span, Trace},
    },
    project::Project,
    semconv::{self as sc, RunResult},
    settings::Settings,
    task::Task,
    time::{self, Interval, Nanos},
};

/// Maps a verified delivery.
pub(super) fn map<'a>(
    delivery: &Delivery<'a>,
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    let event: Event<'a> = read(delivery.body)?;
    match event.r#type.as_str() {
        "ping" => ping(&event, settings),
        "workflow-completed" => workflow(event, settings),
        "job-completed" => job(event, settings),
        "" => Err(Unmappable::UnknownShape),
        _ => Ok(Mapped::Ignored("this event type gives no span")),
    }
}

/// A ping becomes a small trace of its own, so that the button in CircleCI's dialog shows up.
fn ping<'a>(event: &Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    let ids = CircleciIds::new(settings.trace_ids, settings.circleci.host.as_str());
    let id = canonical(&event.id).ok_or(Unmappable::NoRun)?;
    let at = time::parse(event.happened_at.as_str()).ok_or(Unmappable::NoTime)?;
    let webhook = event.webhook.get();
    let mut span = Span::new(ids.ping(&id), None, "ping", Kind::Internal, (at, at));
    span.attributes.set(sc::KIND, "ping");
    span.attributes.set("circleci.event.id", id.clone());
    span.attributes.set("circleci.webhook.id", webhook.map(|it| it.id.cow()));
    span.attributes.set("circleci.webhook.name", webhook.map(|it| it.name.cow()));
    let mut resource = Attributes::default();
    resource.set(
        sc::SERVICE_NAME,
        settings.circleci.service_name.render(Names { pipeline: "ping", ..Names::default() }),
    );
    resource.set(sc::PROVIDER, super::ROOM.name);
    let trace = Trace { id: ids.trace(&id), groups: vec![Group { resource, spans: vec![span] }] };
    // A ping is of a webhook, which is all the project that it has.
    let project = Project::named(webhook.map(|it| it.id.cow()).unwrap_or_default());
    Ok(Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }]))
}

fn workflow<'a>(event: Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    let run = Run::new(event, settings)?;
    let workflow = &run.workflow;
    let interval = Interval::repair(
        time::parse(workflow.created_at.as_str())
            .or_else(|| time::parse(run.pipeline.created_at.as_str())),
        time::parse(workflow.stopped_at.as_str()),
        None,
        run.happened_at,
    )
    .ok_or(Unmappable::NoTime)?;
    let name = match workflow.name.get() {
        Some(name) => format!("{} {name}", sc::ACTION_RUN).into(),
        None => Cow::Borrowed(sc::ACTION_RUN),
    };
    let id = run.ids.run(&run.id);
    let mut span = Span::new(id, None, name, Kind::Server, (interval.start, interval.end));
    span.attributes.set(sc::KIND, "run");
    span.attributes.set(sc::TRIGGER, run.trigger());
    span.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    outcome(&workflow.status).apply(sc::CICD_PIPELINE_RESULT, &mut span);
    span.attributes.set("circleci.workflow.status", workflow.status.cow());
    run.describe(&mut span);
    mark_repaired(&mut span, &interval);
    Ok(run.finish(span))
}

fn job<'a>(mut event: Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    let job = event.job.0.take().ok_or(Unmappable::UnknownShape)?;
    let run = Run::new(event, settings)?;
    let interval = Interval::repair(
        time::parse(job.started_at.as_str()),
        time::parse(job.stopped_at.as_str()),
        None,
        run.happened_at,
    )
    .ok_or(Unmappable::NoTime)?;
    // Without an id of its own the job's number still tells it from the others of the pipeline.
    let job_id = canonical(&job.id)
        .unwrap_or_else(|| format!("{}/{}", run.id, job.number.0.unwrap_or(0)).into());
    // A job event without a workflow (older GitLab organisations) has no run span to hang under.
    let parent = (!run.workflow.id.is_empty()).then(|| run.ids.run(&run.id));
    let name = if job.name.is_empty() { Cow::Borrowed("job") } else { job.name.cow() };
    let times = (interval.start, interval.end);
    let mut span = Span::new(run.ids.job(&job_id), parent, name.clone(), Kind::Internal, times);
    let task = Task { name: name.clone(), run_id: job_id.clone(), stage: Cow::default() };
    span.attributes.set(sc::KIND, "job");
    span.attributes.set(sc::CICD_PIPELINE_TASK_NAME, name);
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, job_id);
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_URL_FULL, run.job_url(job.number));
    let outcome = outcome(&job.status);
    if never_ran(&job) {
        let event = task.not_run(interval.end, Some(outcome.result.clone()), job.status.cow());
        span.events.push(event);
    }
    outcome.apply(sc::CICD_PIPELINE_TASK_RUN_RESULT, &mut span);
    span.attributes.set("circleci.job.number", job.number.0);
    span.attributes.set("circleci.job.status", job.status.cow());
    run.describe(&mut span);
    mark_repaired(&mut span, &interval);
    Ok(run.finish(span))
}

/// What a workflow event and the events of its jobs have in common.
struct Run<'a, 's> {
    settings: &'s Settings,
    ids: CircleciIds<'s>,
    /// The workflow's id; the pipeline's where there is no workflow.
    id: Cow<'a, str>,
    workflow: Workflow<'a>,
    pipeline: Pipeline<'a>,
    project: Named<'a>,
    organization: Named<'a>,
    webhook: Named<'a>,
    happened_at: Option<Nanos>,
    source: Source<'a>,
}

impl<'a, 's> Run<'a, 's> {
    fn new(event: Event<'a>, settings: &'s Settings) -> Result<Self, Unmappable> {
        let workflow = event.workflow.0.unwrap_or_default();
        let mut pipeline = event.pipeline.0.unwrap_or_default();
        let project = event.project.0.unwrap_or_default();
        let id =
            canonical(&workflow.id).or_else(|| canonical(&pipeline.id)).ok_or(Unmappable::NoRun)?;
        Ok(Self {
            settings,
            ids: CircleciIds::new(settings.trace_ids, settings.circleci.host.as_str()),
            id,
            workflow,
            source: Source::new(&mut pipeline, &project),
            pipeline,
            project,
            organization: event.organization.0.unwrap_or_default(),
            webhook: event.webhook.0.unwrap_or_default(),
            happened_at: time::parse(event.happened_at.as_str()),
        })
    }

    /// The page of the run, as it is given, else as its parts make it.
    fn page(&self) -> Option<Cow<'a, str>> {
        let given = match self.workflow.url.cow() {
            Cow::Borrowed(url) => public_url(url),
            Cow::Owned(url) => public_url(&url).map(|it| it.into_owned().into()),
        };
        given.or_else(|| {
            let (slug, number) = (self.project.slug.get()?, self.pipeline.number.0?);
            let host = &self.settings.circleci.host;
            let url = format!("https://app.{host}/pipelines/{slug}/{number}/workflows/{}", self.id);
            Some(url.into())
        })
    }

    /// That page, or the instance's where there is none: the conventions require an address.
    fn url(&self) -> Cow<'a, str> {
        let instance = || format!("https://app.{}", self.settings.circleci.host).into();
        self.page().unwrap_or_else(instance)
    }

    /// CircleCI sends no URL of a job; this is the one that its own pages link to.
    fn job_url(&self, number: Int) -> Cow<'a, str> {
        match (self.page(), number.0) {
            (Some(page), Some(number)) => format!("{page}/jobs/{number}").into(),
            _ => self.url(),
        }
    }

    /// The type of the trigger, else the event that the code host told.
    fn trigger(&self) -> Cow<'a, str> {
        let kind = self.pipeline.trigger.get().map(|it| it.r#type.cow()).unwrap_or_default();
        if kind.is_empty() { self.source.event.clone() } else { kind }
    }

    /// What has no convention, on the span.
    fn describe(&self, span: &mut Span<'a>) {
        let attributes = &mut span.attributes;
        attributes.set("circleci.organization.id", self.organization.id.cow());
        attributes.set("circleci.organization.name", self.organization.name.cow());
        attributes.set("circleci.project.id", self.project.id.cow());
        attributes.set("circleci.project.name", self.project.name.cow());
        attributes.set("circleci.project.slug", self.project.slug.cow());
        attributes.set("circleci.pipeline.id", self.pipeline.id.cow());
        attributes.set("circleci.pipeline.number", self.pipeline.number.0);
        attributes.set("circleci.webhook.id", self.webhook.id.cow());
        attributes.set(
            "circleci.trigger.type",
            self.pipeline.trigger.get().map(|trigger| trigger.r#type.cow()),
        );
        attributes.set("circleci.trigger.event", self.source.event.clone());
        attributes.set("circleci.vcs.commit.subject", self.source.subject.clone());
        attributes.set("circleci.vcs.fork", self.source.fork);
        attributes.set("circleci.vcs.origin_repository.url", self.source.origin.clone());
    }

    fn resource(&self) -> Attributes<'a> {
        let source = &self.source;
        let repository = source.repository.clone().unwrap_or_default();
        let name = if repository.name.is_empty() {
            self.project.name.cow()
        } else {
            repository.name.into()
        };
        let mut resource = Attributes::with_capacity(16);
        let path = path(&repository.owner, &name);
        let pipeline = self.workflow.name.as_str();
        let names = Names { project: &path, repository: &name, pipeline };
        let service = self.settings.circleci.service_name.render(names);
        resource.set(sc::SERVICE_NAME, service);
        resource.set(sc::PROVIDER, super::ROOM.name);
        resource.set(sc::CICD_PIPELINE_NAME, self.workflow.name.cow());
        resource.set(sc::CICD_PIPELINE_RUN_ID, self.id.clone());
        resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, self.url());
        resource.set(sc::VCS_PROVIDER_NAME, source.provider.clone());
        resource.set(sc::VCS_REPOSITORY_URL_FULL, repository.url);
        resource.set(sc::VCS_REPOSITORY_NAME, name);
        resource.set(sc::VCS_OWNER_NAME, repository.owner);
        if let Some((kind, name)) = &source.head {
            resource.set(sc::VCS_REF_HEAD_NAME, name.clone());
            resource.set(sc::VCS_REF_HEAD_TYPE, *kind);
            resource.set(sc::VCS_REF_TYPE, *kind);
        }
        resource.set(sc::VCS_REF_HEAD_REVISION, source.revision.clone());
        resource.set(sc::VCS_CHANGE_ID, source.change.clone());
        resource
    }

    /// `gh/acme/shop`; an organisation of the GitHub App has a slug of ids, and its repository's path
    /// is another name.
    fn project(&self) -> Project {
        let path = |it: &Repository| format!("{}/{}", it.owner, it.name);
        let repository = self.source.repository.as_ref().map(path).unwrap_or_default();
        let project = match self.project.slug.as_str().split_once('/') {
            Some((scope, path)) => Project::new(scope, path),
            None => Project::named(self.project.id.cow()),
        };
        project.also(repository)
    }

    fn finish(self, span: Span<'a>) -> Mapped<'a> {
        let groups = vec![Group { resource: self.resource(), spans: vec![span] }];
        let trace = Trace { id: self.ids.trace(&self.id), groups };
        let project = self.project();
        Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }])
    }
}

/// Where the code comes from: two shapes of payload, one answer.
struct Source<'a> {
    provider: Cow<'a, str>,
    repository: Option<Repository>,
    /// The fork, when the run is of one.
    origin: Option<String>,
    fork: Option<bool>,
    /// `branch` or `tag`, and its name.
    head: Option<(&'static str, Cow<'a, str>)>,
    revision: Cow<'a, str>,
    subject: Cow<'a, str>,
    /// The pull request of a fork's build.
    change: Option<Cow<'a, str>>,
    event: Cow<'a, str>,
}

impl<'a> Source<'a> {
    fn new(pipeline: &mut Pipeline<'a>, project: &Named<'a>) -> Self {
        let vcs = pipeline.vcs.0.take().unwrap_or_default();
        let parameters = pipeline.trigger_parameters.0.take().unwrap_or_default();
        let git = parameters.git.0.unwrap_or_default();
        let circleci = parameters.circleci.0.unwrap_or_default();
        let canonical = match parameters.bitbucket_dc.get() {
            Some(_) => data_center,
            None => Some,
        };
        let (named, own) = [
            ("github", parameters.github_app),
            ("gitlab", parameters.gitlab),
            ("bitbucket", parameters.bitbucket),
            ("bitbucket", parameters.bitbucket_dc),
        ]
        .into_iter()
        .find_map(|(name, it)| Some((name, it.0?)))
        .unwrap_or_default();

        let urls = [
            &vcs.target_repository_url,
            &own.web_url,
            &git.repo_url,
            &own.repo_url,
            &git.checkout_url,
        ];
        let repository =
            urls.into_iter().find_map(|url| canonical(Repository::parse(url.as_str())?));
        let origin = Repository::parse(vcs.origin_repository_url.as_str());
        let fork = match (&origin, &repository) {
            (Some(origin), Some(target)) => Some(origin.url != target.url),
            _ => own.is_fork_merge_request.0,
        };
        let head = head(&vcs, &git, &own);
        Self {
            provider: first([vcs.provider_name.cow(), named.into(), provider_of(&project.slug)])
                .into_owned()
                .to_ascii_lowercase()
                .into(),
            origin: origin.filter(|_| fork == Some(true)).map(|it| it.url),
            repository,
            fork,
            change: head.as_ref().and_then(|(_, branch)| pull_request(branch)),
            head,
            revision: first([vcs.revision.cow(), git.checkout_sha.cow(), own.commit_sha.cow()]),
            subject: first_line(first([
                vcs.commit.0.map(|it| it.subject.cow()).unwrap_or_default(),
                own.commit_title.cow(),
                git.commit_message.cow(),
            ])),
            event: first([circleci.event_type.cow(), circleci.trigger_type.cow()]),
        }
    }
}

/// A repository of Bitbucket Data Center, which has three addresses: its page, and one to clone it by
/// HTTP and by SSH each. The page's is the one for people; a person's project is `~name`.
///
/// <https://confluence.atlassian.com/bitbucketserver/clone-a-repository-790632786.html>
fn data_center(repository: Repository) -> Option<Repository> {
    let (scheme, rest) = repository.url.split_once("://")?;
    let segments: Vec<_> = rest.split('/').collect();
    let (base, project, name) = match segments.as_slice() {
        [base @ .., "scm", project, name]
        | [base @ .., "projects", project, "repos", name]
        | [base @ .., "projects", project, "repos", name, "browse"] => {
            (base, (*project).to_owned(), name)
        }
        [base @ .., "users", user, "repos", name]
        | [base @ .., "users", user, "repos", name, "browse"] => (base, format!("~{user}"), name),
        [host, project, name] => (std::slice::from_ref(host), (*project).to_owned(), name),
        _ => return Some(repository),
    };
    let folder = match project.strip_prefix('~') {
        Some(user) => format!("users/{user}"),
        None => format!("projects/{project}"),
    };
    let url = format!("{scheme}://{}/{folder}/repos/{name}", base.join("/"));
    Some(Repository { url, owner: project, name: (*name).to_owned(), ..repository.clone() })
}

fn head<'a>(
    vcs: &Vcs<'a>,
    git: &GitParameters<'a>,
    own: &ProviderParameters<'a>,
) -> Option<(&'static str, Cow<'a, str>)> {
    let named = |kind, name: Cow<'a, str>| (!name.is_empty()).then_some((kind, name));
    let by_ref = |prefix: &str| {
        let name = git.r#ref.as_str().strip_prefix(prefix).unwrap_or_default();
        Cow::Owned(name.to_owned())
    };
    named("tag", vcs.tag.cow())
        .or_else(|| named("branch", vcs.branch.cow()))
        .or_else(|| named("tag", git.tag.cow()))
        .or_else(|| named("tag", by_ref("refs/tags/")))
        .or_else(|| named("branch", git.branch.cow()))
        .or_else(|| named("branch", own.branch.cow()))
        .or_else(|| named("branch", by_ref("refs/heads/")))
}

/// CircleCI builds a fork's pull request on the branch `pull/{number}`.
fn pull_request<'a>(branch: &str) -> Option<Cow<'a, str>> {
    let number = branch.strip_prefix("pull/")?.split('/').next()?;
    let digits = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    digits.then(|| number.to_owned().into())
}

fn provider_of<'a>(slug: &Text<'a>) -> Cow<'a, str> {
    match slug.as_str().split('/').next() {
        Some("github" | "gh") => "github".into(),
        Some("bitbucket" | "bb") => "bitbucket".into(),
        _ => "".into(),
    }
}

fn first<'a, const N: usize>(texts: [Cow<'a, str>; N]) -> Cow<'a, str> {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// An id as it is hashed: a UUID in lower case with hyphens.
fn canonical<'a>(id: &Text<'a>) -> Option<Cow<'a, str>> {
    let id = id.cow();
    match Uuid::try_parse(&id) {
        Ok(uuid) => Some(uuid.to_string().into()),
        Err(_) => (!id.is_empty()).then_some(id),
    }
}

/// Whether a job ended without having begun: it was held back, or stopped while it waited.
fn never_ran(job: &Job<'_>) -> bool {
    let began = time::parse(job.started_at.as_str()).is_some();
    match job.status.as_str() {
        "not_run" | "skipped" | "unauthorized" => true,
        "canceled" | "cancelled" => !began,
        _ => false,
    }
}

/// <https://circleci.com/docs/guides/orchestrate/workflows/#states>
fn outcome<'a>(status: &Text<'a>) -> Outcome<'a> {
    match status.as_str() {
        "success" => Outcome::known(RunResult::Success, ""),
        "failed" => Outcome::known(RunResult::Failure, "failed"),
        "timedout" => Outcome::known(RunResult::Timeout, "timedout"),
        "error" | "unauthorized" | "infrastructure_fail" => {
            Outcome::known(RunResult::Error, status.cow())
        }
        "canceled" | "cancelled" => Outcome::known(RunResult::Cancellation, ""),
        "not_run" | "skipped" => Outcome::known(RunResult::Skip, ""),
        "" => Outcome::unknown("unknown".into()),
        _ => Outcome::unknown(status.cow()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_of_data_center_is_one_whatever_its_address() {
        for (url, page, owner) in [
            ("https://b.example.com/scm/acme/shop.git", "/projects/acme/repos/shop", "acme"),
            ("ssh://git@b.example.com:7999/acme/shop.git", "/projects/acme/repos/shop", "acme"),
            (
                "https://b.example.com/projects/acme/repos/shop/browse",
                "/projects/acme/repos/shop",
                "acme",
            ),
            (
                "https://b.example.com/git/scm/acme/shop.git",
                "/git/projects/acme/repos/shop",
                "acme",
            ),
            ("https://b.example.com/scm/~ada/shop.git", "/users/ada/repos/shop", "~ada"),
            ("https://b.example.com/users/ada/repos/shop", "/users/ada/repos/shop", "~ada"),
            (
                "https://b.example.com/something/else/in/it/shop",
                "/something/else/in/it/shop",
                "something/else/in/it",
            ),
        ] {
            let found = data_center(Repository::parse(url).unwrap()).unwrap();
            let host = "https://b.example.com";
            assert_eq!(
                (found.url, found.owner, found.name),
                (format!("{host}{page}"), owner.into(), "shop".into())
            );
        }
    }
}
