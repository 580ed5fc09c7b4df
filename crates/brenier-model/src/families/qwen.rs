//! Qwen 2, 2.5 and 3.
//!
//! Qwen 2 is Llama with biases on the query, key and value projections. Qwen 3 has norms on the queries and keys of
//! each head in their place. Both have a window that is switched off in the published chat models.

use serde_json::{Value, json};

use super::windows::{no_window, window_size, windowed_layers};
use super::{DEFAULTS, Defaults, Family, PARTS, Parts, QkNorm};
use crate::config::common::common;
use crate::config::rope::{RopeRules, rope};
use crate::config::{Architecture, Config, Window};
use crate::error::ModelError;
use crate::fields::Fields;

pub(crate) const QWEN2: Family = Family {
    architecture: Architecture::Qwen2,
    name: "Qwen2ForCausalLM",
    base_name: "Qwen2Model",
    model_type: "qwen2",
    parts: PARTS,
    defaults: Defaults { context: 32_768, kv_heads: Some(32), ..DEFAULTS },
    read: read2,
    write: write_window,
    small: |config| Config { qkv_bias: true, ..config },
};

pub(crate) const QWEN3: Family = Family {
    architecture: Architecture::Qwen3,
    name: "Qwen3ForCausalLM",
    base_name: "Qwen3Model",
    model_type: "qwen3",
    parts: Parts { qk_norm: Some(QkNorm::Head), ..PARTS },
    defaults: Defaults { context: 32_768, kv_heads: Some(32), head_dim: Some(128), ..DEFAULTS },
    read: read3,
    write: write3,
    small: |config| config,
};

/// Window and first windowed layer where config.json switches the window on but does not give them.
const WINDOW: usize = 4096;
const MAX_WINDOW_LAYERS: usize = 28;

fn read2(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = common(&QWEN2, fields)?;
    Ok(Config {
        qkv_bias: true,
        window: window(fields, &config)?,
        rope: rope(fields, config.context, &RopeRules::default())?,
        ..config
    })
}

fn read3(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = common(&QWEN3, fields)?;
    let bias = fields.flag("attention_bias")?.unwrap_or(false);
    Ok(Config {
        qkv_bias: bias,
        output_bias: bias,
        window: window(fields, &config)?,
        rope: rope(fields, config.context, &RopeRules::default())?,
        ..config
    })
}

fn window(fields: &Fields<'_>, config: &Config) -> Result<Option<Window>, ModelError> {
    let on = fields.flag("use_sliding_window")?.unwrap_or(false);
    let first = fields.size("max_window_layers")?.unwrap_or(MAX_WINDOW_LAYERS);
    let tokens = match on {
        true => window_size(fields, Some(WINDOW))?,
        // While the switch is off, `sliding_window` says nothing.
        false => fields.value("sliding_window").and(None),
    };
    let Some(tokens) = tokens else {
        return no_window(fields, config, "no field switches a window on").map(|()| None);
    };
    let layers = windowed_layers(fields, config)?
        .unwrap_or_else(|| (0..config.layers).map(|layer| layer >= first).collect());
    Ok(Some(Window { tokens, layers: Some(layers) }))
}

fn write_window(config: &Config) -> Value {
    match &config.window {
        Some(window) => json!({
            "use_sliding_window": true,
            "sliding_window": window.tokens,
            // The first of them, for what does not know `layer_types`.
            "max_window_layers":
                (0..config.layers).find(|&layer| config.window_of(layer).is_some()).unwrap_or(config.layers),
            "layer_types": config.layer_types(),
        }),
        None => json!({"use_sliding_window": false}),
    }
}

fn write3(config: &Config) -> Value {
    let mut json = write_window(config);
    json["attention_bias"] = json!(config.qkv_bias);
    json
}
