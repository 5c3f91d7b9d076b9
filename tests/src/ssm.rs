//! As much of SSM Parameter Store as a function asks for.
//!
//! <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub struct Ssm {
    parameters: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    pub endpoint: String,
}

impl Ssm {
    pub async fn start(parameters: &[(&str, &str)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let ssm = Self { endpoint, ..Self::default() };
        for (name, value) in parameters {
            ssm.parameters.lock().unwrap().insert((*name).to_owned(), (*value).to_owned());
        }
        let router = Router::new().route("/", post(get_parameter)).with_state(ssm.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        ssm
    }

    /// The names that were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn get_parameter(State(ssm): State<Ssm>, headers: HeaderMap, body: String) -> Response {
    let request: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(headers["x-amz-target"], "AmazonSSM.GetParameter");
    assert_eq!(request["WithDecryption"], true);
    let name = request["Name"].as_str().unwrap_or_default().to_owned();
    ssm.asked.lock().unwrap().push(name.clone());
    let value = ssm.parameters.lock().unwrap().get(&name).cloned();
    let Some(value) = value else {
        let error = json!({ "__type": "ParameterNotFound", "message": "there is none" });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    };
    Json(json!({ "Parameter": { "Name": name, "Value": value } })).into_response()
}
