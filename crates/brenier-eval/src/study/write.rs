//! A finished study on disk.
//!
//! The manifest is written twice. Before anything else it lists, as `unfinished`, what this study is about to write
//! and what an earlier one left, each with the hashes it may have; at the end it lists what is there, as `outputs`. So
//! a manifest never describes files that are not there, and a study that was cut off is known to the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use brenier_files::Existing;
use brenier_model::{sha256, sha256_file};
use serde_json::{Value, json};

use super::Study;
use crate::{Completion, EvalError, render, to_json};

const SCHEMA: &str = "brenier.manifest/1";
const MANIFEST: &str = "manifest.json";
const MAPS: &str = "maps";
/// What a study writes besides its maps and the manifest.
const TEXTS: [&str; 3] = ["completions.jsonl", "report.json", "report.html"];

/// Pairs of completions that the page shows.
const EXAMPLES: usize = 3;

/// Files by name, below the study's directory, and the hashes with which they were written.
type Hashes = BTreeMap<String, BTreeSet<String>>;

impl Study {
    /// Checks that a study can be written into a directory, before any work is done for it. The directory need not be
    /// there.
    ///
    /// # Errors
    /// What a study writes is there and `force` is not set; a directory or file that cannot be written.
    pub fn check_out(dir: &Path, force: bool) -> Result<(), EvalError> {
        let (existing, maps) = (Existing::forced(force), dir.join(MAPS));
        brenier_files::check_dir(dir)?;
        if !dir.exists() {
            return Ok(());
        }
        for name in TEXTS.into_iter().chain([MANIFEST]) {
            brenier_files::check(&dir.join(name), existing)?;
        }
        if existing == Existing::Refuse && fs::symlink_metadata(&maps).is_ok() {
            return Err(brenier_files::WriteError::Exists { path: maps }.into());
        }
        Ok(brenier_files::check_dir(&maps)?)
    }

    /// Whether a directory holds a study, finished or not.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        manifest(dir).is_some()
    }

    /// Writes `maps/*.safetensors`, `completions.jsonl`, `report.json`, `report.html` and, last, `manifest.json` with
    /// their hashes, each whole or not at all. The directory is made where it is not there.
    ///
    /// With `force`, an earlier study in the directory is replaced: maps that it wrote and this study does not have are
    /// removed. No other file is, and neither is a map that was changed since.
    ///
    /// # Errors
    /// As [`check_out`](Self::check_out).
    pub fn write(&self, dir: &Path, force: bool) -> Result<(), EvalError> {
        Self::check_out(dir, force)?;
        let existing = Existing::forced(force);
        let mut completions = String::new();
        for completion in &self.completions {
            completions.push_str(&format!("{}\n", json!(completion)));
        }
        let page = render::html(&self.report, &self.examples(EXAMPLES));
        let texts: Vec<_> =
            TEXTS.into_iter().zip([completions, pretty(&to_json("report", &self.report)?), page]).collect();
        let maps: Vec<_> =
            self.maps.iter().map(|(name, map)| (format!("{MAPS}/{name}.safetensors"), map)).collect();
        let mut outputs = BTreeMap::new();
        for (name, map) in &maps {
            outputs.insert(name.clone(), map.sha256()?);
        }
        outputs.extend(texts.iter().map(|(name, text)| ((*name).to_owned(), sha256(text.as_bytes()))));

        let manifest = dir.join(MANIFEST);
        let earlier = earlier(dir);
        let mut unfinished = earlier.clone();
        for (name, hash) in &outputs {
            unfinished.entry(name.clone()).or_default().insert(hash.clone());
        }
        brenier_files::create_dir(&dir.join(MAPS))?;
        let begun = json!({"schema": SCHEMA, "outputs": {}, "unfinished": unfinished});
        brenier_files::write_bytes(&manifest, existing, pretty(&begun).as_bytes())?;
        for (name, map) in &maps {
            map.write(&dir.join(name), force)?;
        }
        for (name, text) in &texts {
            brenier_files::write_bytes(&dir.join(name), existing, text.as_bytes())?;
        }
        for (name, hashes) in earlier.iter().filter(|(name, _)| !outputs.contains_key(*name)) {
            remove_map(dir, name, hashes)?;
        }
        let finished = json!({
            "schema": SCHEMA,
            "model": self.report.model,
            "inputs": self.report.data.sha256,
            "outputs": outputs,
            "settings": self.report.settings,
            "versions": self.report.versions,
        });
        Ok(brenier_files::write_bytes(&manifest, Existing::Replace, pretty(&finished).as_bytes())?)
    }

    /// Source prompts of test that the untouched model refuses, with its completion and that under the chosen method;
    /// those answered right first.
    #[must_use]
    pub fn examples(&self, most: usize) -> Vec<(Completion, Completion)> {
        let of = |method: &str| {
            let method = method.to_owned();
            self.completions.iter().filter(move |done| done.side == "source" && done.method == method)
        };
        let mut pairs: Vec<(Completion, Completion)> = of("baseline")
            .filter(|before| before.refused)
            .filter_map(|before| {
                let after = of(&self.report.selected.method).find(|after| after.index == before.index)?;
                (!after.refused).then(|| (before.clone(), after.clone()))
            })
            .collect();
        pairs.sort_by_key(|(_, after)| after.right != Some(true));
        pairs.truncate(most);
        pairs
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The manifest of a study; `None` where there is none, or what is there is not a study's.
fn manifest(dir: &Path) -> Option<Value> {
    let bytes = brenier_files::read(&dir.join(MANIFEST)).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok().filter(|found| found["schema"] == SCHEMA)
}

/// What earlier studies wrote into a directory, by their manifest.
fn earlier(dir: &Path) -> Hashes {
    let found = manifest(dir).unwrap_or_default();
    let mut hashes = Hashes::new();
    for list in ["outputs", "unfinished"] {
        for (name, known) in found[list].as_object().into_iter().flatten() {
            let known = known.as_array().map_or(std::slice::from_ref(known), Vec::as_slice);
            let known = known.iter().filter_map(Value::as_str).map(str::to_owned);
            hashes.entry(name.clone()).or_default().extend(known);
        }
    }
    hashes
}

/// Removes a map that an earlier study wrote. The manifest that names it may come from anywhere: what is no map's name
/// is left alone, and so is a file with another content.
fn remove_map(dir: &Path, name: &str, hashes: &BTreeSet<String>) -> Result<(), EvalError> {
    let method = name.strip_prefix("maps/").and_then(|name| name.strip_suffix(".safetensors"));
    if !method.is_some_and(|method| method.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
    {
        return Ok(());
    }
    let path = dir.join(name);
    let written_by_us = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
        && hashes.contains(&sha256_file(&path)?);
    match if written_by_us { fs::remove_file(&path) } else { Ok(()) } {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(EvalError::Io { path, source: error }),
        _ => Ok(()),
    }
}
