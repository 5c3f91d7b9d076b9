//! `spanhook redrive`: dead letters back into the queue.
//!
//! Span messages go back as they are. A quarantined delivery is mapped again, with this version and
//! these settings: what could not be mapped when it came may be by now. What is put into the queue
//! is durable there before the dead letter is deleted, so a redrive that is cut short loses nothing.

mod letters;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use spanhook_core::{
    delivery::{Delivery, Outcome},
    message::{Message, RAW, join_parts, kept_headers, unpack_part},
    provider::Provider,
    rules::ProjectRules,
    settings::{Settings, Vars},
};
use spanhook_service::{
    queue::{MoveTask, Received, SqsQueue},
    settings::environment,
    startup::project_rules,
};

use super::progress::progress;
use crate::{
    serve::store::Store,
    terminal::{Failure, failure, print, printable},
};
use letters::Letters;

#[derive(Args, Debug)]
#[command(
    after_help = "Your role needs sqs:ReceiveMessage, DeleteMessage and ChangeMessageVisibility on the dead-letter
queue and sqs:SendMessage on the queue; the queue's own policy lets you in as OperatorRoleArn.
Quarantined deliveries are mapped again with the settings of the environment (TRACE_IDS, those of
its provider): set them as for the webhook functions."
)]
pub(crate) struct Redrive {
    /// Dead-letter queue to read from
    #[arg(long, value_name = "URL", env = "DEAD_LETTER_QUEUE_URL", conflicts_with = "data")]
    from: Option<String>,
    /// Queue to put messages into
    #[arg(long, value_name = "URL", env = "QUEUE_URL", conflicts_with = "data")]
    to: Option<String>,
    /// Redrive within the folder of a `spanhook serve` that is stopped
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Only messages whose reason contains this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    reason: Vec<String>,
    /// Redrive no more messages than this
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Let SQS move everything by itself: quicker for very many, without looking at reasons
    #[arg(long, conflicts_with_all = ["reason", "limit", "dry_run", "data"])]
    task: bool,
}

/// What becomes of one dead letter.
#[derive(Debug, PartialEq)]
enum Fate {
    /// Into the queue as it is.
    Again(Message),
    /// Mapped to these messages.
    Mapped { messages: Vec<Message>, spans: usize },
    /// There is nothing to emit; it is deleted.
    Nothing(&'static str),
    /// It stays.
    Left(String),
}

/// What was done, by reason.
#[derive(Debug, Default)]
struct Report(BTreeMap<(String, String), (usize, usize)>);

impl Report {
    fn add(&mut self, reason: &str, fate: &Fate, letters: usize) {
        let (done, spans) = match fate {
            Fate::Again(message) => {
                let spans = message.attributes.get("spans").and_then(|it| it.parse().ok());
                ("back in the queue".to_owned(), spans.unwrap_or(0))
            }
            Fate::Mapped { spans, .. } => ("mapped and queued".to_owned(), *spans),
            Fate::Nothing(why) => (format!("deleted: {why}"), 0),
            Fate::Left(why) => (format!("left: {why}"), 0),
        };
        let entry = self.0.entry((reason.to_owned(), done)).or_default();
        entry.0 += letters;
        entry.1 += spans;
    }

    fn render(&self, dry_run: bool) -> String {
        if self.0.is_empty() {
            return "there are no dead letters to redrive\n".to_owned();
        }
        let mut text = String::new();
        if dry_run {
            text += "Nothing was moved. Without --dry-run:\n";
        }
        for ((reason, done), (letters, spans)) in &self.0 {
            let plural = if *letters == 1 { "" } else { "s" };
            text += &format!("{letters:>7} message{plural:<1}  {done}");
            if *spans > 0 {
                text += &format!(", {spans} spans");
            }
            text += &format!("\n                 because {}\n", printable(reason));
        }
        text
    }
}

impl Redrive {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if self.task {
            return self.move_task().await;
        }
        let vars = environment();
        let settings = Mappings::parse(&vars).await?;
        let mut letters = if let Some(folder) = &self.data {
            Letters::Folder(Store::open(folder).map_err(failure)?, false)
        } else {
            let (from, to) = self.queues()?;
            let client = aws_sdk_sqs::Client::new(&aws_config::load_from_env().await);
            let queue = |url: &str| SqsQueue::new(client.clone(), url.to_owned(), None);
            Letters::Sqs { dead: queue(from), queue: queue(to) }
        };
        let report = self.redrive(&mut letters, &settings).await?;
        print(report.render(self.dry_run));
        Ok(())
    }

    fn queues(&self) -> Result<(&str, &str), Failure> {
        let hint = "as the stack's output or `aws sqs get-queue-url` gives it";
        let missing = |what: &str| failure(format!("{what}, {hint} (or --data FOLDER)"));
        let from = self.from.as_deref();
        let from = from.ok_or_else(|| missing("give the dead-letter queue with --from URL"))?;
        let to = self.to.as_deref().ok_or_else(|| missing("give the queue with --to URL"))?;
        if from == to {
            return Err(failure("--from and --to are the same queue"));
        }
        Ok((from, to))
    }

    async fn redrive(&self, letters: &mut Letters, settings: &Mappings) -> Result<Report, Failure> {
        let mut report = Report::default();
        let mut parts = Parts::default();
        let mut seen = HashSet::new();
        let mut left = Vec::new();
        let mut moved = 0;
        let mut work = async || -> Result<(), Failure> {
            loop {
                let batch = letters.next().await?;
                // A letter that comes again was hidden for as long as it could be: all were seen.
                let batch: Vec<_> =
                    batch.into_iter().filter(|it| seen.insert(it.id.clone())).collect();
                if batch.is_empty() {
                    return Ok(());
                }
                for letter in batch {
                    let reason = letter.attributes.get("reason").map_or("unknown", String::as_str);
                    let reason = reason.to_owned();
                    if !self.wants(&reason) {
                        left.push(letter);
                        continue;
                    }
                    let Some((whole, payload)) = parts.collect(letter) else { continue };
                    let fate = if self.limit.is_some_and(|limit| moved >= limit) {
                        Fate::Left("the --limit is reached".to_owned())
                    } else {
                        settings.fate(&whole[0], payload.as_deref())
                    };
                    report.add(&reason, &fate, whole.len());
                    let messages = match fate {
                        Fate::Left(_) => {
                            left.extend(whole);
                            continue;
                        }
                        Fate::Again(message) => vec![message],
                        Fate::Mapped { messages, .. } => messages,
                        Fate::Nothing(_) => Vec::new(),
                    };
                    moved += whole.len();
                    if self.dry_run {
                        left.extend(whole);
                    } else {
                        letters.redrive(&whole, messages).await?;
                    }
                }
                progress(&format!("{} dead letters read, {moved} redriven", seen.len()));
            }
        };
        let result = work().await;
        progress("");
        for (letter, missing) in parts.incomplete() {
            let fate = Fate::Left(format!("other parts of the delivery are missing ({missing})"));
            let reason = letter.attributes.get("reason").cloned().unwrap_or_default();
            report.add(&reason, &fate, 1);
            left.push(letter);
        }
        // Whatever happened, what stays is to be seen again at once.
        letters.leave(&left).await;
        result.map(|()| report)
    }

    fn wants(&self, reason: &str) -> bool {
        let reason = reason.to_lowercase();
        self.reason.is_empty() || self.reason.iter().any(|it| reason.contains(&it.to_lowercase()))
    }

    async fn move_task(&self) -> Result<(), Failure> {
        let (from, to) = self.queues()?;
        let client = aws_sdk_sqs::Client::new(&aws_config::load_from_env().await);
        let dead = SqsQueue::new(client.clone(), from.to_owned(), None);
        let queue = SqsQueue::new(client, to.to_owned(), None);
        dead.start_moving_to(&queue).await.map_err(failure)?;
        loop {
            let MoveTask { status, moved, total, failure: reason } =
                dead.moving().await.map_err(failure)?;
            let of = total.map_or(String::new(), |total| format!(" of about {total}"));
            match status.as_str() {
                "RUNNING" => progress(&format!("{moved}{of} messages moved")),
                "COMPLETED" => {
                    progress("");
                    print(format!("{moved} messages are back in the queue\n"));
                    return Ok(());
                }
                status => {
                    progress("");
                    let reason = reason.unwrap_or_default();
                    let text =
                        format!("SQS stopped moving after {moved}{of} messages: {status} {reason}");
                    return Err(failure(text));
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// How deliveries are mapped and judged: as by the webhook functions.
struct Mappings {
    settings: Settings,
    rules: Arc<ProjectRules>,
}

impl Mappings {
    async fn parse(vars: &Vars) -> Result<Self, Failure> {
        let settings = Settings::parse(vars).map_err(failure)?;
        let rules = project_rules(vars).await.map_err(failure)?.get().await;
        Ok(Self { settings, rules })
    }

    /// Decides; `payload` is the delivery when the letter holds one.
    fn fate(&self, letter: &Received, payload: Option<&[u8]>) -> Fate {
        let raw = letter.attributes.get("encoding").is_some_and(|it| it == RAW);
        match (raw, payload) {
            (true, Some(payload)) => self.mapped(letter, payload),
            (true, None) => Fate::Left("the delivery in it can't be read".to_owned()),
            (false, _) => {
                let mut attributes = letter.attributes.clone();
                attributes.remove("reason");
                let group =
                    attributes.get("trace_id").map_or("redriven", String::as_str).to_owned();
                Fate::Again(Message { body: letter.body.clone(), attributes, group })
            }
        }
    }

    fn mapped(&self, letter: &Received, payload: &[u8]) -> Fate {
        let attribute = |name: &str| letter.attributes.get(name).map_or("", String::as_str);
        let Some(provider) = Provider::named(attribute("provider")) else {
            return Fate::Left("its provider is none that this version knows".to_owned());
        };
        let headers = kept_headers(attribute("headers"));
        let delivery = Delivery { headers: &headers, body: payload };
        match delivery.process(provider, &self.settings, &self.rules) {
            Outcome::Ignored { reason, .. } => Fate::Nothing(reason),
            Outcome::Accepted(it) if it.unread > 0 => {
                Fate::Left(format!("{} parts of it still can't be mapped", it.unread))
            }
            Outcome::Accepted(it) => Fate::Mapped { spans: it.spans, messages: it.messages },
            Outcome::Quarantined { reason, .. } => {
                Fate::Left(format!("still can't be mapped, {reason}"))
            }
        }
    }
}

/// Deliveries that were cut into several letters, until all parts of one are there.
#[derive(Default)]
struct Parts(HashMap<String, BTreeMap<usize, Received>>);

impl Parts {
    /// Gives the letters of a whole delivery with its payload, or a single letter.
    fn collect(&mut self, letter: Received) -> Option<(Vec<Received>, Option<Vec<u8>>)> {
        let raw = letter.attributes.get("encoding").is_some_and(|it| it == RAW);
        let part = letter.attributes.get("part").and_then(|it| it.split_once('/'));
        let part = part.and_then(|(nth, of)| Some((nth.parse().ok()?, of.parse().ok()?)));
        let (nth, of) = part.unwrap_or((1_usize, 1_usize));
        if !raw {
            return Some((vec![letter], None));
        }
        let delivery = letter.attributes.get("delivery").cloned().unwrap_or_default();
        let key = format!("{delivery}/{of}");
        let parts = self.0.entry(key.clone()).or_default();
        parts.insert(nth, letter);
        if parts.len() < of {
            return None;
        }
        let letters: Vec<_> = self.0.remove(&key).unwrap_or_default().into_values().collect();
        let unpacked = letters.iter().map(|it| unpack_part(&it.body));
        let payload = unpacked.collect::<Result<Vec<_>, _>>().and_then(|it| join_parts(&it)).ok();
        Some((letters, payload))
    }

    /// The letters of deliveries that are not whole, each with what is there of how many.
    fn incomplete(self) -> impl Iterator<Item = (Received, String)> {
        self.0.into_iter().flat_map(|(key, parts)| {
            let of = key.rsplit('/').next().unwrap_or_default().to_owned();
            let count = parts.len();
            parts.into_values().map(move |letter| (letter, format!("{count} of {of} are there")))
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use spanhook_core::{
        delivery::Unmappable,
        message::{OTLP, pack},
    };
    use tempfile::TempDir;

    use super::*;

    const JOB: &str = r#"{"type":"job-completed","happened_at":"2026-11-02T10:00:09Z",
        "project":{"slug":"gh/acme/shop","name":"shop"},
        "workflow":{"id":"cedf175c-c537-49f8-9b5c-95892f0b2407","name":"build"},
        "job":{"id":"3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34","name":"test","status":"success",
               "started_at":"2026-11-02T10:00:00Z","stopped_at":"2026-11-02T10:00:09Z"}}"#;

    fn quarantined(body: &[u8]) -> Vec<Message> {
        let delivery = Delivery { headers: &HeaderMap::new(), body };
        Message::quarantine(Provider::Circleci, &delivery, Unmappable::UnknownShape)
    }

    fn refused(reason: &str) -> Message {
        let attributes = [
            ("encoding", OTLP),
            ("reason", reason),
            ("spans", "3"),
            ("trace_id", "e8a005b2bbea3d6ab25bbccc6d8a0d9a"),
        ];
        let named = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Message {
            body: pack(b"spans").into(),
            attributes: attributes.map(named).into(),
            group: String::new(),
        }
    }

    /// Dead letters of every kind, and what is left of them.
    async fn redriven(command: &Redrive, dead: Vec<Message>) -> (String, usize, usize) {
        redriven_with(command, dead, &Vars::new()).await
    }

    async fn redriven_with(
        command: &Redrive,
        dead: Vec<Message>,
        vars: &Vars,
    ) -> (String, usize, usize) {
        use spanhook_service::queue::Outbox;
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.dead_letter(dead).await.unwrap();
        let settings = Mappings::parse(vars).await.unwrap();
        let mut letters = Letters::Folder(store.clone(), false);
        let report = command.redrive(&mut letters, &settings).await.unwrap();
        (report.render(command.dry_run), store.depth(), store.dead_letters())
    }

    fn every_kind() -> Vec<Message> {
        let mut dead = vec![refused("HTTP 400 bad span"), refused("HTTP 413")];
        dead.extend(quarantined(JOB.as_bytes()));
        dead.extend(quarantined(br#"{"type":"workflow-started"}"#));
        dead.extend(quarantined(b"nonsense"));
        dead
    }

    fn command() -> Redrive {
        Redrive {
            from: None,
            to: None,
            data: None,
            reason: Vec::new(),
            limit: None,
            dry_run: false,
            task: false,
        }
    }

    #[tokio::test]
    async fn spans_go_back_and_deliveries_are_mapped_again() {
        let (text, queued, dead) = redriven(&command(), every_kind()).await;
        insta::assert_snapshot!(text);
        assert_eq!((queued, dead), (3, 1));
    }

    #[tokio::test]
    async fn project_rules_hold_for_deliveries_that_are_mapped_again() {
        let rules = r#"{"deny": ["acme/*"]}"#.to_owned();
        let vars = Vars::from([("PROJECT_RULES".to_owned(), rules)]);
        let job = quarantined(JOB.as_bytes());
        let (text, queued, dead) = redriven_with(&command(), job.clone(), &vars).await;
        assert!(text.contains("PROJECT_RULES switch the project off"), "{text}");
        assert_eq!((queued, dead), (0, 0));
        assert_eq!(redriven(&command(), job).await.1, 1, "without rules it is queued");
    }

    #[tokio::test]
    async fn a_delivery_that_is_mapped_again_gives_metrics_where_they_are_asked_for() {
        let run = include_bytes!("../../../events/circleci/workflow-completed.json");
        let vars = Vars::from([("WEBHOOK_METRICS".to_owned(), "true".to_owned())]);
        assert_eq!(redriven_with(&command(), quarantined(run), &vars).await.1, 2);
        assert_eq!(redriven(&command(), quarantined(run)).await.1, 1, "spans alone");
    }

    #[tokio::test]
    async fn a_dry_run_a_filter_and_a_limit_move_only_what_they_say() {
        let (text, queued, dead) =
            redriven(&Redrive { dry_run: true, ..command() }, every_kind()).await;
        assert!(text.starts_with("Nothing was moved"), "{text}");
        assert_eq!((queued, dead), (0, 5));
        let only = Redrive { reason: vec!["http 400".to_owned()], ..command() };
        let (_, queued, dead) = redriven(&only, every_kind()).await;
        assert_eq!((queued, dead), (1, 4));
        let (text, queued, dead) =
            redriven(&Redrive { limit: Some(1), ..command() }, every_kind()).await;
        assert!(text.contains("left: the --limit is reached"), "{text}");
        assert_eq!((queued, dead), (1, 4));
        let (text, ..) = redriven(&command(), Vec::new()).await;
        assert_eq!(text, "there are no dead letters to redrive\n");
    }

    #[tokio::test]
    async fn a_delivery_in_parts_is_mapped_when_all_of_them_are_there() {
        // What does not compress needs several messages.
        let noise: String = (0..40_000_u64)
            .map(|it| format!("{:016x}", it.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31)))
            .collect();
        let body = JOB.replacen('{', &format!(r#"{{"padding":"{noise}","#), 1);
        let parts = quarantined(body.as_bytes());
        assert!(parts.len() > 1);
        let (text, queued, dead) = redriven(&command(), parts.clone()).await;
        assert!(text.contains("mapped and queued, 1 spans"), "{text}");
        assert_eq!((queued, dead), (1, 0));
        let (text, queued, dead) = redriven(&command(), parts[1..].to_vec()).await;
        assert!(text.contains("other parts of the delivery are missing"), "{text}");
        assert_eq!((queued, dead), (0, parts.len() - 1));
    }
}
