//! Where the value of a variable is.

use std::fmt;

use crate::settings::Vars;

/// Where the value of a variable is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The variable is not set.
    #[default]
    Unset,
    /// The variable holds it.
    Inline(String),
    /// An SSM parameter: `arn:aws:ssm:…` or `ssm:/name`.
    Parameter(String),
    /// A Secrets Manager secret: `arn:aws:secretsmanager:…`.
    Secret(String),
    /// A line of a document, as it was at the start; see [`super::with_documents`].
    Line {
        /// Where the document is.
        document: Box<Source>,
        /// What it held under the variable's name.
        text: String,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("unset"),
            Self::Inline(_) => f.write_str("set (redacted)"),
            Self::Parameter(name) | Self::Secret(name) => f.write_str(name),
            Self::Line { document, .. } => write!(f, "in {document:?}"),
        }
    }
}

/// Between a line's text and where its document is: in no variable of an environment, which ends at
/// a NUL.
const IN: char = '\0';

impl Source {
    /// Reads a variable.
    #[must_use]
    pub fn parse(vars: &Vars, name: &str) -> Self {
        let value = vars.get(name).map_or("", |it| it.trim());
        if let Some((text, document)) = value.split_once(IN) {
            let (text, document) = (text.to_owned(), Box::new(Self::of(document)));
            return Self::Line { document, text };
        }
        Self::of(value)
    }

    /// Whether the value may change while the process runs.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        !matches!(self, Self::Unset | Self::Inline(_))
    }

    /// The variable of a line that may change: whoever reads it through [`Self::parse`] learns where
    /// to look again.
    pub(super) fn line(text: &str, document: &str) -> String {
        format!("{text}{IN}{document}")
    }

    /// Reads a value, or where it is kept.
    pub(super) fn of(value: &str) -> Self {
        if let Some(name) = value.strip_prefix("ssm:") {
            return Self::Parameter(name.to_owned());
        }
        let arn: Vec<_> = value.splitn(4, ':').collect();
        match arn.as_slice() {
            _ if value.is_empty() => Self::Unset,
            ["arn", _, "ssm", _] => Self::Parameter(value.to_owned()),
            ["arn", _, "secretsmanager", _] => Self::Secret(value.to_owned()),
            _ => Self::Inline(value.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Source {
        Source::parse(&Vars::from([("S".to_owned(), value.to_owned())]), "S")
    }

    #[test]
    fn references_are_told_from_values() {
        let parameter = "arn:aws:ssm:eu-west-1:1:parameter/spanhook/circleci";
        assert_eq!(parse(parameter), Source::Parameter(parameter.to_owned()));
        assert_eq!(parse("ssm:/spanhook/x"), Source::Parameter("/spanhook/x".to_owned()));
        let secret = "arn:aws-cn:secretsmanager:cn-north-1:1:secret:x";
        assert_eq!(parse(secret), Source::Secret(secret.to_owned()));
        assert_eq!(parse("  "), Source::Unset);
        assert_eq!(parse("hunter2"), Source::Inline("hunter2".to_owned()));
        assert!(!format!("{:?}", parse("hunter2")).contains("hunter2"));
    }
}
