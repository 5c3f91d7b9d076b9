//! GitHub's API of webhook deliveries on loopback, as its documentation describes it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// May read and write webhooks.
pub(crate) const TOKEN: &str = "ghp_t0kenOfTheTests";

/// May read them only.
pub(crate) const READER: &str = "github_pat_r3aderOfTheTests";

/// What answers a request before anything else does.
type Trouble = (&'static str, fn() -> Response);

#[derive(Default)]
pub(crate) struct GitHub {
    /// Whose webhook it is, such as `/orgs/acme/hooks`.
    pub(crate) hooks: &'static str,
    /// As the list of webhooks has them: number, address.
    pub(crate) listed: Vec<(u64, &'static str)>,
    /// The newest first, as the list has them.
    pub(crate) attempts: Vec<Value>,
    /// How the webhook's receiver answers what is sent again.
    pub(crate) receiver: u16,
    /// Deliveries that GitHub does not send again, and why.
    pub(crate) refused: HashMap<u64, (u16, &'static str)>,
    /// Answers in place of the next ones to requests whose line begins so, in this order.
    pub(crate) troubles: Vec<Trouble>,
    /// The public key of the App, which its tokens must be signed with.
    pub(crate) app: Option<(&'static str, Vec<u8>)>,
    /// What was asked, as method, path and query.
    pub(crate) requests: Vec<String>,
}

pub(crate) type Shared = Arc<Mutex<GitHub>>;

impl GitHub {
    /// Serves it below a path. Gives the address of the API.
    pub(crate) async fn serve(self, below: &str) -> (String, Shared) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}{below}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(self));
        let state = (Arc::clone(&shared), api.clone());
        let router = Router::new().fallback(answer).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (api, shared)
    }

    /// The deliveries that were asked for again.
    pub(crate) fn asked(&self) -> Vec<u64> {
        let posts = self.requests.iter().filter(|it| it.starts_with("POST "));
        posts.map(|it| it.rsplit('/').nth(1).unwrap().parse().unwrap()).collect()
    }

    fn list(&self, api: &str, path: &str, query: &HashMap<String, String>) -> Response {
        let size = query.get("per_page").map_or(30, |it| it.parse().unwrap()).min(100);
        let is_first = |it: &Value| {
            query.get("cursor").is_none_or(|cursor| *cursor == format!("v1_{}", it["id"]))
        };
        let Some(start) = self.attempts.iter().position(is_first) else {
            let empty = self.attempts.is_empty();
            return if empty {
                Json(json!([])).into_response()
            } else {
                StatusCode::UNPROCESSABLE_ENTITY.into_response()
            };
        };
        let end = (start + size).min(self.attempts.len());
        let link = |index: usize, rel: &str| {
            let cursor = self.attempts.get(index)?["id"].to_string();
            Some(format!("<{api}{path}?per_page={size}&cursor=v1_{cursor}>; rel=\"{rel}\""))
        };
        let previous = (start > 0).then(|| link(start.saturating_sub(size), "prev")).flatten();
        let links: Vec<_> = previous.into_iter().chain(link(end, "next")).collect();
        let mut answer = Json(&self.attempts[start..end]).into_response();
        if !links.is_empty() {
            answer.headers_mut().insert("link", links.join(", ").parse().unwrap());
        }
        answer
    }

    fn attempt(&mut self, id: u64) -> Response {
        if let Some((status, message)) = self.refused.get(&id) {
            return refusal(*status, message);
        }
        let Some(old) = self.attempts.iter().find(|it| it["id"] == id) else {
            return refusal(404, "Not Found");
        };
        let mut new = old.clone();
        new["id"] =
            json!(self.attempts.iter().filter_map(|it| it["id"].as_u64()).max().unwrap() + 1);
        new["redelivery"] = json!(true);
        new["delivered_at"] = json!("2025-11-20T18:00:00Z");
        new["status_code"] = json!(self.receiver);
        new["status"] = json!(if self.receiver < 300 { "OK" } else { "invalid HTTP response" });
        self.attempts.insert(0, new);
        (StatusCode::ACCEPTED, Json(json!({}))).into_response()
    }

    /// Who asks: none may, or all, or only read.
    fn permit(&self, headers: &HeaderMap) -> Option<bool> {
        let token = headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        match &self.app {
            Some((id, key)) => is_app(token, id, key).then_some(true),
            None if token == TOKEN => Some(true),
            None => (token == READER).then_some(false),
        }
    }
}

async fn answer(State((shared, api)): State<(Shared, String)>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut github = shared.lock().unwrap();
    let below = api.splitn(4, '/').nth(3).map(|it| format!("/{it}")).unwrap_or_default();
    let Some(path) = uri.path().strip_prefix(&below) else {
        return (StatusCode::NOT_FOUND, "<html>Page not found</html>").into_response();
    };
    let line =
        format!("{method} {path}{}", uri.query().map(|it| format!("?{it}")).unwrap_or_default());
    github.requests.push(line.clone());
    if !request.headers().contains_key("user-agent") {
        return (StatusCode::FORBIDDEN, "Request forbidden by administrative rules.")
            .into_response();
    }
    assert_eq!(request.headers()["accept"], "application/vnd.github+json");
    assert_eq!(request.headers()["x-github-api-version"], "2022-11-28");
    if github.troubles.first().is_some_and(|(start, _)| line.starts_with(start)) {
        return github.troubles.remove(0).1();
    }
    let Some(writes) = github.permit(request.headers()) else {
        return refusal(401, "Bad credentials");
    };
    let query = uri.query().unwrap_or_default().split('&').filter_map(|it| it.split_once('='));
    let query: HashMap<_, _> = query.map(|(name, it)| (name.to_owned(), it.to_owned())).collect();
    let Some(rest) = path.strip_prefix(github.hooks) else { return refusal(404, "Not Found") };
    let numbers = github.listed.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>();
    let parts: Vec<_> = rest.split('/').skip(1).collect();
    let parts = match parts.as_slice() {
        // An App has one webhook, which has no number.
        ["deliveries", ..] if github.app.is_some() => &parts[..],
        [hook, rest @ ..] if numbers.iter().any(|it| it == hook) => rest,
        [] if method == "GET" => {
            let hooks = github.listed.iter().map(|(id, url)| {
                json!({"type": "Organization", "id": id, "name": "web", "active": true,
                       "config": {"url": url, "content_type": "json", "secret": "********"}})
            });
            return Json(hooks.collect::<Vec<_>>()).into_response();
        }
        _ => return refusal(404, "Not Found"),
    };
    match (method.as_str(), parts) {
        ("GET", ["deliveries"]) => github.list(&api, path, &query),
        ("POST", ["deliveries", _, "attempts"]) if !writes => {
            refusal(403, "Resource not accessible by personal access token")
        }
        ("POST", ["deliveries", id, "attempts"]) => github.attempt(id.parse().unwrap()),
        _ => refusal(404, "Not Found"),
    }
}

/// As GitHub refuses.
pub(crate) fn refusal(status: u16, message: &str) -> Response {
    let body = json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string()});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// A refusal with headers.
pub(crate) fn limited(status: u16, message: &str, headers: &[(&'static str, &str)]) -> Response {
    let mut answer = refusal(status, message);
    for (name, value) in headers {
        answer.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    answer
}

/// Checks the App's token as GitHub says it does: the signature, who it is of, and ten minutes.
fn is_app(token: &str, id: &str, key: &[u8]) -> bool {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    let part = |nth: usize| -> Value {
        let part = signed.split('.').nth(nth).unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    let time = |name: &str| claims[name].as_u64().unwrap();
    let now = super::now();
    key.verify(signed.as_bytes(), &signature).is_ok()
        && header == json!({"alg": "RS256", "typ": "JWT"})
        && claims["iss"] == id
        && time("iat") <= now
        && (now + 1..=now + 600).contains(&time("exp"))
}
