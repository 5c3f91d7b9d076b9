//! Whose a delivery is: repository, commit, and the ids that follow from them.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::payload::Delivered;
use crate::{
    lenient::Text,
    mapping::{Names, Repository, path},
    otlp::span::Attributes,
    project::Project,
    provider::kubernetes::{
        ids::Ids,
        object::{
            Of,
            origin::{code_host, names_deliveries},
        },
    },
    semconv as sc,
    settings::Settings,
};

/// A repository that something happened in.
pub(super) struct Origin<'s> {
    settings: &'s Settings,
    repository: Repository,
}

impl<'s> Origin<'s> {
    /// By its address, and by its names where that can't be read.
    pub(super) fn new(settings: &'s Settings, url: &str, owner: &str, name: &str) -> Self {
        let unknown =
            Repository { owner: owner.into(), name: name.into(), ..Repository::default() };
        let repository = Repository::parse(url).unwrap_or(unknown);
        Self { settings, repository }
    }

    pub(super) fn of_webhook(settings: &'s Settings, event: &Delivered) -> Self {
        let Some(it) = event.repo.get() else { return Self::new(settings, "", "", "") };
        let url = if it.clone.is_empty() { &it.link } else { &it.clone };
        Self::new(settings, url.as_str(), it.namespace.as_str(), it.name.as_str())
    }

    pub(super) fn ids(&self) -> Ids<'s> {
        Ids::new(&self.settings.kubernetes.cluster)
    }

    /// `owner/name` in lower case, as Lighthouse's labels have it.
    pub(super) fn key(&self) -> String {
        path(&self.repository.owner, &self.repository.name).to_lowercase()
    }

    /// `{host}/{owner}/{name}/{number}` of a pull request in it.
    pub(super) fn pull_request(&self, number: u64) -> String {
        let host = self.repository.host.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{host}/{}/{number}", self.key())
    }

    pub(super) fn project(&self) -> Project {
        let Repository { host, owner, name, .. } = &self.repository;
        let host = host.as_ref().map(ToString::to_string).unwrap_or_default();
        Project::new(host, path(owner, name))
    }

    /// What names a webhook's event: its GUID where that is one delivery's alone, else a hash of
    /// what tells it from every other event of the repository.
    pub(super) fn event(&self, kind: &str, event: &Delivered) -> String {
        let own = self.repository.host.as_ref().is_none_or(names_deliveries);
        // Lighthouse puts it in the place of the GUID that such a delivery lacks.
        let deployment = event.deploymentstatus.get().map(|it| it.id.as_str());
        let guid = deployment.or(Some(event.guid.as_str()).filter(|_| own));
        if let Some(guid) = guid.filter(|it| !it.is_empty()) {
            return guid.to_owned();
        }
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        add(kind);
        add(&self.key());
        for text in [&event.action, &event.r#ref, &event.before, &event.after] {
            add(text.as_str());
        }
        if let Some(it) = event.pullrequest.get() {
            add(&it.number.0.unwrap_or(0).to_string());
            add(it.sha.as_str());
            add(it.updated.as_str());
        }
        for it in [&event.issue, &event.comment, &event.review] {
            let it = it.get();
            add(it.map(|it| it.id.as_str().trim()).unwrap_or_default());
            add(it.map(|it| it.updated.as_str()).unwrap_or_default());
        }
        add(event.label.get().map(|it| it.name.as_str()).unwrap_or_default());
        hex::encode(&hash.finalize()[..16])
    }

    /// The resource of what happens in the repository.
    pub(super) fn resource(&self, pipeline: &Text<'static>) -> Attributes<'static> {
        let Repository { url, host, owner, name } = self.repository.clone();
        let service = Of::Lighthouse.service_name(self.settings);
        let mut resource = Attributes::with_capacity(20);
        let project = path(&owner, &name);
        let names = Names { project: &project, repository: &name, pipeline: pipeline.as_str() };
        resource.set(sc::SERVICE_NAME, service.render(names));
        resource.set(sc::PROVIDER, Of::Lighthouse.as_str());
        resource.set(sc::K8S_CLUSTER_NAME, self.settings.kubernetes.cluster.to_string());
        resource.set(sc::CICD_PIPELINE_NAME, pipeline.cow());
        resource.set(sc::VCS_PROVIDER_NAME, host.as_ref().and_then(code_host));
        resource.set(sc::VCS_REPOSITORY_URL_FULL, url);
        resource.set(sc::VCS_REPOSITORY_NAME, name);
        resource.set(sc::VCS_OWNER_NAME, owner);
        resource
    }
}

/// A text that was read, unless it is absent.
pub(super) fn some(text: &Text<'static>) -> Option<Cow<'static, str>> {
    (!text.is_empty()).then(|| text.cow())
}
