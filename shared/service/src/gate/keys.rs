//! The keys of an issuer, fetched and kept.
//!
//! Keys are good for [`FRESH`]; one that is not among them is looked for again, but not more often
//! than every [`FLOOR`], so that nobody can turn bad tokens into calls; while the issuer does not
//! answer, the keys that were fetched before stay good for [`STALE`].

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Client, Url};
use serde::Deserialize;
use spanhook_core::{
    host::Host,
    job::{Claim, Job},
    provider::Provider,
};
use thiserror::Error;
use tokio::sync::Mutex;

use super::Denied;
use crate::export;

/// How long keys are used before they are fetched again, in seconds.
pub const FRESH: u64 = 60 * 60;

/// The shortest time between two fetches from one issuer, in seconds.
pub const FLOOR: u64 = 60;

/// How long keys are used while the issuer does not answer, in seconds.
pub const STALE: u64 = 24 * 60 * 60;

/// How long a fetch may take: a caller waits for it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest document that is read, in bytes. Real ones have less than 10 KiB.
const MAX_BODY: usize = 256 * 1024;

/// The smallest RSA key, in bits. <https://www.rfc-editor.org/rfc/rfc7518#section-3.3>
const MIN_BITS: usize = 2048;

/// Why an issuer's keys can't be had. For the log.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeysError {
    /// There was no answer.
    #[error("{0}; allow egress to it, or give its keys as jwks in OIDC_ISSUERS")]
    Unreachable(&'static str),
    /// An answer other than 200, a redirect included.
    #[error("it answered HTTP {0}; name the address of its keys as jwks_url in OIDC_ISSUERS")]
    Status(u16),
    /// More than is read.
    #[error("its answer is larger than 256 KiB; check its address in OIDC_ISSUERS")]
    TooLarge,
    /// Not the JSON that it should be.
    #[error("its answer is no OpenID configuration or key set; check its address in OIDC_ISSUERS")]
    Malformed,
    /// The configuration names another issuer.
    #[error("its configuration names another issuer; write that one's exact text in OIDC_ISSUERS")]
    Issuer,
    /// The configuration points to another server.
    #[error("its keys are on another server; name their address as jwks_url in OIDC_ISSUERS")]
    Elsewhere,
    /// There is no key that may be used.
    #[error("it has no RSA key for RS256 of 2048 bits or more")]
    NoKey,
}

/// One public key.
pub(super) struct Key {
    id: String,
    public: RsaPublicKeyComponents<Vec<u8>>,
}

impl Key {
    /// Whether it made this RS256 signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }
}

/// The keys of one issuer that may be used.
#[derive(Clone)]
pub(super) struct Keys(Vec<Arc<Key>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// What is read of a key. <https://www.rfc-editor.org/rfc/rfc7517#section-4>
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    n: String,
    e: String,
    r#use: Option<String>,
    alg: Option<String>,
    key_ops: Option<Vec<String>>,
}

impl Keys {
    /// Reads a key set. Keys of other kinds and uses are passed over, as the standard asks.
    /// <https://www.rfc-editor.org/rfc/rfc7517#section-5>
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeysError> {
        let set: KeySet = serde_json::from_slice(json).map_err(|_| KeysError::Malformed)?;
        let keys: Vec<_> = set.keys.into_iter().filter_map(usable).map(Arc::new).collect();
        if keys.is_empty() { Err(KeysError::NoKey) } else { Ok(Self(keys)) }
    }

    fn get(&self, id: &str) -> Option<Arc<Key>> {
        self.0.iter().find(|key| key.id == id).map(Arc::clone)
    }
}

fn usable(json: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    let is = |it: &Option<String>, word| it.as_deref().is_none_or(|it| it == word);
    let verifies = jwk.key_ops.is_none_or(|it| it.iter().any(|it| it == "verify"));
    if jwk.kty != "RSA" || !is(&jwk.r#use, "sig") || !is(&jwk.alg, "RS256") || !verifies {
        return None;
    }
    let number = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let zeros = bytes.iter().take_while(|it| **it == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    let (n, e) = (number(&jwk.n)?, number(&jwk.e)?);
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    (bits >= MIN_BITS).then_some(Key { id: jwk.kid, public: RsaPublicKeyComponents { n, e } })
}

/// Where an issuer's keys are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the settings.
    Settings(Keys),
    /// At this address.
    Address(Url),
    /// At the address that the `OpenID` configuration names.
    /// <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig>
    Discovery(Url),
}

/// An issuer of the settings.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// As its tokens name it, to the letter.
    pub(super) url: String,
    /// Whose jobs' tokens these are.
    pub(super) provider: Provider,
    /// The instance that those jobs run on.
    pub(super) host: Host,
    /// Of whom tokens are accepted; none where everybody's are.
    pub(super) subjects: Option<Vec<String>>,
    pub(super) place: Place,
}

/// An issuer whose tokens are accepted, and what is known of its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    listed: Listed,
    /// None is needed where the settings have the keys.
    client: Option<Client>,
    state: RwLock<State>,
    /// One call fetches; the others wait, or go on with the keys that are there.
    fetching: Arc<Mutex<()>>,
}

/// What is known of an issuer's keys. Times are seconds since the epoch: a function's monotonic
/// clock may stand still while it is frozen.
#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Keys>,
    fetched: u64,
    tried: Option<u64>,
    failed: bool,
}

impl State {
    fn key(&self, id: &str, age: u64, now: u64) -> Option<Arc<Key>> {
        // A clock that was set back must not keep the keys old.
        let young = now.abs_diff(self.fetched) < age;
        self.keys.as_ref().filter(|_| young).and_then(|keys| keys.get(id))
    }
}

impl Issuer {
    pub(super) fn new(listed: Listed, client: Option<Client>) -> Self {
        Self { listed, client, state: RwLock::default(), fetching: Arc::default() }
    }

    /// As its tokens name it, to the letter.
    pub(super) fn url(&self) -> &str {
        &self.listed.url
    }

    /// Whether it may speak of this subject.
    pub(super) fn vouches_for(&self, subject: Option<&str>) -> bool {
        let one_of = |list: &Vec<String>| list.iter().any(|it| Some(it.as_str()) == subject);
        self.listed.subjects.as_ref().is_none_or(one_of)
    }

    /// The job that a verified token's payload speaks for; none where a claim is missing or not what
    /// it should be.
    pub(super) fn job(&self, payload: &[u8]) -> Option<Job> {
        let Listed { provider, host, .. } = &self.listed;
        let (claim, project_id) = (provider.room().job.claims)(payload)?;
        let claim = Claim { host: Some(host.to_string()), ..claim };
        let job = Job::new(*provider, &claim).ok()?;
        Some(Job { project_id: Some(project_id), ..job })
    }

    /// The key of this id. Ids are only ever compared.
    pub(super) async fn key(self: &Arc<Self>, id: &str, now: u64) -> Result<Arc<Key>, Denied> {
        if let Place::Settings(keys) = &self.listed.place {
            return keys.get(id).ok_or(Denied::TokenKey);
        }
        if let Some(key) = self.state().key(id, FRESH, now) {
            return Ok(key);
        }
        let lock = Arc::clone(&self.fetching);
        let fetching = match (lock.try_lock_owned(), self.state().key(id, STALE, now)) {
            (Ok(guard), _) => guard,
            (Err(_), Some(key)) => return Ok(key),
            (Err(_), None) => Arc::clone(&self.fetching).lock_owned().await,
        };
        // Another call may have fetched while this one waited.
        let state = self.state();
        if let Some(key) = state.key(id, FRESH, now) {
            return Ok(key);
        }
        if state.tried.is_none_or(|tried| now.abs_diff(tried) >= FLOOR) {
            let issuer = Arc::clone(self);
            // On its own: a caller that goes away must not take the keys of all others along.
            let fetch = tokio::spawn(async move {
                issuer.fetch(now).await;
                drop(fetching);
            });
            fetch.await.map_err(|_| Denied::Unavailable)?;
        }
        let state = self.state();
        match state.key(id, STALE, now) {
            Some(key) => Ok(key),
            // It may be signed with a key that could not be fetched.
            None if state.failed => Err(Denied::Unavailable),
            None => Err(Denied::TokenKey),
        }
    }

    async fn fetch(&self, now: u64) {
        self.set(|state| (state.tried, state.failed) = (Some(now), true));
        let keys = tokio::time::timeout(TIMEOUT, self.download()).await;
        match keys.unwrap_or(Err(KeysError::Unreachable("it took longer than 3 seconds"))) {
            Ok(keys) => self.set(|state| {
                (state.keys, state.fetched, state.failed) = (Some(keys), now, false);
            }),
            Err(error) => tracing::error!(issuer = self.url(), %error, "no keys from the issuer"),
        }
    }

    async fn download(&self) -> Result<Keys, KeysError> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
            jwks_uri: String,
        }
        let client = self.client.as_ref().ok_or(KeysError::Unreachable("there is no client"))?;
        let address = match &self.listed.place {
            Place::Settings(keys) => return Ok(keys.clone()),
            Place::Address(url) => url.clone(),
            Place::Discovery(url) => {
                let json = get(client, url.clone()).await?;
                let found: Configuration =
                    serde_json::from_slice(&json).map_err(|_| KeysError::Malformed)?;
                if found.issuer != self.url() {
                    return Err(KeysError::Issuer);
                }
                let keys = Url::parse(&found.jwks_uri).map_err(|_| KeysError::Malformed)?;
                // The same scheme, host and port.
                if keys.origin() != url.origin() {
                    return Err(KeysError::Elsewhere);
                }
                keys
            }
        };
        Keys::parse(&get(client, address).await?)
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The client that fetches keys. A redirect could lead to any server.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    // A function is frozen for longer than a connection lives.
    export::client().timeout(TIMEOUT).pool_max_idle_per_host(0).build()
}

async fn get(client: &Client, url: Url) -> Result<Vec<u8>, KeysError> {
    let unreachable = |error: reqwest::Error| {
        KeysError::Unreachable(match () {
            () if error.is_timeout() => "it took longer than 3 seconds",
            () if error.is_connect() => "no connection can be made",
            () => "its answer broke off",
        })
    };
    let mut response = client.get(url).send().await.map_err(unreachable)?;
    if response.status() != http::StatusCode::OK {
        return Err(KeysError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(KeysError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
