//! Documents of settings: a provider's secrets and its other variables in one place.
//!
//! `SETTINGS` names them, so that a new variable touches no template. What must not change while a
//! process runs is read from them once, at the start; secrets, rules and headers are live.

use std::{collections::BTreeSet, time::Duration};

use super::{Keeper, LiveError, START, Source};
use crate::{
    aws::AWS,
    settings::{SettingsError, Variable, Vars, var, variables},
};

/// `SETTINGS`
pub(crate) static SETTINGS: Variable = Variable::new(
    "SETTINGS",
    "",
    "use the ARNs of SSM parameters or Secrets Manager secrets, or ssm:/name, separated by commas",
    "ARNs of [documents](#documents), separated by commas",
);

fn is_live(name: &str) -> bool {
    variables().any(|it| it.live && it.name == name)
}

/// The environment with what the documents of `SETTINGS` say. A variable of the environment wins
/// over them all, and of several documents the first that has it.
pub async fn with_documents(vars: &Vars) -> Result<Vars, LiveError> {
    let mut vars = vars.clone();
    let Some(names) = SETTINGS.get(&vars).map(str::to_owned) else { return Ok(vars) };
    let mut set: BTreeSet<String> =
        vars.keys().filter(|name| var(&vars, name).is_some()).cloned().collect();
    for name in names.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let keeper = Keeper::of(&Source::of(name), &AWS).await;
        let keeper = keeper.ok_or_else(|| SETTINGS.invalid())?;
        let text = keeper.fetch(&SETTINGS, Duration::from_secs(START)).await?;
        if text.is_empty() {
            return Err(LiveError::Empty { variable: SETTINGS.name });
        }
        for (line, value) in lines(&text)? {
            if !set.insert(line.to_owned()) {
                continue;
            }
            // What names a place of its own is read there.
            let inline = matches!(Source::of(value), Source::Inline(_));
            let live = is_live(line) && inline;
            let value = if live { Source::line(value, name) } else { value.to_owned() };
            vars.insert(line.to_owned(), value);
        }
    }
    Ok(vars)
}

/// The lines of a document; one that is none makes the document invalid, for whatever stands there
/// was meant to say something.
fn lines(text: &str) -> Result<Vec<(&str, &str)>, SettingsError> {
    let expected =
        "write a document of SETTINGS as lines NAME=value, JSON on one line, comments after #";
    let invalid = || SETTINGS.invalid_with(expected);
    let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.split_once('=').ok_or_else(invalid)?;
            let name = name.trim();
            let plain = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
            let named = !name.is_empty() && name.bytes().all(plain) && name != SETTINGS.name;
            named.then(|| (name, value.trim())).ok_or_else(invalid)
        })
        .collect()
}

/// The value of a variable in a document.
pub(super) fn line<'t>(text: &'t str, variable: &str) -> Result<&'t str, LiveError> {
    let found = lines(text)?.into_iter().find(|(name, _)| *name == variable);
    Ok(found.map_or("", |(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_lines_of_names_and_values() {
        let text = "# CircleCI\n\nCIRCLECI_HOOK_SECRET=[\"a=b\", \"c\"]\r\n  CIRCLECI_HOST = h  \nEMPTY=\n";
        let expected =
            [("CIRCLECI_HOOK_SECRET", "[\"a=b\", \"c\"]"), ("CIRCLECI_HOST", "h"), ("EMPTY", "")];
        assert_eq!(lines(text).unwrap(), expected);
        assert_eq!(line(text, "CIRCLECI_HOST"), Ok("h"));
        assert_eq!(line(text, "OTHER"), Ok(""));
        for wrong in
            ["hunter2-secret", "=x", "A B=x", "{\"A\": \"x\"}", "SETTINGS=x", "A=[\n\"x\"]"]
        {
            let error = lines(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with("SETTINGS can't be used; ") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_line_is_told_with_its_document_and_not_printed() {
        let value = Source::line("hunter2-secret", "ssm:/spanhook/circleci");
        let vars = Vars::from([("S".to_owned(), value)]);
        let source = Source::parse(&vars, "S");
        let document = Box::new(Source::Parameter("/spanhook/circleci".to_owned()));
        assert_eq!(format!("{source:?}"), "in /spanhook/circleci");
        assert_eq!(source, Source::Line { document, text: "hunter2-secret".to_owned() });
    }
}
