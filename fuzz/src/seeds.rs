//! What a campaign begins with: the samples of `events/`, and a few lines for what has none.

use std::{fs, io, path::Path};

use serde_json::Value;
use spanhook_core::{
    message::Content,
    otlp::{
        Signal,
        front::{Encoding, Request, Writer},
    },
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};

use crate::{NOW, messages, settings::VARIABLES};

/// The seeds of a target.
pub fn of(target: &str) -> io::Result<Vec<Vec<u8>>> {
    Ok(match target {
        "delivery" => deliveries()?,
        "signature" => signatures(),
        "build_events" => chosen(3, &samples("build-events")?),
        "otlp_json" => otlp()?.into_iter().map(|(choice, json, _)| with(choice, &json)).collect(),
        "otlp_protobuf" => otlp()?.into_iter().map(|(choice, _, raw)| with(choice, &raw)).collect(),
        "message" => message()?,
        "settings" => {
            let variables = VARIABLES.iter().enumerate();
            variables.map(|(at, it)| with(at, of_variable(it.default, it.expected))).collect()
        }
        "claims" => CLAIMS.iter().flat_map(|it| chosen(3, &[it.as_bytes().to_vec()])).collect(),
        #[cfg(feature = "service")]
        "token" => tokens(),
        "answer" => ANSWERS.iter().map(|it| it.as_bytes().to_vec()).collect(),
        "rules" => RULES.iter().map(|it| it.as_bytes().to_vec()).collect(),
        "traceparent" => questions(),
        _ => Vec::new(),
    })
}

const ANSWERS: [&str; 9] = [
    "0application/x-protobuf\n\u{a}\u{6}\u{8}\u{2}\u{12}\u{2}no",
    "0application/json\n{\"partialSuccess\":{\"rejectedSpans\":\"2\",\"errorMessage\":\"too old\"}}",
    "0application/json\n{\"partial_success\":{\"rejected_spans\":2}}",
    "1application/json\n\"OK\"",
    "0text/html\n<html>",
    "2\n",
    "3application/x-protobuf\n\u{8}\u{3}\u{12}\u{3}bad",
    "4application/json; charset=utf-8\n{\"code\":3,\"message\":\"bad span\",\"details\":[]}",
    "3\nClient sent an HTTP request to an HTTPS server.",
];

/// Claims of every issuer.
const CLAIMS: [&str; 4] = [
    r#"{"project_path":"acme/web/shop","project_id":"278964","pipeline_id":"2722508965","job_id":"15651125844","ref":"main","sha":"714a629c0b401fdce83e847fc9589983fc6f46bc"}"#,
    r#"{"project_path":"m/shop","project_id":666,"job_project_path":"acme/web/shop","job_project_id":"278964","pipeline_id":2722508965,"job_id":1}"#,
    r#"{"oidc.circleci.com/project-id":"9d1c3b2a-14d5-4a0e-8b0a-0f5f3f8c2b11","oidc.circleci.com/workflow-id":"CEDF175C-c537-49f8-9b5c-95892f0b2407","oidc.circleci.com/job-id":"3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34","oidc.circleci.com/vcs-origin":"github.com/acme/shop","oidc.circleci.com/vcs-ref":"refs/heads/main"}"#,
    r#"{"repository":"acme/shop","repository_id":"1296269","run_id":"19284651123","run_attempt":"2","check_run_id":"55120394","ref":"refs/heads/main","sha":"714A629C0B401FDCE83E847FC9589983FC6F46BC"}"#,
];

const RULES: [&str; 5] = [
    "gitlab.example.com\nacme/shop\n{\"allow\":[\"acme/*\",\"gitlab.example.com/*/shop\"]}",
    "gh\nacme/web/shop\n{\"deny\":[\"*/secret\",\"a?me/*\"],\"share\":{\"*\":0.5,\"acme/*\":0.1}}",
    "\nacme\n{\"share\":{\"*\":1}}",
    "\n\n{\"allow\":[\"*\"],\"deny\":[\"*\"]}",
    "\na\n{\"deny\":[\"*a*a*a*a*b\"]}",
];

/// A default, else the example that its text gives, else that text.
fn of_variable(default: &'static str, expected: &'static str) -> &'static [u8] {
    let example = expected.split("such as ").nth(1);
    [default, example.unwrap_or(expected)]
        .into_iter()
        .find(|it| !it.is_empty())
        .unwrap_or("x")
        .as_bytes()
}

fn with(choice: usize, rest: &[u8]) -> Vec<u8> {
    // Below 200, so it fits.
    let first = u8::try_from(choice).unwrap_or_default().wrapping_add(b'0');
    [&[first], rest].concat()
}

/// Each of these with each of `count` choices before it.
fn chosen(count: usize, bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    (0..count).flat_map(|choice| bodies.iter().map(move |it| with(choice, it))).collect()
}

/// The JSON files of a folder of `events/`, without their white space.
fn samples(folder: &str) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(folder);
    let paths = fs::read_dir(folder)?.map(|it| it.map(|it| it.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let read = |path| Ok(serde_json::from_slice::<Value>(&fs::read(path)?)?.to_string().into());
    paths.into_iter().filter(|it| it.extension().is_some_and(|it| it == "json")).map(read).collect()
}

fn deliveries() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for (at, provider) in Provider::ALL.into_iter().enumerate() {
        for body in samples(provider.as_str())? {
            let json: Value = serde_json::from_slice(&body)?;
            let headers = (provider.room().sends)(&json, "72d3162e-cc78-11e3-81ab-4c9367dc0958");
            let lines: String =
                headers.iter().map(|(name, it)| format!("{name}: {it}\n")).collect();
            let rest = [lines.as_bytes(), b"\n", &body].concat();
            seeds.extend((0..4).map(|variant| with(at + variant * Provider::ALL.len(), &rest)));
        }
    }
    Ok(seeds)
}

fn signatures() -> Vec<Vec<u8>> {
    let hmac = "11".repeat(32);
    let lines = format!(
        "circleci-signature: v1={hmac}, v2=x\nx-hub-signature-256: sha256={hmac}\nx-lighthouse-signature: sha256={hmac}\nwebhook-id: a\nwebhook-timestamp: {NOW}\nwebhook-signature: v1,{0} v1a,x\nx-gitlab-token: x\nauthorization: Bearer x\nspanhook-path-secret: y\n\n{{}}",
        "ERERERERERERERERERERERERERERERERERERERERERE="
    );
    let damages = ["0", "8", "@"].map(|it| [it.as_bytes(), lines.as_bytes()].concat());
    chosen(16, &damages)
}

/// A choice with a request in JSON and in protobuf.
type Otlp = (usize, Vec<u8>, Vec<u8>);

/// The samples of OTLP with each choice of their signal, as JSON and as protobuf.
fn otlp() -> io::Result<Vec<Otlp>> {
    let samples = samples("otlp")?;
    let names = ["resourceSpans", "resourceMetrics", "resourceLogs"];
    let mut seeds = Vec::new();
    for (at, signal) in Signal::ALL.into_iter().enumerate() {
        for json in samples.iter().filter(|it| String::from_utf8_lossy(it).contains(names[at])) {
            let request = Request { signal, encoding: Encoding::Json };
            let (settings, rules) = (Settings::default(), ProjectRules::default());
            let writer = Writer::Trusted;
            let taken = request.take(json, 1 << 20, writer, NOW, &settings, &rules);
            let messages = taken.map_err(io::Error::other)?.messages;
            let mut raw = Vec::new();
            for message in &messages {
                if let Ok(Content::Otlp(_, part)) = messages::read(message) {
                    raw.extend_from_slice(&part);
                }
            }
            for writer in 0..3 {
                seeds.push((at + 3 * writer, json.clone(), raw.clone()));
            }
        }
    }
    Ok(seeds)
}

fn message() -> io::Result<Vec<Vec<u8>>> {
    let raw: Vec<_> = otlp()?.into_iter().map(|it| it.2).collect();
    let mut seeds = chosen(1, &raw);
    seeds.extend([
        with(1, b"KLUv/SAEIQAACgABAA=="),
        with(2, b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00\x0a\x00\x01\x00"),
        with(3, br#"{"x-gitlab-event":"Pipeline Hook","bad name":"x"}"#),
        with(4, br#"{"object_kind":"pipeline"}"#),
    ]);
    Ok(seeds)
}

#[cfg(feature = "service")]
/// A good token signed by its issuer and by nobody, and the text of one.
fn tokens() -> Vec<Vec<u8>> {
    use crate::token::{AUDIENCE, ISSUER};
    let header = r#"{"alg":"RS256","kid":"one","typ":"JWT"}"#;
    let claims = serde_json::json!({
        "iss": ISSUER, "aud": [AUDIENCE, "other"], "iat": NOW - 100, "nbf": NOW - 105, "exp": NOW + 3500,
        "project_path": "acme/web/shop", "project_id": "278964", "pipeline_id": "2722508965",
        "job_id": 15_651_125_844_u64, "ref": "main", "sub": "x",
    });
    let signed = format!("{header}\n{claims}");
    let text = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im9uZSJ9.e30.WlpaWg";
    [(0, text), (1, &*signed), (2, &*signed), (5, &*signed)]
        .map(|(choice, rest)| with(choice, rest.as_bytes()))
        .into()
}

fn questions() -> Vec<Vec<u8>> {
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut seeds = Vec::new();
    for provider in Provider::ALL {
        let example = provider.room().job.example.join("/");
        for (format, accept) in [
            ("", "application/json, */*"),
            ("sh", ""),
            ("json", ""),
            ("powershell", ""),
            ("github", ""),
            ("value", ""),
            ("dotenv", ""),
        ] {
            seeds.push(format!(
                "/traceparent/{provider}/{example}\ninstance=ci.example.com:8443&root=7&event=e&above=a&project=acme%2Fshop&format={format}\n{accept}\n{context}"
            ).into_bytes());
        }
    }
    seeds.push(format!("/traceparent/cedf175c-c537-49f8-9b5c-95892f0b2407/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34\n\n\n01{}-more", &context[2..]).into_bytes());
    seeds
}
