//! `spanhook demo`: the whole way with sample deliveries.

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use clap::Args;
use spanhook_core::{check::Scheme, provider::Provider};
use spanhook_service::settings::{Vars, environment};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Running, Serve, logs,
    view::{self, waterfall},
};
use crate::{
    job::report,
    operate::send::Sender,
    terminal::{Failure, failure, print},
};

/// How long the samples may take to show up.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Port of the page; 0 chooses a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// End after the waterfalls instead of serving the page until Ctrl-C
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        logs::init(&Vars::new(), "error");
        let folder =
            tempfile::Builder::new().prefix("spanhook-demo-").tempdir().map_err(failure)?;
        // Secrets of this one run; the environment's settings stay out of a demonstration.
        let secret = || Uuid::new_v4().simple().to_string();
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret());
        let checks = Provider::ALL.into_iter().flat_map(|it| it.room().checks);
        let mut vars: Vars = checks
            .filter_map(|check| {
                let secret = match check.scheme {
                    Scheme::StandardWebhooks => format!("whsec_{key}"),
                    Scheme::Hmac { .. } | Scheme::Token { .. } | Scheme::Path | Scheme::Bearer => {
                        secret()
                    }
                    // An issuer is no secret, and none signs for a demonstration.
                    Scheme::Oidc { .. } => return None,
                };
                Some((check.variable.name.to_owned(), secret))
            })
            .collect();
        vars.insert("BUILD_EVENTS_SIGNING_KEY".to_owned(), format!("whsec_{key}"));
        let samples = Provider::ALL.map(Provider::samples);
        let settings = samples.iter().flat_map(|it| it.settings);
        vars.extend(settings.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        let listen = ([127, 0, 0, 1], self.port).into();
        let serve = Serve { listen, ..Serve::local(folder.path()) };
        let running = Running::start(&vars, &serve).await?;
        let store = running.store().ok_or("a demonstration has a queue of its own")?;
        let url = format!("http://{}", running.address);

        let all = samples.iter().map(|it| it.deliveries.len() + it.build_events.len());
        print(format!("Sending {} signed samples to {url}\n\n", all.sum::<usize>()));
        let sender = Sender::new(&vars).map_err(failure)?;
        for (name, body) in samples.iter().flat_map(|it| it.deliveries) {
            let answer = sender.send(&url, body.as_bytes(), None).await.map_err(failure)?;
            print(format!("  {name:<46} {} {}\n", answer.status, answer.body.trim()));
        }
        let posting = Vars::from([
            ("SPANHOOK_ENDPOINT".to_owned(), url.clone()),
            ("SPANHOOK_SIGNING_KEY".to_owned(), format!("whsec_{key}")),
        ]);
        for (name, events) in samples.iter().flat_map(|it| it.build_events) {
            report::send(posting.clone(), (*events).to_owned()).await.map_err(failure)?;
            print(format!("  {name:<46} 202 sizes and measures of a build\n"));
        }

        let until = Instant::now() + PATIENCE;
        while store.depth() > 0 && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }

        for (id, _) in store.traces(usize::MAX).iter().rev() {
            for trace in view::traces(store.trace(id)) {
                print(format!("\n{}", waterfall::render(&trace, width(), color())));
            }
        }
        print(format!("\nThe same traces as a page:  {url}/\n"));
        if self.exit {
            running.shut_down().await;
            return Ok(());
        }
        print("Ctrl-C ends the demo.\n");
        running.until_signal().await
    }
}

/// Whether to colour what goes to standard output; `NO_COLOR` is honoured (<https://no-color.org>).
fn color() -> bool {
    let vars = environment();
    stdout().is_terminal() && vars.get("NO_COLOR").is_none_or(String::is_empty)
}

/// Columns of the terminal.
fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}
