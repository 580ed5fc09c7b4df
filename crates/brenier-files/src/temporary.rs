//! Temporary files, which are gone when the process is.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::Existing;
use crate::target::parent;

/// Paths of the temporary files of this process. Held while one is made, renamed or removed, so that none is missed.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes all temporary files of this process, which then has to end.
///
/// Until the value returned is dropped, no temporary file is made and none takes the place of its target: other threads
/// that try wait. So nothing is left behind between this call and the end of the process.
///
/// ```
/// let _removed = brenier_files::remove_temporaries();
/// // End the process here.
/// ```
pub fn remove_temporaries() -> TemporariesRemoved {
    let live = live();
    for path in live.iter() {
        // It may be gone already, and there is nobody left to tell.
        let _ = fs::remove_file(path);
    }
    TemporariesRemoved { _live: live }
}

/// Keeps other threads from making temporary files while it lives; see [`remove_temporaries`].
#[must_use = "temporary files can be made again once this is dropped"]
#[derive(Debug)]
pub struct TemporariesRemoved {
    _live: MutexGuard<'static, BTreeSet<PathBuf>>,
}

/// A temporary file, removed when it is dropped.
pub(crate) struct Temporary {
    file: NamedTempFile,
    // After the file, so that it is on the list for as long as it is there.
    listed: Listed,
}

/// A path on the list.
struct Listed(PathBuf);

impl Temporary {
    /// A file in the directory of `at`, for what is to replace `found`.
    pub(crate) fn beside(at: &Path, found: Option<&Metadata>) -> io::Result<Self> {
        Self::new_in(parent(at), found)
    }

    /// A new file in a directory. Its name is short and does not hold the target's, which may be as long as any.
    pub(crate) fn new_in(dir: &Path, found: Option<&Metadata>) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).create_new(true);
        // A new file is made as any program makes one. One that replaces another is its owner's alone until it has
        // that one's mode.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, if found.is_some() { 0o600 } else { 0o666 });
        #[cfg(not(unix))]
        let _ = found;
        let mut live = live();
        let file = tempfile::Builder::new()
            .prefix(".brenier-")
            .suffix(".tmp")
            .make_in(dir, |path| options.open(path))?;
        let path = file.path().to_owned();
        live.insert(path.clone());
        Ok(Self { file, listed: Listed(path) })
    }

    /// Gives the file its place, on disk.
    pub(crate) fn persist(self, at: &Path, found: Option<&Metadata>, existing: Existing) -> io::Result<()> {
        let Self { file, listed } = self;
        if let Some(found) = found {
            take_after(file.as_file(), found)?;
        }
        file.as_file().sync_all()?;
        let held = live();
        let renamed = match existing {
            Existing::Replace => file.persist(at),
            Existing::Refuse => file.persist_noclobber(at).or_else(|failed| {
                // Some file systems can neither rename without replacing nor link. A name that is free is then taken.
                match failed.error.kind() {
                    io::ErrorKind::AlreadyExists => Err(failed),
                    _ if fs::symlink_metadata(at).is_ok() => Err(failed),
                    _ => failed.file.persist(at),
                }
            }),
        };
        drop(held);
        renamed.map_err(|failed| failed.error)?;
        drop(listed);
        sync_dir(parent(at))
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The file itself: errors of `NamedTempFile` name the temporary path.
        self.file.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // The set is whole whatever panicked: each change to it is one call.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a file the owner and mode of the one that it replaces. Where the system does not allow the owner, the file is
/// the writer's, and nobody else gains access to it by that.
#[cfg(unix)]
fn take_after(file: &File, found: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let mut mode = found.mode() & 0o7777;
    let made = file.metadata()?;
    if made.gid() != found.gid() && fchown(file, None, Some(found.gid())).is_err() {
        mode &= !0o2070;
    }
    if made.uid() != found.uid() && fchown(file, Some(found.uid()), None).is_err() {
        mode &= !0o4000;
    }
    // Some file systems have one mode for all files and refuse to set any.
    if file.metadata()?.mode() & 0o7777 == mode {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn take_after(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Synchronises a directory, so that the new name survives a loss of power. The file is in place already: a directory
/// that cannot be opened for reading, or a file system that does not synchronise directories, is no failure.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        Err(error) if ![InvalidInput, PermissionDenied, Unsupported].contains(&error.kind()) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}
