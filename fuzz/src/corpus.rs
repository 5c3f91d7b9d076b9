//! The kept corpora: one file a target, in which every line is one input as a JSON text, each of
//! whose characters is a byte.

use std::{fs, io, path::PathBuf};

fn path(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus", &format!("{target}.jsonl")].iter().collect()
}

/// The inputs that are kept of a target.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    fs::read_to_string(path(target))?.lines().map(unescaped).collect()
}

/// What is kept of a target, in bytes.
const BUDGET: usize = 80 * 1024;

/// Keeps these inputs of a target, and no others. Of more than the budget an even choice by their
/// lengths: the samples of `events/` are run besides.
pub fn write(target: &str, mut inputs: Vec<Vec<u8>>) -> io::Result<()> {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let lines = inputs.iter().map(|it| escaped(it)).collect::<io::Result<Vec<_>>>()?;
    let every = lines.iter().map(String::len).sum::<usize>().div_ceil(BUDGET).max(1);
    fs::write(path(target), lines.into_iter().step_by(every).collect::<String>())
}

fn escaped(input: &[u8]) -> io::Result<String> {
    let text: String = input.iter().copied().map(char::from).collect();
    Ok(serde_json::to_string(&text)? + "\n")
}

fn unescaped(line: &str) -> io::Result<Vec<u8>> {
    let text: String = serde_json::from_str(line)?;
    let byte = |it| u8::try_from(it).map_err(|_| io::Error::other("a character above U+00FF"));
    text.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_from_its_line() {
        let all: Vec<u8> = (0..=255).collect();
        let line = escaped(&all).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(unescaped(line.trim_end()).unwrap(), all);
        assert!(unescaped("\"\u{100}\"").is_err());
    }
}
