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
            let _ = writeln!(stderr(), "spanhook: {}", lines(&error.to_string()));
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

/// One line on the terminal that the next one replaces; nothing where nobody looks.
pub(crate) fn progress(text: &str) {
    let mut err = stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[2K{text}");
        let _ = err.flush();
    }
}

/// A line on standard error that stays.
pub(crate) fn note(text: &str) {
    progress("");
    let _ = writeln!(stderr(), "{}", printable(text));
}

/// [`progress`], and where there is no terminal a line for every hundredth step.
pub(crate) fn step(nth: usize, text: &str) {
    if stderr().is_terminal() {
        progress(text);
    } else if nth.is_multiple_of(100) {
        note(text);
    }
}

/// What comes from outside without what could steer the terminal: names come from whoever can push
/// a branch. Besides control characters these are the invisible ones and those that turn the
/// direction of text (<https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>).
pub(crate) fn printable(text: &str) -> String {
    let hidden = |it: char| {
        it.is_control()
            || matches!(it,
                '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
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

/// [`printable`] line by line.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_the_terminal_or_hides_is_printed() {
        for hidden in [
            '\x1b',
            '\u{7}',
            '\u{7f}',
            '\u{9b}',
            '\u{9d}',
            '\r',
            '\u{ad}',
            '\u{202e}',
            '\u{2066}',
            '\u{200b}',
            '\u{200f}',
            '\u{feff}',
            '\u{3164}',
            '\u{e0041}',
        ] {
            assert_eq!(printable(&format!("a{hidden}b")), "a·b", "{:x}", u32::from(hidden));
        }
        assert_eq!(printable("größe 日本 ✓"), "größe 日本 ✓");
        assert_eq!(lines("a\x1b\nb\u{9b}2J"), "a·\nb·2J");
    }
}
