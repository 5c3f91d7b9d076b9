//! The pipeline that jobs hang under: its ids, its resource, and what it hangs under itself.

use std::borrow::Cow;

use super::super::{
    ROOM,
    ids::GitlabIds,
    payload::{Event, MergeRequest, Pipeline, SourcePipeline},
};
use crate::{
    delivery::Mapped,
    host::Host,
    id::TraceIds,
    lenient::{Int, Text},
    mapping::{Names, Repository, first_line, mentions},
    otlp::{
        Telemetry,
        span::{Attributes, Group, Link, Span, Trace},
    },
    project::Project,
    semconv as sc,
    settings::Settings,
};

/// The pipeline that jobs hang under, and the resource that all its spans share.
pub(super) struct Run<'a, 's> {
    pub(super) settings: &'s Settings,
    host: Host,
    /// `web_url` of the project, of which every other address is made.
    project_url: String,
    pub(super) project_path: Cow<'a, str>,
    pub(super) project_id: Int,
    id: u64,
    root: u64,
    /// The pipeline's name, else the project's path.
    name: Cow<'a, str>,
    pub(super) resource: Attributes<'a>,
}

impl<'a, 's> Run<'a, 's> {
    pub(super) fn of_pipeline(
        event: &Event<'a>,
        pipeline: &Pipeline<'a>,
        id: u64,
        settings: &'s Settings,
    ) -> Self {
        let mut run = Self::new(event, id, settings, pipeline.name.cow());
        let child = event.source_pipeline.get().filter(|it| run.is_child(it, &pipeline.source));
        run.root = pipeline
            .root_pipeline_id
            .0
            .or_else(|| child.and_then(|it| it.pipeline_id.0))
            .unwrap_or(id);
        run.refer(&pipeline.r#ref, pipeline.tag.0, &pipeline.sha);
        if let Some(request) = event.merge_request.get() {
            run.merge_request(request);
        }
        run
    }

    pub(super) fn of_job(event: &Event<'a>, id: u64, settings: &'s Settings) -> Self {
        let commit = event.commit.get();
        let name = commit.map(|it| it.name.cow()).unwrap_or_default();
        let mut run = Self::new(event, id, settings, name);
        let child = event.source_pipeline.get().filter(|it| run.is_child(it, &Text::default()));
        run.root = child.and_then(|it| it.pipeline_id.0).unwrap_or(id);
        let sha = commit.filter(|_| event.sha.is_empty()).map_or(&event.sha, |it| &it.sha);
        run.refer(&event.r#ref, event.tag.0, sha);
        run
    }

    fn new(event: &Event<'a>, id: u64, settings: &'s Settings, name: Cow<'a, str>) -> Self {
        let project = event.project.get();
        let urls = [project.map(|it| &it.web_url), event.repository.get().map(|it| &it.homepage)];
        let repository = urls
            .into_iter()
            .flatten()
            .find_map(|url| Repository::parse(url.as_str()))
            .unwrap_or_default();
        let path = project.map(|it| it.path_with_namespace.cow()).unwrap_or_default();
        let path = match (path.is_empty(), repository.owner.is_empty()) {
            (false, _) => path,
            (true, false) => format!("{}/{}", repository.owner, repository.name).into(),
            (true, true) => repository.name.clone().into(),
        };
        let name = if name.is_empty() { path.clone() } else { name };
        let repository_name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let host = repository.host.unwrap_or_else(|| settings.gitlab.host.clone());
        // A project that nothing names has no address.
        let project_url = match (repository.url.is_empty(), path.is_empty()) {
            (false, _) => repository.url,
            (true, false) => format!("https://{host}/{path}"),
            (true, true) => String::new(),
        };

        let mut resource = Attributes::with_capacity(20);
        let names = Names { project: &path, repository: &repository_name, pipeline: &name };
        resource.set(sc::SERVICE_NAME, settings.gitlab.service_name.render(names));
        resource.set(sc::PROVIDER, ROOM.name);
        resource.set(sc::CICD_PIPELINE_NAME, name.clone());
        resource.set(sc::CICD_PIPELINE_RUN_ID, id.to_string());
        let page = page(&host, &project_url, &format!("pipelines/{id}"));
        resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, page);
        resource.set(sc::VCS_PROVIDER_NAME, "gitlab");
        resource.set(sc::VCS_REPOSITORY_URL_FULL, project_url.clone());
        resource.set(sc::VCS_REPOSITORY_NAME, repository_name);
        resource.set(sc::VCS_OWNER_NAME, path.rsplit_once('/').map(|(owner, _)| owner.to_owned()));
        resource.set("gitlab.project.visibility", visibility(event));
        let default_branch = project.map(|it| it.default_branch.cow());
        resource.set("gitlab.project.default_branch", default_branch);
        let project_id = project.map_or(event.project_id, |it| it.id);
        Self {
            settings,
            host,
            project_url,
            project_path: path,
            project_id,
            id,
            root: id,
            name,
            resource,
        }
    }

    fn refer(&mut self, name: &Text<'a>, tag: Option<bool>, sha: &Text<'a>) {
        let kind = if tag == Some(true) { "tag" } else { "branch" };
        let kind = (!name.is_empty()).then_some(kind);
        self.resource.set(sc::VCS_REF_HEAD_NAME, name.cow());
        self.resource.set(sc::VCS_REF_HEAD_TYPE, kind);
        self.resource.set(sc::VCS_REF_TYPE, kind);
        self.resource.set(sc::VCS_REF_HEAD_REVISION, sha.cow());
    }

    fn merge_request(&mut self, request: &MergeRequest<'a>) {
        let state = match request.state.as_str() {
            "opened" if is_draft(request) => Some("wip"),
            "opened" => Some("open"),
            "closed" => Some("closed"),
            "merged" => Some("merged"),
            // While it is merged. The conventions have no word for it.
            "locked" => Some("locked"),
            _ => None,
        };
        let base = (!request.target_branch.is_empty()).then_some("branch");
        self.resource.set(sc::VCS_CHANGE_ID, request.iid.0.map(|it| it.to_string()));
        self.resource.set(sc::VCS_CHANGE_TITLE, first_line(request.title.cow()));
        self.resource.set(sc::VCS_CHANGE_STATE, state);
        self.resource.set(sc::VCS_REF_BASE_NAME, request.target_branch.cow());
        self.resource.set(sc::VCS_REF_BASE_TYPE, base);
        if let (Some(source), Some(target)) =
            (request.source_project_id.0, request.target_project_id.0)
        {
            self.resource.set("gitlab.merge_request.fork", source != target);
        }
    }

    /// A page below the project's.
    pub(super) fn page(&self, below: &str) -> String {
        page(&self.host, &self.project_url, below)
    }

    pub(super) fn ids(&self) -> GitlabIds<'_> {
        self.ids_of(&self.host, self.root, self.id)
    }

    fn ids_of<'h>(&self, host: &'h Host, root: u64, pipeline: u64) -> GitlabIds<'h> {
        let (scheme, kind) = (self.settings.trace_ids, self.settings.gitlab.job_kind);
        GitlabIds::new(scheme, kind, host.as_str(), root, pipeline)
    }

    /// A child pipeline runs in the project of its parent, a multi-project one elsewhere.
    fn is_child(&self, source: &SourcePipeline<'a>, pipeline_source: &Text<'a>) -> bool {
        let project = source.project.get().and_then(|it| it.id.0);
        project.is_some()
            && project == self.project_id.0
            && matches!(pipeline_source.as_str(), "" | "parent_pipeline")
    }

    /// A name that holds something of this run would make one span name a run.
    pub(super) fn span_name(&self, event: &Event<'a>) -> Cow<'a, str> {
        let own = [
            sc::VCS_REF_HEAD_NAME,
            sc::VCS_CHANGE_TITLE,
            sc::VCS_REF_HEAD_REVISION,
            sc::VCS_CHANGE_ID,
            sc::CICD_PIPELINE_RUN_ID,
        ];
        let own = own.into_iter().map(|it| self.resource.text(it));
        let short_sha = self.resource.text(sc::VCS_REF_HEAD_REVISION).get(..8).unwrap_or_default();
        let title = commit_title(event);
        let is_path = self.name == self.project_path;
        let varies = own.chain([short_sha, &title]).any(|it| mentions(&self.name, it));
        if self.name.is_empty() || (varies && !is_path) {
            return sc::ACTION_RUN.into();
        }
        format!("{} {}", sc::ACTION_RUN, self.name).into()
    }

    /// Ties a downstream pipeline to the job that triggered it.
    pub(super) fn attach(
        &self,
        source: &SourcePipeline<'a>,
        pipeline: &Pipeline<'a>,
        span: &mut Span<'a>,
    ) {
        let Some(upstream) = source.pipeline_id.0 else { return };
        let job = source.bridge_id.0.or(source.job_id.0);
        let project = source.project.get();
        let repository = project.and_then(|it| Repository::parse(it.web_url.as_str()));
        let attributes = &mut span.attributes;
        attributes.set("gitlab.upstream.pipeline.id", upstream);
        attributes.set("gitlab.upstream.job.id", job);
        attributes.set("gitlab.upstream.project.id", project.and_then(|it| it.id.0));
        let path = project.map(|it| it.path_with_namespace.cow());
        attributes.set("gitlab.upstream.project.path", path);
        let url = repository.as_ref().map(|it| it.url.clone());
        attributes.set("gitlab.upstream.project.url", url);
        let Some(job) = job else { return };
        let host = repository.and_then(|it| it.host).unwrap_or_else(|| self.host.clone());
        let child = self.is_child(source, &pipeline.source);
        let root = if child { self.root } else { upstream };
        let ids = self.ids_of(&host, root, upstream);
        // Since 19.2 `bridge_id` tells a trigger job from one that called the API; before, nearly
        // every downstream pipeline comes from a trigger job.
        let called_api = source.bridge_id.0.is_none() && pipeline.root_pipeline_id.0.is_some();
        let trigger = if called_api { ids.job(job) } else { ids.bridge(job) };
        if child && self.settings.trace_ids == TraceIds::Native {
            span.parent = Some(trigger);
        } else {
            span.links.push(Link { trace: ids.trace(), span: trigger });
        }
    }

    pub(super) fn finish(&self, groups: Vec<Group<'a>>) -> Mapped<'a> {
        let trace = Trace { id: self.ids().trace(), groups };
        let project = Project::new(self.host.as_str(), self.project_path.clone());
        Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }])
    }
}

/// Who may see the project: `private`, `internal` or `public`.
///
/// <https://docs.gitlab.com/user/public_access/>
fn visibility(event: &Event<'_>) -> Option<&'static str> {
    let project = event.project.get().and_then(|it| it.visibility_level.0);
    let level = project.or_else(|| event.repository.get()?.visibility_level.0);
    match level? {
        0 => Some("private"),
        10 => Some("internal"),
        20 => Some("public"),
        _ => None,
    }
}

/// Whether a merge request is one that nobody is to merge yet. A Pipeline event of today has no field
/// of its own for it: the status tells, or the title.
///
/// <https://docs.gitlab.com/user/project/merge_requests/drafts/>
fn is_draft(request: &MergeRequest<'_>) -> bool {
    const MARKS: [&str; 6] = ["draft:", "[draft]", "(draft)", "wip:", "[wip]", "(wip)"];
    let title = request.title.as_str().trim_start();
    let marked =
        |mark: &&str| title.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    request.draft.0 == Some(true)
        || request.work_in_progress.0 == Some(true)
        || request.detailed_merge_status.as_str() == "draft_status"
        || MARKS.iter().any(marked)
}

pub(super) fn commit_title<'a>(event: &Event<'a>) -> Cow<'a, str> {
    let Some(commit) = event.commit.get() else { return Cow::default() };
    first_line(if commit.title.is_empty() { commit.message.cow() } else { commit.title.cow() })
}

/// A page below the project's, or the instance's where nothing names the project: the conventions
/// require an address.
fn page(host: &Host, project_url: &str, below: &str) -> String {
    match project_url {
        "" => format!("https://{host}"),
        project => format!("{project}/-/{below}"),
    }
}
