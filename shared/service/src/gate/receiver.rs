//! The policy of webhooks: all that is configured must hold.

use http::HeaderMap;
use spanhook_core::{
    check::Check,
    provider::Provider,
    settings::{Vars, WebhookSettings},
};

use super::{
    Denied, GateError,
    proofs::{Demand, ProofSettings, Proofs, Screened},
};

/// Checks the deliveries of a provider.
#[derive(Debug)]
pub struct Receiver {
    provider: Provider,
    /// Those that are configured. None only when unsigned deliveries are accepted.
    proofs: Proofs,
    /// Their variables.
    in_words: String,
}

impl Receiver {
    /// Reads the secrets of a provider's checks; refuses when nothing could be proved.
    pub async fn open(
        provider: Provider,
        vars: &Vars,
        common: WebhookSettings,
    ) -> Result<Self, GateError> {
        Self::proved_by(provider.room().checks, provider, vars, common).await
    }

    /// [`Self::open`] with these checks.
    pub async fn proved_by(
        checks: &[Check],
        provider: Provider,
        vars: &Vars,
        common: WebhookSettings,
    ) -> Result<Self, GateError> {
        let settings = ProofSettings::parse(checks, vars)?;
        if let Some(oidc) = &settings.oidc {
            oidc.require_subjects()?;
        }
        match (checks.first(), settings.is_empty()) {
            (Some(first), true) if !common.allow_unsigned => {
                let missing = first.variable.missing_with(provider.room().unproved);
                return Err(GateError::Unproved(missing));
            }
            (_, true) => tracing::warn!(
                %provider,
                "ALLOW_UNSIGNED=true: anybody who can reach this address can send deliveries"
            ),
            _ => {}
        }
        let in_words = settings.in_words();
        Ok(Self { provider, proofs: Proofs::open(settings, Demand::Every).await?, in_words })
    }

    /// Whose deliveries these are.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// What proves a delivery, in words for an operator.
    #[must_use]
    pub fn proofs(&self) -> String {
        match self.in_words.as_str() {
            "" => "unsigned deliveries are accepted".to_owned(),
            names => format!("proved by {names}"),
        }
    }

    /// Checks what needs no body, `now` in seconds since the Unix epoch; the rest is
    /// [`Screened::prove`].
    pub async fn screen<'a>(
        &'a self,
        headers: &'a HeaderMap,
        now: u64,
    ) -> Result<Screened<'a>, Denied> {
        self.proofs.screen(headers, now).await
    }
}
