//! Qwen 2 and 2.5: Llama's blocks with biases on the query, key and value projections, and in the small sizes
//! an output matrix tied to the embedding.
//!
//! Sliding-window attention is part of the architecture but switched off in the published chat models; a
//! checkpoint that needs it is refused rather than run wrongly.

use crate::config::common::{Window, check_attention, common};
use crate::config::{Architecture, Config};
use crate::error::ModelError;
use crate::fields::Fields;

/// Tokens of context where config.json gives none.
const CONTEXT: usize = 32_768;
/// Window and first windowed layer where config.json switches the window on but does not give them.
const WINDOW: usize = 4096;
const MAX_WINDOW_LAYERS: usize = 28;

pub(crate) fn config(fields: &Fields<'_>) -> Result<Config, ModelError> {
    let config = Config { qkv_bias: true, ..common(Architecture::Qwen2, fields, CONTEXT)? };
    // A window of `null` is none, whatever the switch says.
    let on = fields.flag("use_sliding_window")?.unwrap_or(false) && !fields.is_null("sliding_window");
    let tokens = fields.size("sliding_window")?.unwrap_or(WINDOW);
    let first_layer = fields.size("max_window_layers")?.unwrap_or(MAX_WINDOW_LAYERS);
    let field = "use_sliding_window";
    let window = on.then(|| Window { field, on: "true".to_owned(), off: "false", tokens, first_layer });
    check_attention(fields, &config, window)?;
    Ok(config)
}
