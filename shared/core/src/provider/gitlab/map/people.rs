//! Who is named, where `GITLAB_PEOPLE` says so. Every name that leaves passes here.

use super::super::payload::{Commit, User};
use crate::{otlp::span::Span, semconv as sc, settings::Settings};

/// Who started a pipeline or a job.
pub(super) fn actor<'a>(user: Option<&User<'a>>, settings: &Settings, span: &mut Span<'a>) {
    let Some(user) = user.filter(|_| settings.gitlab.people.actor) else { return };
    span.attributes.set(sc::USER_ID, user.id.0.map(|it| it.to_string()));
    span.attributes.set(sc::USER_NAME, user.username.cow());
    span.attributes.set(sc::USER_FULL_NAME, user.name.cow());
}

/// The author of the commit, who need not be known to GitLab.
pub(super) fn author<'a>(commit: &Commit<'a>, settings: &Settings, span: &mut Span<'a>) {
    let author = commit.author.get().filter(|_| settings.gitlab.people.author);
    let Some(author) = author else { return };
    span.attributes.set("gitlab.commit.author.name", author.name.cow());
    span.attributes.set("gitlab.commit.author.email", author.email.cow());
}
