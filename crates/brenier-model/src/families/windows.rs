//! Which layers of a checkpoint look through a window.

use crate::config::{Config, Window};
use crate::error::ModelError;
use crate::fields::Fields;

/// What `layer_types` says: for each layer, whether it has a window.
pub(super) fn windowed_layers(fields: &Fields<'_>, config: &Config) -> Result<Option<Vec<bool>>, ModelError> {
    let Some(kinds) = fields.strings("layer_types")? else { return Ok(None) };
    if kinds.len() != config.layers {
        return Err(fields.contradiction(
            format!("`num_hidden_layers` is {}", config.layers),
            format!("`layer_types` has {} entries", kinds.len()),
        ));
    }
    let windowed = |kind: &&str| match *kind {
        "full_attention" | "attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => {
            Err(fields.wrong("layer_types", "full_attention or sliding_attention in every layer", other))
        }
    };
    kinds.iter().map(windowed).collect::<Result<_, _>>().map(Some)
}

/// No window in any layer; `off` is what the file says of it.
pub(super) fn no_window(fields: &Fields<'_>, config: &Config, off: &str) -> Result<(), ModelError> {
    match windowed_layers(fields, config)?.iter().flatten().position(|&windowed| windowed) {
        Some(layer) => Err(fields.contradiction(
            format!("`layer_types` gives layer {layer} (counted from 0) a sliding window"),
            off.to_owned(),
        )),
        None => Ok(()),
    }
}

/// A family whose attention is full in every layer. A `sliding_window` that no token can look beyond is none.
pub(super) fn full_attention(fields: &Fields<'_>, config: &Config) -> Result<(), ModelError> {
    // transformers computes without it and generates with it.
    if let Some(tokens) = fields.size("sliding_window")?.filter(|&tokens| tokens < config.context) {
        let name = config.architecture.name();
        let expected = format!("null, as {name} has no window");
        return Err(fields.wrong("sliding_window", &expected, &tokens.to_string()));
    }
    no_window(fields, config, "no field switches a window on")
}

/// A family with the window `sliding_window` in every layer, or none.
pub(super) fn same_in_every_layer(
    fields: &Fields<'_>,
    config: &Config,
    default: Option<usize>,
) -> Result<Option<Window>, ModelError> {
    let Some(tokens) = window_size(fields, default)? else {
        return no_window(fields, config, "`sliding_window` is null").map(|()| None);
    };
    let kinds = windowed_layers(fields, config)?;
    match kinds.iter().flatten().position(|&windowed| !windowed) {
        Some(layer) => Err(fields.contradiction(
            format!("`layer_types` gives layer {layer} (counted from 0) full attention"),
            format!("`sliding_window` = {tokens} holds for all layers of {}", config.architecture.name()),
        )),
        None => Ok(Some(Window { tokens, layers: None })),
    }
}

/// The value of `sliding_window`; the default where the file says nothing, none where it says `null`.
pub(super) fn window_size(fields: &Fields<'_>, default: Option<usize>) -> Result<Option<usize>, ModelError> {
    match fields.size("sliding_window")? {
        Some(0) => Err(fields.wrong("sliding_window", "a positive number or null", "0")),
        Some(tokens) => Ok(Some(tokens)),
        None if fields.is_null("sliding_window") => Ok(None),
        None => Ok(default),
    }
}
