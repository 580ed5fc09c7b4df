//! A finished study on disk.

use std::io::Write;
use std::path::Path;

use brenier_model::sha256_file;
use serde_json::{Map, Value, json};

use super::Study;
use crate::{EvalError, to_json};

impl Study {
    /// Writes `maps/*.safetensors`, `completions.jsonl`, `report.json` and, last, `manifest.json` with their hashes,
    /// each whole or not at all. The directory is made where it is not there.
    ///
    /// # Errors
    /// One of these files exists and `force` is not set; the operating system's refusal.
    pub fn write(&self, dir: &Path, force: bool) -> Result<(), EvalError> {
        let maps: Vec<String> =
            self.maps.iter().map(|(name, _)| format!("maps/{name}.safetensors")).collect();
        let fixed = ["completions.jsonl", "report.json", "manifest.json"];
        for name in fixed.into_iter().chain(maps.iter().map(String::as_str)) {
            let path = dir.join(name);
            if !force && path.exists() {
                return Err(EvalError::Exists { path });
            }
        }
        let maps_dir = dir.join("maps");
        std::fs::create_dir_all(&maps_dir).map_err(|source| EvalError::Io { path: maps_dir, source })?;
        for ((_, map), name) in self.maps.iter().zip(&maps) {
            map.write(&dir.join(name), force)?;
        }
        let mut lines = String::new();
        for completion in &self.completions {
            lines.push_str(&json!(completion).to_string());
            lines.push('\n');
        }
        write_whole(&dir.join("completions.jsonl"), lines.as_bytes())?;
        write_whole(&dir.join("report.json"), pretty(&to_json("report", &self.report)?).as_bytes())?;

        let mut outputs = Map::new();
        for name in maps.iter().map(String::as_str).chain(["completions.jsonl", "report.json"]) {
            outputs.insert(name.to_owned(), Value::from(sha256_file(dir.join(name))?));
        }
        let manifest = json!({
            "schema": "brenier.manifest/1",
            "model": self.report.model,
            "inputs": self.report.data.sha256,
            "outputs": outputs,
            "settings": self.report.settings,
            "versions": self.report.versions,
        });
        write_whole(&dir.join("manifest.json"), pretty(&manifest).as_bytes())
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Writes beside the target and renames.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), EvalError> {
    let io = |source| EvalError::Io { path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // A file as any other program would make it: the user's mask decides, not the temporary's 0600.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(".brenier-").tempfile_in(dir).map_err(io)?;
    file.write_all(content).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}
