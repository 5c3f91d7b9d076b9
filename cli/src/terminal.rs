//! Words to the person at the terminal.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
};

use spanhook_core::provider::Provider;

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

/// What comes from outside without what could steer the terminal: names come from whoever can push
/// a branch. Besides control characters these are the invisible ones and those that turn the
/// direction of text (<https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>).
pub(crate) fn printable(text: &str) -> String {
    let hidden = |it: char| {
        it.is_control()
            || matches!(it,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().map(|it| if hidden(it) { '·' } else { it }).collect()
}

/// Reads the name of a provider, for command lines.
pub(crate) fn provider(name: &str) -> Result<Provider, String> {
    Provider::named(name).ok_or_else(|| {
        let names: Vec<_> = Provider::ALL.iter().map(|it| it.as_str()).collect();
        format!("use one of {}", names.join(", "))
    })
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
