//! The cache directory as `huggingface_hub` lays it out.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{HubError, one_line};
use crate::files::{CONFIG, INDEX, OPTIONAL, SINGLE, shards};
use crate::name::{Commit, Name, Revision};

/// One model within a cache.
#[derive(Debug)]
pub(crate) struct Repository {
    root: PathBuf,
    #[cfg(feature = "download")]
    locks: PathBuf,
}

/// What a commit's directory holds of a model.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) dir: PathBuf,
    pub(crate) commit: Commit,
    /// Files without which it is no model.
    pub(crate) missing: Vec<String>,
    /// Files that it does not hold, of which it is not known whether the repository does.
    pub(crate) unknown: Vec<String>,
}

impl Snapshot {
    /// Whether it is a model, perhaps without its optional files.
    pub(crate) fn is_model(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether nothing is left to ask.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty()
    }
}

impl Repository {
    pub(crate) fn new(cache: &Path, name: &Name) -> Self {
        let folder = name.folder();
        Self {
            root: cache.join(&folder),
            #[cfg(feature = "download")]
            locks: cache.join(".locks").join(&folder),
        }
    }

    /// The file that names the commit of a branch or tag.
    pub(crate) fn reference(&self, revision: &Revision) -> PathBuf {
        self.root.join("refs").join(revision.as_str())
    }

    /// The directory of a commit.
    pub(crate) fn snapshot_dir(&self, commit: &Commit) -> PathBuf {
        self.root.join("snapshots").join(commit.as_str())
    }

    /// The empty file that says that a commit has no such file.
    pub(crate) fn no_exist(&self, commit: &Commit, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit.as_str()).join(file)
    }

    /// The commit of a revision, where the cache knows it.
    pub(crate) fn commit(&self, revision: &Revision) -> Result<Option<Commit>, HubError> {
        if let Some(commit) = revision.commit() {
            return Ok(Some(commit));
        }
        let path = self.reference(revision);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                match Commit::parse(text.trim()) {
                    Some(commit) => Ok(Some(commit)),
                    None => Err(HubError::Reference { path, found: one_line(&text) }),
                }
            }
            Err(error) if is_absent(&error) || error.kind() == ErrorKind::IsADirectory => Ok(None),
            Err(error) => Err(HubError::io("read", &path)(error)),
        }
    }

    /// What is there of a commit.
    pub(crate) fn snapshot(&self, commit: Commit) -> Result<Snapshot, HubError> {
        let dir = self.snapshot_dir(&commit);
        // Follows the links: one whose blob is gone is no file.
        let has = |name: &str| dir.join(name).is_file();
        let mut missing = Vec::new();
        if !has(CONFIG) {
            missing.push(CONFIG.to_owned());
        }
        if !has(SINGLE) {
            if has(INDEX) {
                missing.extend(shards(&dir.join(INDEX))?.into_iter().filter(|shard| !has(shard)));
            } else {
                missing.push(SINGLE.to_owned());
            }
        }
        // Every repository has a `.gitattributes`, and no loader asks for it: where it lies, the whole repository
        // was fetched.
        let fetched_whole = has(".gitattributes");
        let known = |name: &str| fetched_whole || has(name) || self.no_exist(&commit, name).is_file();
        let unknown = OPTIONAL.iter().filter(|name| !known(name)).map(|&name| name.to_owned()).collect();
        Ok(Snapshot { dir, commit, missing, unknown })
    }
}

/// Whether an error says that there is nothing of that name.
pub(crate) fn is_absent(error: &std::io::Error) -> bool {
    use ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename | InvalidInput)
}

#[cfg(feature = "download")]
mod write {
    use std::fs::{self, File, OpenOptions, TryLockError};
    use std::io::Write;

    use super::{Commit, ErrorKind, HubError, Path, PathBuf, Repository, Revision};

    impl Repository {
        /// The file that holds the bytes of an ETag.
        pub(crate) fn blob(&self, etag: &str) -> PathBuf {
            self.root.join("blobs").join(etag)
        }

        /// Locks the bytes of an ETag against other programs, `huggingface_hub` among them, until the file is
        /// dropped. `waits` is called once if another holds the lock. `None` where the file system has no locks: the
        /// checksum is what a download relies on.
        pub(crate) fn lock(&self, etag: &str, waits: impl FnOnce(&Path)) -> Result<Option<File>, HubError> {
            let path = self.locks.join(format!("{etag}.lock"));
            create_parent(&path)?;
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            // As huggingface_hub: several people may share a cache.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o664);
            let file = options.open(&path).or_else(|_| File::open(&path));
            let file = file.map_err(HubError::io("open", &path))?;
            let busy = match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => {
                    waits(&path);
                    file.lock()
                }
                Err(TryLockError::Error(error)) => Err(error),
            };
            match busy {
                Ok(()) => Ok(Some(file)),
                Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
                Err(error) => Err(HubError::io("lock", &path)(error)),
            }
        }

        /// Makes a file of a commit out of a blob: a link where the file system has links.
        pub(crate) fn link(&self, commit: &Commit, name: &str, etag: &str) -> Result<(), HubError> {
            let (blob, path) = (self.blob(etag), self.snapshot_dir(commit).join(name));
            create_parent(&path)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(HubError::io("replace", &path)(error));
                }
                _ => {}
            }
            let made = symlink(&Path::new("../../blobs").join(etag), &path)
                .or_else(|_| fs::hard_link(&blob, &path))
                .or_else(|_| fs::copy(&blob, &path).map(drop));
            made.map_err(HubError::io("create", &path))
        }

        /// Notes that a commit has no such file. A cache that cannot be written goes without.
        pub(crate) fn mark_no_exist(&self, commit: &Commit, name: &str) {
            let path = self.no_exist(commit, name);
            if !path.exists() && create_parent(&path).is_ok() {
                drop(File::create(path));
            }
        }

        /// Notes the commit of a branch or tag, whole or not at all.
        pub(crate) fn set_commit(&self, revision: &Revision, commit: &Commit) -> Result<(), HubError> {
            if revision.commit().is_some() {
                return Ok(());
            }
            let path = self.reference(revision);
            if fs::read_to_string(&path).is_ok_and(|known| known == commit.as_str()) {
                return Ok(());
            }
            create_parent(&path)?;
            let parent = path.parent().unwrap_or(&path);
            let write = || {
                let mut builder = tempfile::Builder::new();
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                let mut file = builder.tempfile_in(parent)?;
                file.write_all(commit.as_str().as_bytes())?;
                file.persist(&path).map_err(|error| error.error).map(drop)
            };
            write().map_err(HubError::io("write", &path))
        }
    }

    pub(crate) fn create_parent(path: &Path) -> Result<(), HubError> {
        let parent = path.parent().unwrap_or(path);
        fs::create_dir_all(parent).map_err(HubError::io("create", parent))
    }

    #[cfg(unix)]
    fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    #[cfg(windows)]
    fn symlink(target: &Path, path: &Path) -> std::io::Result<()> {
        std::os::windows::fs::symlink_file(target, path)
    }

    #[cfg(not(any(unix, windows)))]
    fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

#[cfg(feature = "download")]
pub(crate) use write::create_parent;
