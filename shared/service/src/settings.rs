//! The environment, and the settings of what does I/O. Those of the mapping and of the providers are
//! [`spanhook_core::settings`].

use spanhook_core::settings::Variable;
pub use spanhook_core::settings::{SettingsError, Vars, var};
pub use spanhook_export::environment;

const QUEUE_HINT: &str = "set it to the URL of the SQS queue, as `aws sqs get-queue-url` prints it";

/// `QUEUE_URL`
pub const QUEUE_URL: Variable = Variable::new("QUEUE_URL", "", QUEUE_HINT, "SQS queue of messages");

/// `DEAD_LETTER_QUEUE_URL`
pub const DEAD_LETTER_QUEUE_URL: Variable = Variable::new(
    "DEAD_LETTER_QUEUE_URL",
    "",
    QUEUE_HINT,
    "SQS queue of deliveries and messages that were refused",
);

/// `TRACEPARENT_TOKEN`
pub const TRACEPARENT_TOKEN: Variable = Variable::secret(
    "TRACEPARENT_TOKEN",
    "use a bearer token of your own choice",
    "bearer token that callers of the traceparent endpoint need",
);

/// The queues of the functions on AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// What webhook functions write and the forwarder reads.
    pub queue_url: String,
    /// Where quarantined deliveries and rejected messages go.
    pub dead_letter_queue_url: String,
}

impl QueueSettings {
    /// Reads `QUEUE_URL` and `DEAD_LETTER_QUEUE_URL`.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let url = |variable: Variable| {
            let url = variable.get(vars).ok_or_else(|| variable.missing())?;
            let whole = url.starts_with("https://") || url.starts_with("http://");
            if whole { Ok(url.to_owned()) } else { Err(variable.invalid()) }
        };
        Ok(Self { queue_url: url(QUEUE_URL)?, dead_letter_queue_url: url(DEAD_LETTER_QUEUE_URL)? })
    }
}
