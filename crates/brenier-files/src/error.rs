//! Why a file cannot be written.

use std::io;
use std::path::PathBuf;

/// Errors of writing. Each is one line that names the path as it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A file is there, and was not to be replaced.
    #[error("{} exists: choose another name, or replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A directory, or a name that only a directory can have.
    #[error("{} names a directory: name a file in it", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The directory that the file belongs in is not there.
    #[error("{} cannot be written: there is no directory {}", path.display(), parent.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// The directory.
        parent: PathBuf,
    },
    /// A file where a directory is expected.
    #[error("{} is no directory: name a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// What can be neither replaced nor written through.
    #[error("{} is a {found}: expected a file, a FIFO or a character device", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The operating system refused.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
