//! Who may send: what proves the sender of a delivery, of build events, of a question for a trace
//! context.
//!
//! What proves a sender is data, the [`Check`]s of a provider's room or of an endpoint for jobs, and
//! one code checks them: what needs no body before one comes, the rest over its raw bytes. A request
//! that was screened is worth a second look, and no comparison is made twice. What follows is each
//! endpoint's policy, and all in which they differ:
//!
//! - a webhook's [`Receiver`] wants every proof that is configured;
//! - at a [`Gate`] for CI jobs what was shown must hold, and the rules of `ACCESS` say which proof is
//!   enough for which project. A job's own token is worth most: its claims name the run, so nothing
//!   in the body has to be believed.
//!
//! [`Check`]: spanhook_core::check::Check

mod access;
mod denied;
mod issuers;
mod keys;
mod proofs;
mod receiver;
mod settings;
mod token;

use std::sync::Arc;

use http::HeaderMap;
use spanhook_core::{
    build_event::Sender, host::Host, job::Job, otlp::front::Writer, project::Project,
};

pub use self::{
    access::{Access, BadAccess, Proof},
    denied::{Denied, GateError},
    keys::{FLOOR, FRESH, KeysError, STALE},
    proofs::Screened,
    receiver::Receiver,
    settings::{BUILD_EVENTS, GateSettings, TRACEPARENT_TOKEN, variables},
    token::{MAX_LIFETIME, MAX_TOKEN, SKEW},
};
use self::{proofs::Proofs, token::Token};
use crate::live::Live;

/// Checks the callers of an endpoint for CI jobs.
#[derive(Debug)]
pub struct Gate {
    proofs: Proofs,
    access: Live<Access>,
    in_words: String,
}

impl Gate {
    /// Who may call, in words for an operator.
    #[must_use]
    pub fn in_words(&self) -> &str {
        &self.in_words
    }

    /// Checks what needs no body, `now` in seconds since the Unix epoch: who fails here need not send
    /// one.
    pub async fn screen<'a>(
        &'a self,
        headers: &'a HeaderMap,
        now: u64,
    ) -> Result<Visitor<'a>, Denied> {
        // What is too old is read again at the same time: one wait, not two.
        let (screened, access) = tokio::join!(self.proofs.screen(headers, now), self.access.get());
        let screened = screened?;
        let identity = screened.token().map(Token::job).transpose()?;
        // No rule will take it: it need not send its whole body to hear that.
        if screened.showed_nothing() && !access.mentions(Proof::None) {
            return Err(Denied::Missing);
        }
        Ok(Visitor { screened, identity, access })
    }

    /// [`Self::screen`] and [`Visitor::admit`], where the whole request is there.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<Caller, Denied> {
        self.screen(headers, now).await?.admit(body, now).await
    }
}

/// Somebody whose headers hold.
pub struct Visitor<'a> {
    screened: Screened<'a>,
    identity: Option<Job>,
    access: Arc<Access>,
}

impl Visitor<'_> {
    /// Checks what covers the body, byte for byte.
    ///
    /// Who is admitted may still not speak for every project: ask [`Caller::require`].
    pub async fn admit(self, body: &[u8], now: u64) -> Result<Caller, Denied> {
        let by = self.screened.prove(body, now).await?;
        let caller = Caller { identity: self.identity, by, access: self.access };
        if by == Proof::Oidc {
            // Its project is known already.
            caller.require(None)?;
        }
        Ok(caller)
    }
}

/// Somebody whose proof holds.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The job, when its token was the proof.
    pub identity: Option<Job>,
    /// The proof; of two, the one that says more.
    pub by: Proof,
    access: Arc<Access>,
}

impl Caller {
    /// Whether the rules accept this proof for the project that an event names, as `owner/name`.
    /// A job's token speaks for its own project, whatever the event says.
    #[must_use]
    pub fn may(&self, project: Option<&str>) -> bool {
        match &self.identity {
            Some(job) => {
                let (names, host) = told(job);
                self.access.accepts(&names, Proof::Oidc, host)
            }
            None if !project.is_none_or(Project::is_name) => false,
            None => self.access.accepts(&[project.unwrap_or_default()], self.by, ""),
        }
    }

    /// What is believed of the run that the caller's events name. A job speaks for its own; without
    /// a token a run is believed only where the rules accept the proof for every project, since
    /// nothing tells whose run an id is.
    #[must_use]
    pub fn sender(&self) -> Sender<'_> {
        match &self.identity {
            Some(job) => Sender::Job(job),
            None if self.access.accepts_everywhere(self.by) => Sender::Trusted,
            None => Sender::Confined(self.by.as_str()),
        }
    }

    /// Where the caller may write what it exports. Who shows no job's token names no project that could
    /// be judged, so its proof has to be enough for every one.
    pub fn writer(&self) -> Result<Writer<'_>, Denied> {
        let Some(job) = &self.identity else {
            return match self.by {
                _ if self.access.accepts_everywhere(self.by) => Ok(Writer::Trusted),
                Proof::None => Err(Denied::Missing),
                _ => Err(Denied::Forbidden),
            };
        };
        let (names, host) = told(job);
        let free = self.access.frees(&names, host);
        Ok(if free { Writer::Free(job) } else { Writer::Job(job) })
    }

    /// [`Self::may`], with the answer for the one who may not: who has shown no proof is asked for
    /// one.
    pub fn require(&self, project: Option<&str>) -> Result<(), Denied> {
        match self.by {
            _ if self.may(project) => Ok(()),
            Proof::None => Err(Denied::Missing),
            _ => Err(Denied::Forbidden),
        }
    }
}

/// The names of a job's project, and its instance, as rules name them.
fn told(job: &Job) -> ([&str; 2], &str) {
    let path = job.project.as_deref().unwrap_or_default();
    let id = job.project_id.as_deref().unwrap_or(path);
    ([path, id], job.host.as_ref().map_or("", Host::as_str))
}
