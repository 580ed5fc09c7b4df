//! `generation_config.json`: what ends a text, and what is asked of the logits.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::error::ModelError;
use crate::fields::{Fields, few, read_object};
use crate::rules::{self, LogitsRules};

/// What a directory says of generation: its `generation_config.json`, or without one its `config.json`.
pub(crate) struct GenerationConfig {
    /// The file's content; empty without one.
    pub object: Map<String, Value>,
    pub eos: Vec<u32>,
    pub bos: Option<u32>,
    pub rules: LogitsRules,
    pub warnings: Vec<String>,
}

impl GenerationConfig {
    /// Reads the file of a directory whose `config.json` has been read.
    pub(crate) fn read(dir: &Path, config: &Config, of_config: &Fields<'_>) -> Result<Self, ModelError> {
        let path = dir.join("generation_config.json");
        if !path.exists() {
            let (rules, other) = rules::read(of_config, config.vocab)?;
            warn_not_honoured(of_config, &other);
            let (object, eos, bos) = (Map::new(), config.eos.clone(), config.bos);
            // The warnings are among those of config.json.
            return Ok(Self { object, eos, bos, rules, warnings: Vec::new() });
        }
        let object = read_object(&path)?;
        let fields = Fields::new(&path, &object);
        let eos = eos(&fields, config)?;
        let bos = fields.ids("bos_token_id")?.and_then(|ids| ids.first().copied());
        if let (Some(bos), Some(other)) = (bos, config.bos)
            && bos != other
        {
            fields.warn(&format!("`bos_token_id` is {bos}, in config.json {other}; the former is used"));
        }
        let (rules, other) = rules::read(&fields, config.vocab)?;
        warn_not_honoured(&fields, &other);
        let ignored = rules::read(of_config, config.vocab);
        if ignored.is_ok_and(|ignored| ignored != Default::default() && ignored != (rules.clone(), other)) {
            fields.warn("config.json has settings of generation too, which differ; they are not used");
        }
        let unknown: Vec<&str> = fields
            .unread()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !(rules::is_known(name) || name.starts_with('_') || name.ends_with("_token_id")))
            .collect();
        if !unknown.is_empty() {
            fields.warn(&format!("not known here, and not used: {}", few(unknown.into_iter())));
        }
        let warnings = fields.warnings();
        Ok(Self { eos, bos: bos.or(config.bos), rules, warnings, object })
    }
}

/// Those of `generation_config.json`, else those of `config.json`.
fn eos(fields: &Fields<'_>, config: &Config) -> Result<Vec<u32>, ModelError> {
    let Some(eos) = fields.ids("eos_token_id")? else {
        if !config.eos.is_empty() {
            fields.warn(&format!(
                "`eos_token_id` is not given; that of config.json, {:?}, ends a text here, while transformers \
                 would not end it",
                config.eos
            ));
        }
        return Ok(config.eos.clone());
    };
    if config.eos.iter().any(|id| !eos.contains(id)) {
        fields.warn(&format!(
            "`eos_token_id` is {eos:?}, in config.json {:?}; the former is used, as in transformers",
            config.eos
        ));
    }
    Ok(eos)
}

fn warn_not_honoured(fields: &Fields<'_>, other: &[String]) {
    if !other.is_empty() {
        fields.warn(&format!("not honoured in generation: {}", other.join(", ")));
    }
}
