//! What a verified token says of its job.

use spanhook_core::{
    job::{Claim, Job},
    project::Project,
    provider::Provider,
    settings::Settings,
};

use crate::cut;

/// The first byte chooses the provider, the rest is the payload.
pub fn claims(data: &[u8]) -> bool {
    let Some((choice, payload)) = cut::choice(data) else { return false };
    let provider = Provider::ALL[choice % Provider::ALL.len()];
    let Some((claim, project_id)) = (provider.room().job.claims)(payload) else { return false };
    // Rules and ids take these as they are.
    assert!(claim.project.as_deref().is_some_and(Project::is_name), "{claim:?}");
    assert!(!project_id.is_empty() && project_id.bytes().all(|it| it.is_ascii_graphic()));
    let names = [&claim.ref_name, &claim.revision].into_iter().flatten();
    names.for_each(|it| assert!(!it.is_empty() && !it.contains(char::is_control), "{it:?}"));
    let claim = Claim { host: Some("ci.example.com".to_owned()), ..claim };
    let job = Job::new(provider, &claim).unwrap_or_else(|error| panic!("{claim:?}: {error}"));
    assert!(job.is_told_by(&job), "{job:?}");
    let place = job.place(&Settings::default());
    assert_ne!(Some(place.run), place.job, "{job:?}");
    true
}
