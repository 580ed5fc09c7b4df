//! `tokenizer_config.json`, as far as tokenizer and chat template need it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ModelError;

/// The named special tokens, which chat templates see as variables.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What stands in `tokenizer_config.json`; empty where a directory has none.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    path: PathBuf,
    fields: Map<String, Value>,
    /// `special_tokens_map.json`, where older checkpoints keep what the other file lacks.
    older: Map<String, Value>,
}

impl TokenizerConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer_config.json");
        let fields = object(&path)?;
        Ok(Self { fields, path, older: object(&dir.join("special_tokens_map.json"))? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A field, `null` read as absent.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|v| !v.is_null())
    }

    /// A special token by its name; written as a string or as `{"content": "..."}`.
    pub(crate) fn token(&self, name: &str) -> Option<&str> {
        let value = match self.fields.get(name) {
            Some(value) => value,
            None => self.older.get(name)?,
        };
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// All named special tokens that are set.
    pub(crate) fn tokens(&self) -> Map<String, Value> {
        NAMED.iter().filter_map(|name| Some(((*name).to_owned(), self.token(name)?.into()))).collect()
    }
}

/// A JSON object from a file that need not exist.
fn object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let bytes = match brenier_files::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(ModelError::io(path)(e)),
    };
    serde_json::from_slice(&bytes).map_err(ModelError::json(path))
}
