//! Text of a setting in which placeholders are replaced.

use std::borrow::Cow;

/// Text and placeholders, such as `ci-{repository}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(String),
}

impl Template {
    /// Reads a setting; none where it is empty or holds any placeholder but these.
    pub(crate) fn parse(text: &str, placeholders: &[&str]) -> Option<Self> {
        let text = text.trim();
        // Quotes that a shell or an env file left around it are not meant.
        let odd = text.starts_with(['"', '\'']) || text.contains(char::is_control);
        if text.is_empty() || odd {
            return None;
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            if before.contains('}') || !placeholders.contains(&name) {
                return None;
            }
            pieces.extend([Piece::Text(before.to_owned()), Piece::Placeholder(name.to_owned())]);
            rest = after;
        }
        if rest.contains('}') {
            return None;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|it| *it != Piece::Text(String::new()));
        Some(Self(pieces))
    }

    /// One that needs no check, without a placeholder.
    pub(crate) fn text(text: &str) -> Self {
        Self(vec![Piece::Text(text.to_owned())])
    }

    /// One that is a placeholder and nothing else.
    pub(crate) fn placeholder(name: &str) -> Self {
        Self(vec![Piece::Placeholder(name.to_owned())])
    }

    /// Whether it holds a placeholder.
    pub(crate) fn asks_for(&self, name: &str) -> bool {
        self.0.iter().any(|it| matches!(it, Piece::Placeholder(it) if it == name))
    }

    /// The text with values in the placeholders' place; none where one of them is unknown or empty,
    /// so that it is never half of one. What a value holds is never a placeholder.
    pub(crate) fn render<'v>(
        &self,
        value: impl Fn(&str) -> Option<Cow<'v, str>>,
    ) -> Option<String> {
        self.0.iter().try_fold(String::new(), |mut text, piece| {
            match piece {
                Piece::Text(it) => text.push_str(it),
                Piece::Placeholder(name) => {
                    text.push_str(&value(name).filter(|it| !it.is_empty())?);
                }
            }
            Some(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(text: &str, values: &[(&str, &str)]) -> Option<String> {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        Template::parse(text, &names)?
            .render(|name| values.iter().find(|it| it.0 == name).map(|it| it.1.to_owned().into()))
    }

    #[test]
    fn placeholders_are_replaced_in_one_pass() {
        let values = [("repository", "{pipeline}"), ("pipeline", "build")];
        for (text, expected) in [
            ("ci/{repository}:{pipeline}!", Some("ci/{pipeline}:build!")),
            (" ci ", Some("ci")),
            ("{pipeline}{pipeline}", Some("buildbuild")),
            ("", None),
            (" ", None),
            ("{branch}", None),
            ("{", None),
            ("}", None),
            ("{}", None),
            ("a}{pipeline}", None),
            ("{{pipeline}}", None),
            ("{pipeline}}", None),
            ("{repository", None),
            ("\"ci\"", None),
            ("'ci'", None),
            ("a\nb", None),
        ] {
            assert_eq!(render(text, &values).as_deref(), expected, "{text}");
        }
        assert_eq!(render("ci-{pipeline}", &[("pipeline", "")]), None, "never half of one");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_never_renders_to_nothing(text: String, value in ".{1,9}") {
            prop_assert_ne!(render(&text, &[("a", &value)]), Some(String::new()));
            let whole = format!("x{{a}}{}", text.replace(['{', '}'], "").replace(char::is_control, ""));
            let rendered = render(&whole, &[("a", &value)]).unwrap();
            let starts = rendered.strip_prefix('x').is_some_and(|it| it.starts_with(&value));
            prop_assert!(starts, "{}", rendered);
        }
    }
}
