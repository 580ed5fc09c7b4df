//! The keys of config.json that no family reads.
//!
//! Those that are known not to touch the forward pass are passed over. Those that would change it in some other
//! architecture are refused unless they say that they do not. The rest is warned of, so that nothing a file says is
//! silently ignored.

use serde_json::Value;

use crate::error::ModelError;
use crate::fields::{Fields, few, kind};
use crate::rules;

/// Bookkeeping, training, outputs and special tokens.
const HARMLESS: &[&str] = &[
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "chunk_size_feed_forward",
    "embd_pdrop",
    "experts_implementation",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "is_decoder",
    "is_llama_config",
    "label2id",
    "max_sequence_length",
    "max_window_layers",
    "name_or_path",
    "num_labels",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_last_hidden_states",
    "tokenizer_class",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Keys that ask for something which is not done here; harmless as `null`, `false`, 0, or empty.
const OFF: &[&str] = &[
    "add_cross_attention",
    "alibi",
    "attention_chunk_size",
    "attention_multiplier",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "clip_qkv",
    "compression_config",
    "configuration_files",
    "cross_attention_hidden_size",
    "decoder",
    "final_logit_softcapping",
    "is_encoder_decoder",
    "kv_sharing_modes",
    "no_rope_layers",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "parallel_attn",
    "per_layer_config",
    "pruned_heads",
    "qk_layernorm",
    "qk_norm",
    "quantization",
    "query_pre_attn_scalar",
    "rope_interleave",
    "rope_interleaved",
    "text_config",
    "text_encoder",
    "transformers_weights",
    "use_alibi",
    "use_bidirectional_attention",
    "use_dynamic_ntk",
    "use_logn_attn",
    "use_mrope",
    "use_parallel_residual",
    "use_qk_norm",
];

/// Factors that are not applied here; harmless as `null` or 1.
const ONE: &[&str] = &[
    "embedding_multiplier",
    "embedding_scale",
    "full_attn_mod",
    "interpolate_factor",
    "lm_head_multiplier",
    "logit_scale",
    "logits_scaling",
    "residual_multiplier",
    "rotary_pct",
];

/// Judges what is left unread; everything that a family honours must have been read before.
pub(super) fn check_unread(fields: &Fields<'_>) -> Result<(), ModelError> {
    let mut unknown = Vec::new();
    for (name, value) in fields.unread() {
        let (expected, harmless) = match name {
            _ if OFF.contains(&name) => ("nothing, as this is not implemented", is_off(value)),
            _ if ONE.contains(&name) => {
                ("1, as other factors are not implemented", value.as_f64() == Some(1.0))
            }
            "is_causal" => ("true", value == &Value::Bool(true)),
            _ if HARMLESS.contains(&name) || name.starts_with('_') || name.ends_with("_token_id") => continue,
            // What config.json says of generation counts where there is no generation_config.json.
            _ if rules::is_known(name) => continue,
            _ => {
                unknown.push(name);
                continue;
            }
        };
        if !harmless {
            return Err(fields.wrong(name, expected, &kind(value)));
        }
    }
    if !unknown.is_empty() {
        fields.warn(&format!("not known here, and not used: {}", few(unknown.into_iter())));
    }
    Ok(())
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}
