//! Files of moments that a capture writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use brenier::capture::{CaptureError, CapturedMoments, MomentsStore};
use brenier::files;
use brenier::transport::MomentsFile;

/// How much longer a capture goes on between two checkpoints than one takes to be written.
const RATIO: u32 = 20;

/// Moments on their way to a file: what is complete goes to the file itself, and what is not, now and then, to another
/// beside it.
#[derive(Debug)]
pub struct Checkpoints {
    out: PathBuf,
    resume: bool,
    /// When the last checkpoint was written, and how long that took.
    last: Option<(Instant, Duration)>,
}

impl Checkpoints {
    pub fn new(out: &Path, resume: bool) -> Self {
        Self { out: out.to_owned(), resume, last: None }
    }

    /// Where the moments of a capture that is not complete are kept.
    pub fn path(out: &Path) -> PathBuf {
        let mut name = out.as_os_str().to_owned();
        name.push(".partial");
        name.into()
    }
}

impl MomentsStore for Checkpoints {
    fn load(&mut self) -> Result<Option<CapturedMoments>, CaptureError> {
        let partial = Self::path(&self.out);
        let found = [partial.as_path(), &self.out].into_iter().find(|path| path.is_file());
        let Some(path) = found.filter(|_| self.resume) else { return Ok(None) };
        let file = MomentsFile::read(path).map_err(store)?;
        match CapturedMoments::new(file.entries, file.metadata)? {
            Some(moments) => Ok(Some(moments)),
            None => Err(CaptureError::Store(
                format!("{} is not of a capture that can go on: take another name", path.display()).into(),
            )),
        }
    }

    fn save(&mut self, moments: &mut CapturedMoments) -> Result<(), CaptureError> {
        let partial = Self::path(&self.out);
        if moments.is_complete() {
            write(moments, &self.out)?;
            if partial.is_file() {
                fs::remove_file(&partial).map_err(|source| CaptureError::Io { path: partial, source })?;
            }
            return Ok(());
        }
        let due = self.last.is_none_or(|(when, took)| when.elapsed() >= RATIO * took);
        if due && !files::is_stdout(&self.out) {
            let begun = Instant::now();
            write(moments, &partial)?;
            self.last = Some((Instant::now(), begun.elapsed()));
        }
        Ok(())
    }
}

/// Writes moments. They are put into the file and taken back: a copy may be gigabytes.
fn write(moments: &mut CapturedMoments, path: &Path) -> Result<(), CaptureError> {
    let metadata = moments.metadata()?;
    let file = MomentsFile { entries: std::mem::take(&mut moments.tensors), metadata };
    // Whether a file may be replaced was asked before anything was computed.
    let written = file.write(path, true).map_err(store);
    moments.tensors = file.entries;
    written
}

/// The moments of a file, or of all shares of a capture in a directory, with what is stated of them.
pub fn read(path: &Path) -> anyhow::Result<MomentsFile> {
    if !path.is_dir() {
        let file = MomentsFile::read(path)?;
        if !CapturedMoments::is_stated(&file.metadata) {
            return Ok(file);
        }
        return merged(CapturedMoments::new(file.entries, file.metadata)?.into_iter().collect(), path);
    }
    let io = |source| CaptureError::Io { path: path.to_owned(), source };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let file = MomentsFile::read(&path)?;
            let moments = CapturedMoments::new(file.entries, file.metadata)?;
            let moments = moments.ok_or_else(|| {
                crate::failure::usage_error(format!(
                    "{}: it does not state which share of a capture it is, and so cannot be merged",
                    path.display()
                ))
            })?;
            found.insert(path, moments);
        }
    }
    merged(found.into_values().collect(), path)
}

fn merged(shares: Vec<CapturedMoments>, path: &Path) -> anyhow::Result<MomentsFile> {
    use anyhow::Context;
    let all = CapturedMoments::merge(shares).with_context(|| path.display().to_string())?;
    Ok(MomentsFile { metadata: all.metadata()?, entries: all.tensors })
}

fn store(error: impl std::error::Error + Send + Sync + 'static) -> CaptureError {
    CaptureError::Store(Box::new(error))
}
