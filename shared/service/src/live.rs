//! Values that may change while a process runs: secrets and project rules.
//!
//! A variable holds such a value itself, or names where it is kept: SSM Parameter Store or Secrets
//! Manager. What is kept elsewhere is read at the start, in a function's init phase, and again when
//! it is older than [`FRESH`]; a signature that matches nothing asks for it sooner, but not more
//! often than every [`FLOOR`], so that nobody can turn bad signatures into calls.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use spanhook_core::{
    check::{Rejection, Scheme, signing_key},
    rules::ProjectRules,
    secret::Secrets,
    settings::{SettingsError, Vars},
};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::clock::Clock;

/// How long a value is used before it is read again.
pub const FRESH: Duration = Duration::from_secs(300);

/// The shortest time between two reads.
pub const FLOOR: Duration = Duration::from_secs(60);

/// Where the value of a variable is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The variable is not set.
    #[default]
    Unset,
    /// The variable holds it.
    Inline(String),
    /// An SSM parameter: `arn:aws:ssm:…` or `ssm:/name`.
    Parameter(String),
    /// A Secrets Manager secret: `arn:aws:secretsmanager:…`.
    Secret(String),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("unset"),
            Self::Inline(_) => f.write_str("set (redacted)"),
            Self::Parameter(name) | Self::Secret(name) => f.write_str(name),
        }
    }
}

impl Source {
    /// Reads a variable.
    #[must_use]
    pub fn parse(vars: &Vars, name: &str) -> Self {
        let value = vars.get(name).map_or("", |it| it.trim());
        if let Some(name) = value.strip_prefix("ssm:") {
            return Self::Parameter(name.to_owned());
        }
        let arn: Vec<_> = value.splitn(4, ':').collect();
        match arn.as_slice() {
            _ if value.is_empty() => Self::Unset,
            ["arn", _, "ssm", _] => Self::Parameter(value.to_owned()),
            ["arn", _, "secretsmanager", _] => Self::Secret(value.to_owned()),
            _ => Self::Inline(value.to_owned()),
        }
    }
}

/// A value that can't be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LiveError {
    /// The service refused, or could not be reached.
    #[error(
        "{variable} names a value that can't be read ({reason}); check that it exists and that the function's role may read it"
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
pub type Reader<T> = fn(&'static str, &str) -> Result<T, LiveError>;

/// The live values of a secret: a JSON list of strings, or one on each line.
pub fn secrets(variable: &'static str, text: &str) -> Result<Secrets, LiveError> {
    let secrets = match serde_json::from_str::<Vec<String>>(text) {
        Ok(values) => Secrets::new(values),
        Err(_) => Secrets::new(text.lines().map(str::trim)),
    };
    if secrets.is_empty() { Err(LiveError::Empty { variable }) } else { Ok(secrets) }
}

/// Rules of projects.
pub fn rules(variable: &'static str, text: &str) -> Result<ProjectRules, LiveError> {
    ProjectRules::parse(text).map_err(|error| {
        let (variable, expected) = (variable.to_owned(), error.expected());
        SettingsError::Invalid { variable, expected }.into()
    })
}

/// The keys of GitLab's signing tokens.
pub fn signing_keys(variable: &'static str, text: &str) -> Result<Secrets, LiveError> {
    let tokens = secrets(variable, text)?;
    let key = |token| std::str::from_utf8(token).ok().and_then(signing_key);
    let keys: Option<Vec<_>> = tokens.expose().map(key).collect();
    let expected = "use the token as GitLab shows it: whsec_ and 44 characters of base64";
    let invalid = || SettingsError::Invalid { variable: variable.to_owned(), expected };
    Ok(Secrets::new(keys.ok_or_else(invalid)?))
}

/// How the secrets of a scheme are read.
#[must_use]
pub fn keys(scheme: Scheme) -> Reader<Secrets> {
    match scheme {
        Scheme::StandardWebhooks => signing_keys,
        Scheme::Hmac { .. } | Scheme::Token { .. } => secrets,
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
    async fn fetch(&self, variable: &'static str) -> Result<String, LiveError> {
        let unreadable = |code: Option<&str>| LiveError::Unreadable {
            variable,
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
pub struct Live<T> {
    variable: &'static str,
    keeper: Option<Keeper>,
    read: Reader<T>,
    clock: Clock,
    state: RwLock<State<T>>,
    /// One request reads again; the others go on with what is there.
    reading: Mutex<()>,
}

#[derive(Debug)]
struct State<T> {
    value: Arc<T>,
    /// When it was read, since the epoch: a function's monotonic clock may stand still while it is
    /// frozen.
    read: Duration,
    /// When it was last tried to.
    tried: Duration,
}

impl<T: PartialEq> Live<T> {
    /// Gets the value of a variable; `unset` where there is none.
    pub async fn open(
        source: &Source,
        variable: &'static str,
        read: Reader<T>,
        unset: T,
    ) -> Result<Self, LiveError> {
        let keeper = match source {
            Source::Unset => return Ok(Self::fixed(variable, read, unset)),
            Source::Inline(text) => return Ok(Self::fixed(variable, read, read(variable, text)?)),
            Source::Parameter(name) => {
                let client = aws_sdk_ssm::Client::new(&aws_config::load_from_env().await);
                Keeper::Ssm(client, name.clone())
            }
            Source::Secret(arn) => {
                let config = aws_config::load_from_env().await;
                Keeper::SecretsManager(aws_sdk_secretsmanager::Client::new(&config), arn.clone())
            }
        };
        Self::kept(keeper, variable, read, Clock::SYSTEM).await
    }

    fn fixed(variable: &'static str, read: Reader<T>, value: T) -> Self {
        let state = State { value: Arc::new(value), read: Duration::ZERO, tried: Duration::ZERO };
        let (state, reading) = (RwLock::new(state), Mutex::default());
        Self { variable, keeper: None, read, clock: Clock::SYSTEM, state, reading }
    }

    /// Gets a value from where it is kept.
    pub async fn kept(
        keeper: Keeper,
        variable: &'static str,
        read: Reader<T>,
        clock: Clock,
    ) -> Result<Self, LiveError> {
        let value = read(variable, &keeper.fetch(variable).await?)?;
        let live = Self { keeper: Some(keeper), clock, ..Self::fixed(variable, read, value) };
        live.set(|state| {
            state.read = clock.since_epoch();
            state.tried = state.read;
        });
        Ok(live)
    }

    /// The value, read again when it is no longer fresh. While its keeper does not answer, the old
    /// one is still good.
    pub async fn get(&self) -> Arc<T> {
        self.read_again(|state, now| now.saturating_sub(state.read) >= FRESH).await;
        self.value()
    }

    /// The value if it is another one than `old`: read again, unless that was just done.
    pub async fn newer_than(&self, old: &Arc<T>) -> Option<Arc<T>> {
        self.read_again(|_, _| true).await;
        Some(self.value()).filter(|new| new != old)
    }

    /// Reads again when it is `due`, and the last try is [`FLOOR`] ago, whatever came of it.
    async fn read_again(&self, due: impl Fn(&State<T>, Duration) -> bool) {
        let Some(keeper) = &self.keeper else { return };
        let now = self.clock.since_epoch();
        let due = || {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            now.saturating_sub(state.tried) >= FLOOR && due(&state, now)
        };
        if !due() {
            return;
        }
        let Ok(_guard) = self.reading.try_lock() else { return };
        // It may have been read between the first look and the lock.
        if !due() {
            return;
        }
        let read = keeper.fetch(self.variable).await.and_then(|it| (self.read)(self.variable, &it));
        self.set(|state| state.tried = now);
        match read {
            Ok(value) => self.set(|state| {
                state.read = now;
                if *state.value != value {
                    tracing::info!(variable = self.variable, "a new value is in use");
                    state.value = Arc::new(value);
                }
            }),
            Err(error) => tracing::error!(%error, "the value read before stays in use"),
        }
    }

    fn value(&self) -> Arc<T> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).value)
    }

    fn set(&self, change: impl FnOnce(&mut State<T>)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Live<Secrets> {
    /// Checks against the live secrets; what matches none of them may be made with one that was
    /// stored a moment ago. Without any secret there is no check: whoever opens such a value has
    /// decided that it may be unset.
    pub async fn verify(
        &self,
        check: impl Fn(&Secrets) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let live = self.get().await;
        if live.is_empty() {
            return Ok(());
        }
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
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::UNIX_EPOCH,
    };

    use aws_sdk_ssm::{
        operation::get_parameter::{GetParameterError, GetParameterOutput},
        types::{Parameter, error::ParameterNotFound},
    };
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    fn parse(value: &str) -> Source {
        Source::parse(&Vars::from([("S".to_owned(), value.to_owned())]), "S")
    }

    #[test]
    fn references_are_told_from_values() {
        let parameter = "arn:aws:ssm:eu-west-1:1:parameter/spanhook/circleci";
        assert_eq!(parse(parameter), Source::Parameter(parameter.to_owned()));
        assert_eq!(parse("ssm:/spanhook/x"), Source::Parameter("/spanhook/x".to_owned()));
        let secret = "arn:aws-cn:secretsmanager:cn-north-1:1:secret:x";
        assert_eq!(parse(secret), Source::Secret(secret.to_owned()));
        assert_eq!(parse("  "), Source::Unset);
        assert_eq!(parse("hunter2"), Source::Inline("hunter2".to_owned()));
        assert!(!format!("{:?}", parse("hunter2")).contains("hunter2"));
    }

    #[test]
    fn several_live_values_are_a_list_or_lines() {
        let both = Secrets::new(["one", "two"]);
        assert_eq!(secrets("S", r#"["one", "two"]"#), Ok(both.clone()));
        assert_eq!(secrets("S", "one\ntwo\n"), Ok(both));
        assert_eq!(secrets("S", "one two,three"), Ok(Secrets::new(["one two,three"])));
        assert_eq!(secrets("S", "[]"), Err(LiveError::Empty { variable: "S" }));
    }

    fn parameter(text: &str) -> GetParameterOutput {
        GetParameterOutput::builder().parameter(Parameter::builder().value(text).build()).build()
    }

    fn gone() -> GetParameterError {
        GetParameterError::ParameterNotFound(ParameterNotFound::builder().build())
    }

    /// A parameter that gives these answers one after another, and a clock to be set.
    macro_rules! rotating {
        ($now:ident, $rule:ident) => {{
            let clock =
                Clock::new(|| UNIX_EPOCH + Duration::from_secs($now.load(Ordering::Relaxed)));
            let client = mock_client!(aws_sdk_ssm, RuleMode::MatchAny, [&$rule]);
            Live::kept(Keeper::Ssm(client, "/s".to_owned()), "S", secrets, clock).await.unwrap()
        }};
    }

    #[tokio::test]
    async fn a_rotated_secret_is_used_at_once_and_bad_signatures_cost_one_call_a_minute() {
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let rule = mock!(aws_sdk_ssm::Client::get_parameter)
            .sequence()
            .output(|| parameter("old"))
            .output(|| parameter("[\"old\", \"new\"]"))
            .output(|| parameter("new"))
            .build();
        let live = rotating!(NOW, rule);
        let signed_with = |key: &'static [u8]| {
            move |keys: &Secrets| {
                let known = keys.expose().any(|it| it == key);
                if known { Ok(()) } else { Err(Rejection::Mismatch) }
            }
        };
        // The secret was just read: what does not match now is wrong.
        assert_eq!(live.verify(signed_with(b"new")).await, Err(Rejection::Mismatch));
        assert_eq!(rule.num_calls(), 1);
        NOW.fetch_add(61, Ordering::Relaxed);
        assert_eq!(live.verify(signed_with(b"new")).await, Ok(()));
        for _ in 0..100 {
            assert_eq!(live.verify(signed_with(b"guess")).await, Err(Rejection::Mismatch));
        }
        assert_eq!(rule.num_calls(), 2);
        assert_eq!(live.verify(signed_with(b"old")).await, Ok(()));
        // Without any mismatch it is read again after five minutes.
        NOW.fetch_add(299, Ordering::Relaxed);
        assert_eq!(live.verify(signed_with(b"old")).await, Ok(()));
        NOW.fetch_add(1, Ordering::Relaxed);
        assert_eq!(live.verify(signed_with(b"old")).await, Err(Rejection::Mismatch));
        assert_eq!(rule.num_calls(), 3);
    }

    #[tokio::test]
    async fn while_the_parameter_is_gone_or_empty_the_old_value_is_good() {
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let rule = mock!(aws_sdk_ssm::Client::get_parameter)
            .sequence()
            .output(|| parameter("old"))
            .error(gone)
            .output(|| parameter(" "))
            .output(|| parameter("new"))
            .build();
        let live = rotating!(NOW, rule);
        for (later, calls, expected) in
            [(300, 2, "old"), (59, 2, "old"), (1, 3, "old"), (60, 4, "new"), (59, 4, "new")]
        {
            NOW.fetch_add(later, Ordering::Relaxed);
            assert_eq!(*live.get().await, Secrets::new([expected]), "{calls}");
            let _ = live.verify(|_| Err(Rejection::Mismatch)).await;
            assert_eq!(rule.num_calls(), calls, "neither use nor misuse asks more often");
        }
    }

    #[tokio::test]
    async fn a_value_that_can_not_be_read_at_the_start_names_its_variable() {
        let rule = mock!(aws_sdk_ssm::Client::get_parameter).then_error(gone);
        let client = mock_client!(aws_sdk_ssm, [&rule]);
        let keeper = Keeper::Ssm(client, "/s".to_owned());
        let error = Live::kept(keeper, "S", secrets, Clock::SYSTEM).await.unwrap_err();
        assert!(error.to_string().starts_with("S names a value that can't be read"), "{error}");
    }

    #[tokio::test]
    async fn secrets_manager_keeps_values_too() {
        use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
        let rule = mock!(aws_sdk_secretsmanager::Client::get_secret_value)
            .then_output(|| GetSecretValueOutput::builder().secret_string("one\ntwo").build());
        let client = mock_client!(aws_sdk_secretsmanager, [&rule]);
        let keeper = Keeper::SecretsManager(client, "arn".to_owned());
        let live = Live::kept(keeper, "S", secrets, Clock::SYSTEM).await.unwrap();
        assert_eq!(*live.get().await, Secrets::new(["one", "two"]));
        assert!(!format!("{live:?}").contains("two\""));
    }
}
