//! Tokens of `OpenID` Connect issuers: forged, and signed by the issuer whatever they say.

use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};
use spanhook_core::settings::Vars;
use spanhook_service::gate::{Gate, GateSettings, MAX_LIFETIME, Proof, SKEW};
use tokio::runtime::{Builder, Runtime};

use crate::{NOW, cut};

pub(crate) const ISSUER: &str = "https://gitlab.example.com";
pub(crate) const AUDIENCE: &str = "https://ci.acme.test";

struct Door {
    runtime: Runtime,
    gate: Gate,
    key: RsaKeyPair,
}

/// A gate that takes the tokens of one issuer, whose keys are in the settings: nothing is fetched.
static DOOR: LazyLock<Door> = LazyLock::new(|| {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap_or_else(|error| panic!("{error}"));
    // As RFC 8017 writes it: a sequence of the 2048-bit modulus and the exponent.
    let modulus = URL_SAFE_NO_PAD.encode(&key.public_key().as_ref()[9..265]);
    let jwk = json!({"kty": "RSA", "kid": "one", "alg": "RS256", "n": modulus, "e": "AQAB"});
    let issuers = json!([{"issuer": ISSUER, "jwks": {"keys": [jwk]}}]).to_string();
    let vars = [("OIDC_ISSUERS", issuers), ("OIDC_AUDIENCE", AUDIENCE.to_owned())];
    let vars: Vars = vars.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let settings = GateSettings::build_events(&vars).unwrap_or_else(|error| panic!("{error}"));
    let gate = runtime.block_on(Gate::open(settings)).unwrap_or_else(|error| panic!("{error}"));
    Door { runtime, gate, key }
});

/// The first byte chooses what is signed, then come a header in a line and the claims; or the whole
/// token as it is.
pub fn token(data: &[u8]) -> bool {
    let Some((choice, rest)) = cut::choice(data) else { return false };
    let Ok(rest) = std::str::from_utf8(rest) else { return false };
    if choice % 3 == 0 {
        assert!(!admitted(rest), "nobody signed {rest}");
        return false;
    }
    let (header, claims) = rest.split_once('\n').unwrap_or((rest, ""));
    let signed = format!("{}.{}", part(header), part(claims));
    if choice % 3 == 1 {
        let forged = format!("{signed}.{}", part([0x5a; 256]));
        assert!(!admitted(&forged), "nobody signed {rest}");
        return false;
    }
    let mut signature = vec![0; DOOR.key.public_modulus_len()];
    let random = SystemRandom::new();
    let made = DOOR.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature);
    assert!(made.is_ok());
    let taken = admitted(&format!("{signed}.{}", part(signature)));
    assert!(!taken || may_pass(header, claims), "{header} {claims}");
    taken
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn admitted(token: &str) -> bool {
    let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}")) else { return false };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let Ok(caller) = DOOR.runtime.block_on(DOOR.gate.admit(&headers, b"", NOW)) else {
        return false;
    };
    assert_eq!(caller.by, Proof::Oidc);
    let job = caller.identity.unwrap_or_else(|| panic!("a token names its job"));
    assert!(job.project.is_some() && job.project_id.is_some() && job.host.is_some(), "{job:?}");
    true
}

/// What must hold at the least of a token that is taken, read in another way.
/// <https://www.rfc-editor.org/rfc/rfc7519#section-4.1>
fn may_pass(header: &str, claims: &str) -> bool {
    let read = |text| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (header, claims) = (read(header), read(claims));
    let audience = match &claims["aud"] {
        Value::Array(several) => several.iter().any(|it| it == AUDIENCE),
        one => one == AUDIENCE,
    };
    let time = |name: &str| claims[name].as_u64();
    let (Some(end), Some(made)) = (time("exp"), time("iat")) else { return false };
    header["alg"] == "RS256"
        && header["kid"] == "one"
        && header.get("crit").is_none()
        && claims["iss"] == ISSUER
        && audience
        && end.saturating_add(SKEW) > NOW
        && made <= NOW + SKEW
        && time("nbf").is_none_or(|it| it <= NOW + SKEW)
        && end.saturating_sub(made) <= MAX_LIFETIME + SKEW
}
