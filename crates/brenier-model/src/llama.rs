//! Llama 1 to 3.x: pre-norm decoder blocks with rotary positions, grouped-query attention and a gated SiLU
//! feed-forward part; no biases unless the configuration asks for them.
//!
//! The forward pass is the shared [`Decoder`](crate::Decoder); what is Llama's own is how its configuration is
//! read. Versions differ by numbers only: Llama 2 has `rope_theta` 10000 and often as many key heads as query
//! heads, Llama 3 has 500000 and 8 key heads, Llama 3.1 adds the `llama3` scaling of rotary frequencies.

use crate::config::common::{Window, check_attention, common};
use crate::config::{Architecture, Config};
use crate::error::ModelError;
use crate::fields::Fields;

/// Tokens of context where config.json gives none.
const CONTEXT: usize = 2048;

pub(crate) fn config(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    let config = Config {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
        ..common(Architecture::Llama, fields, CONTEXT)?
    };
    // No published Llama has a window, but transformers generates with one where config.json gives it.
    let window = fields.size("sliding_window")?.map(|tokens| Window {
        field: "sliding_window",
        on: tokens.to_string(),
        off: "null",
        tokens,
        first_layer: 0,
    });
    check_attention(fields, &config, window)?;
    Ok(config)
}
