//! Phi-3, 3.5 and Phi-4 (mini): Llama's blocks with fused projections, a window in every layer, LongRoPE, and in the
//! newest only part of each head rotated.

use serde_json::{Value, json};

use super::windows::same_in_every_layer;
use super::{DEFAULTS, Defaults, Family, PARTS, Parts};
use crate::config::common::common;
use crate::config::rope::{RopeRules, RopeScaling, RopeType, rope};
use crate::config::{Architecture, Config};
use crate::error::ModelError;
use crate::fields::Fields;

pub(crate) const PHI3: Family = Family {
    architecture: Architecture::Phi3,
    name: "Phi3ForCausalLM",
    base_name: "Phi3Model",
    model_type: "phi3",
    parts: Parts { fused: true, ..PARTS },
    defaults: Defaults { context: 4096, norm_eps: 1e-5, ..DEFAULTS },
    read,
    write,
    small: |config| config,
};

/// The context before stretching where config.json says nothing of it; what stands inside the rope does not count.
const ORIGINAL_CONTEXT: usize = 4096;

const ROPE: RopeRules = RopeRules {
    partial: true,
    original_context: Some(ORIGINAL_CONTEXT),
    types: &[
        ("default", RopeType::Default),
        ("longrope", RopeType::LongRope),
        // Older names of it.
        ("su", RopeType::LongRope),
        ("yarn", RopeType::LongRope),
    ],
};

fn read(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = common(&PHI3, fields)?;
    for name in ["attention_bias", "mlp_bias", "lm_head_bias"] {
        if fields.flag(name)? == Some(true) {
            return Err(fields.wrong(name, "false, as Phi-3 has no biases", "true"));
        }
    }
    Ok(Config {
        window: same_in_every_layer(fields, &config, None)?,
        rope: rope(fields, config.context, &ROPE)?,
        ..config
    })
}

fn write(config: &Config) -> Value {
    let original = match config.rope.scaling {
        RopeScaling::LongRope { original_context, .. } => original_context,
        _ => ORIGINAL_CONTEXT,
    };
    json!({
        "sliding_window": config.window.as_ref().map(|window| window.tokens),
        "original_max_position_embeddings": original,
        "partial_rotary_factor": config.rope.partial,
    })
}
