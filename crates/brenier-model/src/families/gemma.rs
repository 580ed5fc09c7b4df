//! Gemma 2 and Gemma 3 (text).
//!
//! Norms stand before and behind attention and feed-forward part and multiply by one plus their weight; embeddings
//! are scaled, the activation is GELU, some layers have a window. Gemma 2 caps attention scores and logits. Gemma 3 has
//! norms on queries and keys in place of caps, and layers with a window have rotary frequencies of their own.

use serde_json::{Value, json};

use super::windows::{window_size, windowed_layers};
use super::{DEFAULTS, Defaults, Family, Norms, PARTS, Parts, QkNorm};
use crate::config::common::common;
use crate::config::rope::{RopeRules, RopeScaling, rope, ropes_by_kind};
use crate::config::{Activation, Architecture, Config, Window};
use crate::error::ModelError;
use crate::fields::Fields;

pub(crate) const GEMMA2: Family = Family {
    architecture: Architecture::Gemma2,
    name: "Gemma2ForCausalLM",
    base_name: "Gemma2Model",
    model_type: "gemma2",
    parts: PARTS_OF_GEMMA,
    defaults: Defaults { context: 8192, ..DEFAULTS_OF_GEMMA },
    read: read2,
    write: write2,
    small: |config| Config {
        attention_softcap: Some(50.0),
        final_softcap: Some(30.0),
        window: Some(Window { tokens: 8, layers: Some(alternating(config.layers)) }),
        ..small(config)
    },
};

pub(crate) const GEMMA3: Family = Family {
    architecture: Architecture::Gemma3,
    name: "Gemma3ForCausalLM",
    base_name: "Gemma3TextModel",
    model_type: "gemma3_text",
    parts: Parts { qk_norm: Some(QkNorm::Head), ..PARTS_OF_GEMMA },
    defaults: Defaults { context: 131_072, ..DEFAULTS_OF_GEMMA },
    read: read3,
    write: write3,
    small: |config| Config {
        window: Some(Window { tokens: 8, layers: Some(alternating(config.layers)) }),
        local_rope: Some(config.rope.clone()),
        ..small(config)
    },
};

const PARTS_OF_GEMMA: Parts =
    Parts { norms: Norms::Around, norm_offset: 1.0, scaled_embedding: true, ..PARTS };

const DEFAULTS_OF_GEMMA: Defaults = Defaults {
    kv_heads: Some(4),
    head_dim: Some(256),
    tied: true,
    activation_key: "hidden_activation",
    activation: Activation::GeluTanh,
    ..DEFAULTS
};

/// Where config.json says nothing of them.
const WINDOW: usize = 4096;
const QUERY_SCALAR: f64 = 256.0;
const ATTENTION_SOFTCAP: f64 = 50.0;
const FINAL_SOFTCAP: f64 = 30.0;
const PATTERN: usize = 6;

fn small(config: Config) -> Config {
    Config { tied: true, query_scalar: Some(config.head_dim as f64), ..config }
}

fn alternating(layers: usize) -> Vec<bool> {
    (0..layers).map(|layer| layer.is_multiple_of(2)).collect()
}

fn read2(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = gemma(&GEMMA2, fields, alternating)?;
    if let (Some(size), Some(window)) = (fields.size("sliding_window_size")?, &config.window)
        && size != window.tokens
    {
        let tokens = window.tokens;
        fields.warn(&format!(
            "`sliding_window` is {tokens}, `sliding_window_size` {size}; the former is used, as in transformers"
        ));
    }
    Ok(Config {
        attention_softcap: softcap(fields, "attn_logit_softcapping", Some(ATTENTION_SOFTCAP))?,
        final_softcap: softcap(fields, "final_logit_softcapping", Some(FINAL_SOFTCAP))?,
        rope: rope(fields, config.context, &RopeRules::default())?,
        ..config
    })
}

/// `attn_logit_softcapping` is not read: transformers does not apply it, so that anything but `null` is refused.
fn read3(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let pattern = fields.size("sliding_window_pattern")?.unwrap_or(PATTERN);
    if pattern == 0 {
        return Err(fields.wrong("sliding_window_pattern", "a positive number", "0"));
    }
    let config = gemma(&GEMMA3, fields, |layers| {
        (0..layers).map(|layer| !(layer + 1).is_multiple_of(pattern)).collect()
    })?;
    let (rope, local) = ropes_by_kind(fields, config.context)?;
    Ok(Config {
        final_softcap: softcap(fields, "final_logit_softcapping", None)?,
        rope,
        local_rope: Some(local),
        ..config
    })
}

/// What both have; `pattern` says which layers have a window where `layer_types` does not.
fn gemma(
    family: &Family,
    fields: &Fields<'_>,
    pattern: impl FnOnce(usize) -> Vec<bool>,
) -> Result<Config, ModelError> {
    let config = common(family, fields)?;
    let bias = fields.flag("attention_bias")?.unwrap_or(false);
    let layers = windowed_layers(fields, &config)?.unwrap_or_else(|| pattern(config.layers));
    let window = match window_size(fields, Some(WINDOW))? {
        Some(tokens) => Some(Window { tokens, layers: Some(layers) }),
        None if layers.contains(&true) => {
            return Err(fields.wrong("sliding_window", "a positive number", "null"));
        }
        None => None,
    };
    let scalar = match fields.value("query_pre_attn_scalar") {
        Some(_) => fields.required_number("query_pre_attn_scalar")?,
        None => QUERY_SCALAR,
    };
    Ok(Config { qkv_bias: bias, output_bias: bias, window, query_scalar: Some(scalar), ..config })
}

fn softcap(fields: &Fields<'_>, name: &str, default: Option<f64>) -> Result<Option<f64>, ModelError> {
    match fields.value(name) {
        Some(_) => fields.required_number(name).map(Some),
        None if fields.is_null(name) => Ok(None),
        None => Ok(default),
    }
}

fn write2(config: &Config) -> Value {
    let mut json = write_both(config);
    json["attn_logit_softcapping"] = json!(config.attention_softcap);
    json
}

fn write3(config: &Config) -> Value {
    let mut json = write_both(config);
    let local = config.local_rope.as_ref().unwrap_or(&config.rope);
    json["rope_local_base_freq"] = json!(local.theta);
    if local.scaling != RopeScaling::Default {
        // Only the newer layout has a scaling for them.
        json["rope_scaling"] = Value::Null;
        json["rope_parameters"] =
            json!({"full_attention": config.rope.table(), "sliding_attention": local.table()});
    }
    json
}

fn write_both(config: &Config) -> Value {
    json!({
        "attention_bias": config.qkv_bias,
        "query_pre_attn_scalar": config.query_scalar,
        "final_logit_softcapping": config.final_softcap,
        "sliding_window": config.window.as_ref().map(|window| window.tokens),
        "layer_types": config.layer_types(),
    })
}
