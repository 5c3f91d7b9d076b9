//! `spanhook check`: the settings as a function reads them, and a deployment hop by hop.

use clap::Args;
use reqwest::Client;
use serde_json::{Value, json};
use spanhook_core::{
    mapping::Provider,
    traceparent::{Format, Job},
};
use spanhook_service::{
    clock::Clock,
    export::{ExportSettings, Exporter},
    settings::{
        CircleciReceiverSettings, GitlabReceiverSettings, QueueSettings, SettingsError,
        TraceparentEndpointSettings, Vars, WebhookSettings, environment,
    },
    startup::project_rules,
    telemetry::TelemetrySettings,
    webhook::{Receiver, ReceiverError},
};
use uuid::Uuid;

use crate::{
    send::Sender,
    terminal::{Failure, failure, print},
};

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Base URL of a deployment or of `spanhook serve`, to send signed deliveries through
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// What was found of one thing.
enum Finding {
    Good(String),
    /// Not set, and not needed everywhere.
    Off(String),
    Bad(String),
}

impl Check {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        let mut bad = report("Settings", settings(&vars).await);
        if let Some(url) = self.url {
            let url = url.trim_end_matches('/').to_owned();
            bad += report(&format!("Deployment at {url}"), deployment(&vars, &url).await);
        }
        if bad == 0 {
            return Ok(());
        }
        Err(failure(format!(
            "{bad} {} wrong, see above",
            if bad == 1 { "thing is" } else { "things are" }
        )))
    }
}

fn report(title: &str, findings: Vec<(&'static str, Finding)>) -> usize {
    print(format!("{title}\n"));
    let mut bad = 0;
    for (name, finding) in findings {
        let (mark, text) = match finding {
            Finding::Good(text) => ("✓", text),
            Finding::Off(text) => ("–", text),
            Finding::Bad(text) => {
                bad += 1;
                ("✗", text)
            }
        };
        print(format!("  {mark} {name:<12} {text}\n"));
    }
    bad
}

async fn settings(vars: &Vars) -> Vec<(&'static str, Finding)> {
    vec![
        ("circleci", circleci(vars).await),
        ("gitlab", gitlab(vars).await),
        ("traceparent", traceparent(vars)),
        ("queue", queue(vars)),
        ("forwarder", forwarder(vars)),
        ("telemetry", telemetry(vars)),
    ]
}

/// A secret that is not set only matters to the function that needs it.
fn received(result: Result<Receiver, ReceiverError>, good: String) -> Finding {
    match result {
        Ok(_) => Finding::Good(good),
        Err(ReceiverError::Settings(error @ SettingsError::Missing { .. })) => {
            Finding::Off(error.to_string())
        }
        Err(error) => Finding::Bad(error.to_string()),
    }
}

async fn circleci(vars: &Vars) -> Finding {
    let read = CircleciReceiverSettings::parse(vars)
        .and_then(|settings| Ok((settings, WebhookSettings::parse(vars)?)));
    match read {
        Err(error) => Finding::Bad(error.to_string()),
        Ok((settings, common)) => {
            let good = format!("{:?} ids of {}", settings.mapping.trace_ids, settings.mapping.host);
            received(Receiver::circleci(settings, common).await, good.to_lowercase())
        }
    }
}

async fn gitlab(vars: &Vars) -> Finding {
    let read = GitlabReceiverSettings::parse(vars)
        .and_then(|settings| Ok((settings, WebhookSettings::parse(vars)?)));
    match read {
        Err(error) => Finding::Bad(error.to_string()),
        Ok((settings, common)) => {
            let mapping = &settings.mapping;
            let good = format!(
                "{:?} ids, job spans from {:?} events",
                mapping.trace_ids, mapping.job_spans
            );
            received(Receiver::gitlab(settings, common).await, good.to_lowercase())
        }
    }
}

fn traceparent(vars: &Vars) -> Finding {
    match TraceparentEndpointSettings::parse(vars) {
        Ok(settings) => Finding::Good(format!("token {:?}", settings.token)),
        Err(error) => Finding::Bad(error.to_string()),
    }
}

fn queue(vars: &Vars) -> Finding {
    match QueueSettings::parse(vars) {
        Ok(settings) => Finding::Good(settings.queue_url),
        Err(error @ SettingsError::Missing { .. }) => {
            Finding::Off(format!("{error} (not needed by `spanhook serve`)"))
        }
        Err(error) => Finding::Bad(error.to_string()),
    }
}

fn forwarder(vars: &Vars) -> Finding {
    match ExportSettings::parse(vars) {
        Err(error) => Finding::Bad(error.to_string()),
        Ok(None) => Finding::Off(
            "OTEL_EXPORTER_OTLP_ENDPOINT is not set; `spanhook serve` shows the traces itself"
                .to_owned(),
        ),
        Ok(Some(settings)) => match Exporter::new(&settings) {
            Ok(_) => Finding::Good(format!(
                "{:?} to {}, {:?}",
                settings.protocol,
                settings.endpoint.split('?').next().unwrap_or_default(),
                settings.compression
            )),
            Err(error) => Finding::Bad(error.to_string()),
        },
    }
}

fn telemetry(vars: &Vars) -> Finding {
    match TelemetrySettings::parse(vars) {
        Ok(TelemetrySettings { endpoint: Some(endpoint), .. }) => Finding::Good(endpoint),
        Ok(_) => Finding::Off(
            "TELEMETRY_OTLP_ENDPOINT is not set; spanhook says nothing of itself over OTLP"
                .to_owned(),
        ),
        Err(error) => Finding::Bad(error.to_string()),
    }
}

async fn deployment(vars: &Vars, url: &str) -> Vec<(&'static str, Finding)> {
    let mut findings = vec![("reachable", reachable(url).await)];
    if matches!(findings[0].1, Finding::Bad(_)) {
        return findings;
    }
    match Sender::new(vars) {
        Err(error) => findings.push(("sender", Finding::Bad(error.to_string()))),
        Ok(sender) => {
            let now =
                jiff::SignedDuration::try_from(Clock::SYSTEM.since_epoch()).unwrap_or_default();
            let now = jiff::Timestamp::from_duration(now).unwrap_or_default();
            let now = now.to_string();
            let ping = json!({
                "type": "ping", "id": Uuid::new_v4().to_string(), "happened_at": now,
                "webhook": { "id": Uuid::new_v4().to_string(), "name": "spanhook check" },
            });
            let circleci = delivered(&sender, url, Provider::Circleci, &ping).await;
            findings.push(("circleci", circleci));
            // GitLab has no ping; a pipeline that still runs is verified and then ignored.
            let running = json!({
                "object_kind": "pipeline",
                "object_attributes": { "id": 1, "status": "running" },
                "project": { "id": 1, "web_url": "https://gitlab.com/spanhook/check" },
            });
            findings.push(("gitlab", delivered(&sender, url, Provider::Gitlab, &running).await));
        }
    }
    findings.push(("traceparent", context(vars, url).await));
    findings
}

async fn reachable(url: &str) -> Finding {
    match get(&format!("{url}/health"), "").await {
        Ok((200, _)) => Finding::Good("GET /health answers".to_owned()),
        Ok((status, _)) => Finding::Bad(format!(
            "GET /health answers {status}; the URL is to be the base, in front of /circleci and /gitlab"
        )),
        Err(reason) => {
            Finding::Bad(format!("no answer ({reason}); check the URL and that it is deployed"))
        }
    }
}

async fn delivered(sender: &Sender, url: &str, provider: Provider, body: &Value) -> Finding {
    let body = body.to_string();
    match sender.send(url, body.as_bytes(), Some(provider)).await {
        Err(error) => Finding::Bad(error.to_string()),
        Ok(answer) => match answer.status {
            202 => {
                let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                match json["trace_id"].as_str() {
                    Some(trace) => Finding::Good(format!("signature accepted, span queued: look for trace {trace}")),
                    None => Finding::Good("signature accepted".to_owned()),
                }
            }
            401 => Finding::Bad(format!(
                "the signature was refused; the secret here is not the one there ({provider})"
            )),
            404 => Finding::Off(format!("no {provider} receiver at this URL")),
            503 => Finding::Bad("the signature was accepted, but the queue refused; check QUEUE_URL and the function's role".to_owned()),
            status => Finding::Bad(format!("answered {status}; see the function's log")),
        },
    }
}

async fn context(vars: &Vars, url: &str) -> Finding {
    let (run, job) =
        ("cedf175c-c537-49f8-9b5c-95892f0b2407", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34");
    let rules = project_rules(vars).await;
    let rules = match rules {
        Ok(rules) => rules.get().await,
        Err(error) => return Finding::Bad(error.to_string()),
    };
    let expected = TraceparentEndpointSettings::parse(vars).ok().and_then(|settings| {
        let job = Job::new(Provider::Circleci, run, job, None, None).ok()?;
        Some(Format::Value.render(job.context(&settings.ids, &rules, None)))
    });
    let token = vars.get("TRACEPARENT_TOKEN").map_or("", String::as_str);
    match get(&format!("{url}/traceparent/circleci/{run}/{job}?format=value"), token).await {
        Ok((200, body)) if Some(&body) == expected.as_ref() => {
            Finding::Good("the ids there are the ids here".to_owned())
        }
        Ok((200, _)) => Finding::Bad(
            "it derives another context than here; set TRACE_IDS, CIRCLECI_HOST and PROJECT_RULES alike everywhere"
                .to_owned(),
        ),
        Ok((401, _)) => {
            Finding::Bad("it wants another bearer token; set TRACEPARENT_TOKEN".to_owned())
        }
        Ok((404, _)) => Finding::Off("no traceparent endpoint at this URL".to_owned()),
        Ok((status, _)) => Finding::Bad(format!("answered {status}; see the function's log")),
        Err(reason) => Finding::Bad(format!("no answer ({reason})")),
    }
}

async fn get(url: &str, token: &str) -> Result<(u16, String), String> {
    let timeout = std::time::Duration::from_secs(10);
    let innermost = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    };
    let client = Client::builder().timeout(timeout).build().map_err(innermost)?;
    let mut request = client.get(url);
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(innermost)?;
    Ok((answer.status().as_u16(), answer.text().await.map_err(innermost)?))
}
