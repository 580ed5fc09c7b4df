//! What a download tells while it goes on.

use std::path::Path;

/// A step of a download, as [`resolve`](crate::resolve) reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The files to download are known. Where the weights are sharded, their index comes first, alone.
    Start {
        /// How many there are.
        files: usize,
        /// Their bytes together, those that an earlier try left included.
        bytes: u64,
    },
    /// A file begins.
    File {
        /// Its name.
        name: &'a str,
    },
    /// Bytes are on disk. The count can fall: a file that turns out unsound begins anew.
    Received {
        /// Bytes of all files so far, those that an earlier try left included.
        done: u64,
        /// As in [`Progress::Start`].
        total: u64,
    },
    /// A file's checksum is computed.
    Check {
        /// Its name.
        name: &'a str,
    },
    /// Another program downloads the file; this one waits for it to end.
    Wait {
        /// The file's name.
        name: &'a str,
        /// The lock that the other program holds.
        lock: &'a Path,
    },
    /// A connection broke off; the file goes on from the bytes that are here.
    Retry {
        /// The file's name.
        name: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// All files are here.
    Done,
}
