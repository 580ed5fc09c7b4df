//! What a path to be written leads to.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::{Existing, WriteError};

/// As many symbolic links as Linux follows.
const MOST_LINKS: usize = 40;

/// Where content goes.
pub(crate) enum Target {
    /// A regular file, or none yet: its path behind all links, and what is there.
    File {
        at: PathBuf,
        found: Option<Metadata>,
    },
    /// What is opened and written through.
    Stream(PathBuf),
    Stdout,
    Stderr,
}

/// Finds out what a path leads to. Nothing is opened or changed.
pub(crate) fn resolve(path: &Path, existing: Existing) -> Result<Target, WriteError> {
    let owned = || path.to_owned();
    let io = |source| WriteError::Io { path: owned(), source };
    if path.as_os_str() == "-" {
        return Ok(Target::Stdout);
    }
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(io(error)),
    };
    if found.as_ref().is_some_and(Metadata::is_dir) || names_directory(path) {
        return Err(WriteError::Directory { path: owned() });
    }
    let at = match follow(path).map_err(io)? {
        Target::File { at, .. } => at,
        _ if found.is_none() => return Err(io(ErrorKind::NotFound.into())),
        descriptor => return Ok(descriptor),
    };
    match &found {
        Some(found) if found.is_file() && existing == Existing::Refuse => {
            Err(WriteError::Exists { path: owned() })
        }
        Some(found) if !found.is_file() => match kind(found) {
            None => Ok(Target::Stream(at)),
            Some(found) => Err(WriteError::Kind { path: owned(), found }),
        },
        _ => {
            let parent = parent(&at);
            match fs::metadata(parent) {
                Ok(above) if above.is_dir() => Ok(Target::File { at, found }),
                Err(error) if !is_missing(&error) => Err(io(error)),
                _ => Err(WriteError::NoDirectory { path: owned(), parent: parent.to_owned() }),
            }
        }
    }
}

/// The directory that a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(path))
}

/// The empty path is the current directory.
pub(crate) fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Whether nothing is there: no such name, or something above it is a file.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether only a directory can have this name, e.g. `maps/` or `maps/..`.
fn names_directory(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    path.file_name().is_none()
        || name.last().is_some_and(|&byte| std::path::is_separator(char::from(byte)))
        || name.strip_suffix(b".").and_then(<[u8]>::last).is_some_and(|&byte| byte == b'/')
}

/// Goes along symbolic links to what is none: a file, a name that is free, or a descriptor of a process.
fn follow(path: &Path) -> io::Result<Target> {
    let mut at = path.to_owned();
    for _ in 0..=MOST_LINKS {
        if let Some(descriptor) = descriptor(&at) {
            return Ok(descriptor);
        }
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => at = parent(&at).join(fs::read_link(&at)?),
            Ok(_) => return Ok(Target::File { at, found: None }),
            Err(error) if is_missing(&error) => return Ok(Target::File { at, found: None }),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// An open descriptor, named as `/dev/fd/1` or `/proc/self/fd/1`. Its link leads to the file behind it, which belongs to
/// whoever opened it: it is not to be replaced.
fn descriptor(at: &Path) -> Option<Target> {
    let number: u32 = at.file_name()?.to_str()?.parse().ok()?;
    let dir = fs::canonicalize(parent(at)).ok()?;
    let parts: Vec<&str> = dir.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    let own = match parts[..] {
        ["/", "dev", "fd"] => true,
        ["/", "proc", process, "fd"] | ["/", "proc", process, "task", _, "fd"] => {
            process == std::process::id().to_string()
        }
        _ => return None,
    };
    // The process's own handles keep their place in the file; opened anew, only the end of it is a safe place.
    Some(match number {
        1 if own => Target::Stdout,
        2 if own => Target::Stderr,
        _ => Target::Stream(at.to_owned()),
    })
}

/// The kind of what cannot be written through; `None` where it can.
#[cfg(unix)]
fn kind(found: &Metadata) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    let kind = found.file_type();
    match () {
        () if kind.is_fifo() || kind.is_char_device() => None,
        () if kind.is_block_device() => Some("block device"),
        () if kind.is_socket() => Some("socket"),
        () => Some("file of an unknown kind"),
    }
}

#[cfg(not(unix))]
fn kind(_: &Metadata) -> Option<&'static str> {
    None
}
