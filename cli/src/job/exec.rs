//! `spanhook exec`: runs a command as a span of the running job.

use std::{
    ffi::OsString,
    io,
    path::Path,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use clap::Args;
use http::HeaderMap;
use spanhook_core::{
    id::{SpanId, TraceId, parse_traceparent, traceparent},
    job::Job,
    otlp::{
        encode,
        span::{Attributes, Group, Kind, Span, Status, Trace},
    },
    provider::Provider,
    semconv as sc,
    settings::{Settings, SettingsError, Vars, var},
    traceparent::Context as TraceContext,
};
use spanhook_export::{
    Export, ExportSettings, Exporter, ExporterError, Outcome, Signal, clock::Clock, environment,
};
use thiserror::Error;
use tokio::{
    process::{Child, Command},
    time::sleep,
};
use uuid::Uuid;

use super::{
    ci::{self, Context},
    report::{LIMIT, ReportError, send_spans, warn, within},
};

/// What shells answer for a command that can't be started.
const NOT_STARTED: i32 = 127;

/// Pause between two tries to export.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
#[command(after_help = "Settings, from the environment:
  OTEL_EXPORTER_OTLP_ENDPOINT  where the span goes (and the other OTEL_EXPORTER_OTLP_ variables), else
  SPANHOOK_ENDPOINT            address of spanhook, which passes the span on; with the token or key of `event`
  TRACEPARENT                  the parent, else the running job as its CI system's variables name it, for whose
                               ids TRACE_IDS and the instance must be as for the webhook
  SPANHOOK_JOB_ID              the job, where those variables name only its run
The command gets its own span as TRACEPARENT. Its exit code is that of this one; a problem with the
span is one line on standard error.")]
pub(crate) struct Exec {
    /// Name of the span, else that of the program
    #[arg(long)]
    name: Option<String>,
    /// The command and its arguments, behind --
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Why there is no span. No text holds a header or an address.
#[derive(Debug, Error)]
enum ExecError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    #[error(
        "set SPANHOOK_ENDPOINT to the address of spanhook, or OTEL_EXPORTER_OTLP_ENDPOINT to an OTLP receiver, such as http://collector:4318"
    )]
    NoEndpoint,
    #[error(transparent)]
    Report(ReportError),
    #[error("{0}; check OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS")]
    Refused(String),
    #[error(
        "no answer within 3 s; check OTEL_EXPORTER_OTLP_ENDPOINT, and that this job can reach it"
    )]
    TimedOut,
}

/// How the command ended.
enum End {
    Exited(ExitStatus),
    NotStarted(io::Error),
}

impl Exec {
    pub(crate) async fn run(self) -> ExitCode {
        let vars = environment();
        let program = program(&self.command);
        let parent = parent(&vars).unwrap_or_else(|error| {
            warn(&format!("the parent of the span is not known: {error}"));
            None
        });
        let (trace, sampled) = parent.map_or((random_trace(), true), |it| (it.trace, it.sampled));
        let id = random_span();
        let start = Clock::SYSTEM.nanos();
        let end = supervise(&self.command, &traceparent(trace, id, sampled)).await;
        if let End::NotStarted(error) = &end {
            warn(&format!(
                "{program} can't be started ({}); check its name and PATH",
                error.kind()
            ));
        }
        let (code, description) = end.outcome();
        if sampled {
            let times = (start, Clock::SYSTEM.nanos().max(start));
            let name = self.name.unwrap_or_else(|| program.clone());
            let mut span = Span::new(id, parent.map(|it| it.span), name, Kind::Internal, times);
            span.attributes.set("process.exit.code", i64::from(code));
            // Arguments may hold secrets.
            span.attributes.set("process.command", program);
            if code != 0 {
                span.attributes.set(sc::ERROR_TYPE, code.to_string());
                span.status = Status::Error(description.into());
            }
            let group = Group { resource: resource(&vars), spans: vec![span] };
            let trace = Trace { id: trace, groups: vec![group] };
            match export(&vars, trace).await {
                Ok(()) => {}
                // On a laptop there is no run to join.
                Err(ExecError::NoEndpoint) if var(&vars, "CI").is_none() => {}
                Err(error) => warn(&format!("span not exported: {error}")),
            }
        }
        u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

impl End {
    /// The exit code as a shell gives it, and what it means.
    fn outcome(&self) -> (i32, String) {
        match self {
            Self::NotStarted(error) => (NOT_STARTED, format!("not started: {}", error.kind())),
            Self::Exited(status) => match (status.code(), signal(*status)) {
                (Some(code), _) => (code, format!("exit code {code}")),
                (None, Some(signal)) => (128 + signal, format!("signal {signal}")),
                (None, None) => (1, "no exit code".to_owned()),
            },
        }
    }
}

/// The program's name, without the folder that it is in.
fn program(command: &[OsString]) -> String {
    let program = command.first().map(Path::new);
    let name = program.and_then(|it| it.file_name()).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The span to hang under: that of `TRACEPARENT`, else the running job's.
fn parent(vars: &Vars) -> Result<Option<TraceContext>, SettingsError> {
    if let Some(given) = var(vars, "TRACEPARENT")
        && let Some((trace, span, sampled)) = parse_traceparent(given)
    {
        return Ok(Some(TraceContext { trace, span, sampled }));
    }
    let context = Context::read(vars);
    let provider = context.provider.and_then(Provider::named);
    // Without webhooks there is no trace to join.
    let Some(provider) = provider.filter(|it| !it.room().checks.is_empty()) else {
        return Ok(None);
    };
    let Ok(job) = Job::new(provider, &context.claim) else { return Ok(None) };
    let settings = Settings::parse(vars)?;
    // Rules that can't be read leave no run out.
    let rules = ci::rules(vars).unwrap_or_default();
    Ok(Some(TraceContext::of(&job, &settings, &rules, job.project.as_deref())))
}

fn random_span() -> SpanId {
    // 62 of the 64 bits of this half are random, and the variant makes it never zero.
    let (_, half) = Uuid::new_v4().as_u64_pair();
    SpanId::new(half.to_be_bytes()).unwrap_or_else(random_span)
}

fn random_trace() -> TraceId {
    TraceId::new(Uuid::new_v4().into_bytes()).unwrap_or_else(random_trace)
}

fn resource(vars: &Vars) -> Attributes<'static> {
    let context = Context::read(vars);
    let project = ci::project(vars, &context).unwrap_or_default();
    let (owner, name) = project.rsplit_once('/').unwrap_or(("", &project));
    let service = var(vars, "OTEL_SERVICE_NAME").unwrap_or(name);
    let mut resource = Attributes::with_capacity(8);
    resource.set(sc::SERVICE_NAME, if service.is_empty() { "build" } else { service }.to_owned());
    resource.set(sc::APP_BUILD_ID, ci::correlation_id(vars));
    resource.set(sc::CICD_PIPELINE_NAME, project.clone());
    resource.set(sc::CICD_PIPELINE_RUN_ID, context.claim.run_id);
    resource.set(sc::VCS_REPOSITORY_NAME, name.to_owned());
    resource.set(sc::VCS_OWNER_NAME, owner.to_owned());
    resource.set(sc::VCS_REF_HEAD_NAME, context.claim.ref_name);
    resource.set(sc::VCS_REF_HEAD_REVISION, context.claim.revision);
    resource
}

/// Runs the command with our own standard streams, and hands signals on to it.
async fn supervise(command: &[OsString], traceparent: &str) -> End {
    let (program, arguments) =
        command.split_first().map_or((None, command), |(it, rest)| (Some(it), rest));
    let program = program.map(OsString::as_os_str).unwrap_or_default();
    // Before the command runs, so that no signal ends this process alone.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return End::NotStarted(error),
    };
    let child = Command::new(program).args(arguments).env("TRACEPARENT", traceparent).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return End::NotStarted(error),
    };
    loop {
        tokio::select! {
            status = child.wait() => match status {
                Ok(status) => return End::Exited(status),
                Err(error) => return End::NotStarted(error),
            },
            signal = signals.next() => signal.hand_on(&child),
        }
    }
}

#[cfg(unix)]
use self::unix::{Signals, signal};

#[cfg(unix)]
mod unix {
    use std::{
        io::{IsTerminal, stdin},
        os::unix::process::ExitStatusExt,
    };

    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{self, SignalKind};

    use super::{Child, ExitStatus, io};

    /// What a CI runner or a person sends to end a job.
    pub(super) struct Signals {
        interrupt: unix::Signal,
        terminate: unix::Signal,
    }

    pub(super) struct Received(Signal);

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: unix::signal(SignalKind::interrupt())?,
                terminate: unix::signal(SignalKind::terminate())?,
            })
        }

        pub(super) async fn next(&mut self) -> Received {
            tokio::select! {
                _ = self.interrupt.recv() => Received(Signal::INT),
                _ = self.terminate.recv() => Received(Signal::TERM),
            }
        }
    }

    impl Received {
        pub(super) fn hand_on(&self, child: &Child) {
            // A terminal sends Ctrl-C to the command as well: twice would kill what cleans up.
            if self.0 == Signal::INT && stdin().is_terminal() {
                return;
            }
            let id = child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw);
            if let Some(id) = id {
                let _ = kill_process(id, self.0); // It may have ended in the meantime.
            }
        }
    }

    pub(super) fn signal(status: ExitStatus) -> Option<i32> {
        status.signal()
    }
}

#[cfg(not(unix))]
use self::other::{Signals, signal};

/// Elsewhere the console tells the command itself.
#[cfg(not(unix))]
mod other {
    use super::{Child, ExitStatus, io};

    pub(super) struct Signals;

    pub(super) struct Received;

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> Received {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Received
        }
    }

    impl Received {
        pub(super) fn hand_on(&self, _: &Child) {}
    }

    pub(super) fn signal(_: ExitStatus) -> Option<i32> {
        None
    }
}

/// Exports the span within [`LIMIT`]: to the receiver that is named, else through spanhook.
async fn export(vars: &Vars, trace: Trace<'static>) -> Result<(), ExecError> {
    let request = encode::request(&trace);
    let Some(mut settings) = ExportSettings::parse(vars)? else {
        return send_spans(vars.clone(), request).await.map_err(|error| match error {
            ReportError::NoEndpoint => ExecError::NoEndpoint,
            error => ExecError::Report(error),
        });
    };
    settings.timeout = settings.timeout.min(LIMIT);
    let headers = settings.headers.clone();
    let exported = within(LIMIT, async move {
        // Here, since a gRPC channel belongs to the runtime that it is made in.
        let exporter = Exporter::new(&settings)?;
        deliver(&exporter, request).await
    });
    match exported.await.ok_or(ExecError::TimedOut)? {
        Err(ExecError::Refused(reason)) if quotes(&reason, &headers) => {
            Err(ExecError::Refused("the receiver refused the span".to_owned()))
        }
        result => result,
    }
}

/// Whether the receiver's words hold a part of a header, whose values are secrets.
fn quotes(reason: &str, headers: &HeaderMap) -> bool {
    let mut words = headers.values().filter_map(|it| it.to_str().ok());
    words.any(|value| value.split_whitespace().any(|word| reason.contains(word)))
}

async fn deliver(exporter: &Exporter, request: Vec<u8>) -> Result<(), ExecError> {
    let mut outcome = exporter.export(Signal::Traces, request.clone().into()).await;
    if matches!(outcome, Outcome::Retry { .. }) {
        sleep(PAUSE).await;
        outcome = exporter.export(Signal::Traces, request.into()).await;
    }
    match outcome {
        Outcome::Delivered { partial: Some(partial) } if partial.rejected > 0 => {
            Err(ExecError::Refused(partial.message))
        }
        Outcome::Delivered { .. } => Ok(()),
        Outcome::Retry { reason, .. }
        | Outcome::Reject { reason }
        | Outcome::Unclear { reason }
        | Outcome::TooLarge { reason }
        | Outcome::Misconfigured { reason } => Err(ExecError::Refused(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(vars: &[(&str, &str)]) -> Vars {
        vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn parent_of(given: &[(&str, &str)]) -> Option<String> {
        let parent = parent(&vars(given)).unwrap()?;
        Some(traceparent(parent.trace, parent.span, parent.sampled))
    }

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    const CIRCLECI: [(&str, &str); 3] = [
        ("CIRCLECI", "true"),
        ("CIRCLE_WORKFLOW_ID", "cedf175c-c537-49f8-9b5c-95892f0b2407"),
        ("CIRCLE_WORKFLOW_JOB_ID", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"),
    ];

    const GITLAB: [(&str, &str); 4] = [
        ("GITLAB_CI", "true"),
        ("CI_SERVER_HOST", "gitlab.com"),
        ("CI_PIPELINE_ID", "2722508965"),
        ("CI_JOB_ID", "15651125844"),
    ];

    #[test]
    fn the_parent_is_the_job_with_the_ids_of_the_traceparent_endpoint() {
        let job = "00-e8a005b2bbea3d6ab25bbccc6d8a0d9a-927ed609846a1ef5-01";
        assert_eq!(parent_of(&CIRCLECI).unwrap(), job);
        let job = "00-ca54d68b6460aedebe19e565dcbb8d6c-7b1a45c63d0a837b-01";
        assert_eq!(parent_of(&GITLAB).unwrap(), job);
        assert_eq!(parent_of(&[("CIRCLECI", "true")]), None, "a job without ids");
    }

    #[test]
    fn a_trace_context_wins_over_the_job_unless_it_is_invalid() {
        let with = |value| [GITLAB.as_slice(), &[("TRACEPARENT", value)]].concat();
        assert_eq!(parent_of(&with(GIVEN)).unwrap(), GIVEN);
        let unsampled = GIVEN.replace("-01", "-00");
        assert_eq!(parent_of(&with(&unsampled)).unwrap(), unsampled);
        assert!(parent_of(&with("rubbish")).unwrap().contains("ca54d68b"));
    }

    #[test]
    fn only_the_name_of_a_program_is_told() {
        assert_eq!(program(&["/home/ada/bin/cargo".into(), "--token=s3cret".into()]), "cargo");
        assert_eq!(program(&["cargo".into()]), "cargo");
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_span(), random_span());
        assert_ne!(random_trace(), random_trace());
    }
}
