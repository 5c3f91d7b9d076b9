//! Where an object belongs: its trace, the span above it, and what its resource says.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    super::{
        ids::{Ids, Key},
        settings::SpanContext,
    },
    Kind, Of,
    metadata::{Annotations, Labels, Metadata},
};
use crate::{
    host::Host,
    id::{SpanId, TraceId, parse_traceparent},
    lenient::Text,
    mapping::{Names, Repository, path},
    otlp::span::{Attributes, Link},
    project::Project,
    provider::lighthouse::Sources,
    semconv as sc,
    settings::Settings,
};

/// What an object tells of the run that it is part of.
pub(crate) struct Origin<'a, 's> {
    pub(crate) settings: &'s Settings,
    pub(crate) cluster: &'s Host,
    pub(crate) meta: Metadata<'a>,
    pub(crate) labels: Labels<'a>,
    annotations: Annotations<'a>,
    /// The delivery of the code host, where its id is one delivery's alone.
    event: Option<Cow<'a, str>>,
    /// The LighthouseJob's name.
    job: Option<Cow<'a, str>>,
    /// The PipelineRun's UID.
    pipeline_run: Option<Cow<'a, str>>,
    /// The UID of the TaskRun or the CustomRun.
    task_run: Option<Cow<'a, str>>,
    repository: Option<Repository>,
}

/// The first text that is there.
pub(crate) fn first<'a>(texts: &[&Text<'a>]) -> Option<Cow<'a, str>> {
    texts.iter().find(|it| !it.is_empty()).map(|it| it.cow())
}

impl<'a, 's> Origin<'a, 's> {
    /// None for an object without a UID, which no API server sends.
    pub(crate) fn new(
        meta: Metadata<'a>,
        kind: Kind,
        cluster: &'s Host,
        settings: &'s Settings,
    ) -> Option<Self> {
        if meta.uid.is_empty() {
            return None;
        }
        let (labels, annotations) = (meta.labels(), meta.annotations());
        let owner = |kind: &str| meta.owner(kind);
        let own = |of: Kind| (kind == of).then(|| meta.uid.cow());
        let above = |kind: &str| owner(kind).map(|it| it.uid.cow()).filter(|it| !it.is_empty());
        let url = first(&[&annotations.clone_url, &annotations.file_repository]);
        let repository = url.as_deref().and_then(Repository::parse);
        let host = repository.as_ref().and_then(|it| it.host.as_ref());
        let job = match kind {
            Kind::LighthouseJob => first(&[&meta.name]),
            _ => first(&[&labels.job_id])
                .or_else(|| owner("LighthouseJob").and_then(|it| first(&[&it.name]))),
        };
        Some(Self {
            settings,
            cluster,
            event: first(&[&labels.event]).filter(|_| host.is_none_or(names_deliveries)),
            job,
            pipeline_run: own(Kind::PipelineRun)
                .or_else(|| first(&[&labels.pipeline_run_uid]))
                .or_else(|| above("PipelineRun")),
            task_run: own(Kind::TaskRun)
                .or_else(|| own(Kind::CustomRun))
                .or_else(|| first(&[&labels.task_run_uid]))
                .or_else(|| above("TaskRun")),
            repository,
            labels,
            annotations,
            meta,
        })
    }

    pub(crate) fn ids(&self) -> Ids<'s> {
        Ids::new(self.cluster)
    }

    pub(crate) fn uid(&self) -> &str {
        self.meta.uid.as_str()
    }

    fn key(&self) -> Key<'_> {
        if let Some(guid) = &self.event {
            return Key::Event(guid);
        }
        if let Some(name) = &self.job {
            return Key::Job(name);
        }
        let uid = self.pipeline_run.as_deref().or(self.task_run.as_deref());
        Key::Object(uid.unwrap_or(self.uid()))
    }

    /// The trace that all objects of one run agree on.
    pub(crate) fn trace(&self) -> TraceId {
        self.adopted().map_or_else(|| self.ids().trace(self.key()), |it| it.trace)
    }

    /// The span that whoever made the PipelineRun wants it under. Tekton copies the annotation to
    /// TaskRuns and Pods, and what it writes into a TaskRun itself is of the same trace.
    fn adopted(&self) -> Option<Link> {
        if self.settings.kubernetes.span_context == SpanContext::Link {
            return None;
        }
        let texts = [&self.annotations.pipeline_run_context, &self.annotations.task_run_context];
        texts.into_iter().find_map(context)
    }

    /// The span above a LighthouseJob: that of the delivery, if that is told elsewhere.
    pub(crate) fn above_job(&self) -> Option<SpanId> {
        let told = self.settings.lighthouse.sources == Sources::Both;
        self.event.as_deref().filter(|_| told).map(|guid| self.ids().event(guid))
    }

    /// The LighthouseJob's span.
    pub(crate) fn job(&self) -> Option<SpanId> {
        self.job.as_deref().map(|name| self.ids().job(name))
    }

    /// The span above a PipelineRun.
    pub(crate) fn above_pipeline_run(&self) -> Option<SpanId> {
        self.adopted().map(|it| it.span).or_else(|| self.job())
    }

    /// The span above a TaskRun or a CustomRun.
    pub(crate) fn above_task_run(&self) -> Option<SpanId> {
        match &self.pipeline_run {
            Some(uid) => Some(self.ids().object(uid)),
            None if self.labels.pipeline_run.is_empty() => self.above_pipeline_run(),
            None => None,
        }
    }

    /// The span above a Pod. Without Lighthouse, a Pod of a Tekton before 0.63 knows its TaskRun
    /// only, and not the trace that this is in.
    pub(crate) fn above_pod(&self) -> Option<SpanId> {
        let lost = self.pipeline_run.is_none() && !self.labels.pipeline_run.is_empty();
        let lost = lost && matches!(self.key(), Key::Object(_)) && self.adopted().is_none();
        self.task_run.as_deref().filter(|_| !lost).map(|uid| self.ids().object(uid))
    }

    /// Spans that others made of the same object.
    pub(crate) fn links(&self, kind: Kind) -> Vec<Link> {
        let own = match kind {
            Kind::PipelineRun => context(&self.annotations.pipeline_run_context),
            Kind::TaskRun => context(&self.annotations.task_run_context),
            _ => None,
        };
        let own = own.filter(|_| self.settings.kubernetes.span_context == SpanContext::Link);
        own.into_iter().chain(traceparent(self.annotations.plugin_context.as_str())).collect()
    }

    /// The pipeline's name. Tekton calls a pipeline that is written into its PipelineRun by the name
    /// of that, which is another one for each run.
    pub(crate) fn pipeline(&self) -> Cow<'a, str> {
        let named = first(&[&self.annotations.job, &self.labels.job, &self.labels.file_name]);
        let varies = [&self.labels.pipeline_run, &self.meta.name].contains(&&self.labels.pipeline);
        let pipeline = Some(&self.labels.pipeline).filter(|_| !varies);
        let task = self.labels.pipeline_run.is_empty().then(|| first(&[&self.labels.task]));
        let text = named.or_else(|| first(&[pipeline?])).or(task.flatten()).unwrap_or_default();
        match text {
            Cow::Borrowed(it) => it.trim_end_matches('-').into(),
            Cow::Owned(it) => it.trim_end_matches('-').to_owned().into(),
        }
    }

    /// Whether a LighthouseJob is the run that this is part of.
    pub(crate) fn is_of_job(&self) -> bool {
        self.job.is_some()
    }

    /// Why the run began.
    pub(crate) fn trigger(&self) -> Option<Cow<'a, str>> {
        first(&[&self.labels.job_type, &self.labels.file_event])
    }

    /// Its page in the Tekton Dashboard.
    ///
    /// <https://github.com/tektoncd/dashboard>
    pub(crate) fn page(&self, kind: &str, name: &str) -> Option<String> {
        let base = self.settings.tekton.dashboard.as_deref()?;
        Some(format!("{base}/#/namespaces/{}/{kind}/{name}", self.meta.namespace.as_str()))
    }

    pub(crate) fn project(&self) -> Project {
        if let Some(Repository { host, owner, name, .. }) = &self.repository {
            let host = host.as_ref().map(ToString::to_string).unwrap_or_default();
            return Project::new(host, path(owner, name));
        }
        let (owner, name) = (self.labels.owner.as_str(), self.labels.repository.as_str());
        if !name.is_empty() {
            return Project::named(path(owner, name));
        }
        Project::new(self.cluster.as_str(), path(self.meta.namespace.as_str(), &self.pipeline()))
    }

    /// What the run is: the same for every object of one kind in it.
    pub(crate) fn resource(&self, of: Of) -> Attributes<'a> {
        let labels = &self.labels;
        let pipeline = self.pipeline();
        let repository = self.repository.clone().unwrap_or_default();
        let name = Some(repository.name.clone()).filter(|it| !it.is_empty());
        let name = name.unwrap_or_else(|| labels.repository.as_str().to_owned());
        let owner = Some(repository.owner.clone()).filter(|it| !it.is_empty());
        let owner = owner.unwrap_or_else(|| labels.owner.as_str().to_owned());
        let run =
            [&self.job, &self.pipeline_run, &self.task_run].into_iter().find_map(Clone::clone);
        let mut resource = Attributes::with_capacity(20);
        let project = path(&owner, &name);
        let names = Names { project: &project, repository: &name, pipeline: &pipeline };
        resource.set(sc::SERVICE_NAME, of.service_name(self.settings).render(names));
        resource.set(sc::PROVIDER, of.as_str());
        resource.set(sc::K8S_CLUSTER_NAME, self.cluster.to_string());
        resource.set(sc::K8S_NAMESPACE_NAME, self.meta.namespace.cow());
        resource.set(sc::CICD_PIPELINE_NAME, pipeline);
        resource.set(sc::CICD_PIPELINE_RUN_ID, run.unwrap_or_else(|| self.meta.uid.cow()));
        resource.set(sc::VCS_PROVIDER_NAME, repository.host.as_ref().and_then(code_host));
        resource.set(sc::VCS_REPOSITORY_URL_FULL, repository.url);
        resource.set(sc::VCS_REPOSITORY_NAME, name);
        resource.set(sc::VCS_OWNER_NAME, owner);
        let change = first(&[&labels.change, &labels.file_change]);
        let branch = first(&[&labels.branch, &self.annotations.file_branch]);
        refer(
            &mut resource,
            branch.unwrap_or_default(),
            first(&[&labels.revision, &labels.file_revision]),
            change,
            Some(labels.base_revision.cow()),
        );
        resource
    }
}

/// What a run is of. A branch `PR-42`, as Lighthouse writes it, is none.
pub(crate) fn refer<'a>(
    resource: &mut Attributes<'a>,
    branch: Cow<'a, str>,
    revision: Option<Cow<'a, str>>,
    change: Option<Cow<'a, str>>,
    base_revision: Option<Cow<'a, str>>,
) {
    let number = |it: &str| it.strip_prefix("PR-").map(str::to_owned);
    let change = change.or_else(|| number(&branch).map(Cow::Owned));
    let batch = change.is_none() && branch == "batch";
    if !batch && number(&branch).is_none() && !branch.is_empty() {
        let name = match branch {
            Cow::Borrowed(it) => it.strip_prefix("refs/heads/").unwrap_or(it).into(),
            Cow::Owned(it) => it.strip_prefix("refs/heads/").unwrap_or(&it).to_owned().into(),
        };
        resource.set(sc::VCS_REF_HEAD_NAME, Cow::<'a, str>::clone(&name));
        resource.set(sc::VCS_REF_HEAD_TYPE, "branch");
        resource.set(sc::VCS_REF_TYPE, "branch");
    }
    resource.set(sc::VCS_REF_HEAD_REVISION, revision);
    resource.set(sc::VCS_REF_BASE_REVISION, base_revision.filter(|_| change.is_some()));
    resource.set(sc::VCS_CHANGE_ID, change);
}

/// Whether the GUID of a delivery from this host is its own. Bitbucket Cloud's is the webhook's, so
/// all deliveries of a repository would be one event.
pub(crate) fn names_deliveries(host: &Host) -> bool {
    host.as_str() != "bitbucket.org"
}

/// The product of a code host, as far as its name tells.
///
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/vcs/>
pub(crate) fn code_host(host: &Host) -> Option<&'static str> {
    ["github", "gitlab", "bitbucket", "gitea"].into_iter().find(|it| host.as_str().contains(it))
}

/// A carrier of the W3C context, as JSON in an annotation.
fn context(text: &Text<'_>) -> Option<Link> {
    #[derive(Default, Deserialize)]
    #[serde(default, bound(deserialize = "'de: 'a"))]
    struct Carrier<'a> {
        traceparent: Text<'a>,
    }
    let carrier: Carrier<'_> = serde_json::from_str(text.get()?).ok()?;
    traceparent(carrier.traceparent.as_str())
}

fn traceparent(text: &str) -> Option<Link> {
    parse_traceparent(text).map(|(trace, span, _)| Link { trace, span })
}
