//! A project, by the names that it goes by.

use std::fmt;

/// The longest name of a project, in bytes.
const MAX_NAME: usize = 1024;

/// A project. Rules name it by its path (`acme/shop`) or with its scope before it
/// (`gitlab.example.com/acme/shop`, `gh/acme/shop`); never by a part of its path: `web/*` is not
/// meant for `acme/web/shop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Project {
    scope: String,
    path: String,
    alias: String,
}

impl Project {
    /// A project within its scope: an instance's host, or the first part of `CircleCI`'s slug.
    #[must_use]
    pub fn new(scope: impl Into<String>, path: impl Into<String>) -> Self {
        Self { scope: scope.into(), path: path.into(), alias: String::new() }
    }

    /// A project of which only the path is known.
    #[must_use]
    pub fn named(path: impl Into<String>) -> Self {
        Self::new("", path)
    }

    /// The same project, which goes by this path too: `CircleCI`'s slug may hold ids only.
    #[must_use]
    pub fn also(mut self, path: String) -> Self {
        if path != self.path {
            self.alias = path;
        }
        self
    }

    /// Its path, such as `acme/web/shop`; empty where it is not known.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.path.is_empty() && self.alias.is_empty()
    }

    /// All names, of which a pattern has to fit one as a whole. None when nothing is known.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let scoped = (!self.scope.is_empty()).then(|| self.to_string());
        [Some(self.path.clone()), scoped, Some(self.alias.clone())]
            .into_iter()
            .flatten()
            .filter(|it| !it.is_empty())
    }

    /// Whether this may be a project's name: in any other spelling a name could pass by the rule
    /// that is meant for it. All providers use these characters only.
    #[must_use]
    pub fn is_name(path: &str) -> bool {
        let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
        let segment = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(plain);
        path.len() <= MAX_NAME && path.split('/').all(segment)
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scope.as_str(), self.path.as_str()) {
            ("", path) => f.write_str(path),
            (scope, path) => write!(f, "{scope}/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_goes_by_its_whole_path_with_and_without_its_scope() {
        let names = |project: Project| project.names().collect::<Vec<_>>();
        let gitlab = Project::new("gitlab.example.com", "acme/web/shop");
        assert_eq!(names(gitlab), ["acme/web/shop", "gitlab.example.com/acme/web/shop"]);
        let circleci = Project::new("circleci", "org-id/project-id").also("acme/shop".into());
        assert_eq!(
            names(circleci),
            ["org-id/project-id", "circleci/org-id/project-id", "acme/shop"]
        );
        assert_eq!(names(Project::named("acme/shop").also("acme/shop".into())), ["acme/shop"]);
        assert!(names(Project::default()).is_empty() && Project::default().is_unknown());
    }
}
