//! Values that may change while a process runs: secrets and project rules.
//!
//! A variable holds such a value itself, or names where it is kept: SSM Parameter Store or Secrets
//! Manager. What is kept elsewhere is read at the start, in a function's init phase, and again when
//! it is older than [`FRESH`]; a signature that matches nothing asks for it sooner, but not more
//! often than every [`FLOOR`], so that nobody can turn bad signatures into calls.
//!
//! The request that finds a value too old waits for the new one, at most [`LIMIT`], and goes on with
//! the old one. Reading behind its back would be no better: a function is frozen between requests,
//! and a read that is frozen too breaks off.

mod documents;
mod source;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use spanhook_core::{
    check::{Rejection, Scheme, is_path_secret, signing_key},
    rules::ProjectRules,
    secret::{Secrets, values},
    settings::{SettingsError, Variable},
};
use thiserror::Error;
use tokio::time::timeout;

pub(crate) use self::documents::SETTINGS;
pub use self::{documents::with_documents, source::Source};
use crate::{
    aws::{AWS, Aws},
    clock::Clock,
};

/// How long a value is used before it is read again.
pub const FRESH: Duration = Duration::from_secs(300);

/// The shortest time between two reads, whatever came of the first one.
pub const FLOOR: Duration = Duration::from_secs(60);

/// How long a request waits for a value to be read again.
pub const LIMIT: Duration = Duration::from_secs(2);

/// How long the first read may take, in seconds: Lambda ends an init phase after 10, and then
/// nothing says which variable it was.
/// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib>
const START: u64 = 8;

/// A value that can't be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LiveError {
    /// The service refused, or could not be reached.
    #[error(
        "{variable} names a value that can't be read ({reason}); check that it exists, that the function's role may read it and that its network reaches the service"
    )]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The service's error code.
        reason: String,
    },
    /// There is nothing in it.
    #[error(
        "{variable} names a value that is empty; store the secret, or a JSON list of live ones"
    )]
    Empty {
        /// The variable that names it.
        variable: &'static str,
    },
    /// It is not what it should be.
    #[error(transparent)]
    Invalid(#[from] SettingsError),
}

/// How a value is made of its text. The text may be a secret: errors must not repeat it.
pub type Reader<T> = fn(&'static Variable, &str) -> Result<T, LiveError>;

/// The live values of a secret, as [`Secrets::parse`] reads them.
pub fn secrets(variable: &'static Variable, text: &str) -> Result<Secrets, LiveError> {
    let secrets = Secrets::parse(text).map_err(|error| variable.invalid_with(error.expected()))?;
    filled(variable, secrets)
}

/// Headers, written as secrets are; they may be short.
pub fn headers(variable: &'static Variable, text: &str) -> Result<Secrets, LiveError> {
    filled(variable, Secrets::new(values(text).ok_or_else(|| variable.invalid())?))
}

fn filled(variable: &'static Variable, secrets: Secrets) -> Result<Secrets, LiveError> {
    let variable = variable.name;
    if secrets.is_empty() { Err(LiveError::Empty { variable }) } else { Ok(secrets) }
}

/// Rules of projects.
pub fn rules(variable: &'static Variable, text: &str) -> Result<ProjectRules, LiveError> {
    ProjectRules::parse(text).map_err(|error| variable.invalid_with(error.expected()).into())
}

/// The keys of Standard Webhooks' signing tokens.
pub fn signing_keys(variable: &'static Variable, text: &str) -> Result<Secrets, LiveError> {
    let tokens = secrets(variable, text)?;
    let key = |token| std::str::from_utf8(token).ok().and_then(signing_key);
    let keys: Option<Vec<_>> = tokens.expose().map(key).collect();
    Ok(Secrets::new(keys.ok_or_else(|| variable.invalid())?))
}

/// Secrets that are parts of a path.
pub fn path_secrets(variable: &'static Variable, text: &str) -> Result<Secrets, LiveError> {
    let secrets = secrets(variable, text)?;
    let all = secrets.expose().all(is_path_secret);
    if all { Ok(secrets) } else { Err(variable.invalid().into()) }
}

/// How the secrets of a scheme are read.
#[must_use]
pub fn keys(scheme: Scheme) -> Reader<Secrets> {
    match scheme {
        Scheme::StandardWebhooks => signing_keys,
        Scheme::Path => path_secrets,
        Scheme::Hmac { .. } | Scheme::Token { .. } | Scheme::Bearer | Scheme::Oidc { .. } => {
            secrets
        }
    }
}

/// The service that keeps a value.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// SSM Parameter Store, and the name or ARN of the parameter.
    Ssm(aws_sdk_ssm::Client, String),
    /// Secrets Manager, and the ARN of the secret.
    SecretsManager(aws_sdk_secretsmanager::Client, String),
}

impl Keeper {
    /// The keeper of what is kept elsewhere.
    async fn of(source: &Source, aws: &Aws) -> Option<Self> {
        match source {
            Source::Unset | Source::Inline(_) | Source::Line { .. } => None,
            Source::Parameter(name) => {
                let client = aws_sdk_ssm::Client::new(aws.config().await);
                Some(Self::Ssm(client, name.clone()))
            }
            Source::Secret(arn) => {
                let client = aws_sdk_secretsmanager::Client::new(aws.config().await);
                Some(Self::SecretsManager(client, arn.clone()))
            }
        }
    }

    /// The text, within a limit.
    async fn fetch(
        &self,
        variable: &'static Variable,
        limit: Duration,
    ) -> Result<String, LiveError> {
        let late = |_| LiveError::Unreadable {
            variable: variable.name,
            reason: format!("no answer within {} seconds", limit.as_secs()),
        };
        timeout(limit, self.ask(variable)).await.map_err(late)?
    }

    async fn ask(&self, variable: &'static Variable) -> Result<String, LiveError> {
        let unreadable = |code: Option<&str>| LiveError::Unreadable {
            variable: variable.name,
            reason: code.unwrap_or("no answer").to_owned(),
        };
        let text = match self {
            Self::Ssm(client, name) => {
                let request = client.get_parameter().name(name).with_decryption(true);
                let answer = request.send().await.map_err(|error| {
                    unreadable(error.as_service_error().and_then(|it| it.meta().code()))
                })?;
                answer.parameter.and_then(|it| it.value)
            }
            Self::SecretsManager(client, arn) => {
                let request = client.get_secret_value().secret_id(arn);
                let answer = request.send().await.map_err(|error| {
                    unreadable(error.as_service_error().and_then(|it| it.meta().code()))
                })?;
                answer.secret_string
            }
        };
        Ok(text.unwrap_or_default().trim().to_owned())
    }
}

/// A value, read again as time passes.
#[derive(Debug)]
pub struct Live<T>(Arc<Kept<T>>);

#[derive(Debug)]
struct Kept<T> {
    variable: &'static Variable,
    keeper: Option<Keeper>,
    /// Whether the keeper has a document, of which this is a line.
    is_line: bool,
    read: Reader<T>,
    clock: Clock,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: Arc<T>,
    /// When it was read, since the epoch: a function's monotonic clock may stand still while it is
    /// frozen.
    read: Duration,
    /// When the last try to read it began.
    tried: Duration,
}

impl<T: PartialEq + Send + Sync + 'static> Live<T> {
    /// Gets the value of a variable; `unset` where there is none.
    pub async fn open(
        source: &Source,
        variable: &'static Variable,
        read: Reader<T>,
        unset: T,
    ) -> Result<Self, LiveError> {
        let (document, text) = match source {
            Source::Unset => return Ok(Self::fixed(variable, read, unset)),
            Source::Inline(text) => return Ok(Self::fixed(variable, read, read(variable, text)?)),
            Source::Line { document, text } => (Some(document), text),
            Source::Parameter(_) | Source::Secret(_) => (None, &String::new()),
        };
        let keeper = Keeper::of(document.map_or(source, |it| it), &AWS).await;
        let Some(keeper) = keeper else { return Ok(Self::fixed(variable, read, unset)) };
        if document.is_some() {
            // The document was just read.
            let value = read(variable, text)?;
            return Ok(Self::begin(Some(keeper), true, variable, read, value, Clock::SYSTEM));
        }
        Self::kept(keeper, variable, read, Clock::SYSTEM).await
    }

    fn fixed(variable: &'static Variable, read: Reader<T>, value: T) -> Self {
        Self::begin(None, false, variable, read, value, Clock::SYSTEM)
    }

    /// A value that was read just now.
    fn begin(
        keeper: Option<Keeper>,
        is_line: bool,
        variable: &'static Variable,
        read: Reader<T>,
        value: T,
        clock: Clock,
    ) -> Self {
        let now = clock.since_epoch();
        let state = Mutex::new(State { value: Arc::new(value), read: now, tried: now });
        Self(Arc::new(Kept { variable, keeper, is_line, read, clock, state }))
    }

    /// Gets a value from where it is kept.
    pub async fn kept(
        keeper: Keeper,
        variable: &'static Variable,
        read: Reader<T>,
        clock: Clock,
    ) -> Result<Self, LiveError> {
        let text = keeper.fetch(variable, Duration::from_secs(START)).await?;
        let value = read(variable, &text)?;
        Ok(Self::begin(Some(keeper), false, variable, read, value, clock))
    }

    /// The value, read again when it is no longer fresh. While its keeper does not answer, the old
    /// one is still good.
    pub async fn get(&self) -> Arc<T> {
        // A clock that was set back must not keep the value old.
        self.read_again(|state, now| now.abs_diff(state.read) >= FRESH).await;
        self.value()
    }

    /// The value if it is another one than `old`: read again, unless that was just done.
    pub async fn newer_than(&self, old: &Arc<T>) -> Option<Arc<T>> {
        self.read_again(|_, _| true).await;
        Some(self.value()).filter(|new| new != old)
    }

    /// Reads again when it is `due`, and the last try is [`FLOOR`] ago. One request does; the others
    /// go on with what is there.
    async fn read_again(&self, due: impl Fn(&State<T>, Duration) -> bool) {
        if self.0.keeper.is_none() {
            return;
        }
        let now = self.0.clock.since_epoch();
        {
            let mut state = self.0.state();
            if now.abs_diff(state.tried) < FLOOR || !due(&state, now) {
                return;
            }
            state.tried = now;
        }
        let kept = Arc::clone(&self.0);
        // On its own: a caller that goes away must not take the new value along.
        let read = tokio::spawn(async move { kept.read(now).await });
        if read.await.is_err() {
            tracing::error!(variable = self.0.variable.name, "reading it again broke off");
        }
    }

    fn value(&self) -> Arc<T> {
        Arc::clone(&self.0.state().value)
    }
}

impl<T: PartialEq> Kept<T> {
    async fn read(&self, now: Duration) {
        let Some(keeper) = &self.keeper else { return };
        let text = keeper.fetch(self.variable, LIMIT).await;
        let value = text.and_then(|text| {
            let text =
                if self.is_line { documents::line(&text, self.variable.name)? } else { &*text };
            (self.read)(self.variable, text)
        });
        match value {
            Ok(value) => {
                let mut state = self.state();
                state.read = now;
                if *state.value != value {
                    tracing::info!(variable = self.variable.name, "a new value is in use");
                    state.value = Arc::new(value);
                }
            }
            Err(error) => tracing::error!(%error, "the value read before stays in use"),
        }
    }
}

impl<T> Kept<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live<Secrets> {
    /// Checks against the live secrets; what matches none of them may be made with one that was
    /// stored a moment ago.
    pub async fn verify(
        &self,
        check: impl Fn(&Secrets) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let live = self.get().await;
        match check(&live) {
            Err(Rejection::Mismatch) => match self.newer_than(&live).await {
                Some(newer) => check(&newer),
                None => Err(Rejection::Mismatch),
            },
            result => result,
        }
    }
}

#[cfg(test)]
mod tests;
