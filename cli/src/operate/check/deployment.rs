//! A delivery's way through a deployment, hop by hop.

use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use reqwest::{Response, header::HeaderMap};
use serde_json::Value;
use spanhook_core::{
    otlp::front::Encoding,
    provider::Provider,
    settings::{Settings, Vars},
    traceparent::{self, Context, Format},
};
use spanhook_service::{
    clock::Clock,
    export::{client, innermost},
    gate::{BUILD_EVENTS, TRACEPARENT_TOKEN},
    queue::{Depth, SqsQueue},
    startup::project_rules,
};
use tokio::time::{Instant, sleep};

use super::{
    super::send::{Sender, first, key},
    Finding, Findings,
};
use crate::terminal::printable;

/// Where spans are exported to; the other signals go beside it.
const TRACES: &str = "v1/traces";

/// How often the queues are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the functions and queues of a deployment are.
#[derive(Args, Debug)]
pub(super) struct Deployment {
    #[command(flatten)]
    webhooks: Webhooks,
    /// URL of the traceparent endpoint
    #[arg(long, value_name = "URL")]
    traceparent: Option<String>,
    /// URL of what takes OTLP from jobs
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
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
        self.otlp = of(self.otlp.as_deref());
        let given = |it: Provider| self.webhooks.0.iter().find(|(of, _)| *of == it);
        let urls = Provider::with_webhooks()
            .filter_map(|it| Some((it, of(given(it).map(|(_, url)| &**url))?)))
            .collect();
        self.webhooks = Webhooks(urls);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        let functions = [&self.traceparent, &self.otlp, &self.queue];
        self.webhooks.0.is_empty() && functions.iter().all(|it| it.is_none())
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
        if let Some(url) = &self.otlp {
            findings.push(("otlp", exported(vars, url).await));
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
    let services = ["traceparent", TRACES];
    let mut paths = Provider::ALL.into_iter().map(Provider::as_str).chain(services);
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
        404 => Finding::Off(format!("no {provider} receiver at this URL")),
        503 => Finding::Bad("the signature was accepted, but the queue refused; check QUEUE_URL and the function's role".to_owned()),
        status => unexpected(status),
    };
    (finding, None)
}

/// What no service of spanhook answers to what is sent here.
fn unexpected(status: u16) -> Finding {
    Finding::Bad(match status {
        300..=399 => "it redirects, which no sender follows; give the address that it redirects to".to_owned(),
        403 => "the URL does not let anybody call; it needs both permissions, lambda:InvokeFunctionUrl and lambda:InvokeFunction".to_owned(),
        429 => "throttled; raise WebhookConcurrency or the account's limit".to_owned(),
        502 => "the function does not start or crashes; its log says which variable or secret is missing".to_owned(),
        status => format!("answered {status}; see the function's log"),
    })
}

/// Whether a job could export: a request with nothing in it, and every proof that is set here.
async fn exported(vars: &Vars, url: &str) -> Finding {
    let (mut proof, mut names) = (HeaderMap::new(), Vec::new());
    let id = uuid::Uuid::new_v4().to_string();
    let now = Clock::SYSTEM.since_epoch().as_secs();
    for check in BUILD_EVENTS.iter().filter(|it| it.variable.secret) {
        match key(vars, check) {
            Ok(Some(key)) => {
                check.sign(&mut proof, b"", &key, &id, now);
                names.push(check.variable.name);
            }
            Ok(None) => {}
            Err(error) => return Finding::Bad(error.to_string()),
        }
    }
    let names = names.join(" and ");
    let (status, is_ours) = match post(&format!("{url}/{TRACES}"), proof).await {
        Ok(answer) => {
            let kind = answer.headers().get("content-type").and_then(|it| it.to_str().ok());
            (answer.status().as_u16(), kind == Some(Encoding::Protobuf.content_type()))
        }
        Err(reason) => return no_answer(&reason),
    };
    match status {
        200 if is_ours && names.is_empty() => Finding::Good("it takes exports of anybody".to_owned()),
        200 if is_ours => Finding::Good(format!("{names} accepted")),
        401 if is_ours && names.is_empty() => Finding::Off(
            "it wants a proof; only a job's own token is one, or set BUILD_EVENTS_TOKEN or BUILD_EVENTS_SIGNING_KEY".to_owned(),
        ),
        401 if is_ours => Finding::Bad(format!("{names} refused; what is set here is not what is set there")),
        403 if is_ours => Finding::Off(
            "ACCESS takes this proof not for every project: jobs export with their own tokens".to_owned(),
        ),
        404 => Finding::Off("nothing takes OTLP at this URL".to_owned()),
        status => unexpected(status),
    }
}

async fn post(url: &str, proof: HeaderMap) -> Result<Response, String> {
    let client = client().timeout(TIMEOUT).build().map_err(|error| innermost(&error))?;
    let request = client.post(url).headers(proof);
    let request = request.header("content-type", Encoding::Protobuf.content_type());
    request.send().await.map_err(|error| innermost(&error))
}

fn no_answer(reason: &str) -> Finding {
    Finding::Bad(format!("no answer ({reason}); check the URL and that it is deployed"))
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
        Ok((status, _)) => unexpected(status),
        Err(reason) => no_answer(&reason),
    }
}

async fn get(url: &str, token: &str) -> Result<(u16, String), String> {
    let reason = |error: reqwest::Error| innermost(&error);
    let client = client().timeout(TIMEOUT).build().map_err(reason)?;
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
    use axum::{Router, response::Redirect};
    use futures_util::FutureExt;
    use spanhook_core::delivery::Delivery;

    use super::*;
    use crate::serve::{Running, Serve};

    #[test]
    fn the_outputs_of_a_stack_and_base_urls_are_the_same_place() {
        for url in [
            "http://h:1",
            "http://h:1/",
            "http://h:1/circleci",
            "http://h:1/gitlab/",
            "http://h:1/v1/traces",
        ] {
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

    fn vars(pairs: &[(&str, &str)]) -> Vars {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[tokio::test]
    async fn what_takes_otlp_from_jobs_is_tried_with_every_secret_that_is_set() {
        const KEY: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
        let both =
            [("BUILD_EVENTS_TOKEN", "a-secret-of-the-tests"), ("BUILD_EVENTS_SIGNING_KEY", KEY)];
        let webhook = [("GITHUB_WEBHOOK_SECRET", "a-secret-of-the-tests")];
        let some = [both[0], ("ACCESS", r#"[{"projects": "acme/*", "by": ["bearer"]}]"#)];
        let anybody = [("ACCESS", r#"[{"projects": "*", "by": ["none"]}]"#)];
        let other = [("BUILD_EVENTS_TOKEN", "another-secret-of-the-tests")];
        let mut text = String::new();
        for (there, here) in [
            (&both[..], &both[..]),
            (&both, &both[..1]),
            (&both, &[]),
            (&both, &other),
            (&some, &both[..1]),
            (&anybody, &[]),
            (&webhook, &webhook),
        ] {
            let data = tempfile::tempdir().unwrap();
            let serve = Serve::local(data.path());
            let serve = Running::start(&vars(there), &serve).await.unwrap();
            let (mark, said) =
                match exported(&vars(here), &format!("http://{}", serve.address)).await {
                    Finding::Good(said) => ("good", said),
                    Finding::Off(said) => ("off", said),
                    Finding::Bad(said) => ("bad", said),
                };
            let names =
                |pairs: &[(&str, &str)]| pairs.iter().map(|it| it.0).collect::<Vec<_>>().join(", ");
            text += &format!("{} | {} | {mark}: {said}\n", names(there), names(here));
            serve.shut_down().await;
        }
        insta::assert_snapshot!(text);
    }

    #[tokio::test]
    async fn what_redirects_is_told_so_and_gets_nothing() {
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = format!("http://{}/v1/traces", elsewhere.local_addr().unwrap());
        let redirect = move || async move { Redirect::permanent(&other) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(redirect)).await });
        let vars = vars(&[("BUILD_EVENTS_TOKEN", "a-secret"), ("TRACEPARENT_TOKEN", "a-secret")]);
        for found in [exported(&vars, &url).await, contexts(&vars, &url).await] {
            let Finding::Bad(said) = found else { panic!("a redirect is no answer") };
            assert!(said.contains("redirects"), "{said}");
        }
        assert!(elsewhere.accept().now_or_never().is_none(), "nobody came there");
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
