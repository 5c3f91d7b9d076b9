//! A GitHub Actions job finds its place in the trace: by the action, and by the commands it runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    path::Path,
    process::Output,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::Serve;
use tempfile::TempDir;
use tokio::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const SECRET: &str = "a-secret-of-github";
const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const AUDIENCE: &str = "https://ci.example.com/?for=spanhook&x";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Run, attempt and job of the samples.
const RUN: (&str, &str, &str) = ("16200000001", "1", "47100000001");

/// What a runner sets for that job.
const RUNNER: [(&str, &str); 9] = [
    ("CI", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "acme/shop"),
    ("GITHUB_RUN_ID", RUN.0),
    ("GITHUB_RUN_ATTEMPT", RUN.1),
    ("GITHUB_JOB", "build"),
    ("GITHUB_REF_NAME", "main"),
    ("GITHUB_SHA", "5f3a1c9e7b2d4068a1c3e5f70912b4d6c8ea0f21"),
];

/// The issuer's key.
static ISSUED: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

/// GitHub's settings of a `spanhook serve` that asks for a token.
fn proved() -> Vec<(&'static str, String)> {
    // A DER sequence of the modulus, 2048 bits, and the exponent.
    let modulus = URL_SAFE_NO_PAD.encode(&ISSUED.public_key().as_ref()[9..265]);
    let key = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": modulus, "e": "AQAB"});
    let issuers = json!([{"issuer": ISSUER, "jwks": {"keys": [key]}}]);
    let access = json!([{"projects": "acme/*", "by": ["oidc:github.com"]}]);
    vec![
        ("OIDC_ISSUERS", issuers.to_string()),
        ("OIDC_AUDIENCE", AUDIENCE.to_owned()),
        ("ACCESS", access.to_string()),
    ]
}

/// The token of the samples' job, with or without its number.
fn token(job: Option<&str>) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test has no clock to choose")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now - 600, "exp": now + 300,
        "repository": "acme/shop", "repository_id": "600000001", "run_id": RUN.0, "run_attempt": RUN.1,
    });
    if let Some(job) = job {
        claims["check_run_id"] = json!(job);
    }
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "RS256", "kid": "one"})), part(claims));
    let mut signature = vec![0; ISSUED.public_modulus_len()];
    ISSUED
        .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A server on loopback.
async fn listen(
    answer: impl Fn(Uri, HeaderMap) -> Response + Clone + Send + Sync + 'static,
) -> String {
    let router =
        Router::new().fallback(async move |uri: Uri, headers: HeaderMap| answer(uri, headers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// GitHub's service that hands a job its token, to the runner's secret and for the audience only.
async fn token_service(answer: String) -> String {
    let url = listen(move |uri, headers| {
        let query = "api-version=2&audience=https%3a%2f%2fci.example.com%2f%3ffor%3dspanhook%26x";
        let asked = uri.query().unwrap_or_default().to_lowercase();
        let runner = headers.get("authorization").is_some_and(|it| it == "Bearer runner");
        if asked == query && runner {
            answer.clone().into_response()
        } else {
            StatusCode::BAD_REQUEST.into_response()
        }
    })
    .await;
    format!("{url}/token?api-version=2")
}

/// What a step of the action did.
struct Step {
    output: Output,
    env: String,
    result: String,
}

impl Step {
    fn said(&self) -> &str {
        str::from_utf8(&self.output.stdout).unwrap()
    }

    /// What later steps have, after a look at all that was written and said.
    fn context(&self, warnings: usize) -> &str {
        let said = self.said();
        assert_eq!(self.output.status.code(), Some(0), "{said}");
        assert!(self.output.stderr.is_empty(), "{:?}", self.output);
        let warned: Vec<_> = said.lines().filter(|it| it.starts_with("::warning ")).collect();
        assert_eq!(warned.len(), warnings, "{said}");
        let Some(context) = self.env.lines().next().and_then(|it| it.strip_prefix("TRACEPARENT="))
        else {
            assert_eq!((&*self.env, &*self.result), ("", ""));
            return "";
        };
        assert_eq!(self.result, format!("traceparent={context}\n"));
        let job = self.env.lines().nth(1);
        assert!(job.is_none_or(|it| it == format!("SPANHOOK_JOB_ID={}", RUN.2)), "{}", self.env);
        assert!(self.env.lines().count() <= 2 && self.env.ends_with('\n'), "{}", self.env);
        context
    }
}

/// Runs the action's script as a runner does: with its inputs and nothing else that is set here.
async fn step(vars: &[(&str, &str)]) -> Step {
    let path = std::env::var_os("PATH").unwrap();
    step_with(path.to_str().unwrap(), vars).await
}

async fn step_with(path: &str, vars: &[(&str, &str)]) -> Step {
    let folder = TempDir::new().unwrap();
    let [env, result] = ["env", "output"].map(|it| folder.path().join(it));
    let inputs =
        [("ENDPOINT", ""), ("AUDIENCE", ""), ("TOKEN", ""), ("IDS", "hashed"), ("JOB", "")];
    let output = Command::new("bash")
        .arg(format!("{ROOT}/action/context.sh"))
        .env_clear()
        .env("PATH", path)
        .envs(inputs)
        .envs(vars.iter().copied())
        .envs([("GITHUB_ENV", &env), ("GITHUB_OUTPUT", &result)])
        .output()
        .await
        .unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    Step { output, env: read(&env), result: read(&result) }
}

/// A step of the samples' job.
async fn step_of_job(more: &[(&str, &str)]) -> Step {
    step(&[&RUNNER[..], &[("JOB", RUN.2)], more].concat()).await
}

fn vectors() -> Vec<[String; 6]> {
    let table = std::fs::read_to_string(format!("{ROOT}/tests/vectors.tsv")).unwrap();
    let rows = table.lines().filter(|it| it.starts_with("github\t"));
    let row = |line: &str| line.split('\t').map(ToOwned::to_owned).collect::<Vec<_>>();
    rows.map(|line| row(line).try_into().unwrap()).collect()
}

#[tokio::test]
async fn without_an_endpoint_the_action_computes_every_vector() {
    assert_eq!(vectors().len(), 9);
    for [_, ids, host, run, job, expected] in vectors() {
        let (run, attempt) = run.split_once('/').unwrap();
        for server in [format!("https://{host}"), format!("https://{}/", host.to_uppercase())] {
            let step = step(&[
                ("GITHUB_SERVER_URL", &server),
                ("GITHUB_RUN_ID", run),
                ("GITHUB_RUN_ATTEMPT", attempt),
                ("JOB", &job),
                ("IDS", &ids),
            ])
            .await;
            let known =
                if job.is_empty() { String::new() } else { format!("SPANHOOK_JOB_ID={job}\n") };
            assert_eq!(step.env, format!("TRACEPARENT={expected}\n{known}"), "{server}");
            assert_eq!(step.result, format!("traceparent={expected}\n"));
            assert_eq!(step.said(), format!("TRACEPARENT={expected}\n"));
            assert!(step.output.stderr.is_empty() && step.output.status.success());
        }
    }
}

/// macOS has `shasum` and no `sha256sum`; a slim image may have neither.
#[tokio::test]
async fn the_action_takes_the_tool_that_is_there() {
    let tools = TempDir::new().unwrap();
    let find = |name: &str| {
        let path = std::env::var_os("PATH").unwrap();
        std::env::split_paths(&path).map(|it| it.join(name)).find(|it| it.is_file()).unwrap()
    };
    for name in ["bash", "cut", "tr"] {
        std::os::unix::fs::symlink(find(name), tools.path().join(name)).unwrap();
    }
    let path = tools.path().to_str().unwrap();
    let vars = [&RUNNER[..], &[("JOB", RUN.2)]].concat();
    let output = step_with(path, &vars).await;
    assert!(output.output.status.success() && output.env.is_empty() && output.result.is_empty());
    assert!(output.said().starts_with("::warning title=spanhook::no TRACEPARENT"));

    let shasum = tools.path().join("shasum");
    let script =
        format!("#!/bin/sh\n[ \"$*\" = '-a 256' ] && exec {}\n", find("sha256sum").display());
    std::fs::write(&shasum, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&shasum, mode).unwrap();
    assert_eq!(step_with(path, &vars).await.context(0), step_of_job(&[]).await.context(0));
}

#[tokio::test]
async fn what_is_no_job_of_github_is_a_warning_and_sets_nothing() {
    for (name, value) in [
        ("GITHUB_RUN_ID", ""),
        ("GITHUB_RUN_ID", "7\nX=1"),
        ("GITHUB_RUN_ATTEMPT", "01"),
        ("GITHUB_RUN_ATTEMPT", "$(id)"),
        ("IDS", "natvie"),
        ("IDS", ""),
    ] {
        assert_eq!(step_of_job(&[(name, value)]).await.context(1), "", "{name}");
    }
    let run = step_of_job(&[("JOB", "")]).await.context(0).to_owned();
    for job in ["build", "0", "4.7E+10", "7\nPATH=/evil", "99999999999999999999"] {
        let step = step_of_job(&[("JOB", job)]).await;
        assert_eq!(step.context(1), run, "{job}");
        assert!(!step.env.contains("SPANHOOK_JOB_ID"), "{job}");
    }
}

fn hostile(name: &'static str, valid: &str) -> Response {
    let text = |body: String| body.into_response();
    let endless = futures_util::stream::repeat_with(|| {
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 4096]))
    });
    match name {
        "page" => (
            [(header::CONTENT_TYPE, "text/html")],
            format!("<html>\nEVIL=1\n<p>{valid}</p>\n::set-env name=EVIL::1\n</html>\n"),
        )
            .into_response(),
        "a line more" => text(format!("{valid}\nEVIL=1\n")),
        "a line before" => text(format!("EVIL=1\n{valid}\n")),
        "a block" => text(format!("{valid}\nEVIL<<E\n1\nE\n")),
        "an assignment" => text(format!("TRACEPARENT={valid}\n")),
        "a carriage return" => text(format!("{valid}\r\nEVIL=1")),
        "upper case" => text(valid.to_uppercase()),
        "no trace" => text(format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16))),
        "no span" => text(format!("00-{}-{}-01", "1".repeat(32), "0".repeat(16))),
        "another version" => text(valid.replacen("00-", "01-", 1)),
        "nothing" => text(String::new()),
        "long" => text(format!("{}\n{valid}", "\n".repeat(30_000))),
        "401" => (StatusCode::UNAUTHORIZED, format!("{valid}\n")).into_response(),
        "403" => (StatusCode::FORBIDDEN, "EVIL").into_response(),
        "404" => (StatusCode::NOT_FOUND, format!("{valid}\n")).into_response(),
        "500" => (StatusCode::INTERNAL_SERVER_ERROR, "::error::EVIL").into_response(),
        "302" => {
            (StatusCode::FOUND, [(header::LOCATION, "/good")], valid.to_owned()).into_response()
        }
        "endless" => Body::from_stream(endless).into_response(),
        other => panic!("{other}"),
    }
}

/// Each answer is one warning in words of our own, and the ids are computed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl"]
async fn whatever_an_endpoint_answers_only_a_trace_context_is_set_and_the_job_goes_on() {
    let computed = step_of_job(&[]).await.context(0).to_owned();
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let good = listen(move |_, _| format!("{valid}\n").into_response()).await;
    assert_eq!(step_of_job(&[("ENDPOINT", &good)]).await.context(0), valid);
    let names = "page|a line more|a line before|a block|an assignment|a carriage return|upper case|no trace|no span|\
                 another version|nothing|long|401|403|404|500|302|endless";
    let asked = names.split('|').map(async |name| {
        let url = listen(move |uri, _| match uri.path() {
            "/good" => format!("{valid}\n").into_response(),
            _ => hostile(name, valid),
        })
        .await;
        (name, step_of_job(&[("ENDPOINT", &url)]).await)
    });
    // Connections wait in its backlog.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let addresses =
        [&*silent, "http://127.0.0.1:9", "ftp://127.0.0.1", "file:///etc/passwd", "-K/x"];
    let elsewhere = addresses.map(async |it| (it, step_of_job(&[("ENDPOINT", it)]).await));
    let begun = tokio::time::Instant::now();
    let (asked, elsewhere) = tokio::join!(
        futures_util::future::join_all(asked),
        futures_util::future::join_all(elsewhere)
    );
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for (name, step) in asked.iter().chain(&elsewhere) {
        assert_eq!(step.context(1), computed, "{name}");
        assert!(!step.said().contains("EVIL") && !step.said().contains("<p>"), "{}", step.said());
    }
}

#[tokio::test]
#[ignore = "needs curl"]
async fn the_action_asks_a_real_endpoint_and_proves_the_job_to_it() {
    let computed = step_of_job(&[]).await.context(0).to_owned();
    let run = step_of_job(&[("JOB", "")]).await.context(0).to_owned();
    let folder = TempDir::new().unwrap();
    let open = Serve::start(
        &folder.path().join("open"),
        &[("PROJECT_RULES", r#"{"deny": ["acme/secret"]}"#)],
    );
    let endpoint = ("ENDPOINT", &*open.url);
    assert_eq!(step_of_job(&[endpoint]).await.context(0), computed);
    let stacks_output = format!("{}/traceparent/", open.url);
    assert_eq!(step_of_job(&[("ENDPOINT", &stacks_output)]).await.context(0), computed);
    assert_eq!(step_of_job(&[endpoint, ("JOB", "")]).await.context(0), run);
    let secret = step_of_job(&[endpoint, ("GITHUB_REPOSITORY", "acme/secret")]).await;
    assert_eq!(secret.context(0), computed.replace("-01", "-00"), "the rules leave it out");
    let ghes = ("GITHUB_SERVER_URL", "https://GHES.example.com:8443");
    let elsewhere = step_of_job(&[ghes]).await.context(0).to_owned();
    assert_ne!(elsewhere, computed);
    assert_eq!(step_of_job(&[endpoint, ghes]).await.context(0), elsewhere);

    let bearer = Serve::start(
        &folder.path().join("bearer"),
        &[("TRACEPARENT_TOKEN", "a-token=of+the/tests"), ("TRACE_IDS", "native")],
    );
    let endpoint = ("ENDPOINT", &*bearer.url);
    let native = step_of_job(&[("IDS", "native")]).await.context(0).to_owned();
    let told = step_of_job(&[endpoint, ("TOKEN", "a-token=of+the/tests")]).await;
    assert_eq!(told.context(0), native);
    assert_eq!(step_of_job(&[endpoint, ("TOKEN", "guess")]).await.context(1), computed);
    for wrong in ["a\nheader: x", "a\"b", "a b"] {
        assert_eq!(step_of_job(&[endpoint, ("TOKEN", wrong)]).await.context(1), computed);
    }

    let vars = proved();
    let vars: Vec<_> = vars.iter().map(|(name, it)| (*name, &**it)).collect();
    let proved = Serve::start(&folder.path().join("proved"), &vars);
    let ask = async |answer: String, more: &[(&str, &str)]| {
        let url = token_service(answer).await;
        let runner = [
            ("ENDPOINT", &*proved.url),
            ("AUDIENCE", AUDIENCE),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", &*url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner"),
        ];
        step_of_job(&[&runner[..], more].concat()).await
    };
    for (claimed, expected) in [(Some(RUN.2), &computed), (None, &run)] {
        let token = token(claimed);
        let step = ask(json!({"count": 9, "value": token}).to_string(), &[]).await;
        assert_eq!(step.context(0), expected);
        let (mask, rest) = step.said().split_once('\n').unwrap();
        assert_eq!(mask, format!("::add-mask::{token}"));
        assert!(!rest.contains(&token) && !rest.contains("runner"));
    }
    let good = json!({"value": token(Some(RUN.2))}).to_string();
    assert_eq!(ask(good.clone(), &[("GITHUB_RUN_ID", "9")]).await.env.lines().count(), 2);
    assert!(
        ask(good.clone(), &[("GITHUB_RUN_ID", "9")])
            .await
            .said()
            .contains("refused this job (403)")
    );
    assert_eq!(ask(good, &[("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x")]).await.context(1), computed);
    for answer in [r#"{"value": "a\nEVIL=1"}"#, r#"{"value": "::error::EVIL"}"#, "{}", "EVIL", ""] {
        let step = ask(answer.to_owned(), &[]).await;
        assert_eq!(step.context(1), computed, "{answer}");
        assert!(!step.said().contains("EVIL"), "{}", step.said());
    }
    // Of pull requests from forks, and without the permission.
    let none = step_of_job(&[("ENDPOINT", &*proved.url), ("AUDIENCE", AUDIENCE)]).await;
    assert_eq!(none.context(1), computed);
    assert!(none.said().contains("id-token: write"));
}

/// Runs a command of the job; it must succeed without a word.
async fn spanhook(arguments: &[&str], vars: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanhook"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let output = command.args(arguments).envs(vars.iter().copied()).output().await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?} {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of a trace's spans with their depth in the tree.
async fn tree(serve: &Serve, trace: &str) -> Vec<(String, u64)> {
    let url = format!("{}/api/traces/{trace}", serve.url);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let row = |it: &Value| (it["name"].as_str().unwrap().to_owned(), it["depth"].as_u64().unwrap());
    json["spans"].as_array().unwrap().iter().map(row).collect()
}

/// The spans are below the job where the job is known, else below the run: by the ids that its
/// webhooks have.
#[tokio::test]
async fn what_a_github_job_reports_is_below_its_span_in_the_trace_of_its_webhooks() {
    let folder = TempDir::new().unwrap();
    let mut vars = proved();
    let access = json!([
        {"projects": "acme/*", "by": ["oidc:github.com", "signature"]},
        {"projects": "*", "by": ["signature"]},
    ]);
    vars.extend([
        ("ACCESS", access.to_string()),
        ("GITHUB_WEBHOOK_SECRET", SECRET.to_owned()),
        ("BUILD_EVENTS_SIGNING_KEY", KEY.to_owned()),
    ]);
    let vars: Vec<_> = vars.iter().map(|(name, it)| (*name, &**it)).collect();
    let serve = Serve::start(folder.path(), &vars);
    let sample = |name: &str| format!("{ROOT}/events/github/workflow-{name}.json");
    let deliveries = [sample("run-failed"), sample("job-build")];
    let send = ["send", &deliveries[0], &deliveries[1], "--to", &serve.url];
    spanhook(&send, &[("GITHUB_WEBHOOK_SECRET", SECRET)]).await;

    let stats = folder.path().join("stats.json");
    let bundle = json!({"version": "5.1.0", "time": 9, "assets": [], "chunks": []});
    std::fs::write(&stats, bundle.to_string()).unwrap();
    let of_job = token_service(json!({"value": token(Some(RUN.2))}).to_string()).await;
    let of_run = token_service(json!({"value": token(None)}).to_string()).await;
    let oidc = |url| {
        [
            ("SPANHOOK_AUDIENCE", AUDIENCE),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner"),
        ]
    };
    let endpoint = ("SPANHOOK_ENDPOINT", &*serve.url);
    let key = ("SPANHOOK_SIGNING_KEY", KEY);
    let step = ("SPANHOOK_JOB_ID", RUN.2);
    for (name, more) in [
        ("signed, of the run", &[key][..]),
        ("signed, of the job", &[key, step]),
        ("token of the run", &oidc(&*of_run)),
        ("token of the job", &oidc(&*of_job)),
    ] {
        let vars = [&RUNNER[..], &[endpoint], more].concat();
        spanhook(&["event", "mark", name, "--strict"], &vars).await;
    }
    let vars = [&RUNNER[..], &[endpoint], &oidc(&*of_job)[..]].concat();
    spanhook(&["stats", stats.to_str().unwrap(), "--strict"], &vars).await;

    let context =
        spanhook(&["traceparent", "github", RUN.0, RUN.1, RUN.2, "--format", "value"], &[]);
    let context = context.await;
    assert_eq!(step_of_job(&[]).await.context(0), context.trim_end());
    let tree = tree(&serve, &context[3..35]).await;
    let depth = |name: &str| {
        let found: Vec<_> = tree.iter().filter(|it| it.0 == name).map(|it| it.1).collect();
        let [depth] = found[..] else { panic!("{name}: {tree:?}") };
        depth
    };
    assert_eq!((depth("RUN CI"), depth("build")), (0, 1));
    for name in ["signed, of the run", "token of the run"] {
        assert_eq!(depth(name), 1, "{name}");
    }
    for name in ["signed, of the job", "token of the job", "webpack compile"] {
        assert_eq!(depth(name), 2, "{name}");
    }
}
