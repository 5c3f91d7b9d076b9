//! A delivery's way through a deployment, hop by hop.

use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use reqwest::Client;
use serde_json::Value;
use spanhook_core::{
    provider::Provider,
    settings::{Settings, Vars},
    traceparent::{self, Context, Format},
};
use spanhook_service::{
    clock::Clock,
    export::innermost,
    gate::TRACEPARENT_TOKEN,
    queue::{Depth, SqsQueue},
    startup::project_rules,
};
use tokio::time::{Instant, sleep};

use super::{
    super::send::{Sender, first},
    Finding, Findings,
};
use crate::terminal::printable;

/// How often the queues are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the functions and queues of a deployment are.
#[derive(Args, Debug)]
pub(super) struct Deployment {
    #[command(flatten)]
    webhooks: Webhooks,
    /// URL of the traceparent endpoint
    #[arg(long, value_name = "URL")]
    traceparent: Option<String>,
    /// SQS queue, to see the delivery go through it
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// SQS dead-letter queue
    #[arg(long, value_name = "URL")]
    dead_letters: Option<String>,
    /// Seconds that the forwarder may take; SQS counts its messages with a delay of up to a minute
    #[arg(long, value_name = "SECONDS", default_value = "90")]
    wait: u64,
}

/// Of every provider the URL of its webhook, under a flag of its name.
#[derive(Debug, Default)]
struct Webhooks(Vec<(Provider, String)>);

impl Args for Webhooks {
    fn augment_args(command: Command) -> Command {
        command.args(Provider::with_webhooks().map(|it| {
            let help = format!("{}'s webhook URL", it.room().title);
            Arg::new(it.as_str()).long(it.as_str()).value_name("URL").help(help)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Webhooks {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let url = |it: Provider| Some((it, matches.get_one::<String>(it.as_str())?.clone()));
        Ok(Self(Provider::with_webhooks().filter_map(url).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Deployment {
    /// With a base URL every function that has no URL of its own is behind it.
    pub(super) fn at(mut self, base: Option<&str>) -> Self {
        let of = |url: Option<&str>| url.or(base).map(self::base);
        self.traceparent = of(self.traceparent.as_deref());
        let given = |it: Provider| self.webhooks.0.iter().find(|(of, _)| *of == it);
        let urls = Provider::with_webhooks()
            .filter_map(|it| Some((it, of(given(it).map(|(_, url)| &**url))?)))
            .collect();
        self.webhooks = Webhooks(urls);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.webhooks.0.is_empty() && self.traceparent.is_none() && self.queue.is_none()
    }

    pub(super) async fn walk(&self, vars: &Vars) -> Findings {
        let mut findings = Findings::new();
        let queues = Queues::new(self).await;
        let before = match &queues {
            Some(queues) => queues.depth().await.ok(),
            None => None,
        };
        let sender = match Sender::new(vars) {
            Ok(sender) => sender,
            Err(error) => return vec![("sender", Finding::Bad(error.to_string()))],
        };
        let mut pinged = None;
        for (provider, url) in &self.webhooks.0 {
            let (finding, trace) = deliver(&sender, url, *provider, &ping(*provider)).await;
            pinged = pinged.or(trace);
            findings.push((provider.as_str(), finding));
        }
        if let Some(url) = &self.traceparent {
            findings.push(("traceparent", contexts(vars, url).await));
        }
        if let Some(queues) = &queues {
            findings.extend(queues.follow(before, pinged.as_deref(), self.wait).await);
        }
        findings
    }
}

/// A webhook URL without the path that the function is given as the stack's output.
fn base(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let mut paths = Provider::ALL.into_iter().map(Provider::as_str).chain(["traceparent"]);
    let base = paths.find_map(|it| url.strip_suffix(it)?.strip_suffix('/'));
    base.unwrap_or(url).to_owned()
}

fn ping(provider: Provider) -> Value {
    let now = Clock::SYSTEM.since_epoch();
    let at = jiff::SignedDuration::try_from(now).unwrap_or_default();
    let at = jiff::Timestamp::from_duration(at).unwrap_or_default().to_string();
    // Microseconds: numbers that are larger than 2^53 are not safe in JSON.
    (provider.room().ping)(&at, u64::try_from(now.as_micros()).unwrap_or_default())
}

async fn deliver(
    sender: &Sender,
    url: &str,
    provider: Provider,
    body: &Value,
) -> (Finding, Option<String>) {
    let body = body.to_string();
    let answer = match sender.send(url, body.as_bytes(), Some(provider)).await {
        Err(error) => return (Finding::Bad(error.to_string()), None),
        Ok(answer) => answer,
    };
    let finding = match answer.status {
        202 => {
            let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let trace = json["trace_id"].as_str().map(ToOwned::to_owned);
            let text = match &trace {
                Some(trace) => format!("signature accepted, span queued: trace {trace}"),
                None => "signature accepted".to_owned(),
            };
            return (Finding::Good(text), trace);
        }
        401 => Finding::Bad(format!(
            "the signature was refused; the secret here is not the one there ({provider})"
        )),
        403 => Finding::Bad(
            "the URL does not let anybody call; it needs both permissions, lambda:InvokeFunctionUrl and lambda:InvokeFunction".to_owned(),
        ),
        404 => Finding::Off(format!("no {provider} receiver at this URL")),
        429 => Finding::Bad("throttled; raise WebhookConcurrency or the account's limit".to_owned()),
        502 => Finding::Bad(
            "the function does not start or crashes; its log says which variable or secret is missing".to_owned(),
        ),
        503 => Finding::Bad("the signature was accepted, but the queue refused; check QUEUE_URL and the function's role".to_owned()),
        status => Finding::Bad(format!("answered {status}; see the function's log")),
    };
    (finding, None)
}

/// Whether every provider's ids there are those here.
async fn contexts(vars: &Vars, url: &str) -> Finding {
    let rules = match project_rules(vars).await {
        Ok(rules) => rules.get().await,
        Err(error) => return Finding::Bad(error.to_string()),
    };
    let token = match first(vars, &TRACEPARENT_TOKEN) {
        Ok(token) => token.unwrap_or_default(),
        Err(error) => return Finding::Bad(error.to_string()),
    };
    let token = String::from_utf8_lossy(&token);
    let settings = Settings::parse(vars).ok();
    let expected = |provider: Provider| {
        let shape = provider.room().job;
        let job = traceparent::job(provider, &(shape.segments)(shape.example)?).ok()?;
        Some(Format::Value.render(Context::of(&job, settings.as_ref()?, &rules, None)))
    };
    let mut found = Finding::Off("no provider has such paths".to_owned());
    // A provider whose jobs another one tells has none to ask for.
    let told = |it: &Provider| !it.room().job.path.is_empty();
    for provider in Provider::with_webhooks().filter(told) {
        found = context(url, provider, expected(provider).as_ref(), &token).await;
        if !matches!(found, Finding::Good(_)) {
            break;
        }
    }
    found
}

async fn context(url: &str, provider: Provider, expected: Option<&String>, token: &str) -> Finding {
    let path = provider.room().job.example.join("/");
    match get(&format!("{url}/traceparent/{provider}/{path}?format=value"), token).await {
        Ok((200, body)) if Some(&body) == expected => {
            Finding::Good("the ids there are the ids here".to_owned())
        }
        Ok((200, _)) => Finding::Bad(format!(
            "it derives another context of {} than here; set TRACE_IDS, its host and PROJECT_RULES alike everywhere",
            provider.room().title
        )),
        Ok((401, _)) => {
            Finding::Bad("it wants another bearer token; set TRACEPARENT_TOKEN".to_owned())
        }
        Ok((404, _)) => Finding::Off("no traceparent endpoint at this URL".to_owned()),
        Ok((status, _)) => Finding::Bad(format!("answered {status}; see the function's log")),
        Err(reason) => {
            Finding::Bad(format!("no answer ({reason}); check the URL and that it is deployed"))
        }
    }
}

async fn get(url: &str, token: &str) -> Result<(u16, String), String> {
    let timeout = Duration::from_secs(10);
    let reason = |error: reqwest::Error| innermost(&error);
    let client = Client::builder().timeout(timeout).build().map_err(reason)?;
    let mut request = client.get(url);
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(reason)?;
    Ok((answer.status().as_u16(), answer.text().await.map_err(reason)?))
}

/// The queue and the dead-letter queue, as they can be seen from outside.
struct Queues {
    queue: SqsQueue,
    dead: Option<SqsQueue>,
}

impl Queues {
    async fn new(deployment: &Deployment) -> Option<Self> {
        let url = deployment.queue.as_ref()?;
        let client = aws_sdk_sqs::Client::new(&aws_config::load_from_env().await);
        let queue = |url: &String| SqsQueue::new(client.clone(), url.clone(), None);
        Some(Self { queue: queue(url), dead: deployment.dead_letters.as_ref().map(queue) })
    }

    async fn depth(&self) -> Result<Depth, String> {
        self.queue.depth().await.map_err(|error| error.to_string())
    }

    /// Watches until the queue is as empty as it was before, or a dead letter of the trace is
    /// there. A queue that others fill meanwhile can't tell about one message.
    async fn follow(&self, before: Option<Depth>, trace: Option<&str>, wait: u64) -> Findings {
        let Some(before) = before else {
            let hint = "the queue can't be looked at; check --queue and that your role has sqs:GetQueueAttributes";
            return vec![("queue", Finding::Bad(hint.to_owned()))];
        };
        let total = |depth: Depth| depth.waiting + depth.taken;
        let started = Instant::now();
        let mut depth = before;
        let mut acknowledged = false;
        let mut findings = Findings::new();
        while started.elapsed() < Duration::from_secs(wait) {
            if let Some(reason) = self.dead_letter_of(trace).await {
                findings.push(("queue", Finding::Good("the forwarder takes messages".to_owned())));
                findings.push(("collector", Finding::Bad(format!(
                    "the span is in the dead-letter queue because {}; mend that and run `spanhook redrive`",
                    printable(&reason)
                ))));
                return findings;
            }
            sleep(LOOK).await;
            match self.depth().await {
                Ok(now) => {
                    acknowledged |= total(now) < total(depth);
                    depth = now;
                }
                Err(error) => return vec![("queue", Finding::Bad(error))],
            }
            if total(depth) == 0 {
                let text = format!("empty after {} s", started.elapsed().as_secs());
                findings.push(("queue", Finding::Good(text)));
                let text = match trace {
                    Some(trace) => {
                        format!("what was queued is acknowledged: look for trace {trace}")
                    }
                    None => "what was queued is acknowledged".to_owned(),
                };
                findings.push(("collector", Finding::Good(text)));
                return findings;
            }
        }
        findings.push(match depth {
            Depth { waiting, taken: 0 } => ("forwarder", Finding::Bad(format!(
                "{waiting} messages wait and nobody takes them; check that the event source mapping is enabled and the forwarder is not throttled"
            ))),
            Depth { waiting, taken } if !acknowledged => ("collector", Finding::Bad(format!(
                "{taken} messages were taken and none is acknowledged ({waiting} wait); the Collector is down, slow or refuses: the forwarder's log says why"
            ))),
            Depth { waiting, taken } => ("queue", Finding::Off(format!(
                "busy all the time ({waiting} wait, {taken} are being worked on): it can't tell about one message, look for the trace"
            ))),
        });
        findings
    }

    /// Why the message of a trace is a dead letter, if it is. Letters are only looked at.
    async fn dead_letter_of(&self, trace: Option<&str>) -> Option<String> {
        let seen = self.dead.as_ref()?.receive(Duration::ZERO, Duration::ZERO).await.ok()?;
        let ours = |name: &str| name == trace.unwrap_or_default();
        let letter =
            seen.into_iter().find(|it| it.attributes.get("trace_id").is_some_and(|it| ours(it)))?;
        Some(letter.attributes.get("reason").cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use spanhook_core::delivery::Delivery;

    use super::*;

    #[test]
    fn the_outputs_of_a_stack_and_base_urls_are_the_same_place() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/circleci", "http://h:1/gitlab/"] {
            assert_eq!(base(url), "http://h:1");
        }
        assert_eq!(base("https://h/ci/traceparent"), "https://h/ci");
    }

    #[test]
    fn every_provider_has_a_flag_and_is_behind_the_base_unless_it_has_a_url_of_its_own() {
        let read = |arguments: &[&str]| {
            let command = Deployment::augment_args(Command::new("check").no_binary_name(true));
            let matches = command.try_get_matches_from(arguments).unwrap();
            Deployment::from_arg_matches(&matches).unwrap()
        };
        for provider in Provider::with_webhooks() {
            let flag = format!("--{provider}");
            let own = read(&[&flag, "http://own/"]);
            assert_eq!(own.at(None).webhooks.0, [(provider, "http://own".to_owned())]);
            let all = read(&[&flag, "http://own/"]).at(Some("http://h")).webhooks.0;
            assert_eq!(all.len(), Provider::with_webhooks().count());
            for (of, url) in all {
                assert_eq!(url, if of == provider { "http://own" } else { "http://h" });
            }
        }
        assert!(read(&[]).at(None).is_empty());
    }

    #[test]
    fn every_ping_is_its_providers_and_can_be_mapped() {
        for provider in Provider::with_webhooks() {
            let ping = ping(provider).to_string();
            assert_eq!(Provider::of_payload(&serde_json::from_str(&ping).unwrap()), Some(provider));
            let room = provider.room();
            let delivery = Delivery { headers: &HeaderMap::new(), body: ping.as_bytes() };
            assert!((room.map)(&delivery, &Settings::default()).is_ok(), "{ping}");
        }
    }
}
