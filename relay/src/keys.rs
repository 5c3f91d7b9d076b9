//! The keys that sign.

use std::{fs, path::PathBuf, sync::Mutex, sync::PoisonError};

use spanhook_core::{
    check::{sign_standard, signing_key},
    secret::values,
};
use thiserror::Error;

/// What is wrong with the keys. The texts repeat nothing of them.
#[derive(Debug, Error)]
pub enum KeysError {
    /// There is none.
    #[error(
        "there is no key; set KUBERNETES_SIGNING_KEY, or KUBERNETES_SIGNING_KEY_FILE to the path of a file with it"
    )]
    Missing,
    /// One that can't be used.
    #[error(
        "the signing key is not whsec_ and the base64 of 24 to 64 bytes; make one with `echo whsec_$(openssl rand -base64 32)`"
    )]
    Invalid,
    /// A file that can't be read.
    #[error(
        "{path} can't be read ({reason}); set KUBERNETES_SIGNING_KEY_FILE to the path of a file with the key"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: std::io::ErrorKind,
    },
}

/// One key, or several while they are changed. Those of a file are read again for every signature:
/// Kubernetes replaces it when its Secret is changed.
#[derive(Debug)]
pub struct Keys {
    file: Option<PathBuf>,
    last: Mutex<Vec<Key>>,
}

#[derive(Clone)]
struct Key(Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl Keys {
    /// Reads them from a file, or from text as it stands in a variable.
    pub fn open(text: Option<&str>, file: Option<PathBuf>) -> Result<Self, KeysError> {
        let keys = match (&file, text) {
            (Some(path), _) => read(path)?,
            (None, Some(text)) => parse(text)?,
            (None, None) => return Err(KeysError::Missing),
        };
        Ok(Self { file, last: Mutex::new(keys) })
    }

    /// The `webhook-signature` of a body: one of each key.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut keys = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            match read(path) {
                Ok(read) => *keys = read,
                // In the middle of a change there may be none for a moment.
                Err(error) => tracing::warn!(%error, "the keys that were read last are used"),
            }
        }
        let each = keys.iter().filter_map(|it| sign_standard(id, timestamp, body, &it.0));
        each.collect::<Vec<_>>().join(" ")
    }
}

fn read(path: &PathBuf) -> Result<Vec<Key>, KeysError> {
    let text = fs::read_to_string(path)
        .map_err(|error| KeysError::Unreadable { path: path.clone(), reason: error.kind() })?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Key>, KeysError> {
    let values = values(text).ok_or(KeysError::Invalid)?;
    if values.is_empty() {
        return Err(KeysError::Missing);
    }
    let keys = values.iter().map(|it| signing_key(it).map(Key));
    keys.collect::<Option<_>>().ok_or(KeysError::Invalid)
}

#[cfg(test)]
mod tests {
    use spanhook_core::{
        check::{WebhookHeaders, verify_standard},
        secret::Secrets,
    };

    use super::*;

    const OLD: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt";
    const NEW: &str = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXct";

    fn is_signed_by(signature: &str, key: &str) -> bool {
        let headers =
            WebhookHeaders { id: Some("id"), timestamp: Some("7"), signature: Some(signature) };
        verify_standard(headers, b"body", &Secrets::new([signing_key(key).unwrap()]), 7).is_ok()
    }

    #[test]
    fn each_key_signs_so_that_they_can_be_changed_one_side_after_the_other() {
        let keys = Keys::open(Some(&format!("{OLD}\n{NEW}\n")), None).unwrap();
        let signature = keys.sign("id", 7, b"body");
        assert!(is_signed_by(&signature, OLD) && is_signed_by(&signature, NEW), "{signature}");
        assert_eq!(format!("{keys:?}").matches("redacted").count(), 2);
    }

    #[test]
    fn a_file_is_read_again_and_survives_the_moment_in_which_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, OLD).unwrap();
        let keys = Keys::open(None, Some(path.clone())).unwrap();
        assert!(is_signed_by(&keys.sign("id", 7, b"body"), OLD));
        fs::remove_file(&path).unwrap();
        assert!(is_signed_by(&keys.sign("id", 7, b"body"), OLD));
        fs::write(&path, NEW).unwrap();
        assert!(is_signed_by(&keys.sign("id", 7, b"body"), NEW));
    }

    #[test]
    fn what_is_no_key_is_told_without_repeating_it() {
        for text in ["secret-of-mine", "whsec_c2hvcnQ=", "[\"whsec_secret-of-mine"] {
            let error = Keys::open(Some(text), None).unwrap_err();
            assert!(matches!(error, KeysError::Invalid), "{error}");
            let error = format!("{error} {error:?}");
            assert!(!error.contains("mine") && !error.contains("c2hv"), "{error}");
        }
        assert!(matches!(Keys::open(Some("[]"), None), Err(KeysError::Missing)));
        assert!(matches!(Keys::open(None, None), Err(KeysError::Missing)));
        assert!(matches!(
            Keys::open(None, Some("/nowhere".into())),
            Err(KeysError::Unreadable { .. })
        ));
    }
}
