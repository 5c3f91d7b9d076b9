//! What a [`Gate`] is put together from.

use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;
use spanhook_core::{host::Host, provider::Provider, secret::Secrets};
use thiserror::Error;

use super::{
    Access, Gate, Proof,
    access::access,
    keys::{Issuer, Keys, Place, client},
};
use crate::{
    live::{self, Live, LiveError, Source},
    settings::{SettingsError, TRACEPARENT_TOKEN, Vars, var},
};

/// The variable with the rules of who may call.
const ACCESS: &str = "ACCESS";
/// The variable with the issuers whose tokens are accepted.
const OIDC_ISSUERS: &str = "OIDC_ISSUERS";
/// The variable with what tokens must be made for.
const OIDC_AUDIENCE: &str = "OIDC_AUDIENCE";
/// The variable with the keys of signatures.
const BUILD_EVENTS_SIGNING_KEY: &str = "BUILD_EVENTS_SIGNING_KEY";
/// The variable with the bearer tokens of the build-events endpoint.
const BUILD_EVENTS_TOKEN: &str = "BUILD_EVENTS_TOKEN";

/// A gate that can't be opened.
#[derive(Debug, Error)]
pub enum GateError {
    /// A variable is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A secret or the rules can't be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The client that fetches keys can't be set up.
    #[error("no HTTPS client for OIDC_ISSUERS can be set up; check the system's root certificates")]
    Client(#[from] reqwest::Error),
}

/// Who may call an endpoint, as its variables say.
#[derive(Clone, Debug)]
pub struct GateSettings {
    issuers: Vec<Listed>,
    audience: Vec<String>,
    signing_key: Source,
    tokens: (&'static str, Source),
    access: Source,
    /// The rules where `ACCESS` is not set.
    unset: Access,
}

/// An issuer of the list.
#[derive(Clone, Debug)]
struct Listed {
    url: String,
    provider: Provider,
    host: Host,
    place: Place,
}

impl GateSettings {
    /// Of the build-events endpoint: `OIDC_ISSUERS`, `OIDC_AUDIENCE`, `BUILD_EVENTS_SIGNING_KEY`,
    /// `BUILD_EVENTS_TOKEN` and `ACCESS`. Without `ACCESS` each of the three proofs is enough for
    /// every project; without any way to prove something the gate does not open.
    pub fn build_events(vars: &Vars) -> Result<Self, SettingsError> {
        let signing_key = Source::parse(vars, BUILD_EVENTS_SIGNING_KEY);
        let tokens = (BUILD_EVENTS_TOKEN, Source::parse(vars, BUILD_EVENTS_TOKEN));
        let unset = Access::everywhere(&[Proof::Oidc, Proof::Signature, Proof::Bearer]);
        Self::parse(vars, signing_key, tokens, unset)
    }

    /// Of the traceparent endpoint: `OIDC_ISSUERS`, `OIDC_AUDIENCE`, `TRACEPARENT_TOKEN` and
    /// `ACCESS`. Without `ACCESS` and `TRACEPARENT_TOKEN` anybody may ask. Where no proof can be
    /// checked here, `ACCESS` is meant for the build-events endpoint only.
    pub fn traceparent(vars: &Vars) -> Result<Self, SettingsError> {
        let tokens = (TRACEPARENT_TOKEN.name, Source::parse(vars, TRACEPARENT_TOKEN.name));
        let unset = match tokens.1 {
            Source::Unset => Access::everywhere(&[Proof::Oidc, Proof::None]),
            _ => Access::everywhere(&[Proof::Oidc, Proof::Bearer]),
        };
        let mut settings = Self::parse(vars, Source::Unset, tokens, unset)?;
        if settings.issuers.is_empty() && settings.tokens.1 == Source::Unset {
            settings.access = Source::Unset;
        }
        Ok(settings)
    }

    fn parse(
        vars: &Vars,
        signing_key: Source,
        tokens: (&'static str, Source),
        unset: Access,
    ) -> Result<Self, SettingsError> {
        let issuers = issuers(var(vars, OIDC_ISSUERS).unwrap_or_default())?;
        let audience = list(var(vars, OIDC_AUDIENCE).unwrap_or_default());
        let bare = |it: &String| !it.is_empty() && !it.starts_with(['"', '\'']);
        let audience = audience.filter(|it: &Vec<String>| it.iter().all(bare));
        let expected = "use the text that jobs ask for as aud, or a JSON list of several";
        let audience = audience
            .ok_or(SettingsError::Invalid { variable: OIDC_AUDIENCE.to_owned(), expected })?;
        if audience.is_empty() && !issuers.is_empty() {
            let hint = "set it to what jobs ask for as aud, such as this endpoint's address";
            return Err(SettingsError::Missing { variable: OIDC_AUDIENCE, hint });
        }
        let access = Source::parse(vars, ACCESS);
        Ok(Self { issuers, audience, signing_key, tokens, access, unset })
    }
}

impl Gate {
    /// Reads the secrets and rules. Keys of issuers are fetched when the first token comes.
    pub async fn open(settings: GateSettings) -> Result<Self, GateError> {
        let GateSettings { issuers, audience, signing_key, tokens, access: rules, unset } =
            settings;
        let chosen = rules != Source::Unset;
        let rules = Live::open(&rules, ACCESS, access, unset).await?;
        check(&*rules.get().await, chosen, &issuers, &[&signing_key, &tokens.1])?;
        let secrets = Secrets::default;
        let keys = live::signing_keys;
        let signing_keys =
            Live::open(&signing_key, BUILD_EVENTS_SIGNING_KEY, keys, secrets()).await?;
        let tokens = Live::open(&tokens.1, tokens.0, live::secrets, secrets()).await?;
        // Its setting up reads the system's root certificates: a cold start spares it if it can.
        let fetched = issuers.iter().any(|it| !matches!(it.place, Place::Settings(_)));
        let client = fetched.then(client).transpose()?;
        let issuer =
            |it: Listed| Issuer::new(it.url, it.provider, it.host, it.place, client.clone());
        let issuers = issuers.into_iter().map(issuer).map(Arc::new).collect();
        Ok(Self { issuers, audience, signing_keys, tokens, access: rules })
    }
}

/// Whether the rules can be meant: that nobody may call, or anybody with an account somewhere, is
/// said at the start.
fn check(
    rules: &Access,
    chosen: bool,
    issuers: &[Listed],
    secrets: &[&Source],
) -> Result<(), SettingsError> {
    let nothing = issuers.is_empty() && secrets.iter().all(|it| **it == Source::Unset);
    if nothing && !rules.mentions(Proof::None) {
        return Err(SettingsError::Missing {
            variable: OIDC_ISSUERS,
            hint: r#"set it to the issuers of the jobs' tokens, such as https://gitlab.com, or set BUILD_EVENTS_SIGNING_KEY or BUILD_EVENTS_TOKEN (or ACCESS=[{"projects": "*", "by": ["none"]}] to accept anybody)"#,
        });
    }
    let public = |it: &&Listed| Provider::ALL.iter().any(|by| by.room().issuer.public == it.url);
    match issuers.iter().filter(public).find(|it| rules.welcomes_all_of(it.host.as_str())) {
        Some(issuer) if chosen => {
            let host = &issuer.host;
            tracing::warn!(%host, "ACCESS takes tokens of every project there, strangers' too");
            Ok(())
        }
        Some(_) => Err(SettingsError::Missing {
            variable: ACCESS,
            hint: r#"everybody can get a token from a public issuer; name your projects, such as [{"projects": "acme/*", "by": ["oidc"]}]"#,
        }),
        None => Ok(()),
    }
}

/// Several values: a JSON list, or separated by commas.
fn list(text: &str) -> Option<Vec<String>> {
    if text.starts_with(['[', '{']) {
        return serde_json::from_str(text).ok();
    }
    Some(text.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect())
}

/// An issuer as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Address(String),
    Described(Described),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    issuer: String,
    provider: Option<String>,
    jwks_url: Option<String>,
    jwks: Option<serde_json::Value>,
}

fn issuers(text: &str) -> Result<Vec<Listed>, SettingsError> {
    let invalid = |expected| SettingsError::Invalid { variable: OIDC_ISSUERS.to_owned(), expected };
    let shape = r#"use addresses separated by commas, or JSON such as [{"issuer": "https://gitlab.example.com", "provider": "gitlab"}]"#;
    let written: Vec<Written> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| invalid(shape))?
    } else {
        let addresses = list(text).ok_or_else(|| invalid(shape))?;
        addresses.into_iter().map(Written::Address).collect()
    };
    let described = |it| match it {
        Written::Described(it) => it,
        Written::Address(issuer) => {
            Described { issuer, provider: None, jwks_url: None, jwks: None }
        }
    };
    written.into_iter().map(|it| listed(described(it)).map_err(invalid)).collect()
}

/// Checks an issuer; what is wrong is answered with what to type.
fn listed(it: Described) -> Result<Listed, &'static str> {
    let address = address(&it.issuer)
        .ok_or("use issuers exactly as the tokens' iss names them, such as https://gitlab.com")?;
    let issuer = it.issuer.trim_end_matches('/');
    let bare = Provider::ALL.iter().find(|by| by.room().issuer.bare == Some(issuer));
    if let Some(expected) = bare.map(|by| by.room().issuer.expected) {
        return Err(expected);
    }
    let provider = match it.provider.as_deref() {
        None => provider(&it.issuer),
        Some(name) => Provider::named(name).ok_or(Provider::EXPECTED)?,
    };
    let room = provider.room();
    let below = |path| {
        let url = format!("{}/.well-known/{path}", it.issuer.trim_end_matches('/'));
        self::address(&url).ok_or("use issuers without a query or a fragment")
    };
    let place = match (it.jwks, it.jwks_url) {
        (None, None) => match room.issuer.keys {
            Some(path) => Place::Address(below(path)?),
            None => Place::Discovery(below("openid-configuration")?),
        },
        (None, Some(url)) => Place::Address(
            self::address(&url).ok_or("use an https address as jwks_url")?,
        ),
        (Some(jwks), None) => Place::Settings(Keys::parse(jwks.to_string().as_bytes()).map_err(
            |_| r#"use the issuer's key set as jwks, {"keys": [...]}, with an RSA key for RS256 of 2048 bits or more"#,
        )?),
        (Some(_), Some(_)) => return Err("use either jwks_url or jwks of an issuer"),
    };
    let name = address.host_str().unwrap_or_default();
    let port = address.port().map(|it| format!(":{it}")).unwrap_or_default();
    let host = Host::parse(&format!("{}{port}", (room.issuer.instance)(name)))
        .map_err(|_| "use issuers with a host name")?;
    Ok(Listed { url: it.issuer, provider, host, place })
}

/// An address that may be asked: https, or http on this machine, as in a test.
fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let loopback = matches!(url.host_str()?, "localhost" | "127.0.0.1" | "[::1]");
    let secure = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let plain = url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (secure && plain && anonymous).then_some(url)
}

/// Who issues, where that is not said.
fn provider(issuer: &str) -> Provider {
    let owner = Provider::ALL.into_iter().find(|it| (it.room().issuer.owns)(issuer));
    owner.unwrap_or(Provider::Gitlab)
}
