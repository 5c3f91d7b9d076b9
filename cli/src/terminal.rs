//! Words to the person at the terminal.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
};

/// What ends a command: a text that says what to do.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Turns how a command ended into the process's exit code.
pub(crate) fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "spanhook: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An error of a command.
pub(crate) fn failure(error: impl Into<Failure>) -> Failure {
    error.into()
}

/// Prints to standard output; a reader that went away, such as `head`, is no error.
pub(crate) fn print(text: impl Display) {
    let mut out = stdout().lock();
    let _ = write!(out, "{text}");
    let _ = out.flush();
}

/// Whether to colour what goes to standard output; `NO_COLOR` is honoured (<https://no-color.org>).
pub(crate) fn color() -> bool {
    let vars = spanhook_service::settings::environment();
    stdout().is_terminal() && vars.get("NO_COLOR").is_none_or(String::is_empty)
}

/// Columns of the terminal.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}
