//! One table of vectors: the mapping, the traceparent endpoint, a job's environment and the shell
//! come to the same ids (issue 6).

use std::{collections::BTreeMap, process::Command};

use serde_json::json;
use spanhook_core::{
    id::{TraceIds, traceparent},
    job::{Claim, Job},
    provider::{Provider, github::NativeJobId},
    rules::ProjectRules,
    settings::Settings,
    traceparent::{BadRequest, Context, parse},
};

use crate::support::{job, only, run, spans_of, with};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

struct Vector {
    ids: TraceIds,
    host: String,
    run: String,
    attempt: String,
    job: String,
    traceparent: String,
}

fn vectors() -> Vec<Vector> {
    let table = std::fs::read_to_string(format!("{ROOT}/tests/vectors.tsv")).unwrap();
    let rows = table.lines().filter(|it| it.starts_with("github\t"));
    let read = |line: &str| {
        let [_, ids, host, run, job, traceparent] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let (run, attempt) = run.split_once('/').unwrap();
        let ids = if ids == "native" { TraceIds::Native } else { TraceIds::Hashed };
        let text = |it: &str| it.to_owned();
        Vector {
            ids,
            host: text(host),
            run: text(run),
            attempt: text(attempt),
            job: text(job),
            traceparent: text(traceparent),
        }
    };
    rows.map(read).collect()
}

fn ask(path: &str, settings: &Settings) -> Result<String, BadRequest> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let context =
        Context::of(&parse(path, Some(query), None).job?, settings, &ProjectRules::default(), None);
    Ok(traceparent(context.trace, context.span, context.sampled))
}

#[test]
fn issue_6_the_endpoint_a_job_and_a_delivery_come_to_every_vector() {
    assert_eq!(vectors().len(), 9);
    for Vector { ids, host, run: run_id, attempt, job: job_id, traceparent: expected } in vectors()
    {
        let settings = with(ids);
        let path = format!("/traceparent/github/{run_id}/{attempt}/{job_id}?instance={host}");
        assert_eq!(ask(&path, &settings).as_ref(), Ok(&expected), "{path}");

        let set = [
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_SERVER_URL", format!("https://{host}")),
            ("GITHUB_RUN_ID", run_id.clone()),
            ("GITHUB_RUN_ATTEMPT", attempt.clone()),
            ("SPANHOOK_JOB_ID", job_id.clone()),
        ];
        let vars: BTreeMap<_, _> =
            set.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
        let claim = (Provider::Github.room().job.environment)(&vars).unwrap();
        let place = Job::new(Provider::Github, &claim).unwrap().place(&settings);
        assert_eq!(traceparent(place.trace, place.span(), true), expected);

        let number = |it: &str| json!(it.parse::<u64>().unwrap());
        let url = json!(format!("https://{host}/acme/shop"));
        let mut payload = if job_id.is_empty() {
            run(
                "workflow-run-failed",
                &[("id", number(&run_id)), ("run_attempt", number(&attempt))],
            )
        } else {
            let steps = json!([]);
            let fields = [
                ("id", number(&job_id)),
                ("run_id", number(&run_id)),
                ("run_attempt", number(&attempt)),
                ("created_at", json!(null)),
                ("steps", steps),
            ];
            job("workflow-job-build", &fields)
        };
        payload["repository"]["html_url"] = url;
        let span = spans_of(&payload, &settings).remove(0).1;
        let emitted = format!("00-{}-{}-01", hex::encode(span.trace_id), hex::encode(span.span_id));
        assert_eq!(emitted, expected);
    }
}

#[test]
fn issue_6_the_shell_lines_of_the_docs_come_to_every_hashed_vector() {
    let page = std::fs::read_to_string(format!("{ROOT}/docs/ids.md")).unwrap();
    let function = page.lines().find(|it| it.starts_with("id() {")).unwrap();
    let from = page.find("# GitHub\n").unwrap();
    let lines: Vec<_> = page[from..].lines().take_while(|it| *it != "```").collect();
    let script = format!("{function}\n{}", lines.join("\n"));
    for vector in vectors().into_iter().filter(|it| it.ids == TraceIds::Hashed) {
        // Debian's `sh` is dash.
        for shell in ["sh", "bash"] {
            let done = Command::new(shell)
                .args(["-eu", "-c", &script])
                .env("GITHUB_SERVER_URL", format!("https://{}", vector.host))
                .env("GITHUB_RUN_ID", &vector.run)
                .env("GITHUB_RUN_ATTEMPT", &vector.attempt)
                .env("JOB", &vector.job)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stdout);
            let problem = String::from_utf8_lossy(&done.stderr);
            assert_eq!(said.trim(), vector.traceparent, "{shell}: {problem}");
        }
    }
}

/// Run, attempt, job, its name, the number of a step, and its name.
type Numbers = (u64, u64, u64, &'static str, u64, &'static str);

const LIATRIO: Numbers = (14_460_881_260, 13, 40_685_651_258, "test (1.23)", 4, "Make test-all");
const CIMONITOR: Numbers =
    (6_757_418_578, 1, 18_368_542_663, "Test / ESLint", 5, "Run eslint check");
const SKIPPED: Numbers = (14_796_710_445, 13, 41_546_348_818, "build", 1, "Set up job");
const SMALL: Numbers = (9, 1, 7, "build", 1, "Set up job");

/// What the table of vectors has no column for: trace, run, job, queue and step, of which the native
/// ones were computed apart from this code, and are what the receiver made of the first three.
#[test]
fn issue_6_ids_of_every_kind_are_these() {
    let hashed = with(TraceIds::Hashed);
    let native = with(TraceIds::Native);
    let mut named = native.clone();
    named.github.native_job_id = NativeJobId::Name;
    for (settings, host, numbers, expected) in [
        (
            &hashed,
            "github.com",
            LIATRIO,
            "eef92a1d74def084c5711074c83a738e e67994655002b6da 64c534ba462803ed 693faea273e584a8 05762d1e1ee2841b",
        ),
        (
            &hashed,
            "github.com",
            CIMONITOR,
            "874cc15d132aced45e4c84f08e8fcdd7 de348c01bd85c363 7018b99c0c9abb5c cd83eb61856bf419 ab899dc7d8aeff0f",
        ),
        (
            &hashed,
            "github.com",
            SMALL,
            "b7d345b3174dfd72405944c7374b2d44 9871da4298266db8 21cdbceace80f9a4 49045d0c408d1275 7cff7a3235ef07a0",
        ),
        (
            &hashed,
            "ghes.example.com",
            SMALL,
            "d14f6b631e9d65d53ec57e3a555274b5 086802b044bd6cfe 17683a67a7356463 567ddda675899d1a 08d1acd6efc328e8",
        ),
        (
            &hashed,
            "ghes.example.com:8443",
            SMALL,
            "8eaf523f729893250dbe6f0dd5f29dae 70aeae5a67538167 759db45f9f539b04 25c43a8dadc91dd1 22eda1d687846542",
        ),
        (
            &native,
            "github.com",
            LIATRIO,
            "731ec8a47fd7450f753a812a4a8aa5a0 aba151af7cfbcf0f 2b09b38c69b64a9c 79ff76cc79430e14 1d8f21b62c1aa854",
        ),
        (
            &native,
            "github.com",
            CIMONITOR,
            "4e22895190ddf7798ef726c040f95227 2ef416a2d942c551 80aa73c4d077eb66 b5507b365f65aabd e7d7808c904c5eae",
        ),
        (
            &native,
            "github.com",
            SKIPPED,
            "0b0cff7305ff68eb7d1bb72c7fdbe277 3b54c768f3ef27e1 fb6779d8c7b7c66c 5ce15e491b4b01da ae123c8d30718464",
        ),
        (
            &named,
            "github.com",
            LIATRIO,
            "731ec8a47fd7450f753a812a4a8aa5a0 aba151af7cfbcf0f e68a36b3514c8634 d328504edfc4f5dc 1684627ec86a096c",
        ),
        (
            &named,
            "github.com",
            CIMONITOR,
            "4e22895190ddf7798ef726c040f95227 2ef416a2d942c551 48717ff12a31c87c 77ac7f672bd14ddf 7bf17dbab1c59fc5",
        ),
        (
            &named,
            "github.com",
            SKIPPED,
            "0b0cff7305ff68eb7d1bb72c7fdbe277 3b54c768f3ef27e1 84e27971417e5249 750687c67fcd26a3 4a7e0ea4eb38f970",
        ),
    ] {
        let (run_id, attempt, id, name, number, step) = numbers;
        let fields = [
            ("id", json!(id)),
            ("run_id", json!(run_id)),
            ("run_attempt", json!(attempt)),
            ("name", json!(name)),
            ("created_at", json!("2026-11-02T09:00:02Z")),
        ];
        let mut payload = job("workflow-job-started-before-its-record", &fields);
        payload["workflow_job"]["steps"][0]["number"] = json!(number);
        payload["workflow_job"]["steps"][0]["name"] = json!(step);
        payload["repository"]["html_url"] = json!(format!("https://{host}/acme/shop"));
        let found: Vec<_> = spans_of(&payload, settings).into_iter().map(|it| it.1).collect();
        let of_job = only(&found, "job");
        let id = |kind| hex::encode(&only(&found, kind).span_id);
        let trace = hex::encode(&of_job.trace_id);
        let run = hex::encode(&of_job.parent_span_id);
        let ids = [trace, run, id("job"), id("queue"), id("step")].join(" ");
        assert_eq!(ids, expected, "{host} {numbers:?}");
    }
}

#[test]
fn an_empty_last_segment_is_the_runs_span() {
    let settings = Settings::default();
    let run = ask("/traceparent/github/9/1", &settings);
    assert_eq!(run, Ok("00-b7d345b3174dfd72405944c7374b2d44-9871da4298266db8-01".to_owned()));
    assert_eq!(ask("/traceparent/github/9/1/", &settings), run);
    assert_ne!(ask("/traceparent/github/9/1/7", &settings), run);
    for path in ["", "/", "/9", "/9/", "/9/1/7/5"] {
        assert_eq!(
            ask(&format!("/traceparent/github{path}"), &settings),
            Err(BadRequest::Path),
            "{path}"
        );
    }
    for path in ["/0/1", "/9/0", "/9/1/x", "/9/1/07", "/x/1", "/9//7", "/-9/1", "/9/1/1e3"] {
        let answer = ask(&format!("/traceparent/github{path}"), &settings);
        assert!(matches!(answer, Err(BadRequest::Id(_))), "{path}: {answer:?}");
    }
}

/// A running job can't know the name that old receivers hash; it joins the run's span.
#[test]
fn with_native_ids_of_names_a_job_is_at_its_run() {
    let mut settings = with(TraceIds::Native);
    settings.github.native_job_id = NativeJobId::Name;
    let run = ask("/traceparent/github/14460881260/13", &settings);
    assert_eq!(run, Ok("00-731ec8a47fd7450f753a812a4a8aa5a0-aba151af7cfbcf0f-01".to_owned()));
    assert_eq!(ask("/traceparent/github/14460881260/13/40685651258", &settings), run);
}

#[test]
fn a_job_knows_its_number_only_if_it_is_told() {
    let environment = |set: &[(&str, &str)]| {
        let base = [("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_ID", "9"), ("GITHUB_JOB", "build")];
        let all = base.iter().chain(set).map(|(name, it)| ((*name).to_owned(), (*it).to_owned()));
        (Provider::Github.room().job.environment)(&all.collect()).unwrap()
    };
    assert_eq!(environment(&[]).job_id, None);
    assert_eq!(environment(&[("SPANHOOK_JOB_ID", "")]).job_id, None, "an older server");
    assert_eq!(environment(&[("JOB_CHECK_RUN_ID", "7")]).job_id.as_deref(), Some("7"));
    let both = [("JOB_CHECK_RUN_ID", "7"), ("SPANHOOK_JOB_ID", "8")];
    assert_eq!(environment(&both).job_id.as_deref(), Some("8"));
    assert!((Provider::Github.room().job.environment)(&BTreeMap::new()).is_none());
    let wrong = Job::new(Provider::Github, &environment(&[("SPANHOOK_JOB_ID", "build")]));
    assert_eq!(wrong.unwrap_err().expected, "use ${{ job.check_run_id }}");
}

#[test]
fn a_token_names_its_job_by_text_by_a_number_or_not_at_all() {
    let read = |check_run_id: Option<serde_json::Value>| {
        let mut token = json!({
            "repository": "acme/shop", "repository_id": "600000001", "run_id": "9", "run_attempt": "1",
            "ref": "refs/heads/main", "sha": "5f3a1c9e7b2d4068a1c3e5f70912b4d6c8ea0f21",
        });
        if let Some(id) = check_run_id {
            token["check_run_id"] = id;
        }
        (Provider::Github.room().job.claims)(token.to_string().as_bytes())
    };
    let job = |id: serde_json::Value| read(Some(id)).map(|(claim, _)| claim.job_id);
    assert_eq!(job(json!("47100000001")), Some(Some("47100000001".to_owned())));
    assert_eq!(job(json!(47_100_000_001_u64)), Some(Some("47100000001".to_owned())));
    let (claim, project) = read(None).unwrap();
    assert_eq!(project, "600000001");
    let expected = Claim {
        run_id: Some("9".to_owned()),
        attempt: Some("1".to_owned()),
        project: Some("acme/shop".to_owned()),
        ref_name: Some("refs/heads/main".to_owned()),
        revision: Some("5f3a1c9e7b2d4068a1c3e5f70912b4d6c8ea0f21".to_owned()),
        ..Claim::default()
    };
    assert_eq!(claim, expected);
    for wrong in [json!(""), json!("x"), json!(-1), json!(1.5), json!([1]), json!(true)] {
        assert_eq!(job(wrong.clone()), None, "{wrong}");
    }
}
