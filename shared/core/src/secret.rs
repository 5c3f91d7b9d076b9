//! Secrets that can't be printed.

use std::fmt;

/// The live values of one secret: several during a rotation, or one for each project.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Takes the values that are not empty: an empty key would accept what anybody can sign.
    pub fn new(values: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self(values.into_iter().map(Into::into).filter(|it: &Vec<u8>| !it.is_empty()).collect())
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

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} redacted)", self.0.len())
    }
}
