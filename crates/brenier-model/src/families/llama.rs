//! Llama 1 to 3.x and SmolLM: norms before attention and feed-forward part, rotary positions, grouped-query
//! attention, a gated SiLU; no biases unless the configuration asks for them.
//!
//! Versions differ by numbers only: Llama 2 has `rope_theta` 10000 and often as many key heads as query heads,
//! Llama 3 has 500000 and 8 key heads, Llama 3.1 adds the `llama3` scaling of rotary frequencies.

use serde_json::{Value, json};

use super::windows::full_attention;
use super::{DEFAULTS, Family, PARTS};
use crate::config::common::common;
use crate::config::rope::{RopeRules, rope};
use crate::config::{Architecture, Config};
use crate::error::ModelError;
use crate::fields::Fields;

pub(crate) const LLAMA: Family = Family {
    architecture: Architecture::Llama,
    name: "LlamaForCausalLM",
    base_name: "LlamaModel",
    model_type: "llama",
    parts: PARTS,
    defaults: DEFAULTS,
    read,
    write,
    small: |config| config,
};

fn read(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = common(&LLAMA, fields)?;
    full_attention(fields, &config)?;
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        rope: rope(fields, config.context, &RopeRules::default())?,
        ..config
    })
}

fn write(config: &Config) -> Value {
    json!({"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias})
}
