//! What a [`Gate`] is put together from.

use spanhook_core::{
    check::{Check, Scheme},
    host::Host,
};

use super::{
    Access, Gate, Proof,
    access::access,
    denied::GateError,
    proofs::{Demand, ProofSettings, Proofs},
};
use crate::{
    live::{Live, Source},
    settings::{SettingsError, Variable, Vars},
};

/// `ACCESS`
pub(super) static ACCESS: Variable = Variable::new(
    "ACCESS",
    "",
    r#"use JSON such as [{"projects": "acme/*", "by": ["oidc"]}, {"projects": "*", "by": ["oidc", "signature", "bearer"]}]"#,
    "which proof is enough, by project ([identity.md](identity.md))",
)
.live();

/// `OIDC_ISSUERS`
static OIDC_ISSUERS: Variable = Variable::new(
    "OIDC_ISSUERS",
    "",
    r#"use addresses separated by commas, or JSON such as [{"issuer": "https://gitlab.example.com", "provider": "gitlab"}]"#,
    "whose jobs' OIDC tokens are taken ([identity.md](identity.md))",
);

/// `OIDC_AUDIENCE`
static OIDC_AUDIENCE: Variable = Variable::new(
    "OIDC_AUDIENCE",
    "",
    "set it to what jobs ask for as aud, such as this endpoint's address, or to a JSON list of several",
    "what those tokens must be made for; one, a comma list or a JSON list",
);

/// `TRACEPARENT_TOKEN`
pub static TRACEPARENT_TOKEN: Variable = Variable::secret(
    "TRACEPARENT_TOKEN",
    "use a bearer token of your own choice",
    "bearer token that callers need",
);

/// `BUILD_EVENTS_SIGNING_KEY`
static BUILD_EVENTS_SIGNING_KEY: Variable = Variable::secret(
    "BUILD_EVENTS_SIGNING_KEY",
    "use whsec_ and 44 characters of base64, such as `openssl rand -base64 32` prints",
    "Standard Webhooks keys (`whsec_…`) that senders sign with",
);

/// `BUILD_EVENTS_TOKEN`
static BUILD_EVENTS_TOKEN: Variable =
    Variable::secret("BUILD_EVENTS_TOKEN", TRACEPARENT_TOKEN.expected, "bearer tokens of senders");

/// The variables of who may call.
#[must_use]
pub fn variables() -> [&'static Variable; 6] {
    [
        &TRACEPARENT_TOKEN,
        &BUILD_EVENTS_SIGNING_KEY,
        &BUILD_EVENTS_TOKEN,
        &OIDC_ISSUERS,
        &OIDC_AUDIENCE,
        &ACCESS,
    ]
}

const JOBS: Check =
    Check { variable: &OIDC_ISSUERS, scheme: Scheme::Oidc { audience: &OIDC_AUDIENCE } };

/// What proves a sender of build events, or of what jobs export.
pub static BUILD_EVENTS: [Check; 3] = [
    Check { variable: &BUILD_EVENTS_SIGNING_KEY, scheme: Scheme::StandardWebhooks },
    Check { variable: &BUILD_EVENTS_TOKEN, scheme: Scheme::Bearer },
    JOBS,
];

/// What proves who asks for a trace context.
const TRACEPARENT: [Check; 2] =
    [Check { variable: &TRACEPARENT_TOKEN, scheme: Scheme::Bearer }, JOBS];

/// Who may call an endpoint, as its variables say.
#[derive(Clone, Debug)]
pub struct GateSettings {
    proofs: ProofSettings,
    access: Source,
    /// The rules where `ACCESS` is not set.
    unset: Access,
}

impl GateSettings {
    /// Whether anything is said of who may send build events.
    #[must_use]
    pub fn take_build_events(vars: &Vars) -> bool {
        let proofs = BUILD_EVENTS.iter().map(|it| it.variable);
        proofs.chain([&ACCESS]).any(|it| it.get(vars).is_some())
    }

    /// Of the build-events endpoint. Without `ACCESS` each of its proofs is enough for every project;
    /// without any way to prove something the gate does not open.
    pub fn build_events(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self {
            proofs: ProofSettings::parse(&BUILD_EVENTS, vars)?,
            access: Source::parse(vars, ACCESS.name),
            unset: Access::everywhere(&[Proof::Oidc, Proof::Signature, Proof::Bearer]),
        })
    }

    /// Of the traceparent endpoint. Without `ACCESS` and `TRACEPARENT_TOKEN` anybody may ask. Where
    /// no proof can be checked here, `ACCESS` is meant for the build-events endpoint only.
    pub fn traceparent(vars: &Vars) -> Result<Self, SettingsError> {
        let proofs = ProofSettings::parse(&TRACEPARENT, vars)?;
        let unset = match TRACEPARENT_TOKEN.get(vars) {
            None => Access::everywhere(&[Proof::Oidc, Proof::None]),
            Some(_) => Access::everywhere(&[Proof::Oidc, Proof::Bearer]),
        };
        let rules = Source::parse(vars, ACCESS.name);
        let access = if proofs.is_empty() { Source::Unset } else { rules };
        Ok(Self { proofs, access, unset })
    }
}

impl Gate {
    /// Reads the secrets and rules. Keys of issuers are fetched when the first token comes.
    pub async fn open(settings: GateSettings) -> Result<Self, GateError> {
        let GateSettings { proofs, access: rules, unset } = settings;
        let chosen = rules != Source::Unset;
        let rules = Live::open(&rules, &ACCESS, access, unset).await?;
        check(&*rules.get().await, chosen, &proofs)?;
        let in_words = match (chosen, rules.get().await.mentions(Proof::None)) {
            (true, _) => "whom ACCESS names".to_owned(),
            (false, true) => "anybody".to_owned(),
            (false, false) => {
                format!("who shows {}", proofs.names().collect::<Vec<_>>().join(" or "))
            }
        };
        Ok(Self { proofs: Proofs::open(proofs, Demand::Any).await?, access: rules, in_words })
    }
}

/// Whether the rules can be meant: that nobody may call, or anybody with an account somewhere, is
/// said at the start.
fn check(rules: &Access, chosen: bool, proofs: &ProofSettings) -> Result<(), GateError> {
    if proofs.is_empty() && !rules.mentions(Proof::None) {
        return Err(GateError::Unproved(OIDC_ISSUERS.missing_with(
            r#"set it to the issuers of the jobs' tokens, such as https://gitlab.com, or set BUILD_EVENTS_SIGNING_KEY or BUILD_EVENTS_TOKEN (or ACCESS=[{"projects": "*", "by": ["none"]}] to accept anybody)"#,
        )));
    }
    let welcome = |host: &Host| rules.welcomes_all_of(host.as_str());
    match proofs.oidc.as_ref().and_then(|it| it.public(welcome)) {
        Some(host) if chosen => {
            tracing::warn!(%host, "ACCESS takes tokens of every project there, strangers' too");
            Ok(())
        }
        Some(_) => Err(ACCESS.missing_with(
            r#"everybody can get a token from a public issuer; name your projects, such as [{"projects": "acme/*", "by": ["oidc"]}]"#,
        ).into()),
        None => Ok(()),
    }
}
