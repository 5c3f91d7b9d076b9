//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Arg, CommandFactory, FromArgMatches, Parser,
    builder::{OsStr, Resettable},
};
use jiff::SignedDuration;
use reqwest::Url;

/// Sends what ended in this cluster to spanhook: LighthouseJobs, PipelineRuns, TaskRuns, CustomRuns,
/// PipelineActivities, Tekton's Pods and their Events
#[expect(clippy::doc_markdown, reason = "a terminal shows the help")]
#[derive(Clone, Parser)]
#[command(version, max_term_width = 100)]
pub struct Options {
    /// Address of spanhook; /kubernetes is added
    #[arg(long, value_name = "URL", env = "SPANHOOK_ENDPOINT", value_parser = endpoint)]
    pub endpoint: Url,
    /// Name of this cluster, which is part of every span's id; the same as at
    /// spanhook
    #[arg(long, value_name = "NAME", env = "KUBERNETES_CLUSTER", default_value = "default", value_parser = cluster)]
    pub cluster: String,
    /// Namespaces to watch; all of them when none is given
    #[arg(
        long = "namespace",
        value_name = "NAME",
        env = "KUBERNETES_NAMESPACES",
        value_delimiter = ','
    )]
    pub namespaces: Vec<String>,
    /// File with the whsec_... keys that sign, read again when it changes; without it
    /// KUBERNETES_SIGNING_KEY has them
    #[arg(long, value_name = "PATH", env = "KUBERNETES_SIGNING_KEY_FILE")]
    pub signing_key_file: Option<PathBuf>,
    /// The keys themselves; not a flag, which everybody on the machine could read
    #[arg(skip)]
    pub signing_key: Option<String>,
    /// How long ago something may have ended that is sent after a start; longer than the relay is
    /// ever away
    #[arg(long, value_name = "TIME", env = "RELAY_BACKFILL", default_value = "1h", value_parser = duration)]
    pub backfill: Duration,
    /// How long an item waits for others to go with it
    #[arg(long, value_name = "TIME", env = "RELAY_BATCH_WAIT", default_value = "1s", value_parser = duration)]
    pub batch_wait: Duration,
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", env = "RELAY_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address that takes Tekton's CloudEvents at /tekton and Lighthouse's deliveries at /lighthouse;
    /// without it none are taken
    #[arg(long, value_name = "ADDRESS", env = "RELAY_DELIVERIES")]
    pub deliveries: Option<SocketAddr>,
    /// How long sending may go on after SIGTERM; less than the Pod's terminationGracePeriodSeconds
    #[arg(long, value_name = "TIME", env = "RELAY_FLUSH", default_value = "20s", value_parser = duration)]
    pub flush: Duration,
}

impl Options {
    /// Reads the command line and the environment, or ends the process with what is wrong. A variable
    /// that is empty counts as not set, as it does at spanhook: charts write those that have no value.
    #[must_use]
    pub fn read() -> Self {
        let matches = command(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

fn command(command: clap::Command) -> clap::Command {
    let is_empty =
        |it: &Arg| it.get_env().and_then(std::env::var_os).is_some_and(|it| it.is_empty());
    command.mut_args(|it| if is_empty(&it) { it.env(Resettable::<OsStr>::Reset) } else { it })
}

fn endpoint(text: &str) -> Result<Url, String> {
    let url = text.parse::<Url>().ok().filter(|it| matches!(it.scheme(), "http" | "https"));
    let bare =
        |it: &Url| it.query().is_none() && it.username().is_empty() && it.password().is_none();
    url.filter(|it| it.has_host() && bare(it)).ok_or_else(|| {
        "use the address of spanhook, such as https://spanhook.example.com".to_owned()
    })
}

fn cluster(text: &str) -> Result<String, String> {
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_');
    if text.is_empty() || text.len() > 253 || !text.chars().all(fits) {
        return Err("use letters, digits, '.', '-' and '_'".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<SignedDuration>().ok().and_then(|it| Duration::try_from(it).ok());
    read.ok_or_else(|| "use a time such as 30s, 10m or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_what_can_be_set() {
        // Without the values of the variables that are set where the test runs.
        let command = Options::command().mut_args(|it| it.hide_env_values(true)).term_width(100);
        insta::assert_snapshot!(command.clone().render_long_help());
    }

    #[test]
    fn what_is_mistyped_is_told_before_anything_runs() {
        assert_eq!(cluster("Prod_eu-1.a").unwrap(), "prod_eu-1.a");
        for wrong in ["", "a b", "prod/eu", "größe"] {
            assert!(cluster(wrong).is_err(), "{wrong}");
        }
        for (text, expected) in [("90s", 90), ("1h", 3600), ("1h 30m", 5400)] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(expected));
        }
        for wrong in ["", "soon", "7", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(endpoint("https://x.example/base").unwrap().path(), "/base");
        assert_eq!(endpoint(" https://x.example \n").unwrap().as_str(), "https://x.example/");
        for wrong in
            ["", "x.example", "ftp://x.example", "https://u:p@x.example", "https://x.example?a=b"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
