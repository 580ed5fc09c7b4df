//! The hash that identifies a model, computed once for large ones.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use brenier_files::Existing;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::Weights;
use crate::error::ModelError;

/// The file, beside the weights, that keeps their hash.
const CACHE: &str = ".brenier-sha256.json";
/// Files of fewer bytes in all are hashed anew each time: that takes less than a tenth of a second.
const WORTH_KEEPING: u64 = 64 << 20;
/// A file that was written to less than so long ago may be written to again without a new time stamp.
const SETTLED: Duration = Duration::from_secs(2);

/// SHA-256 of `config.json` and the weight files, one after the other.
pub(crate) fn fingerprint(dir: &Path) -> Result<String, ModelError> {
    let files = Files::find(dir)?;
    if let Some(known) = files.known()? {
        return Ok(known);
    }
    let sha256 = files.hash()?;
    // Kept only if the files were at rest. A directory that cannot be written to is hashed again next time.
    if files.stamps.iter().all(Stamp::is_settled) && stamps(&files.paths)? == files.stamps {
        let kept = Kept { files: files.stamps, sha256: sha256.clone() };
        if let Ok(json) = serde_json::to_vec_pretty(&kept) {
            brenier_files::write_bytes(&dir.join(CACHE), Existing::Replace, &json).ok();
        }
    }
    Ok(sha256)
}

/// The fingerprint where it can be had without reading large files.
pub(crate) fn known(dir: &Path) -> Result<Option<String>, ModelError> {
    Files::find(dir)?.known()
}

struct Files {
    paths: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    kept: PathBuf,
}

impl Files {
    fn find(dir: &Path) -> Result<Self, ModelError> {
        let paths: Vec<PathBuf> =
            std::iter::once(dir.join("config.json")).chain(Weights::find(dir)?.files).collect();
        Ok(Self { stamps: stamps(&paths)?, paths, kept: dir.join(CACHE) })
    }

    fn known(&self) -> Result<Option<String>, ModelError> {
        if self.stamps.iter().map(|stamp| stamp.size).sum::<u64>() < WORTH_KEEPING {
            return self.hash().map(Some);
        }
        Ok(read(&self.kept).filter(|kept| kept.files == self.stamps).map(|kept| kept.sha256))
    }

    fn hash(&self) -> Result<String, ModelError> {
        let mut hash = Sha256::new();
        for path in &self.paths {
            let mut file = brenier_files::open(path).map_err(ModelError::io(path))?;
            std::io::copy(&mut file, &mut hash).map_err(ModelError::io(path))?;
        }
        Ok(crate::files::hex(&hash.finalize()))
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    files: Vec<Stamp>,
    sha256: String,
}

/// What tells a file from the same file with other content, short of reading it.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    name: String,
    size: u64,
    modified: SystemTime,
}

impl Stamp {
    fn is_settled(&self) -> bool {
        self.modified.elapsed().is_ok_and(|age| age > SETTLED)
    }
}

fn stamps(paths: &[PathBuf]) -> Result<Vec<Stamp>, ModelError> {
    let stamp = |path: &PathBuf| {
        let found = path.metadata().map_err(ModelError::io(path))?;
        Ok(Stamp {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: found.len(),
            modified: found.modified().map_err(ModelError::io(path))?,
        })
    };
    paths.iter().map(stamp).collect()
}

/// What was kept; `None` where there is nothing that can be read.
fn read(cache: &Path) -> Option<Kept> {
    let bytes = std::fs::read(cache).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    let sound = kept.sha256.len() == 64 && kept.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound.then_some(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::*;

    /// A directory of one large, empty weight file, written `age` ago.
    fn directory(age: Duration) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, size) in [("config.json", 9), ("model.safetensors", WORTH_KEEPING)] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_len(size).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        dir
    }

    #[test]
    fn a_hash_is_kept_as_long_as_its_files_are_the_same() {
        let dir = directory(Duration::from_secs(60));
        let (cache, weights) = (dir.path().join(CACHE), dir.path().join("model.safetensors"));
        let first = fingerprint(dir.path()).unwrap();
        let mut kept = read(&cache).unwrap();
        assert_eq!(kept.sha256, first);
        // What is kept is what is given: nothing is read again.
        kept.sha256 = "0".repeat(64);
        std::fs::write(&cache, serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), kept.sha256);
        // Another time stamp, another size, or a broken file: hashed anew.
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&weights).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), first);
        std::fs::write(&cache, "{").unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), first);
        assert_eq!(read(&cache).unwrap().sha256, first);
        File::options().write(true).open(&weights).unwrap().set_len(WORTH_KEEPING + 1).unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), first);
    }

    #[test]
    fn the_hash_of_files_just_written_is_not_kept() {
        let dir = directory(Duration::ZERO);
        fingerprint(dir.path()).unwrap();
        assert!(!dir.path().join(CACHE).exists());
    }
}
