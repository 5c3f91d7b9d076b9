//! Whose `OpenID` Connect tokens prove something, as the variables of a check say.

use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;
use spanhook_core::{host::Host, provider::Provider};

use super::{
    denied::GateError,
    keys::{Issuer, Keys, Listed, Place, client},
};
use crate::settings::{SettingsError, Variable, Vars};

/// Issuers and what their tokens must be made for.
#[derive(Clone, Debug)]
pub(super) struct IssuerSettings {
    /// The variable that lists the issuers.
    pub(super) variable: &'static Variable,
    /// At least one.
    pub(super) issuers: Vec<Listed>,
    pub(super) audience: Vec<String>,
}

impl IssuerSettings {
    /// Reads the variables of a check; none where no issuer is listed.
    pub(super) fn parse(
        vars: &Vars,
        variable: &'static Variable,
        audience: &'static Variable,
    ) -> Result<Option<Self>, SettingsError> {
        let issuers = issuers(variable, variable.get(vars).unwrap_or_default())?;
        let bare = |it: &String| !it.is_empty() && !it.starts_with(['"', '\'']);
        let allowed = list(audience.get(vars).unwrap_or_default());
        let allowed = allowed.filter(|it| it.iter().all(bare)).ok_or_else(|| audience.invalid())?;
        match (issuers.is_empty(), allowed.is_empty()) {
            (true, _) => Ok(None),
            (false, true) => Err(audience.missing()),
            (false, false) => Ok(Some(Self { variable, issuers, audience: allowed })),
        }
    }

    /// An issuer that everybody can get a token from and for whom `welcome` is true.
    pub(super) fn public(&self, welcome: impl Fn(&Host) -> bool) -> Option<&Host> {
        let public =
            |it: &&Listed| Provider::ALL.iter().any(|by| by.room().issuer.public == it.url);
        self.issuers.iter().filter(public).map(|it| &it.host).find(|it| welcome(it))
    }

    /// Refuses an issuer without subjects: at a webhook no rule judges whose token it is.
    pub(super) fn require_subjects(&self) -> Result<(), SettingsError> {
        let named = |it: &Listed| it.subjects.as_ref().is_some_and(|it| !it.is_empty());
        let expected = r#"name whose tokens are taken, such as [{"issuer": "https://cluster.example.com", "subjects": ["system:serviceaccount:ci:relay"]}]"#;
        if self.issuers.iter().all(named) {
            Ok(())
        } else {
            Err(self.variable.invalid_with(expected))
        }
    }

    /// Issuers whose keys are fetched when the first token comes.
    pub(super) fn open(self) -> Result<(Vec<Arc<Issuer>>, Vec<String>), GateError> {
        // Its setting up reads the system's root certificates: a cold start spares it if it can.
        let fetched = self.issuers.iter().any(|it| !matches!(it.place, Place::Settings(_)));
        let client = fetched.then(client).transpose()?;
        let issuer = |it| Arc::new(Issuer::new(it, client.clone()));
        Ok((self.issuers.into_iter().map(issuer).collect(), self.audience))
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
    subjects: Option<Vec<String>>,
    jwks_url: Option<String>,
    jwks: Option<serde_json::Value>,
}

fn issuers(variable: &Variable, text: &str) -> Result<Vec<Listed>, SettingsError> {
    let written: Vec<Written> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| variable.invalid())?
    } else {
        let addresses = list(text).ok_or_else(|| variable.invalid())?;
        addresses.into_iter().map(Written::Address).collect()
    };
    let described = |it| match it {
        Written::Described(it) => it,
        Written::Address(issuer) => {
            Described { issuer, provider: None, subjects: None, jwks_url: None, jwks: None }
        }
    };
    let listed = |it| listed(described(it)).map_err(|expected| variable.invalid_with(expected));
    written.into_iter().map(listed).collect()
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
    Ok(Listed { url: it.issuer, provider, host, subjects: it.subjects, place })
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
