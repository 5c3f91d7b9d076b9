//! `spanhook check`: the settings as a function reads them, and a deployment hop by hop.

mod deployment;

use clap::Args;
use spanhook_core::{
    provider::Provider,
    settings::{Settings, SettingsError, Vars, WebhookSettings},
};
use spanhook_service::{
    export::{ExportSettings, Exporter, shown},
    gate::{Gate, GateError, GateSettings, Receiver},
    live::with_documents,
    settings::{QueueSettings, environment},
    startup::project_rules,
    telemetry::TelemetrySettings,
};

use crate::{
    serve::{
        role::{ROLE, Role},
        store::{LIMIT, parse_bytes},
    },
    terminal::{Failure, failure, print, printable},
};
use deployment::Deployment;

#[derive(Args, Debug)]
#[command(
    after_help = "Walks the way of a delivery and names the hop that is broken: webhook, queue, forwarder, Collector.
Set the secrets as they are set there, those of jobs too. A stack with function URLs has one for each function: give those of its
outputs with the flags. What arrives is one span of each provider that has pings, `ping`."
)]
pub(crate) struct Check {
    /// Base URL of an HTTP API or of `spanhook serve`, to send signed deliveries through
    #[arg(value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    deployment: Deployment,
}

/// What was found of one thing.
enum Finding {
    Good(String),
    /// Not set, and not needed everywhere.
    Off(String),
    Bad(String),
}

/// What was found, by hop.
type Findings = Vec<(&'static str, Finding)>;

impl Check {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = with_documents(&environment()).await.map_err(failure)?;
        let mut bad = report("Settings", settings(&vars).await);
        let deployment = self.deployment.at(self.url.as_deref());
        if !deployment.is_empty() {
            bad += report("Deployment", deployment.walk(&vars).await);
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

fn report(title: &str, findings: Findings) -> usize {
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
        // Answers and texts from elsewhere are in it.
        print(format!("  {mark} {name:<12} {}\n", printable(&text)));
    }
    bad
}

async fn settings(vars: &Vars) -> Findings {
    let mut findings = Findings::new();
    for provider in Provider::with_webhooks() {
        findings.push((provider.as_str(), webhook(provider, vars).await));
    }
    let jobs = gate(GateSettings::build_events(vars)).await;
    let otlp = otlp(vars, &jobs);
    findings.extend([
        ("traceparent", gate(GateSettings::traceparent(vars)).await),
        ("build-events", jobs),
        ("otlp", otlp),
        ("rules", rules(vars).await),
        ("queue", queue(vars)),
        ("data", data(vars)),
        ("role", role(vars)),
        ("forwarder", forwarder(vars)),
        ("telemetry", telemetry(vars)),
    ]);
    findings
}

/// A secret that is not set only matters to the function that needs it.
async fn webhook(provider: Provider, vars: &Vars) -> Finding {
    let read =
        Settings::parse(vars).and_then(|settings| Ok((settings, WebhookSettings::parse(vars)?)));
    let (settings, common) = match read {
        Ok(read) => read,
        Err(error) => return Finding::Bad(error.to_string()),
    };
    match Receiver::open(provider, vars, common).await {
        Ok(receiver) => {
            let ids = format!("{:?} ids", settings.trace_ids).to_lowercase();
            Finding::Good(format!("{ids}, {}", receiver.proofs()))
        }
        Err(GateError::Unproved(error)) => Finding::Off(error.to_string()),
        Err(error) => Finding::Bad(error.to_string()),
    }
}

async fn gate(settings: Result<GateSettings, SettingsError>) -> Finding {
    let opened = match settings {
        Ok(settings) => Gate::open(settings).await,
        Err(error) => Err(error.into()),
    };
    match opened {
        Ok(gate) => Finding::Good(format!("may be called by {}", gate.in_words())),
        Err(GateError::Unproved(error)) => Finding::Off(error.to_string()),
        Err(error) => Finding::Bad(error.to_string()),
    }
}

/// What jobs export: whoever may send build events may send there.
fn otlp(vars: &Vars, jobs: &Finding) -> Finding {
    match (jobs, WebhookSettings::parse(vars)) {
        (Finding::Good(who), Ok(common)) => {
            Finding::Good(format!("{who}, in bodies of up to {} bytes", common.max_body))
        }
        (Finding::Good(_), Err(error)) => Finding::Bad(error.to_string()),
        _ => Finding::Off("needs what build-events needs".to_owned()),
    }
}

async fn rules(vars: &Vars) -> Finding {
    match project_rules(vars).await {
        Err(error) => Finding::Bad(error.to_string()),
        Ok(rules) if rules.get().await.is_empty() => {
            Finding::Off("PROJECT_RULES is not set; every run is kept".to_owned())
        }
        Ok(_) => Finding::Good("PROJECT_RULES choose projects or runs".to_owned()),
    }
}

fn queue(vars: &Vars) -> Finding {
    match QueueSettings::parse(vars) {
        Ok(settings) => Finding::Good(shown(&settings.queue_url)),
        Err(error @ SettingsError::Missing { .. }) => {
            Finding::Off(format!("{error} (`spanhook serve` has one of its own without it)"))
        }
        Err(error) => Finding::Bad(error.to_string()),
    }
}

/// The folder of `spanhook serve`.
fn data(vars: &Vars) -> Finding {
    let Some(limit) = LIMIT.get(vars) else {
        return Finding::Off(format!(
            "{} is not set; the queue of `spanhook serve` may take {}",
            LIMIT.name, LIMIT.default
        ));
    };
    match parse_bytes(limit) {
        Ok(_) => Finding::Good(format!("the queue of `spanhook serve` may take {limit}")),
        Err(expected) => Finding::Bad(format!("{} is not valid; {expected}", LIMIT.name)),
    }
}

/// What `spanhook serve` would do with these settings. Without a role of its own it may not be meant.
fn role(vars: &Vars) -> Finding {
    let has_target = !matches!(ExportSettings::parse(vars), Ok(None));
    match Role::parse(vars).and_then(|role| role.check(vars, has_target)) {
        Err(error) if ROLE.get(vars).is_some() => Finding::Bad(error.to_string()),
        Err(error) => Finding::Off(format!("for `spanhook serve`, {error}")),
        Ok(()) => {
            let role = ROLE.get(vars).unwrap_or(ROLE.default);
            Finding::Good(format!("{} {role}, for `spanhook serve`", ROLE.name))
        }
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
                shown(&settings.endpoint),
                settings.compression
            )),
            Err(error) => Finding::Bad(error.to_string()),
        },
    }
}

fn telemetry(vars: &Vars) -> Finding {
    match TelemetrySettings::parse(vars) {
        Ok(TelemetrySettings { endpoint: Some(endpoint), .. }) => Finding::Good(shown(&endpoint)),
        Ok(_) => Finding::Off(
            "TELEMETRY_OTLP_ENDPOINT is not set; spanhook says nothing of itself over OTLP"
                .to_owned(),
        ),
        Err(error) => Finding::Bad(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(pairs: &[(&str, &str)]) -> Vec<(&'static str, &'static str, String)> {
        let vars = pairs.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned())).collect();
        let row = |(name, finding)| match finding {
            Finding::Good(text) => (name, "good", text),
            Finding::Off(text) => (name, "off", text),
            Finding::Bad(text) => (name, "bad", text),
        };
        settings(&vars).await.into_iter().map(row).collect()
    }

    #[tokio::test]
    async fn a_mistyped_list_of_secrets_is_wrong() {
        let list = "[\n \"old-secret\",\n \"new-secret\",\n]";
        let variables = [
            ("circleci", "CIRCLECI_HOOK_SECRET"),
            ("gitlab", "GITLAB_SIGNING_TOKEN"),
            ("gitlab", "GITLAB_SECRET_TOKEN"),
            ("github", "GITHUB_WEBHOOK_SECRET"),
            ("traceparent", "TRACEPARENT_TOKEN"),
            ("build-events", "BUILD_EVENTS_SIGNING_KEY"),
            ("build-events", "BUILD_EVENTS_TOKEN"),
        ];
        for (service, variable) in variables {
            for text in [list, "short", "\"old-secret\""] {
                let found = found(&[(variable, text)]).await;
                let bad: Vec<_> = found.iter().filter(|it| it.1 == "bad").collect();
                let [(name, _, said)] = bad[..] else { panic!("{variable}: {found:?}") };
                assert!(*name == service && said.starts_with(variable), "{name}: {said}");
            }
        }
    }

    #[tokio::test]
    async fn who_may_call_is_said() {
        let rules = r#"[{"projects": "*", "by": ["bearer"]}]"#;
        let token = ("BUILD_EVENTS_TOKEN", "t0ken-of-the-tests");
        for (vars, service, expected) in [
            (&[][..], "traceparent", "may be called by anybody"),
            (
                &[("TRACEPARENT_TOKEN", token.1)],
                "traceparent",
                "may be called by who shows TRACEPARENT_TOKEN",
            ),
            (&[token], "build-events", "may be called by who shows BUILD_EVENTS_TOKEN"),
            (&[token, ("ACCESS", rules)], "build-events", "may be called by whom ACCESS names"),
            (
                &[token, ("MAX_BODY_BYTES", "1000000")],
                "otlp",
                "may be called by who shows BUILD_EVENTS_TOKEN, in bodies of up to 1000000 bytes",
            ),
        ] {
            let found = found(vars).await;
            let (_, mark, text) = found.iter().find(|it| it.0 == service).unwrap();
            assert_eq!((*mark, text.as_str()), ("good", expected));
        }
    }

    #[tokio::test]
    async fn a_role_that_does_not_fit_the_queue_is_wrong() {
        let url = "https://sqs.eu-west-1.amazonaws.com/1/spans";
        let queue = [("QUEUE_URL", url), ("DEAD_LETTER_QUEUE_URL", url)];
        let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for (vars, mark, said) in [
            (vec![], "good", "SPANHOOK_ROLE all"),
            (vec![("SPANHOOK_ROLE", "receive")], "bad", "QUEUE_URL is not set"),
            (vec![("SPANHOOK_ROLE", "both")], "bad", "use all, receive or forward"),
            (queue.to_vec(), "off", "OTEL_EXPORTER_OTLP_ENDPOINT is not set"),
            (
                [&queue[..], &[("SPANHOOK_ROLE", "receive")]].concat(),
                "good",
                "SPANHOOK_ROLE receive",
            ),
            ([&queue[..], &[("SPANHOOK_ROLE", "forward")]].concat(), "bad", "is not set"),
            (
                [&queue[..], &[("SPANHOOK_ROLE", "forward"), collector]].concat(),
                "good",
                "SPANHOOK_ROLE forward",
            ),
        ] {
            let found = found(&vars).await;
            let (_, found, text) = found.iter().find(|it| it.0 == "role").unwrap();
            assert!(*found == mark && text.contains(said), "{vars:?}: {found} {text}");
        }
    }

    #[tokio::test]
    async fn no_password_of_an_address_is_shown() {
        let url = "https://user:s3cret@h.example.com/x?key=s3cret";
        let found = found(&[
            ("QUEUE_URL", url),
            ("DEAD_LETTER_QUEUE_URL", url),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:s3cret@h.example.com"),
            ("TELEMETRY_OTLP_ENDPOINT", "https://user:s3cret@h.example.com"),
        ])
        .await;
        for service in ["queue", "forwarder", "telemetry"] {
            let (_, mark, text) = found.iter().find(|it| it.0 == service).unwrap();
            assert!(*mark == "good" && text.contains("https://h.example.com"), "{text}");
        }
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }
}
