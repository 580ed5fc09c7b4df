//! What the families share in reading config.json; each sets its own biases and windows.

use serde_json::Value;

use super::rope::rope;
use super::{Architecture, Config};
use crate::error::ModelError;
use crate::fields::{Fields, kind};

/// The architecture that `architectures` and `model_type` name, each if it is there.
pub(crate) fn architecture(fields: &Fields<'_>) -> Result<Architecture, ModelError> {
    let unsupported = |found: &str| ModelError::Architecture {
        path: fields.path().to_owned(),
        found: found.to_owned(),
        supported: Architecture::ALL.map(Architecture::name).join(", "),
    };
    let mut named: Option<(&str, Architecture)> = None;
    for name in fields.strings("architectures")?.unwrap_or_default() {
        let known =
            Architecture::ALL.into_iter().find(|known| [known.name(), known.base_name()].contains(&name));
        let known = known.ok_or_else(|| unsupported(name))?;
        match named {
            Some((first, other)) if other != known => {
                return Err(fields.contradiction(
                    format!("`architectures` names {first}"),
                    format!("`architectures` names {name} too"),
                ));
            }
            _ => named = Some((name, known)),
        }
    }
    let Some(model_type) = fields.string("model_type")? else {
        return named.map(|(_, known)| known).ok_or_else(|| unsupported("none named"));
    };
    match named {
        Some((name, known)) if known.model_type() != model_type => Err(fields
            .contradiction(format!("`architectures` is {name}"), format!("`model_type` is {model_type}"))),
        Some((_, known)) => Ok(known),
        None => Architecture::ALL
            .into_iter()
            .find(|known| known.model_type() == model_type)
            .ok_or_else(|| unsupported(model_type)),
    }
}

/// All but biases and windows; `context` is the family's own where config.json gives none.
pub(crate) fn common(
    architecture: Architecture,
    fields: &Fields<'_>,
    context: usize,
) -> Result<Config, ModelError> {
    match fields.string("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(fields.wrong("hidden_act", "silu", other)),
    }
    if let Some(value) = fields.value("quantization_config") {
        let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("some method");
        return Err(fields.wrong("quantization_config", "unquantised weights (f32, f16 or bf16)", method));
    }
    let hidden = fields.required_size("hidden_size")?;
    let heads = fields.required_size("num_attention_heads")?;
    let head_dim = match fields.size("head_dim")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of hidden_size = {hidden}, as head_dim is not given");
            return Err(fields.wrong("num_attention_heads", &expected, &heads.to_string()));
        }
    };
    let context = fields.size("max_position_embeddings")?.unwrap_or(context);
    let (dtype, older_dtype) = (fields.string("dtype")?, fields.string("torch_dtype")?);
    if let (Some(dtype), Some(older)) = (dtype, older_dtype)
        && dtype != older
    {
        fields.warn(&format!(
            "`dtype` is {dtype}, `torch_dtype` {older}; the former counts, as in transformers"
        ));
    }
    Ok(Config {
        architecture,
        vocab: fields.required_size("vocab_size")?,
        hidden,
        intermediate: fields.required_size("intermediate_size")?,
        layers: fields.required_size("num_hidden_layers")?,
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        context,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope: rope(fields, context)?,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
        bos: fields.ids("bos_token_id")?.and_then(|ids| ids.first().copied()),
        eos: fields.ids("eos_token_id")?.unwrap_or_default(),
        dtype: dtype.or(older_dtype).map(str::to_owned),
    })
}

/// Sliding-window attention as a configuration asks for it.
pub(crate) struct Window {
    /// The field that switches it on.
    pub field: &'static str,
    /// What that field says, and what it says where there is no window.
    pub on: String,
    pub off: &'static str,
    /// Tokens that a token sees.
    pub tokens: usize,
    /// The first layer that has it, where `layer_types` does not say.
    pub first_layer: usize,
}

/// Refuses every kind of attention but full attention. A window that no token can look beyond is none.
pub(crate) fn check_attention(
    fields: &Fields<'_>,
    config: &Config,
    window: Option<Window>,
) -> Result<(), ModelError> {
    let kinds = fields.strings("layer_types")?;
    if let Some(kinds) = kinds.as_ref().filter(|kinds| kinds.len() != config.layers) {
        return Err(fields.contradiction(
            format!("`num_hidden_layers` is {}", config.layers),
            format!("`layer_types` has {} entries", kinds.len()),
        ));
    }
    let windowed = |kind: &&str| *kind == "sliding_attention";
    let other = kinds
        .iter()
        .flatten()
        .find(|kind| !["full_attention", "attention", "sliding_attention"].contains(*kind));
    if let Some(other) = other {
        return Err(fields.wrong("layer_types", "full_attention in every layer", other));
    }
    let Some(window) = window else {
        return match kinds.iter().flatten().position(windowed) {
            Some(layer) => Err(fields.contradiction(
                format!("`layer_types` gives layer {layer} (counted from 0) a sliding window"),
                "no field switches a window on".to_owned(),
            )),
            None => Ok(()),
        };
    };
    let used = match &kinds {
        Some(kinds) => kinds.iter().any(windowed),
        None => window.first_layer < config.layers,
    };
    if used && window.tokens < config.context {
        let Window { field, on, off, tokens, .. } = window;
        let expected = format!("{off} (sliding-window attention over {tokens} tokens is not implemented)");
        return Err(fields.wrong(field, &expected, &on));
    }
    Ok(())
}

impl<'a> Fields<'a> {
    /// A list of strings.
    fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        strings.map(Some).ok_or_else(|| self.wrong(name, "a list of strings", &kind(value)))
    }
}
