//! Qwen 2 and 2.5: Llama's blocks with biases on the query, key and value projections, and in the small sizes
//! an output matrix tied to the embedding.
//!
//! Sliding-window attention is part of the architecture but switched off in the published chat models; a
//! checkpoint that needs it is refused rather than run wrongly.

use serde_json::Value;

use crate::config::{Architecture, Config, common};
use crate::error::ModelError;
use crate::fields::Fields;

/// Tokens of context where config.json gives none.
const CONTEXT: usize = 32_768;
/// Window and first windowed layer where config.json switches the window on but does not give them.
const WINDOW: usize = 4096;
const MAX_WINDOW_LAYERS: usize = 28;

pub(crate) fn config(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = Config { qkv_bias: true, ..common(Architecture::Qwen2, fields, CONTEXT)? };
    refuse_sliding_window(fields, &config)?;
    Ok(config)
}

/// The window matters where it is on, shorter than the context, and some layer uses it.
fn refuse_sliding_window(fields: &Fields<'_>, config: &Config) -> Result<(), ModelError> {
    if !fields.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(());
    }
    let window = fields.size("sliding_window")?.unwrap_or(WINDOW);
    let some_layer = match fields.value("layer_types") {
        Some(Value::Array(types)) => types.iter().any(|kind| kind.as_str() == Some("sliding_attention")),
        _ => fields.size("max_window_layers")?.unwrap_or(MAX_WINDOW_LAYERS) < config.layers,
    };
    if some_layer && window < config.context {
        let expected = format!("false (sliding-window attention over {window} tokens is not implemented)");
        return Err(fields.wrong("use_sliding_window", &expected, "true"));
    }
    Ok(())
}
