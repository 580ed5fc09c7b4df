//! Which files make a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::{HubError, one_line};

/// The configuration, which every model has.
pub(crate) const CONFIG: &str = "config.json";
/// Weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// Which shard holds which tensor, where the weights are in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// What a model may have besides.
pub(crate) const OPTIONAL: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards that an index names, sorted. Each is a plain file name: an index comes from elsewhere, and its names
/// become paths.
pub(crate) fn shards(path: &Path) -> Result<BTreeSet<String>, HubError> {
    let refuse = |problem: String| HubError::Index { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(HubError::io("read", path))?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| refuse(format!("no index of shards: {}", one_line(&error.to_string()))))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(refuse("`weight_map` names no shard".to_owned()));
    }
    match shards.iter().find(|shard| !is_shard(shard)) {
        Some(shard) => Err(refuse(format!(
            "expected the name of a safetensors file as shard, found `{}`",
            one_line(shard)
        ))),
        None => Ok(shards),
    }
}

fn is_shard(name: &str) -> bool {
    name.len() <= 200
        && name.ends_with(".safetensors")
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeSet<String>, HubError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(INDEX);
        std::fs::write(&path, text).expect("written");
        shards(&path)
    }

    #[test]
    fn an_index_names_each_shard_once() {
        let text = r#"{"metadata":{"total_size":3},"weight_map":{"a":"model-2.safetensors","b":"model-1.safetensors",
            "c":"model-2.safetensors"}}"#;
        let found: Vec<String> = read(text).expect("an index").into_iter().collect();
        assert_eq!(found, ["model-1.safetensors", "model-2.safetensors"]);
    }

    #[test]
    fn an_index_leads_to_no_other_place() {
        for shard in [
            "../x.safetensors",
            "/x.safetensors",
            "a/x.safetensors",
            "a\\\\x.safetensors",
            ".safetensors",
            "x.bin",
            "",
        ] {
            let error = read(&format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#)).expect_err(shard).to_string();
            assert!(error.contains("expected the name of a safetensors file"), "{error}");
        }
        for text in ["", "{}", "[]", r#"{"weight_map":{}}"#, r#"{"weight_map":{"a":1}}"#] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(INDEX) && !error.contains('\n'), "{error}");
        }
    }
}
