//! The webhook and traceparent services over HTTP, in process.
//!
//! The faults of circleci-hook are acceptance tests here: each says what happens instead.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
};
use proptest::prelude::*;
use spanhook_core::{
    check::{sign_standard, signing_key},
    provider::Provider,
};
use spanhook_service::{
    startup,
    telemetry::{Telemetry, TelemetrySettings},
};
use support::{
    MemoryOutbox, NOW, PING, SECRET, TOKEN, ask, broken_off, circleci, circleci_with, github,
    gitlab, post, quiet, sign_circleci, signed, signed_by, signed_standard, spans, vars,
};
use tokio::time::Instant;
use tower::ServiceExt;

#[tokio::test]
async fn every_answer_has_its_shape() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = circleci(&queue).await;
    let full = Arc::new(MemoryOutbox { refuses: true, ..MemoryOutbox::default() });
    let refusing = circleci(&full).await;
    let get = Request::get("/").body(Body::empty()).unwrap();
    let nowhere = post("/nowhere", &[], "");
    let large = post("/", &[], vec![b'x'; 100_001]);
    let mut text = String::new();
    for (name, router, request) in [
        ("accepted", &service, signed(PING)),
        ("ignored", &service, signed(r#"{"type":"workflow-started"}"#)),
        ("quarantined: not JSON", &service, signed("nonsense")),
        ("quarantined: no event", &service, signed("{}")),
        ("unsigned", &service, post("/", &[], PING)),
        ("wrong signature", &service, post("/", &[("circleci-signature", "v1=00")], PING)),
        ("GET", &service, get),
        ("unknown path", &service, nowhere),
        ("too large", &service, large),
        ("queue refuses", &refusing, signed(PING)),
        ("quarantine refuses", &refusing, signed("nonsense")),
    ] {
        let (status, body) = ask(router.clone(), request).await;
        text += &format!("{name}: {status} {}\n", body.trim());
    }
    insta::assert_snapshot!(text);
    assert_eq!(queue.sent.lock().unwrap().len(), 1);
    assert_eq!(queue.dead.lock().unwrap().len(), 2);
    assert!(full.sent.lock().unwrap().is_empty());
}

/// GitHub waits for ten seconds and never sends again, so an outage that is shorter loses nothing.
#[tokio::test(start_paused = true)]
async fn a_queue_that_is_back_in_time_is_waited_for_where_the_provider_never_sends_again() {
    const HOOK: &str = r#"{"zen":"Half measures","hook_id":7,"hook":{"id":7,"updated_at":"2026-11-02T10:00:00Z"}}"#;
    let mut text = String::new();
    for (provider, down, silent, body) in [
        (Provider::Github, 0, false, HOOK),
        (Provider::Github, 3, false, HOOK),
        (Provider::Github, 7, false, HOOK),
        (Provider::Github, 9, false, HOOK),
        (Provider::Github, 0, true, HOOK),
        (Provider::Github, 3, false, "nonsense"),
        (Provider::Github, 9, false, "nonsense"),
        (Provider::Gitlab, 1, false, "nonsense"),
        (Provider::Circleci, 1, false, PING),
    ] {
        let started = Instant::now();
        let refuses_until = Some(started + Duration::from_secs(down));
        let queue = Arc::new(MemoryOutbox { refuses_until, silent, ..MemoryOutbox::default() });
        let (service, request) = match provider {
            Provider::Github => (github(&queue).await, signed_by(provider, body)),
            Provider::Gitlab => {
                let service = gitlab(&queue, &[("GITLAB_SECRET_TOKEN", SECRET)]).await;
                (service, post("/", &[("x-gitlab-token", SECRET)], body))
            }
            _ => (circleci(&queue).await, signed(body)),
        };
        let (status, _) = ask(service, request).await;
        let seconds = started.elapsed().as_secs_f64();
        let queue_is = if silent { "silent".to_owned() } else { format!("down for {down} s") };
        let (sent, dead) = (queue.sent.lock().unwrap().len(), queue.dead.lock().unwrap().len());
        text += &format!(
            "{provider}, the queue is {queue_is}: {status} after {seconds:.1} s, {sent} queued, {dead} quarantined\n"
        );
    }
    insta::assert_snapshot!(text);
}

/// What circleci-hook answered 406, or dropped, or did not notice.
#[tokio::test]
async fn circleci_hooks_faults_are_not_repeated() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = circleci(&queue).await;
    let good = sign_circleci(PING.as_bytes());
    for (what, signature, expected) in [
        ("odd length: dropped the connection", "v1=abc".to_owned(), 401),
        ("no hex: dropped the connection", "v1=zz".to_owned(), 401),
        ("a space in the list: 406", format!("v2=x, {good}"), 202),
        ("the second v1 is right: 406", format!("v1={},{good}", "0".repeat(64)), 202),
        ("a pair with two equal signs: 406", format!("v3=YWJj==,{good}"), 202),
        ("upper case", good.to_uppercase().replace("V1", "v1"), 202),
        ("empty", String::new(), 401),
        ("only v2", good.replace("v1", "v2"), 401),
    ] {
        let request = post("/", &[("circleci-signature", &signature)], PING);
        assert_eq!(ask(service.clone(), request).await.0, expected, "{what}");
    }
    for (what, body) in [
        ("malformed JSON: 406, so CircleCI retried for nothing", "{\"type\":".to_owned()),
        ("an unknown type", r#"{"type":"pipeline-started"}"#.to_owned()),
        ("an empty body", String::new()),
        ("no workflow", r#"{"type":"job-completed","job":{"id":"a","started_at":"2022-08-27T20:25:43Z"},"pipeline":{"id":"b"}}"#.to_owned()),
        ("job.number null, project.id no UUID", r#"{"type":"job-completed","workflow":{"id":"w"},"project":{"id":7},"job":{"number":null,"started_at":"2022-08-27T20:25:43Z"}}"#.to_owned()),
        ("a job without an end: 200 and no span", r#"{"type":"job-completed","happened_at":"2022-08-27T20:26:31Z","workflow":{"id":"w"},"job":{"id":"j","started_at":"2022-08-27T20:25:43Z"}}"#.to_owned()),
        ("2 MiB were the limit", format!(r#"{{"type":"ping","id":"x","happened_at":"2022-08-27T20:26:31Z","pad":"{}"}}"#, "x".repeat(90_000))),
    ] {
        let (status, answer) = ask(service.clone(), signed(&body)).await;
        assert_eq!(status, 202, "{what}: {answer}");
    }
    let sent = queue.sent.lock().unwrap().len();
    assert_eq!(sent, 4 + 4, "good signatures, and what could be mapped");
}

#[tokio::test]
async fn own_telemetry_rides_in_the_queue_and_only_when_it_has_an_endpoint() {
    for (endpoint, expected) in [(None, 1), (Some("http://127.0.0.1:9".to_owned()), 2)] {
        let queue = Arc::new(MemoryOutbox::default());
        let settings = TelemetrySettings { endpoint, lambda: None };
        let service =
            circleci_with(&queue, Telemetry::queued("spanhook-circleci-webhook", &settings), &[])
                .await;
        assert_eq!(ask(service, signed(PING)).await.0, 202);
        assert_eq!(queue.sent.lock().unwrap().len(), expected);
    }
}

#[tokio::test]
async fn without_a_secret_a_function_does_not_start_and_says_which() {
    let queues = [("QUEUE_URL", "http://q"), ("DEAD_LETTER_QUEUE_URL", "http://d")];
    for (empty, variable) in [("", "CIRCLECI_HOOK_SECRET"), (" ", "CIRCLECI_HOOK_SECRET")] {
        let mut pairs = queues.to_vec();
        pairs.push((variable, empty));
        let error =
            startup::webhook(&vars(&pairs), Provider::Circleci).await.unwrap_err().to_string();
        assert!(error.starts_with("CIRCLECI_HOOK_SECRET is not set; set it to"), "{error}");
    }
    let error = startup::webhook(&vars(&queues), Provider::Gitlab).await.unwrap_err().to_string();
    assert!(error.starts_with("GITLAB_SIGNING_TOKEN is not set"), "{error}");
    let error = startup::webhook(&vars(&queues), Provider::Github).await.unwrap_err().to_string();
    assert!(error.starts_with("GITHUB_WEBHOOK_SECRET is not set"), "{error}");
    let error = startup::forwarder(&vars(&queues)).await.unwrap_err().to_string();
    assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is not set"), "{error}");
    let bad = vars(&[("GITLAB_SIGNING_TOKEN", "not-a-token")]);
    let error = startup::webhook(&bad, Provider::Gitlab).await.unwrap_err().to_string();
    assert!(error.contains("whsec_") && !error.contains("not-a-token"), "{error}");
}

fn gitlab_post(
    body: &str,
    id: &str,
    timestamp: u64,
    key: &str,
    token: Option<&str>,
) -> Request<Body> {
    let signature =
        sign_standard(id, timestamp, body.as_bytes(), &signing_key(key).unwrap()).unwrap();
    let timestamp = timestamp.to_string();
    let mut headers = vec![
        ("webhook-id", id),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &signature),
    ];
    headers.extend(token.map(|token| ("x-gitlab-token", token)));
    post("/gitlab", &headers, body.to_owned())
}

#[tokio::test]
async fn gitlabs_two_proofs_are_judged_together() {
    const RUNNING: &str =
        r#"{"object_kind":"pipeline","object_attributes":{"id":1,"status":"running"}}"#;
    const OTHER: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    let queue = Arc::new(MemoryOutbox::default());
    let key = gitlab(&queue, &[("GITLAB_SIGNING_TOKEN", TOKEN)]).await;
    let token = gitlab(&queue, &[("GITLAB_SECRET_TOKEN", SECRET)]).await;
    let both =
        gitlab(&queue, &[("GITLAB_SIGNING_TOKEN", TOKEN), ("GITLAB_SECRET_TOKEN", SECRET)]).await;
    let by_token = |token: &str| post("/", &[("X-Gitlab-Token", token)], RUNNING);
    for (what, router, request, expected) in [
        ("signed", &key, gitlab_post(RUNNING, "i", NOW, TOKEN, None), 202),
        ("signed with another key", &key, gitlab_post(RUNNING, "i", NOW, OTHER, None), 401),
        ("signed too long ago", &key, gitlab_post(RUNNING, "i", NOW - 301, TOKEN, None), 401),
        ("signed in the future", &key, gitlab_post(RUNNING, "i", NOW + 301, TOKEN, None), 401),
        ("only a token, where signatures are expected", &key, by_token(SECRET), 401),
        ("the token", &token, by_token(SECRET), 202),
        ("another token", &token, by_token("guess"), 401),
        ("nothing", &token, post("/", &[], RUNNING), 401),
        ("both", &both, gitlab_post(RUNNING, "i", NOW, TOKEN, Some(SECRET)), 202),
        ("only the signature of two", &both, gitlab_post(RUNNING, "i", NOW, TOKEN, None), 401),
        (
            "a right token excuses no wrong signature",
            &both,
            gitlab_post(RUNNING, "i", NOW, OTHER, Some(SECRET)),
            401,
        ),
    ] {
        assert_eq!(ask(router.clone(), request).await.0, expected, "{what}");
    }
}

#[tokio::test]
#[ignore = "needs SPANHOOK_FIXTURES"]
async fn every_recorded_gitlab_delivery_is_answered_below_400() {
    #[allow(clippy::disallowed_methods, reason = "where the recordings are")]
    let fixtures = std::env::var("SPANHOOK_FIXTURES").unwrap();
    let queue = Arc::new(MemoryOutbox::default());
    let service = gitlab(&queue, &[("GITLAB_SIGNING_TOKEN", TOKEN)]).await;
    let mut folders = vec![std::path::PathBuf::from(fixtures).join("gitlab")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json") {
                let body = std::fs::read_to_string(&path).unwrap();
                let (status, answer) =
                    ask(service.clone(), gitlab_post(&body, "i", NOW, TOKEN, None)).await;
                assert_eq!(status, 202, "{}: {answer}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 90, "{count} deliveries");
}

async fn traceparent(tokens: &[&str], rules: &str) -> Router {
    let token = tokens.join("\n");
    let vars = vars(&[("TRACEPARENT_TOKEN", &token), ("PROJECT_RULES", rules)]);
    startup::traceparent(&vars).await.unwrap()
}

#[tokio::test]
async fn the_traceparent_endpoint_answers_in_the_form_that_was_asked_for() {
    const JOB: &str = "/traceparent/gitlab/2722508965/15651125844";
    let request = |method: Method, uri: &str, headers: &[(&str, &str)]| {
        let request = Request::builder().method(method).uri(uri);
        headers
            .iter()
            .fold(request, |it, (name, value)| it.header(*name, *value))
            .body(Body::empty())
            .unwrap()
    };
    let mut text = String::new();
    for (name, tokens, asked) in [
        ("default", &[][..], request(Method::GET, JOB, &[])),
        (
            "by Accept",
            &[],
            request(Method::GET, JOB, &[("accept", "text/html, application/json;q=0.9")]),
        ),
        ("unknown path", &[], request(Method::GET, "/elsewhere/$(id)", &[])),
        ("bad id", &[], request(Method::GET, "/traceparent/gitlab/1/x", &[])),
        ("bad id as JSON", &[], request(Method::GET, "/traceparent/gitlab/1/x?format=json", &[])),
        ("wrong method", &[], request(Method::POST, JOB, &[])),
        ("no token", &["t0ken-of-the-tests"], request(Method::GET, JOB, &[])),
        (
            "wrong token",
            &["t0ken-of-the-tests"],
            request(Method::GET, JOB, &[("authorization", "Bearer guess")]),
        ),
        (
            "right token",
            &["another-t0ken", "t0ken-of-the-tests"],
            request(Method::GET, JOB, &[("authorization", "bearer t0ken-of-the-tests")]),
        ),
    ] {
        let (status, body) = ask(traceparent(tokens, "").await, asked).await;
        assert!(body.ends_with('\n'));
        text += &format!("{name}: {status}\n{body}");
    }
    insta::assert_snapshot!(text);
    let response =
        traceparent(&[], "").await.oneshot(request(Method::HEAD, JOB, &[])).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
}

/// What stands in `$GITHUB_ENV` without being `NAME=VALUE` fails the step that wrote it.
#[tokio::test]
async fn issue_28_an_error_for_github_env_has_no_body() {
    const JOB: &str = "/traceparent/github/9/1/7";
    const TOKENS: &[&str] = &["t0ken-of-the-tests"];
    let request = |method: Method, path: &str, token: &str| {
        let request = Request::builder().method(method).uri(format!("{path}?format=github"));
        request.header("authorization", token).body(Body::empty()).unwrap()
    };
    let right = format!("Bearer {}", TOKENS[0]);
    for (tokens, method, path, token, expected) in [
        (&[][..], Method::GET, "/elsewhere", "", 404),
        (&[], Method::GET, "/traceparent/github/9", "", 404),
        (&[], Method::GET, "/traceparent/github/9/1/7/5", "", 404),
        (&[], Method::GET, "/traceparent/github/9/1/build", "", 400),
        (&[], Method::GET, "/traceparent/github/0/1", "", 400),
        (&[], Method::POST, JOB, "", 405),
        (TOKENS, Method::GET, JOB, "", 401),
        (TOKENS, Method::GET, JOB, "Bearer guess", 401),
        (TOKENS, Method::GET, "/traceparent/github/9/1/build", &right, 400),
    ] {
        let answer = ask(traceparent(tokens, "").await, request(method, path, token)).await;
        assert_eq!(answer, (expected, String::new()), "{path}");
    }
    let (status, body) =
        ask(traceparent(TOKENS, "").await, request(Method::GET, JOB, &right)).await;
    assert_eq!((status, body.lines().count()), (200, 1));
    assert!(body.starts_with("TRACEPARENT=00-"), "{body}");
}

/// A line that is no `NAME=value` fails the step that wrote it to `$GITHUB_ENV`: an error is a
/// status and a header, and nothing that was asked is in it.
#[tokio::test]
async fn in_githubs_environment_file_an_error_is_a_header() {
    let mut text = String::new();
    for (name, tokens, method, path) in [
        ("no attempt", &[][..], Method::GET, "/github/9"),
        ("no job's segment", &[], Method::GET, "/github/9/1/"),
        ("bad id", &[], Method::GET, "/github/9/1/$(id)"),
        ("no such provider", &[], Method::GET, "/hithub/9/1/7"),
        ("no run", &[], Method::GET, "/github"),
        ("bad instance", &[], Method::GET, "/github/9/1?instance=https://$(id)"),
        ("wrong method", &[], Method::PUT, "/github/9/1"),
        ("no token", &["t0ken-of-the-tests"], Method::GET, "/github/9/1/7"),
    ] {
        let join = if path.contains('?') { '&' } else { '?' };
        let uri = format!("/traceparent{path}{join}format=github&echo=$(id)");
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let response = traceparent(tokens, "").await.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let reason = response.headers().get("spanhook-error");
        let reason = reason.map_or("none", |it| it.to_str().unwrap()).to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert_eq!(body.is_empty(), status != 200, "{name}");
        assert!(!reason.contains("(id)"), "{reason}");
        text += &format!("{name}: {status} {reason}\n{}", str::from_utf8(&body).unwrap());
    }
    let paths = "no such path; use /traceparent/circleci/$CIRCLE_WORKFLOW_ID/$CIRCLE_WORKFLOW_JOB_ID \
                 or /traceparent/gitlab/$CI_PIPELINE_ID/$CI_JOB_ID?instance=$CI_SERVER_HOST \
                 or /traceparent/github/$GITHUB_RUN_ID/$GITHUB_RUN_ATTEMPT/${{ job.check_run_id }} \
                 or /traceparent/tekton/{context.pipelineRun.uid}/{context.taskRun.uid}/{step}";
    insta::assert_snapshot!(text.replace(paths, "PATHS"), @r"
    no attempt: 404 PATHS
    no job's segment: 200 none
    TRACEPARENT=00-b7d345b3174dfd72405944c7374b2d44-9871da4298266db8-01
    bad id: 400 run, attempt and job must be positive numbers; use $GITHUB_RUN_ID, $GITHUB_RUN_ATTEMPT and ${{ job.check_run_id }}
    no such provider: 404 PATHS
    no run: 404 PATHS
    bad instance: 400 instance must be a host name without a scheme, with its port if it has one
    wrong method: 405 ask with GET
    no token: 401 a token is needed; send the header Authorization: Bearer ...
    ");
}

/// What a job is told and what becomes of its webhook are one decision.
#[tokio::test]
async fn the_sampled_flag_and_the_webhooks_spans_agree() {
    let rules = r#"{"deny": ["acme/secret"], "share": {"*": 0.5, "acme/shop": 1}}"#;
    let telemetry = || Telemetry::queued("test", &TelemetrySettings::default());
    let (mut kept, mut left_out) = (0, 0);
    for number in 0..60_u32 {
        let project = ["shop", "other", "secret"][number as usize % 3];
        let run = format!("cedf175c-c537-49f8-9b5c-{number:012}");
        let job = format!("3f6a7c4a-0bb6-463a-bd0c-{number:012}");
        let body = format!(
            r#"{{"type":"job-completed","happened_at":"2026-11-02T10:00:09Z",
                "project":{{"slug":"gh/acme/{project}","name":"{project}"}},
                "pipeline":{{"vcs":{{"target_repository_url":"https://github.com/acme/{project}"}}}},
                "workflow":{{"id":"{run}","name":"build"}},
                "job":{{"id":"{job}","name":"test","status":"success",
                       "started_at":"2026-11-02T10:00:00Z","stopped_at":"2026-11-02T10:00:09Z"}}}}"#
        );
        let queue = Arc::new(MemoryOutbox::default());
        let service = circleci_with(&queue, telemetry(), &[("PROJECT_RULES", rules)]).await;
        let (status, answer) = ask(service, signed(&body)).await;
        assert_eq!(status, 202);
        let emitted = answer.contains("accepted");
        assert_eq!(emitted, !queue.sent.lock().unwrap().is_empty(), "{answer}");

        let uri = format!("/traceparent/circleci/{run}/{job}?format=value&project=acme/{project}");
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let (_, context) = ask(traceparent(&[], rules).await, request).await;
        assert_eq!(context.trim_end().ends_with("-01"), emitted, "{project} {context}");
        assert!(project != "shop" || emitted);
        assert!(project != "secret" || !emitted);
        if project == "other" {
            *(if emitted { &mut kept } else { &mut left_out }) += 1;
        }
    }
    assert!(kept > 3 && left_out > 3, "{kept} of {}", kept + left_out);
}

#[tokio::test]
async fn metrics_are_queued_beside_the_spans_and_outside_the_share_alone() {
    let body = include_str!("../../../events/circleci/workflow-completed.json");
    let none = r#"{"share": {"*": 0}}"#;
    for (metrics, rules, expected, answer) in [
        ("false", "", &["traces"][..], r#""spans":1"#),
        ("true", "", &["traces", "metrics"], r#""spans":1"#),
        ("true", none, &["metrics"], r#""spans":0"#),
        ("true", r#"{"deny": ["*"]}"#, &[], "switch the project off"),
        ("false", none, &[], "outside the project's share"),
    ] {
        let queue = Arc::new(MemoryOutbox::default());
        let vars = [("WEBHOOK_METRICS", metrics), ("PROJECT_RULES", rules)];
        let service = circleci_with(&queue, quiet(), &vars).await;
        let (status, text) = ask(service, signed(body)).await;
        assert!(status == 202 && text.contains(answer), "{text}");
        let sent = queue.sent.lock().unwrap();
        let signals: Vec<_> = sent.iter().map(|it| it.attributes["signal"].as_str()).collect();
        assert_eq!(signals, expected, "{metrics} {rules}");
    }
}

/// However the instance is written, a job's own spans and its pipeline's are one trace.
#[tokio::test]
async fn every_spelling_of_an_instance_gives_the_webhooks_ids() {
    let body = |project: &str| {
        format!(
            r#"{{"object_kind":"pipeline","project":{project},
                "object_attributes":{{"id":9,"status":"success","created_at":"2026-11-02 09:30:00 UTC",
                    "finished_at":"2026-11-02 09:40:00 UTC"}},
                "builds":[{{"id":12,"stage":"test","name":"unit","status":"success",
                    "started_at":"2026-11-02 09:31:00 UTC","finished_at":"2026-11-02 09:32:00 UTC"}}]}}"#
        )
    };
    let named =
        body(r#"{"id":1,"web_url":"https://gitlab.example.com/a/b","path_with_namespace":"a/b"}"#);
    let unnamed = body(r#"{"id":1,"path_with_namespace":"a/b"}"#);
    let hex = |id: &[u8]| id.iter().map(|it| format!("{it:02x}")).collect::<String>();
    let ids = async |host: &str, body: &str| {
        let queue = Arc::new(MemoryOutbox::default());
        let pairs = [("GITLAB_SIGNING_TOKEN", TOKEN), ("GITLAB_HOST", host)];
        let service = gitlab(&queue, &pairs).await;
        let (status, answer) = ask(service, signed_standard("/gitlab", body)).await;
        assert_eq!(status, 202, "{answer}");
        let job = spans(&queue).into_iter().find(|it| it.name == "unit").unwrap();
        (hex(&job.trace_id), hex(&job.span_id))
    };
    let (trace, span) = ids("gitlab.com", &named).await;
    let expected = format!("00-{trace}-{span}-01");
    for host in ["gitlab.example.com", "gitlab.example.com:443", "GitLab.Example.com:443"] {
        let service = startup::traceparent(&vars(&[("GITLAB_HOST", host)])).await.unwrap();
        let request = Request::get("/traceparent/gitlab/9/12?format=value");
        let (_, context) = ask(service, request.body(Body::empty()).unwrap()).await;
        assert_eq!(context.trim_end(), expected, "{host}");
        assert_eq!(ids(host, &unnamed).await, (trace.clone(), span.clone()), "{host}");
    }
}

#[tokio::test]
async fn a_delivery_that_breaks_off_is_none_that_is_too_large() {
    let queue = Arc::new(MemoryOutbox::default());
    let (status, answer) = ask(circleci(&queue).await, broken_off(signed(PING))).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("could not be read to its end"), "{answer}");
    assert!(queue.sent.lock().unwrap().is_empty() && queue.dead.lock().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_request_is_answered_below_500(
        body: Vec<u8>, header in prop::collection::vec(any::<u8>(), 0..60), path in "/[!-~&&[^#?]]{0,40}", sign: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let queue = Arc::new(MemoryOutbox::default());
            let signature = sign_circleci(&body);
            let value = if sign { signature.into_bytes() } else { header };
            let Ok(value) = axum::http::HeaderValue::from_bytes(&value) else { return Ok(()) };
            for uri in ["/", path.as_str()] {
                let Ok(uri) = uri.parse::<axum::http::Uri>() else { continue };
                for name in ["circleci-signature", "webhook-signature", "x-gitlab-token", "authorization", "accept"] {
                    let request = Request::post(uri.clone()).header(name, value.clone()).body(Body::from(body.clone())).unwrap();
                    let (status, _) = ask(circleci(&queue).await, request).await;
                    prop_assert!(status < 500, "{status}");
                    let request = Request::get(uri.clone()).header(name, value.clone()).body(Body::empty()).unwrap();
                    let (status, _) = ask(traceparent(&[], "").await, request).await;
                    prop_assert!(status < 500, "{status}");
                }
            }
            Ok(())
        })?;
    }
}
