//! Captured rows in many files, written as they come.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use brenier_files::{Existing, WriteError};
use serde::{Deserialize, Serialize};

use crate::{ActivationFile, ActivationSink, Activations, CaptureError, Part, Plan, Rows, Share};

/// Name and version of the format of a directory of shards, in its manifests.
pub const SHARDS_FORMAT: &str = "brenier.shards/1";

/// Writes a part of the rows to a file of its own as soon as it is there: memory is bounded, and an interrupted capture
/// goes on where it stopped.
///
/// The directory holds, for share `I` of `N`,
///
/// | file | content |
/// |---|---|
/// | `manifest.I-of-N.json` | the [`Plan`]: prompts, tensors, parts, and how the rows are made |
/// | `rows.I-of-N.PPPPP.safetensors` | the rows of part `P`, an activation file with a row index |
///
/// each whole or absent. All shares of one capture may be written into one directory, by processes that know nothing of
/// each other. [`ActivationFile::open`] reads a directory with all its parts as one file.
#[derive(Debug)]
pub struct ShardWriter {
    dir: PathBuf,
    former: Former,
    plan: Plan,
}

/// What becomes of the files that an earlier capture of the same share left in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// They are kept, and the capture is refused.
    Refuse,
    /// They are removed.
    Replace,
    /// They are kept, and only what is missing is captured, provided that it is the same capture.
    Resume,
}

impl ShardWriter {
    /// A writer into a directory, which is made where it is not there.
    #[must_use]
    pub fn new(dir: &Path, former: Former) -> Self {
        Self { dir: dir.to_owned(), former, plan: Plan::default() }
    }

    /// The file that says what a share in a directory is: where there is one, there was a capture of it.
    #[must_use]
    pub fn manifest(dir: &Path, share: Share) -> PathBuf {
        dir.join(format!("manifest.{}.json", of(share)))
    }

    /// What is captured; empty before the capture.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl ActivationSink for ShardWriter {
    fn begin(&mut self, plan: &Plan) -> Result<(), CaptureError> {
        brenier_files::create_dir(&self.dir)?;
        for (path, found) in manifests(&self.dir)? {
            let same = found.share == plan.share;
            let differences = match self.former {
                Former::Resume if same => found.differences(plan),
                Former::Refuse if same => return Err(WriteError::Exists { path }.into()),
                Former::Replace if same => continue,
                _ if found.share.of() != plan.share.of() => found.differences(plan),
                _ => found.other_capture(plan),
            };
            if !differences.is_empty() {
                return Err(CaptureError::OtherCapture { path, differences: differences.join("; ") });
            }
        }
        if self.former == Former::Replace {
            let prefix = format!("rows.{}.", of(plan.share));
            for path in listed(&self.dir, |name| name.starts_with(&prefix))? {
                fs::remove_file(&path).map_err(|source| CaptureError::Io { path, source })?;
            }
        }
        let path = Self::manifest(&self.dir, plan.share);
        if self.former != Former::Resume || !path.exists() {
            let manifest = Manifest { format: SHARDS_FORMAT.to_owned(), plan: plan.clone() };
            brenier_files::write(&path, Existing::Replace, |out| {
                serde_json::to_writer_pretty(&mut *out, &manifest)?;
                out.write_all(b"\n")
            })?;
        }
        self.plan = plan.clone();
        Ok(())
    }

    fn has(&self, part: usize) -> Result<bool, CaptureError> {
        let path = part_path(&self.dir, self.plan.share, part);
        if !path.exists() {
            return Ok(false);
        }
        check_part(&ActivationFile::open(&path)?, &self.plan, part)?;
        Ok(true)
    }

    fn put(&mut self, part: Part) -> Result<(), CaptureError> {
        let mut metadata = self.plan.metadata.clone();
        metadata.insert("share".to_owned(), self.plan.share.to_string());
        metadata.insert("part".to_owned(), part.number.to_string());
        let tensors = part.tensors.into_iter().map(|(name, rows)| (name, Rows::F32(rows))).collect();
        let rows = Activations { tensors, rows: Some(part.index), metadata };
        rows.write(&part_path(&self.dir, self.plan.share, part.number), true)
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: String,
    plan: Plan,
}

/// The files of all parts of all shares of a directory, in the order of the prompts, and their metadata.
pub(crate) fn parts(dir: &Path) -> Result<(Vec<ActivationFile>, BTreeMap<String, String>), CaptureError> {
    let missing = |what: String| CaptureError::Incomplete { path: dir.to_owned(), missing: what };
    let mut plans: Vec<(PathBuf, Plan)> = manifests(dir)?;
    plans.sort_by_key(|(_, plan)| plan.share);
    let (first_path, first) =
        plans.first().cloned().ok_or_else(|| missing("the manifest of a capture".to_owned()))?;
    for (path, plan) in &plans[1..] {
        let mut differences = first.other_capture(plan);
        if plan.share.of() != first.share.of() {
            differences.push(format!(
                "the number of shares was `{}` and is `{}`",
                first.share.of(),
                plan.share.of()
            ));
        }
        if !differences.is_empty() {
            let differences = format!("{} (beside {})", differences.join("; "), first_path.display());
            return Err(CaptureError::OtherCapture { path: path.clone(), differences });
        }
    }
    let known = |index: u32| plans.iter().any(|(_, plan)| plan.share.index() == index);
    if let Some(index) = (0..first.share.of()).find(|&index| !known(index)) {
        return Err(missing(format!("share {index}/{} (counted from 0)", first.share.of())));
    }
    let mut files = Vec::new();
    for (_, plan) in &plans {
        for number in 0..plan.parts.len() {
            let path = part_path(dir, plan.share, number);
            if !path.exists() {
                return Err(missing(path.file_name().unwrap_or_default().to_string_lossy().into_owned()));
            }
            let file = ActivationFile::open(&path)?;
            check_part(&file, plan, number)?;
            files.push(file);
        }
    }
    Ok((files, first.metadata))
}

/// Whether a file holds what its part is to hold.
fn check_part(file: &ActivationFile, plan: &Plan, number: usize) -> Result<(), CaptureError> {
    for (name, &width) in &plan.tensors {
        let (expected, found) = ([plan.parts[number].rows, width], file.shape(name)?);
        if expected != found {
            let (path, tensor) = (file.path().to_owned(), name.clone());
            return Err(CaptureError::PartShape { path, tensor, expected, found });
        }
    }
    Ok(())
}

fn manifests(dir: &Path) -> Result<Vec<(PathBuf, Plan)>, CaptureError> {
    let read = |path: PathBuf| {
        let text = brenier_files::read_to_string(&path)
            .map_err(|source| CaptureError::Io { path: path.clone(), source })?;
        let not = |reason: String| CaptureError::NotManifest { path: path.clone(), reason };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| not(error.to_string()))?;
        if manifest.format != SHARDS_FORMAT {
            return Err(not(format!(
                "its format is `{}`, not `{SHARDS_FORMAT}`",
                manifest.format.escape_debug()
            )));
        }
        Ok((path, manifest.plan))
    };
    let is_manifest = |name: &str| name.starts_with("manifest.") && name.ends_with(".json");
    listed(dir, is_manifest)?.into_iter().map(read).collect()
}

/// Files of a directory whose names are wanted.
fn listed(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, CaptureError> {
    let io = |source| CaptureError::Io { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn of(share: Share) -> String {
    format!("{}-of-{}", share.index(), share.of())
}

fn part_path(dir: &Path, share: Share, part: usize) -> PathBuf {
    dir.join(format!("rows.{}.{part:05}.safetensors", of(share)))
}
