//! Files written whole or not at all.
//!
//! [`write()`] puts the content into a temporary file in the directory of its target and then renames it. What a reader
//! finds under the name is either the former file or the complete new one, also after a crash: the file is
//! synchronised to disk before it is renamed, and the directory after.
//!
//! | the path leads to | what happens |
//! |---|---|
//! | nothing | a file is made, with the mode that the umask leaves of 0666 |
//! | a file | [`Existing`] decides: an error, or it is replaced by a file of the same mode and, where the system allows it, the same owner |
//! | a symbolic link | it is followed and stays; its target is made or replaced |
//! | a character device, a FIFO, an open descriptor (`/dev/stdout`, `/dev/fd/3`) | it is written through, never replaced |
//! | `-` | standard output; `./-` is a file of that name |
//! | a directory, a socket, a block device | an error |
//!
//! Replacing breaks a hard link: the other name keeps the former content. Access control lists and extended attributes
//! of a replaced file are not kept. On systems other than Unix, modes and owners do not exist and directories are not
//! synchronised.
//!
//! ```
//! use brenier_files::{Existing, WriteError};
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("rows.txt");
//! brenier_files::write(&path, Existing::Refuse, |out| writeln!(out, "{} rows", 3))?;
//! assert_eq!(std::fs::read_to_string(&path)?, "3 rows\n");
//!
//! let again = brenier_files::write_bytes(&path, Existing::Refuse, b"none");
//! assert!(matches!(again, Err(WriteError::Exists { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Outputs that take hours are kept in a [`Journal`] until they are complete.
//!
//! # Temporary files and signals
//! A temporary file is removed when writing fails or panics. A signal runs no destructor, so this crate keeps a list of
//! the temporary files of the process, and a program that ends on a signal calls [`remove_temporaries`] before it does.
//! The list is the one global of Brenier's libraries: a signal is delivered to the process and not to a caller who
//! could pass the list in.
//!
//! Linux could make files without a name (`O_TMPFILE`, then `linkat`), which even SIGKILL leaves nothing of. It is not
//! used: `linkat` cannot replace an existing file, so replacing needs a temporary name all the same, and network file
//! systems, overlays and other systems do not have it. SIGKILL and a loss of power can therefore leave a file
//! `.brenier-*.tmp` behind, which may be deleted.
#![deny(missing_docs)]

mod error;
mod journal;
mod read;
mod target;
mod temporary;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use error::WriteError;
pub use journal::Journal;
pub use read::{open, read, read_to_string};
pub use temporary::{TemporariesRemoved, remove_temporaries};

use target::{Target, resolve};
use temporary::Temporary;

/// Bytes that are collected before they are handed to the system.
const BUFFER: usize = 1 << 20;

/// What becomes of a file that exists at the path to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, and writing is [`WriteError::Exists`].
    Refuse,
    /// It is replaced.
    Replace,
}

impl Existing {
    /// [`Replace`](Self::Replace) with `force`, else [`Refuse`](Self::Refuse).
    #[must_use]
    pub fn forced(force: bool) -> Self {
        if force { Self::Replace } else { Self::Refuse }
    }
}

/// Writes what `content` writes, whole or not at all.
///
/// A device, FIFO or descriptor gets the content as it comes, so there a failure can leave a part of it.
///
/// # Errors
/// What [`check`] refuses, before `content` is called; the error of `content` or of the system as [`WriteError::Io`];
/// [`WriteError::Exists`] where a file appeared at the path meanwhile.
pub fn write(
    path: &Path,
    existing: Existing,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let io = |source| WriteError::Io { path: path.to_owned(), source };
    match resolve(path, existing)? {
        Target::File { at, found } => {
            let mut temporary = Temporary::beside(&at, found.as_ref()).map_err(io)?;
            fill(&mut temporary, content).map_err(io)?;
            temporary.persist(&at, found.as_ref(), existing).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => WriteError::Exists { path: path.to_owned() },
                _ => io(error),
            })
        }
        Target::Stream(at) => {
            fs::OpenOptions::new().append(true).open(at).and_then(|stream| fill(stream, content)).map_err(io)
        }
        Target::Stdout => fill(io::stdout().lock(), content).map_err(io),
        Target::Stderr => fill(io::stderr().lock(), content).map_err(io),
    }
}

/// Writes bytes, whole or not at all.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, existing: Existing, bytes: &[u8]) -> Result<(), WriteError> {
    write(path, existing, |out| out.write_all(bytes))
}

/// Checks that a path can be written, before any work is done for it.
///
/// Where a file is to be made or replaced, a temporary file is made in its directory and removed, so that a directory
/// that cannot be written is found now. Devices and FIFOs are not opened.
///
/// # Errors
/// Every variant of [`WriteError`].
pub fn check(path: &Path, existing: Existing) -> Result<(), WriteError> {
    match resolve(path, existing)? {
        Target::File { at, found } => Temporary::beside(&at, found.as_ref())
            .map(drop)
            .map_err(|source| WriteError::Io { path: path.to_owned(), source }),
        Target::Stream(_) | Target::Stdout | Target::Stderr => Ok(()),
    }
}

/// Checks that files can be written into a directory, which may have to be made first.
///
/// # Errors
/// [`WriteError::NotADirectory`]; [`WriteError::Io`] where no file can be made in it, or in the nearest directory above
/// that is there.
pub fn check_dir(dir: &Path) -> Result<(), WriteError> {
    let io = |source| WriteError::Io { path: dir.to_owned(), source };
    // The empty path is the last ancestor of a relative one.
    let nearest = dir.ancestors().map(target::or_here).find(|above| fs::symlink_metadata(above).is_ok());
    let nearest = nearest.unwrap_or(Path::new("."));
    if !fs::metadata(nearest).map_err(io)?.is_dir() {
        return Err(WriteError::NotADirectory { path: nearest.to_owned() });
    }
    Temporary::new_in(nearest, None).map(drop).map_err(io)
}

/// Makes a directory and those above it; one that is there already is left as it is.
///
/// # Errors
/// [`WriteError::NotADirectory`], [`WriteError::Io`].
pub fn create_dir(dir: &Path) -> Result<(), WriteError> {
    check_dir(dir)?;
    fs::create_dir_all(dir).map_err(|source| WriteError::Io { path: dir.to_owned(), source })
}

/// Whether a path leads to the standard output of this process: `-`, `/dev/stdout` and the like.
#[must_use]
pub fn is_stdout(path: &Path) -> bool {
    matches!(resolve(path, Existing::Replace), Ok(Target::Stdout))
}

fn fill(out: impl Write, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    content(&mut out)?;
    out.flush()
}
