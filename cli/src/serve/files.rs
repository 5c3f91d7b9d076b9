//! The limit of open files, and what it leaves for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections at the same time. Each may hold a buffer of 32 KiB: 64 MiB in all.
const CONNECTIONS: u64 = 2048;

/// Files that connections leave to the queue, the Collector and everything else. Where there are few
/// files, connections leave half of them.
const RESERVE: u64 = 1024;

/// Raises the limit of open files as far as it is useful and allowed, and says how many connections
/// there may be.
pub(super) fn connections() -> usize {
    let wanted = CONNECTIONS + RESERVE;
    let limit = getrlimit(Resource::Nofile);
    let allowed = wanted.min(limit.maximum.unwrap_or(wanted));
    let mut files = limit.current.unwrap_or(wanted);
    if files < allowed {
        let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => files = allowed,
            Err(error) => tracing::warn!(%error, files, "the limit of open files can't be raised"),
        }
    }
    below(files)
}

fn below(files: u64) -> usize {
    let connections = files - RESERVE.min(files / 2);
    usize::try_from(connections.clamp(1, CONNECTIONS)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_stay_below_the_limit_of_files() {
        for (files, connections) in
            [(0, 1), (1, 1), (128, 64), (1024, 512), (2048, 1024), (3072, 2048), (u64::MAX, 2048)]
        {
            assert_eq!(below(files), connections, "{files} files");
        }
    }
}
