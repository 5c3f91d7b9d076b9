//! `spanhook stats`: posts the sizes and the compile time of a bundler's build.

mod modules;
mod packages;
mod read;
mod reduce;

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, stdin},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use spanhook_core::settings::Vars;
use spanhook_export::environment;
use thiserror::Error;

use self::{
    read::Statistics,
    reduce::{Found, Reduced, cut},
};
use super::{
    event::{Envelope, EventError},
    report::{HELP, Posting},
};
use crate::terminal::{Failure, failure};

/// The largest event that is posted, in bytes.
const MAX_BYTES: usize = 200_000;

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Stats {
    /// Statistics (webpack --json, rollup-plugin-webpack-stats), a Vite manifest or an esbuild
    /// metafile; - is standard input
    file: PathBuf,
    /// Whose statistics they are, when the file does not tell
    #[arg(long)]
    format: Option<Format>,
    /// Compile time, for files that tell none; it wins over one that they tell
    #[arg(long, value_name = "MILLISECONDS", value_parser = milliseconds)]
    duration_ms: Option<f64>,
    /// Tells several builds of one run apart, such as ssr
    #[arg(long)]
    name: Option<String>,
    /// esbuild: the output folder as the metafile has it, which is taken off the names
    #[arg(long, value_name = "DIR", default_value = "")]
    outdir: String,
    #[command(flatten)]
    posting: Posting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Format {
    Webpack,
    Rspack,
    Vite,
    Esbuild,
}

impl Format {
    fn of(statistics: &Statistics) -> Option<Self> {
        let told = statistics.version.is_some()
            || statistics.time.is_some()
            || statistics.errors.is_some()
            || !statistics.children.is_empty();
        if statistics.outputs.is_some() {
            Some(Self::Esbuild)
        } else if statistics.rspack_version.is_some() {
            Some(Self::Rspack)
        } else if told {
            Some(Self::Webpack)
        } else if statistics.assets.is_some() || !statistics.entries.is_empty() {
            // rollup-plugin-webpack-stats tells no version and no time.
            Some(Self::Vite)
        } else {
            None
        }
    }
}

/// Statistics that can't be used.
#[derive(Debug, Error)]
pub(crate) enum StatsError {
    #[error("{file} can't be read ({reason}); give the path of a statistics file")]
    Unreadable { file: String, reason: io::ErrorKind },
    #[error(
        "{file} is not JSON of a bundler (line {line}, column {column}); was it written completely?"
    )]
    NotJson { file: String, line: usize, column: usize },
    #[error("{file} holds no statistics of webpack, rspack, vite or esbuild")]
    NotStatistics { file: String },
    #[error("{file} does not look like {format}'s; leave --format out to have it guessed")]
    OtherFormat { file: String, format: &'static str },
    #[error("the statistics tell no compile time; give --duration-ms MILLISECONDS")]
    NoTime,
    #[error(
        "a manifest tells no sizes, and they can't be found from standard input; give its path"
    )]
    ManifestFromInput,
    #[error("{file} of the manifest is not in its folder; run this before the files are moved")]
    NoFile { file: String },
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("the event can't be written as JSON")]
    Unwritable(#[from] serde_json::Error),
}

/// One build in the words of a `webpack_build_stats` event.
#[derive(Debug, Serialize)]
struct Bundle {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    bundler: Format,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundler_version: Option<String>,
    #[serde(flatten)]
    reduced: Reduced,
}

impl Stats {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        self.posting.post(&vars, self.body(&vars).map_err(failure)).await
    }

    fn body(&self, vars: &Vars) -> Result<String, StatsError> {
        let statistics = self.read()?;
        let file = || self.file.display().to_string();
        let guess = Format::of(&statistics);
        let format =
            self.format.or(guess).ok_or_else(|| StatsError::NotStatistics { file: file() })?;
        let is = |format| guess == Some(format);
        let fits = match format {
            Format::Webpack | Format::Rspack => is(Format::Webpack) || is(Format::Rspack),
            Format::Vite => statistics.assets.is_some() || !statistics.entries.is_empty(),
            Format::Esbuild => is(Format::Esbuild),
        };
        if !fits {
            let format = match format {
                Format::Webpack => "webpack",
                Format::Rspack => "rspack",
                Format::Vite => "vite",
                Format::Esbuild => "esbuild",
            };
            return Err(StatsError::OtherFormat { file: file(), format });
        }
        let bundles = self.bundles(statistics, format)?;
        if bundles.iter().any(|it| it.reduced.metrics.compile_time_ms.is_none()) {
            return Err(StatsError::NoTime);
        }
        let events =
            bundles.into_iter().map(|it| write(it, vars)).collect::<Result<Vec<_>, _>>()?;
        Ok(match events.as_slice() {
            [event] => event.clone(),
            events => format!("[{}]", events.join(",")),
        })
    }

    fn read(&self) -> Result<Statistics, StatsError> {
        let unreadable = |error: &io::Error| StatsError::Unreadable {
            file: self.file.display().to_string(),
            reason: error.kind(),
        };
        let input: Box<dyn Read> = if self.file == Path::new("-") {
            Box::new(stdin().lock())
        } else {
            Box::new(File::open(&self.file).map_err(|error| unreadable(&error))?)
        };
        serde_json::from_reader(BufReader::with_capacity(64 * 1024, input)).map_err(|error| {
            if error.is_io() {
                return unreadable(&error.into());
            }
            StatsError::NotJson {
                file: self.file.display().to_string(),
                line: error.line(),
                column: error.column(),
            }
        })
    }

    fn bundles(
        &self,
        mut statistics: Statistics,
        format: Format,
    ) -> Result<Vec<Bundle>, StatsError> {
        // In a multi-compiler each configuration is a build; else children are parts of this one.
        let children = std::mem::take(&mut statistics.children);
        if statistics.assets.is_none() && !children.is_empty() {
            let version = statistics.rspack_version.or(statistics.version);
            let builds = children.into_iter().map(|mut child| {
                child.version = child.version.or_else(|| version.clone());
                self.bundle(child, format)
            });
            return builds.collect();
        }
        Ok(vec![self.bundle(statistics, format)?])
    }

    fn bundle(&self, mut statistics: Statistics, format: Format) -> Result<Bundle, StatsError> {
        let version = statistics.rspack_version.take().or_else(|| statistics.version.take());
        let name = self.name.clone().or_else(|| statistics.name.take());
        let found = match format {
            Format::Esbuild => {
                let outputs = statistics.outputs.map(|it| it.0).unwrap_or_default();
                Found::esbuild(&outputs, &self.outdir)
            }
            Format::Vite if statistics.assets.is_none() => {
                let folder = self.folder()?;
                let size = |file: &str| Some(fs::metadata(folder.join(file)).ok()?.len());
                Found::manifest(&statistics.entries, size)
                    .map_err(|file| StatsError::NoFile { file })?
            }
            _ => Found::webpack(statistics),
        };
        Ok(Bundle {
            name: name.as_deref().map(cut),
            bundler: format,
            bundler_version: version.as_deref().map(cut),
            reduced: found.reduce(self.duration_ms),
        })
    }

    /// The output folder of a manifest: Vite 5 and later put it into `.vite`.
    fn folder(&self) -> Result<&Path, StatsError> {
        if self.file == Path::new("-") {
            return Err(StatsError::ManifestFromInput);
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let above = folder.parent().filter(|_| folder.ends_with(".vite"));
        Ok(above.unwrap_or(folder))
    }
}

/// JSON below [`MAX_BYTES`]: the smallest chunks and assets go. The metrics stay exact.
fn write(bundle: Bundle, vars: &Vars) -> Result<String, StatsError> {
    let mut event = Envelope::new("webpack_build_stats", bundle, vars)?;
    loop {
        let body = serde_json::to_string(&event)?;
        let details = &mut event.fields.reduced.details;
        let shorter = body.len() < MAX_BYTES
            || details.chunks.pop().is_none() && details.largest_assets.pop().is_none();
        if shorter {
            return Ok(body);
        }
    }
}

fn milliseconds(text: &str) -> Result<f64, &'static str> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|it| it.is_finite() && *it >= 0.0)
        .ok_or("use a number of milliseconds, such as 61500")
}
