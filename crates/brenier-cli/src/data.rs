//! Activations to be fitted: rows, or their moments.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use brenier::capture::{ActivationFile, CaptureError, Provenance, common_names, file_format};
use brenier::model::{sha256, sha256_file};
use brenier::transport::{MOMENTS_FORMAT, MomentsFile};

use crate::moments;

/// What a file or directory of activations holds.
pub enum Data {
    Rows(ActivationFile),
    Moments { path: PathBuf, names: Vec<String>, file: MomentsFile },
}

impl Data {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !is_moments(path)? {
            return Ok(Self::Rows(ActivationFile::open(path)?));
        }
        let file = moments::read(path)?;
        Ok(Self::Moments { path: path.to_owned(), names: file.entries.keys().cloned().collect(), file })
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Rows(file) => file.path(),
            Self::Moments { path, .. } => path,
        }
    }

    /// What it holds, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rows(_) => "rows",
            Self::Moments { .. } => "moments",
        }
    }

    pub fn names(&self) -> &[String] {
        match self {
            Self::Rows(file) => file.names(),
            Self::Moments { names, .. } => names,
        }
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Rows(file) => file.metadata(),
            Self::Moments { file, .. } => &file.metadata,
        }
    }

    pub fn provenance(&self) -> Provenance {
        Provenance::read(self.metadata())
    }
}

/// Names of the tensors that both have, sorted.
pub fn common(left: &Data, right: &Data) -> Result<Vec<String>, CaptureError> {
    common_names((left.path(), left.names()), (right.path(), right.names()))
}

/// Hash of a file, or of the names and hashes of the files of a capture in a directory.
pub fn hash(path: &Path) -> anyhow::Result<String> {
    if !path.is_dir() {
        return Ok(sha256_file(path)?);
    }
    let mut lines = Vec::new();
    for file in files_of(path)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        lines.push(format!("{name} {}\n", sha256_file(&file)?));
    }
    Ok(sha256(lines.concat().as_bytes()))
}

/// Whether a file, or the first file of activations in a directory, holds moments.
fn is_moments(path: &Path) -> anyhow::Result<bool> {
    let kind = MOMENTS_FORMAT.split_inclusive('/').next().unwrap_or(MOMENTS_FORMAT);
    let holds = |path: &Path| file_format(path).is_some_and(|format| format.starts_with(kind));
    if !path.is_dir() {
        return Ok(holds(path));
    }
    let first =
        files_of(path)?.into_iter().find(|path| path.extension().is_some_and(|end| end == "safetensors"));
    Ok(first.is_some_and(|path| holds(&path)))
}

fn files_of(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let io = |source| CaptureError::Io { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        // What a process that was killed left behind is none of it.
        if path.extension().is_some_and(|end| end == "safetensors" || end == "json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
