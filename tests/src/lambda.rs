//! A Lambda function: the built binary on a small Runtime API server.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot},
};

use crate::Parts;

type Waiting = Mutex<HashMap<String, oneshot::Sender<Result<Value, Value>>>>;

struct Api {
    events: tokio::sync::Mutex<mpsc::Receiver<(String, Value)>>,
    waiting: Waiting,
    timeout: Duration,
}

/// A running function. It ends with the test.
pub struct Function {
    events: mpsc::Sender<(String, Value)>,
    api: Arc<Api>,
    next: AtomicU64,
    process: tokio::sync::Mutex<Child>,
}

impl Function {
    /// Starts `functions/{name}/bootstrap` with these variables.
    pub async fn start(parts: &Parts, name: &str, vars: &[(&str, &str)]) -> Self {
        let (events, received) = mpsc::channel(16);
        let api = Arc::new(Api {
            events: tokio::sync::Mutex::new(received),
            waiting: Mutex::default(),
            timeout: Duration::from_secs(30),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(Arc::clone(&api));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let process = Command::new(parts.functions.join(name).join("bootstrap"))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", name)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "test")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .envs(vars.iter().copied())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} is not built: {error}"));
        let process = tokio::sync::Mutex::new(process);
        Self { events, api, next: AtomicU64::new(0), process }
    }

    /// Waits for a function that can't start to end, and tells whether it did so in failure.
    pub async fn ended_in_failure(&self) -> bool {
        !self.process.lock().await.wait().await.unwrap().success()
    }

    /// Runs the function on an event.
    pub async fn invoke(&self, event: Value) -> Result<Value, Value> {
        let id = format!("request-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let (done, answer) = oneshot::channel();
        self.api.waiting.lock().unwrap().insert(id.clone(), done);
        self.events.send((id, event)).await.unwrap();
        tokio::time::timeout(self.api.timeout, answer)
            .await
            .expect("the function timed out")
            .unwrap()
    }

    /// Sends an HTTP request as a function URL does (payload format 2.0).
    pub async fn request(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> (u16, String) {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let headers: serde_json::Map<_, _> =
            headers.iter().map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
            "headers": headers,
            "requestContext": {
                "accountId": "anonymous", "apiId": "test", "domainName": "test.lambda-url.eu-west-1.on.aws",
                "domainPrefix": "test", "requestId": "test", "routeKey": "$default", "stage": "$default",
                "time": "02/Nov/2026:09:30:00 +0000", "timeEpoch": 1_793_611_800_000_u64,
                "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test" },
            },
            "body": STANDARD.encode(body), "isBase64Encoded": true,
        });
        let answer = self.invoke(event).await.unwrap();
        let text = answer["body"].as_str().unwrap_or_default();
        let body = if answer["isBase64Encoded"] == json!(true) {
            String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
        } else {
            text.to_owned()
        };
        (u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap(), body)
    }
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    let Some((id, event)) = api.events.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + api.timeout;
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-west-1:1:function:test".to_owned(),
        ),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, event.to_string()).into_response()
}

async fn response(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) {
    answer(&api, &id, Ok(serde_json::from_str(&body).unwrap_or_default()));
}

async fn error(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) {
    answer(&api, &id, Err(serde_json::from_str(&body).unwrap_or_default()));
}

fn answer(api: &Api, id: &str, result: Result<Value, Value>) {
    if let Some(done) = api.waiting.lock().unwrap().remove(id) {
        let _ = done.send(result);
    }
}
