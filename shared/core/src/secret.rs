//! Secrets that can't be printed.

use std::fmt;

use thiserror::Error;

/// The shortest text that is taken for a secret, in bytes: a line of a list that was mistyped is
/// shorter, and so is what can be guessed.
pub const MIN_SECRET: usize = 8;

/// Text that holds no secrets. It says what to type, and repeats nothing of the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.expected())]
pub enum BadSecrets {
    /// It begins as JSON does, and is no list of strings.
    Shape,
    /// A value of fewer than [`MIN_SECRET`] bytes.
    Short,
    /// A value with quotes around it, or before it.
    Quoted,
    /// A value that is to be replaced by a secret, or that says where one is kept.
    Placeholder,
    /// A value with a control character or a byte order mark, which no header can carry.
    Hidden,
}

impl BadSecrets {
    /// What to type instead.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Shape => {
                r#"use one secret, one a line, or a JSON list such as ["new", "old"]: text that begins with [ or { is such a list, without a comma behind the last one"#
            }
            Self::Short => "use secrets of at least 8 bytes, such as `openssl rand -hex 32` prints",
            Self::Quoted => "write the secret without quotes, or as a JSON list",
            Self::Placeholder => {
                "put a secret in the placeholder's place; where it is kept stands alone, as ssm:/name or an ARN"
            }
            Self::Hidden => "write the secret without control characters",
        }
    }
}

/// The live values of one secret: several during a rotation, or one for each project.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Takes the values that are not empty: an empty key would accept what anybody can sign.
    pub fn new(values: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self(values.into_iter().map(Into::into).filter(|it: &Vec<u8>| !it.is_empty()).collect())
    }

    /// Reads secrets as an operator writes them: one, one a line, or a JSON list of strings. One
    /// that can't be meant makes all of them invalid: a list with a mistake read line by line would
    /// make `[` a secret. No text and an empty list are none.
    pub fn parse(text: &str) -> Result<Self, BadSecrets> {
        let values = values(text).ok_or(BadSecrets::Shape)?;
        // A list is the way to write a secret that begins with a quote.
        let listed = text.trim_start().starts_with('[');
        values.iter().try_for_each(|it| check(it, listed))?;
        Ok(Self::new(values))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, to verify or sign with.
    pub fn expose(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

/// The values of a text: a JSON list of strings when it begins as JSON does, else one a line. None
/// when it is no such list.
#[must_use]
pub fn values(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if text.starts_with(['[', '{']) {
        let values: Vec<String> = serde_json::from_str(text).ok()?;
        return Some(values.iter().map(|it| it.trim().to_owned()).collect());
    }
    let lines = text.lines().map(|it| it.trim().to_owned());
    Some(lines.filter(|it| !it.is_empty()).collect())
}

fn check(value: &str, listed: bool) -> Result<(), BadSecrets> {
    const ENDS: [(&str, &str); 4] = [("<", ">"), ("${", "}"), ("$(", ")"), ("{{", "}}")];
    const WORDS: [&str; 2] = ["changeme", "replaceme"];
    let open = ENDS.iter().any(|(from, to)| value.starts_with(from) && value.ends_with(to));
    let bare = value.strip_prefix("whsec_").unwrap_or(value);
    let letters: String = bare.chars().filter(char::is_ascii_alphabetic).collect();
    let word = WORDS.iter().any(|it| letters.eq_ignore_ascii_case(it));
    let reference = value.starts_with("arn:") || value.starts_with("ssm:");
    match () {
        () if value.contains(|it: char| it.is_control() || it == '\u{feff}') => {
            Err(BadSecrets::Hidden)
        }
        () if !listed && value.starts_with(['"', '\'']) => Err(BadSecrets::Quoted),
        () if open || word || reference => Err(BadSecrets::Placeholder),
        () if value.len() < MIN_SECRET => Err(BadSecrets::Short),
        () => Ok(()),
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} redacted)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_one_or_several_in_lines_or_a_list() {
        let both = Ok(Secrets::new(["one-secret", "two-secret"]));
        assert_eq!(Secrets::parse(r#"["one-secret", "two-secret"]"#), both);
        assert_eq!(Secrets::parse("[\n \"one-secret\",\n \"two-secret\"\n]\n"), both);
        assert_eq!(Secrets::parse("one-secret\r\n\n two-secret \n"), both);
        assert_eq!(Secrets::parse(r#"["one-secret\n", " two-secret"]"#), both);
        for one in ["one two,three", "s3cret[0]{1}", "p@ss\"word", "Größenwahn"] {
            assert_eq!(Secrets::parse(one), Ok(Secrets::new([one])), "{one}");
        }
        // What would be read as something else is written as a list.
        for one in ["[brackets]", "\"quotes\"", "{braces}"] {
            let list = serde_json::json!([one]).to_string();
            assert_eq!(Secrets::parse(&list), Ok(Secrets::new([one])), "{one}");
        }
        for none in ["", " \n", "[]"] {
            assert_eq!(Secrets::parse(none), Ok(Secrets::default()), "{none}");
        }
    }

    #[test]
    fn one_value_that_can_not_be_meant_makes_all_of_them_invalid() {
        for (text, expected) in [
            ("[\n \"old-secret\",\n \"new-secret\",\n]", BadSecrets::Shape),
            ("[\"old-secret\" \"new-secret\"]", BadSecrets::Shape),
            ("[\n old-secret\n]", BadSecrets::Shape),
            ("  [old-secret]", BadSecrets::Shape),
            ("[\"old-secret\"", BadSecrets::Shape),
            ("[\"old-secret\", 12345678]", BadSecrets::Shape),
            (r#"{"circleci": "old-secret"}"#, BadSecrets::Shape),
            ("{{resolve:ssm:/spanhook/circleci}}", BadSecrets::Shape),
            ("old-secret\n[\n", BadSecrets::Short),
            ("old-secret\nnew", BadSecrets::Short),
            (r#"["old-secret", ""]"#, BadSecrets::Short),
            (r#"["old-secret", "new"]"#, BadSecrets::Short),
            ("1234567", BadSecrets::Short),
            ("\"old-secret\"", BadSecrets::Quoted),
            ("'old-secret'", BadSecrets::Quoted),
            ("\"old-secret\",\n\"new-secret\"", BadSecrets::Quoted),
            ("<the secret token>", BadSecrets::Placeholder),
            ("${CIRCLECI_SECRET}", BadSecrets::Placeholder),
            ("$(cat secret.txt)", BadSecrets::Placeholder),
            (r#"["{{resolve:ssm:/spanhook/circleci}}"]"#, BadSecrets::Placeholder),
            ("ChangeMe", BadSecrets::Placeholder),
            ("whsec_replace-me", BadSecrets::Placeholder),
            (r#"["ssm:/spanhook/old", "ssm:/spanhook/new"]"#, BadSecrets::Placeholder),
            ("arn:aws:secretmanager:eu-west-1:1:secret:x", BadSecrets::Placeholder),
            ("\u{feff}[\"old-secret\"]", BadSecrets::Hidden),
            ("old\0secret", BadSecrets::Hidden),
        ] {
            assert_eq!(Secrets::parse(text), Err(expected), "{text}");
        }
    }
}
