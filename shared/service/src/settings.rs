//! The environment, and the settings of what does I/O. Those of the mapping and of the providers are
//! [`spanhook_core::settings`].

pub use spanhook_core::settings::{SettingsError, Variable, Vars, var};
pub use spanhook_export::environment;

use crate::{export, gate, live, telemetry};

/// `QUEUE_URL`
pub static QUEUE_URL: Variable = Variable::new(
    "QUEUE_URL",
    "",
    "set it to the URL of the SQS queue, as `aws sqs get-queue-url` prints it",
    "SQS queue of messages",
);

/// `DEAD_LETTER_QUEUE_URL`
pub static DEAD_LETTER_QUEUE_URL: Variable = Variable::new(
    "DEAD_LETTER_QUEUE_URL",
    "",
    QUEUE_URL.expected,
    "SQS queue of deliveries and messages that were refused",
);

/// Every variable of the functions.
pub fn variables() -> impl Iterator<Item = &'static Variable> {
    let queues = [&QUEUE_URL, &DEAD_LETTER_QUEUE_URL];
    spanhook_core::settings::variables()
        .chain(gate::variables())
        .chain([&live::SETTINGS])
        .chain(queues)
        .chain(export::variables())
        .chain(telemetry::variables())
}

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
        let url = |variable: &Variable| {
            let url = variable.get(vars).ok_or_else(|| variable.missing())?;
            let whole = url.starts_with("https://") || url.starts_with("http://");
            if whole { Ok(url.to_owned()) } else { Err(variable.invalid()) }
        };
        Ok(Self {
            queue_url: url(&QUEUE_URL)?,
            dead_letter_queue_url: url(&DEAD_LETTER_QUEUE_URL)?,
        })
    }
}
