//! How much room there is: a limit of its own, and what the file system has left.

use std::path::{Path, PathBuf};

use spanhook_core::settings::Variable;

/// Bytes of the queue's folder unless `--data-limit` says otherwise.
pub(crate) const DATA_LIMIT: u64 = 10 * 1024 * 1024 * 1024;

/// What is left free for everybody else, and for what makes room: deleting needs some first.
const RESERVE: u64 = 64 * 1024 * 1024;

/// The room of a folder.
pub(super) struct Space {
    folder: PathBuf,
    limit: u64,
}

impl Space {
    pub(super) fn new(folder: &Path, limit: u64) -> Self {
        Self { folder: folder.to_owned(), limit }
    }

    /// How large the queue may become that has `used` bytes now: up to the limit, or until only
    /// the reserve is free (a sixteenth of a file system below 1 GiB).
    pub(super) fn capacity(&self, used: u64) -> u64 {
        // A file system that does not say is only bounded by the limit.
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return self.limit };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve = RESERVE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 16);
        self.limit.min(used.saturating_add(free.saturating_sub(reserve)))
    }
}

/// `SPANHOOK_DATA_LIMIT`
pub(crate) static LIMIT: Variable = Variable::new(
    "SPANHOOK_DATA_LIMIT",
    "10GiB", // As much as `DATA_LIMIT`.
    "use a size of at least 64MiB, such as 500MiB or 10GiB",
    "size that the folder may grow to, `500MiB` or `10GiB`, as `--data-limit`; at least 64 MiB",
);

/// Reads a size in bytes, `500MiB` or `10GiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(it, unit)| it.checked_mul(unit));
    // One delivery of 25 MB has to fit.
    bytes.filter(|it| *it >= 64 << 20).ok_or_else(|| LIMIT.expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let cases = [
            ("67108864", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            (LIMIT.default, Some(DATA_LIMIT)),
            ("10 GiB", Some(10 << 30)),
            ("63MiB", None),
            ("10GB", None),
            ("-1", None),
            ("", None),
            ("99999999999GiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn the_limit_and_the_disk_both_bound() {
        let here = std::env::temp_dir();
        assert_eq!(Space::new(&here, 5).capacity(3), 5);
        assert!(Space::new(&here, u64::MAX).capacity(3) < u64::MAX);
    }
}
