//! Mistral: Llama's blocks with a sliding window in every layer, or in none where `sliding_window` is null.

use serde_json::{Value, json};

use super::windows::same_in_every_layer;
use super::{DEFAULTS, Defaults, Family, PARTS};
use crate::config::common::common;
use crate::config::rope::{RopeRules, rope};
use crate::config::{Architecture, Config, Window};
use crate::error::ModelError;
use crate::fields::Fields;

pub(crate) const MISTRAL: Family = Family {
    architecture: Architecture::Mistral,
    name: "MistralForCausalLM",
    base_name: "MistralModel",
    model_type: "mistral",
    parts: PARTS,
    defaults: Defaults { context: 131_072, kv_heads: Some(8), ..DEFAULTS },
    read,
    write,
    small: |config| Config { window: Some(Window { tokens: 8, layers: None }), ..config },
};

/// The window where config.json says nothing of it.
const WINDOW: usize = 4096;

fn read(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = common(&MISTRAL, fields)?;
    Ok(Config {
        window: same_in_every_layer(fields, &config, Some(WINDOW))?,
        rope: rope(fields, config.context, &RopeRules::default())?,
        ..config
    })
}

fn write(config: &Config) -> Value {
    json!({"sliding_window": config.window.as_ref().map(|window| window.tokens)})
}
