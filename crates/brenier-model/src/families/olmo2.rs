//! OLMo 2: norms behind attention and feed-forward part and none before, and norms on the whole projections of queries
//! and keys.

use serde_json::{Value, json};

use super::windows::full_attention;
use super::{DEFAULTS, Defaults, Family, Norms, PARTS, Parts, QkNorm};
use crate::config::common::common;
use crate::config::rope::{RopeRules, rope};
use crate::config::{Architecture, Config};
use crate::error::ModelError;
use crate::fields::Fields;

pub(crate) const OLMO2: Family = Family {
    architecture: Architecture::Olmo2,
    name: "Olmo2ForCausalLM",
    base_name: "Olmo2Model",
    model_type: "olmo2",
    parts: Parts { norms: Norms::Behind, qk_norm: Some(QkNorm::Projection), ..PARTS },
    defaults: Defaults { norm_eps: 1e-5, ..DEFAULTS },
    read,
    write,
    small: |config| config,
};

fn read(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = common(&OLMO2, fields)?;
    full_attention(fields, &config)?;
    let bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        qkv_bias: bias,
        output_bias: bias,
        rope: rope(fields, config.context, &RopeRules::default())?,
        ..config
    })
}

fn write(config: &Config) -> Value {
    json!({"attention_bias": config.qkv_bias})
}
