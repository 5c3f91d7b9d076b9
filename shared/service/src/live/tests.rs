use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::UNIX_EPOCH,
};

use aws_sdk_ssm::{
    operation::get_parameter::{GetParameterError, GetParameterOutput},
    types::{Parameter, error::ParameterNotFound},
};
use aws_smithy_mocks::{RuleMode, mock, mock_client};

use super::*;

static S: Variable = Variable::secret("S", "use whsec_", "a secret");

#[test]
fn a_variable_without_a_usable_secret_is_named_and_its_text_is_not_repeated() {
    assert_eq!(secrets(&S, "[]"), Err(LiveError::Empty { variable: "S" }));
    for text in ["[\n \"hunter2-old\",\n]", "hunter2", "{\"s\": \"hunter2-old\"}", "<hunter2>"] {
        let error = secrets(&S, text).unwrap_err().to_string();
        assert!(error.starts_with("S can't be used; ") && !error.contains("hunter2"), "{error}");
    }
    let short = r#"["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_AAECAwQFBgc="]"#;
    assert!(signing_keys(&S, short).is_err(), "one bad key makes all of them invalid");
}

#[test]
fn headers_may_be_short_and_are_a_list_or_lines_too() {
    assert_eq!(headers(&S, "a=1,b=2\nc=3"), Ok(Secrets::new(["a=1,b=2", "c=3"])));
    assert_eq!(headers(&S, r#"["a=1", "b=2"]"#), Ok(Secrets::new(["a=1", "b=2"])));
    assert!(headers(&S, "[\"a=1\",\n]").is_err());
}

fn parameter(text: &str) -> GetParameterOutput {
    GetParameterOutput::builder().parameter(Parameter::builder().value(text).build()).build()
}

fn gone() -> GetParameterError {
    GetParameterError::ParameterNotFound(ParameterNotFound::builder().build())
}

/// A parameter that gives these answers one after another, and a clock to be set.
macro_rules! rotating {
    ($now:ident, $rule:ident) => {{
        let clock = Clock::new(|| UNIX_EPOCH + Duration::from_secs($now.load(Ordering::Relaxed)));
        let client = mock_client!(aws_sdk_ssm, RuleMode::MatchAny, [&$rule]);
        Live::kept(Keeper::Ssm(client, "/s".to_owned()), &S, secrets, clock).await.unwrap()
    }};
}

#[tokio::test]
async fn a_rotated_secret_is_used_at_once_and_bad_signatures_cost_one_call_a_minute() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let rule = mock!(aws_sdk_ssm::Client::get_parameter)
        .sequence()
        .output(|| parameter("old-secret"))
        .output(|| parameter("[\"old-secret\", \"new-secret\"]"))
        .output(|| parameter("new-secret"))
        .build();
    let live = rotating!(NOW, rule);
    let signed_with = |key: &'static [u8]| {
        move |keys: &Secrets| {
            let known = keys.expose().any(|it| it == key);
            if known { Ok(()) } else { Err(Rejection::Mismatch) }
        }
    };
    // The secret was just read: what does not match now is wrong.
    assert_eq!(live.verify(signed_with(b"new-secret")).await, Err(Rejection::Mismatch));
    assert_eq!(rule.num_calls(), 1);
    NOW.fetch_add(61, Ordering::Relaxed);
    assert_eq!(live.verify(signed_with(b"new-secret")).await, Ok(()));
    for _ in 0..100 {
        assert_eq!(live.verify(signed_with(b"guess")).await, Err(Rejection::Mismatch));
    }
    assert_eq!(rule.num_calls(), 2);
    assert_eq!(live.verify(signed_with(b"old-secret")).await, Ok(()));
    // Without any mismatch it is read again after five minutes.
    NOW.fetch_add(299, Ordering::Relaxed);
    assert_eq!(live.verify(signed_with(b"old-secret")).await, Ok(()));
    NOW.fetch_add(1, Ordering::Relaxed);
    assert_eq!(live.verify(signed_with(b"old-secret")).await, Err(Rejection::Mismatch));
    assert_eq!(rule.num_calls(), 3);
}

#[tokio::test]
async fn while_the_parameter_is_gone_empty_or_mistyped_the_old_value_is_good() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let rule = mock!(aws_sdk_ssm::Client::get_parameter)
        .sequence()
        .output(|| parameter("old-secret"))
        .error(gone)
        .output(|| parameter(" "))
        .output(|| parameter("[\n \"old-secret\",\n \"new-secret\",\n]"))
        .output(|| parameter("new-secret"))
        .build();
    let live = rotating!(NOW, rule);
    for (later, calls, expected) in [
        (300, 2, "old-secret"),
        (59, 2, "old-secret"),
        (1, 3, "old-secret"),
        (60, 4, "old-secret"),
        (60, 5, "new-secret"),
        (59, 5, "new-secret"),
    ] {
        NOW.fetch_add(later, Ordering::Relaxed);
        assert_eq!(*live.get().await, Secrets::new([expected]), "{calls}");
        let _ = live.verify(|_| Err(Rejection::Mismatch)).await;
        assert_eq!(rule.num_calls(), calls, "neither use nor misuse asks more often");
    }
}

#[tokio::test]
async fn a_value_that_can_not_be_read_at_the_start_names_its_variable() {
    let rule = mock!(aws_sdk_ssm::Client::get_parameter).then_error(gone);
    let client = mock_client!(aws_sdk_ssm, [&rule]);
    let keeper = Keeper::Ssm(client, "/s".to_owned());
    let error = Live::kept(keeper, &S, secrets, Clock::SYSTEM).await.unwrap_err();
    assert!(error.to_string().starts_with("S names a value that can't be read"), "{error}");
}

#[tokio::test]
async fn secrets_manager_keeps_values_too() {
    use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
    let rule = mock!(aws_sdk_secretsmanager::Client::get_secret_value).then_output(|| {
        GetSecretValueOutput::builder().secret_string("one-secret\ntwo-secret").build()
    });
    let client = mock_client!(aws_sdk_secretsmanager, [&rule]);
    let keeper = Keeper::SecretsManager(client, "arn".to_owned());
    let live = Live::kept(keeper, &S, secrets, Clock::SYSTEM).await.unwrap();
    assert_eq!(*live.get().await, Secrets::new(["one-secret", "two-secret"]));
    assert!(!format!("{live:?}").contains("two-secret"));
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_stop_rotation() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let rule = mock!(aws_sdk_ssm::Client::get_parameter)
        .sequence()
        .output(|| parameter("old-secret"))
        .output(|| parameter("new-secret"))
        .build();
    let live = rotating!(NOW, rule);
    NOW.fetch_sub(3_600, Ordering::Relaxed);
    assert_eq!(*live.get().await, Secrets::new(["new-secret"]));
}

/// Parameter Store that answers the first `answers` calls, and no other.
async fn falling_silent(answers: u64) -> Keeper {
    let calls = Arc::new(AtomicU64::new(0));
    let answer = move || {
        let answered = calls.fetch_add(1, Ordering::Relaxed) < answers;
        async move {
            if !answered {
                std::future::pending::<()>().await;
            }
            axum::Json(serde_json::json!({ "Parameter": { "Value": "old-secret" } }))
        }
    };
    let router = axum::Router::new().fallback(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = aws_sdk_ssm::Config::builder()
        .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
        .region(aws_sdk_ssm::config::Region::new("eu-west-1"))
        .credentials_provider(aws_sdk_ssm::config::Credentials::for_tests())
        .endpoint_url(endpoint)
        .build();
    Keeper::Ssm(aws_sdk_ssm::Client::from_conf(config), "/s".to_owned())
}

#[tokio::test]
async fn a_keeper_that_hangs_is_waited_for_two_seconds_once_a_minute() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let clock = Clock::new(|| UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed)));
    let live = Live::kept(falling_silent(1).await, &S, secrets, clock).await.unwrap();
    tokio::time::pause();
    for (later, waits) in [(300, true), (59, false), (1, true), (0, false)] {
        NOW.fetch_add(later, Ordering::Relaxed);
        let started = tokio::time::Instant::now();
        let value = timeout(LIMIT * 2, live.get()).await.unwrap();
        assert_eq!(*value, Secrets::new(["old-secret"]));
        assert_eq!(started.elapsed() >= LIMIT, waits, "the clock stands still unless one waits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_hangs_at_the_start_is_named_by_its_variable() {
    let opened = Live::kept(falling_silent(0).await, &S, secrets, Clock::SYSTEM);
    let error = timeout(Duration::from_secs(START + 1), opened).await.unwrap().unwrap_err();
    assert!(
        error.to_string().starts_with("S names a value that can't be read (no answer"),
        "{error}"
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_new_value_along() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let rule = mock!(aws_sdk_ssm::Client::get_parameter)
        .sequence()
        .output(|| parameter("old-secret"))
        .output(|| parameter("new-secret"))
        .build();
    let live = rotating!(NOW, rule);
    NOW.fetch_add(300, Ordering::Relaxed);
    // It is polled once, and dropped.
    assert!(futures_util::FutureExt::now_or_never(live.get()).is_none());
    let read = async {
        while *live.value() != Secrets::new(["new-secret"]) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), read).await.unwrap();
}

#[tokio::test]
async fn the_aws_configuration_is_loaded_once_for_all_that_is_kept_there() {
    static LOADED: AtomicU64 = AtomicU64::new(0);
    let aws = Aws::new(|| {
        LOADED.fetch_add(1, Ordering::Relaxed);
        let version = aws_config::BehaviorVersion::latest();
        Box::pin(async move { aws_config::SdkConfig::builder().behavior_version(version).build() })
    });
    assert!(Keeper::of(&Source::of("a secret"), &aws).await.is_none());
    assert_eq!(LOADED.load(Ordering::Relaxed), 0, "not where nothing is kept there");
    let secret = "arn:aws:secretsmanager:eu-west-1:1:secret:x";
    for place in ["ssm:/one", "ssm:/two", secret] {
        assert!(Keeper::of(&Source::of(place), &aws).await.is_some());
    }
    assert_eq!(LOADED.load(Ordering::Relaxed), 1);
}
