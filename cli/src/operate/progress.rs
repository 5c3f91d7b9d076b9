//! How far a command is, on standard error.

use std::io::{IsTerminal, Write, stderr};

use crate::terminal::printable;

/// One line on the terminal that the next one replaces; nothing where nobody looks.
pub(super) fn progress(text: &str) {
    let mut err = stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[2K{text}");
        let _ = err.flush();
    }
}

/// A line on standard error that stays.
pub(super) fn note(text: &str) {
    progress("");
    let _ = writeln!(stderr(), "{}", printable(text));
}

/// [`progress`], and where there is no terminal a line for every hundredth step.
pub(super) fn step(nth: usize, text: &str) {
    if stderr().is_terminal() {
        progress(text);
    } else if nth.is_multiple_of(100) {
        note(text);
    }
}
