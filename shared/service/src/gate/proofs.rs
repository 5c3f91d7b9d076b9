//! What proves a sender, checked: the same for every endpoint.

use std::sync::Arc;

use futures_util::future::join_all;
use http::HeaderMap;
use spanhook_core::{
    check::{Check, Rejection, Scheme, bearer},
    secret::Secrets,
};

use super::{
    Denied, GateError, Proof,
    issuers::IssuerSettings,
    keys::Issuer,
    token::{Token, verify},
};
use crate::{
    live::{self, Live, Source},
    settings::{SettingsError, Vars},
};

/// Those of an endpoint's checks that are configured.
#[derive(Clone, Debug)]
pub(super) struct ProofSettings {
    secrets: Vec<(Check, Source)>,
    pub(super) oidc: Option<IssuerSettings>,
}

impl ProofSettings {
    /// Reads the variables of checks.
    pub(super) fn parse(checks: &[Check], vars: &Vars) -> Result<Self, SettingsError> {
        let mut settings = Self { secrets: Vec::new(), oidc: None };
        for check in checks {
            if let Scheme::Oidc { audience } = check.scheme {
                settings.oidc = IssuerSettings::parse(vars, check.variable, audience)?;
                continue;
            }
            let source = Source::parse(vars, check.variable.name);
            if source != Source::Unset {
                settings.secrets.push((*check, source));
            }
        }
        Ok(settings)
    }

    /// Whether nothing could be proved.
    pub(super) fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.oidc.is_none()
    }

    /// The variables of what can be shown.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        let secrets = self.secrets.iter().map(|(check, _)| check.variable.name);
        secrets.chain(self.oidc.iter().map(|it| it.variable.name))
    }

    /// The variables of what must hold, in words.
    pub(super) fn in_words(&self) -> String {
        let names = |of: fn(Scheme) -> bool| {
            let checks = self.secrets.iter().map(|(check, _)| check);
            checks.filter(move |it| of(it.scheme)).map(|it| it.variable.name)
        };
        let issuers = self.oidc.iter().map(|it| it.variable.name);
        // These two are one header, which can hold one of them.
        let either: Vec<_> = names(|it| it == Scheme::Bearer).chain(issuers).collect();
        let mut all: Vec<_> = names(|it| it != Scheme::Bearer).map(str::to_owned).collect();
        all.extend((!either.is_empty()).then(|| either.join(" or ")));
        all.join(" and ")
    }
}

/// What a request must show. All that it shows must hold in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Every proof that is configured.
    Every,
    /// What it likes: somebody else judges whether that is enough.
    Any,
}

/// A check and its live secrets; without any it would not be configured.
type Secret = (Check, Live<Secrets>);

/// The proofs of an endpoint.
#[derive(Debug)]
pub(super) struct Proofs {
    demand: Demand,
    /// Those with a header of their own.
    secrets: Vec<Secret>,
    authorization: Option<Authorization>,
}

/// What `Authorization: Bearer` may carry: a secret, or the token of a listed issuer.
#[derive(Debug)]
struct Authorization {
    secret: Option<Secret>,
    issuers: Vec<Arc<Issuer>>,
    audience: Vec<String>,
}

impl Proofs {
    /// Reads the secrets. Keys of issuers are fetched when the first token comes.
    pub(super) async fn open(settings: ProofSettings, demand: Demand) -> Result<Self, GateError> {
        let (mut secrets, mut secret) = (Vec::new(), None);
        for (check, source) in settings.secrets {
            let read = live::keys(check.scheme);
            let live = Live::open(&source, check.variable, read, Secrets::default()).await?;
            match check.scheme {
                Scheme::Bearer => secret = Some((check, live)),
                _ => secrets.push((check, live)),
            }
        }
        let (issuers, audience) = match settings.oidc {
            Some(oidc) => oidc.open()?,
            None => Default::default(),
        };
        let used = secret.is_some() || !issuers.is_empty();
        let authorization = used.then_some(Authorization { secret, issuers, audience });
        Ok(Self { demand, secrets, authorization })
    }

    /// Checks what needs no body, `now` in seconds since the Unix epoch: whether what proves the
    /// sender is there and can be right.
    pub(super) async fn screen<'a>(
        &'a self,
        headers: &'a HeaderMap,
        now: u64,
    ) -> Result<Screened<'a>, Denied> {
        // What is too old is read again at the same time: one wait, not one for each.
        let bearer = self.authorization.iter().filter_map(|it| it.secret.as_ref());
        join_all(self.secrets.iter().chain(bearer).map(|(_, live)| live.get())).await;
        let mut screened = Screened { headers, signed: Vec::new(), by: Proof::None, token: None };
        for secret in &self.secrets {
            let (check, live) = secret;
            match live.verify(|secrets| check.verify_headers(headers, secrets, now)).await {
                Ok(()) if check.scheme.covers_body() => screened.signed.push(secret),
                Ok(()) => screened.by = Proof::Bearer,
                Err(Rejection::Missing) if self.demand == Demand::Any => {}
                Err(rejection) => return Err(rejection.into()),
            }
        }
        let Some(authorization) = &self.authorization else { return Ok(screened) };
        match authorization.check(headers, now).await? {
            None if self.demand == Demand::Every => return Err(Rejection::Missing.into()),
            None => {}
            Some(Authorized::Secret) => screened.by = Proof::Bearer,
            Some(Authorized::Token(token)) => screened.token = Some(token),
        }
        Ok(screened)
    }
}

/// What an `Authorization` was worth.
enum Authorized {
    Secret,
    Token(Token),
}

impl Authorization {
    async fn check(&self, headers: &HeaderMap, now: u64) -> Result<Option<Authorized>, Denied> {
        let Some(token) = bearer(headers)? else { return Ok(None) };
        // Every JWT begins with `{` in base64 and has a dot; a random secret does not.
        if !self.issuers.is_empty() && token.starts_with("ey") && token.contains('.') {
            let token = verify(token, &self.issuers, &self.audience, now).await?;
            return Ok(Some(Authorized::Token(token)));
        }
        // Where only issuers' tokens are taken, something else in their place is wrong.
        let (check, live) = self.secret.as_ref().ok_or(Denied::Bearer)?;
        let verified = live.verify(|secrets| check.verify_headers(headers, secrets, now)).await;
        verified.map_err(|_| Denied::Bearer)?;
        Ok(Some(Authorized::Secret))
    }
}

/// A request whose headers hold, and what is left to check once its body is there. It is not
/// printed: the headers hold secrets.
pub struct Screened<'a> {
    headers: &'a HeaderMap,
    signed: Vec<&'a Secret>,
    by: Proof,
    token: Option<Token>,
}

impl Screened<'_> {
    /// The issuer's token that came.
    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether the request proves nothing, whatever its body.
    pub(super) fn showed_nothing(&self) -> bool {
        self.signed.is_empty() && self.token.is_none() && self.by == Proof::None
    }

    /// Checks what covers the raw bytes of the body; answers with the proof that says most.
    pub async fn prove(self, body: &[u8], now: u64) -> Result<Proof, Denied> {
        for (check, live) in &self.signed {
            live.verify(|secrets| check.verify(self.headers, body, secrets, now)).await?;
        }
        Ok(match self.by {
            _ if self.token.is_some() => Proof::Oidc,
            _ if !self.signed.is_empty() => Proof::Signature,
            by => by,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::{Duration, UNIX_EPOCH},
    };

    use aws_sdk_ssm::{operation::get_parameter::GetParameterOutput, types::Parameter};
    use aws_smithy_mocks::{RuleMode, mock, mock_client};
    use spanhook_core::settings::Variable;

    use super::*;
    use crate::{clock::Clock, live::Keeper};

    static TOKEN: Variable = Variable::secret("TOKEN", "set it", "a secret");

    /// What was compared before the body came would not match any more once it is there.
    #[tokio::test]
    async fn a_token_is_compared_once() {
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let parameter = |text: &str| {
            let parameter = Parameter::builder().value(text).build();
            GetParameterOutput::builder().parameter(parameter).build()
        };
        for (scheme, header, value) in [
            (Scheme::Token { header: "x-token" }, "x-token", "old-secret"),
            (Scheme::Bearer, "authorization", "Bearer old-secret"),
        ] {
            let rule = mock!(aws_sdk_ssm::Client::get_parameter)
                .sequence()
                .output(move || parameter("old-secret"))
                .output(move || parameter("new-secret"))
                .build();
            let keeper =
                Keeper::Ssm(mock_client!(aws_sdk_ssm, RuleMode::MatchAny, [&rule]), "/s".into());
            let clock =
                Clock::new(|| UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed)));
            let live = Live::kept(keeper, &TOKEN, live::secrets, clock).await.unwrap();
            let secret = (Check { variable: &TOKEN, scheme }, live);
            let (mut secrets, mut authorization) = (Vec::new(), None);
            if scheme == Scheme::Bearer {
                let (issuers, audience) = Default::default();
                authorization = Some(Authorization { secret: Some(secret), issuers, audience });
            } else {
                secrets.push(secret);
            }
            let proofs = Proofs { demand: Demand::Every, secrets, authorization };
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(header),
                http::HeaderValue::from_static(value),
            )]);
            let screened = proofs.screen(&headers, 0).await.unwrap();
            NOW.fetch_add(300, Ordering::Relaxed);
            assert!(proofs.screen(&headers, 0).await.is_err(), "the secret is another one now");
            assert_eq!(screened.prove(b"", 0).await, Ok(Proof::Bearer));
        }
    }
}
