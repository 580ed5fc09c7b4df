//! What the families share in reading config.json.

use serde_json::Value;

use super::{Activation, Architecture, Config, Rope};
use crate::error::ModelError;
use crate::families::{Defaults, Family};
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

/// What all families have: sizes, names of tokens, dtype. Biases, windows and rope are each family's own.
pub(crate) fn common(family: &Family, fields: &Fields<'_>) -> Result<Config, ModelError> {
    let Defaults { kv_heads, head_dim, activation_key, .. } = family.defaults;
    if let Some(value) = fields.value("quantization_config") {
        let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("some method");
        return Err(fields.wrong("quantization_config", "unquantised weights (f32, f16 or bf16)", method));
    }
    let hidden = fields.required_size("hidden_size")?;
    let heads = fields.required_size("num_attention_heads")?;
    let kv_heads = match fields.size("num_key_value_heads")? {
        Some(kv_heads) => kv_heads,
        None => kv_heads.filter(|_| !fields.is_null("num_key_value_heads")).unwrap_or(heads),
    };
    let default = head_dim.filter(|_| !fields.is_null("head_dim"));
    let head_dim = match fields.size("head_dim")?.or(default) {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of hidden_size = {hidden}, as head_dim is not given");
            return Err(fields.wrong("num_attention_heads", &expected, &heads.to_string()));
        }
    };
    let (dtype, older_dtype) = (fields.string("dtype")?, fields.string("torch_dtype")?);
    if let (Some(dtype), Some(older)) = (dtype, older_dtype)
        && dtype != older
    {
        fields.warn(&format!(
            "`dtype` is {dtype}, `torch_dtype` {older}; the former counts, as in transformers"
        ));
    }
    let activation = match fields.string(activation_key)? {
        Some(name) => activation(fields, activation_key, name)?,
        None => family.defaults.activation,
    };
    // Gemma names its activation twice.
    if let Some(other) = fields.string("hidden_act")?.filter(|_| activation_key != "hidden_act")
        && Activation::named(other) != Some(activation)
    {
        fields.warn(&format!(
            "`{activation_key}` is {}, `hidden_act` {other}; the former is used, as in transformers",
            activation.name()
        ));
    }
    Ok(Config {
        architecture: family.architecture,
        vocab: fields.required_size("vocab_size")?,
        hidden,
        intermediate: fields.required_size("intermediate_size")?,
        layers: fields.required_size("num_hidden_layers")?,
        heads,
        kv_heads,
        head_dim,
        context: fields.size("max_position_embeddings")?.unwrap_or(family.defaults.context),
        activation,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(family.defaults.norm_eps),
        rope: Rope::default(),
        local_rope: None,
        window: None,
        query_scalar: None,
        attention_softcap: None,
        final_softcap: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(family.defaults.tied),
        initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
        bos: fields.ids("bos_token_id")?.and_then(|ids| ids.first().copied()),
        eos: fields.ids("eos_token_id")?.unwrap_or_default(),
        dtype: dtype.or(older_dtype).map(str::to_owned),
    })
}

fn activation(fields: &Fields<'_>, key: &str, name: &str) -> Result<Activation, ModelError> {
    let known = || Activation::ALL.map(Activation::name).join(" or ");
    Activation::named(name).ok_or_else(|| fields.wrong(key, &known(), name))
}

impl<'a> Fields<'a> {
    /// A list of strings.
    pub(crate) fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        strings.map(Some).ok_or_else(|| self.wrong(name, "a list of strings", &kind(value)))
    }
}
