//! The rules of `generation_config.json`.

use serde_json::Value;

use super::LogitsRules;
use crate::error::ModelError;
use crate::fields::{Fields, kind};

/// Every field of transformers' `GenerationConfig`, and no other.
const KNOWN: &[&str] = &[
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "constraints",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "dola_layers",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "penalty_alpha",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict_in_generate",
    "sequence_bias",
    "speculation_type",
    "stop_strings",
    "suppress_tokens",
    "target_lookbehind",
    "temperature",
    "token_healing",
    "top_h",
    "top_k",
    "top_p",
    "transformers_version",
    "typical_p",
    "use_cache",
    "use_mtp",
    "watermarking_config",
];

/// Fields that change which tokens come and are not honoured here, each with a value that changes nothing (beside
/// `null`). Those that only sampling or beams look at are not among them.
const NOT_HONOURED: &[(&str, f64)] = &[
    ("assistant_ensemble_weight", 0.0),
    ("constraints", 0.0),
    ("diversity_penalty", 0.0),
    ("dola_layers", 0.0),
    ("force_words_ids", 0.0),
    ("guidance_scale", 1.0),
    ("is_assistant", 0.0),
    ("max_time", 0.0),
    ("num_beam_groups", 1.0),
    ("num_beams", 1.0),
    ("num_return_sequences", 1.0),
    ("penalty_alpha", 0.0),
    ("remove_invalid_values", 0.0),
    ("speculation_type", 0.0),
    ("stop_strings", 0.0),
    ("token_healing", 0.0),
    ("watermarking_config", 0.0),
];

/// Whether transformers' `GenerationConfig` has such a field.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// The rules that a file asks for, and what else in it would change the tokens of greedy decoding.
pub(crate) fn read(fields: &Fields<'_>, vocab: usize) -> Result<(LogitsRules, Vec<String>), ModelError> {
    let reader = Reader { fields, vocab };
    let rules = LogitsRules {
        sequence_bias: reader.biases("sequence_bias")?,
        encoder_repetition_penalty: reader.penalty("encoder_repetition_penalty")?,
        repetition_penalty: reader.penalty("repetition_penalty")?,
        no_repeat_ngram_size: fields.size("no_repeat_ngram_size")?.unwrap_or(0),
        encoder_no_repeat_ngram_size: fields.size("encoder_no_repeat_ngram_size")?.unwrap_or(0),
        bad_words_ids: reader.sequences("bad_words_ids")?,
        min_length: fields.size("min_length")?.unwrap_or(0),
        min_new_tokens: fields.size("min_new_tokens")?,
        forced_bos_token_id: reader.ids("forced_bos_token_id")?.first().copied(),
        forced_eos_token_id: reader.ids("forced_eos_token_id")?,
        exponential_decay_length_penalty: reader.decay("exponential_decay_length_penalty")?,
        suppress_tokens: reader.suppressed("suppress_tokens")?,
        begin_suppress_tokens: reader.suppressed("begin_suppress_tokens")?,
    };
    let asked = |&(name, neutral): &(&str, f64)| {
        let value = fields.value(name)?;
        let nothing = match value {
            Value::Bool(on) => f64::from(u8::from(*on)) == neutral,
            Value::Number(number) => number.as_f64() == Some(neutral),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        (!nothing).then(|| format!("{name} = {}", kind(value)))
    };
    let mut other: Vec<String> = NOT_HONOURED.iter().filter_map(asked).collect();
    // Of all caches this one alone changes numbers.
    if fields.string("cache_implementation")? == Some("quantized") {
        other.push("cache_implementation = \"quantized\"".to_owned());
    }
    Ok((rules, other))
}

struct Reader<'a> {
    fields: &'a Fields<'a>,
    vocab: usize,
}

impl Reader<'_> {
    fn penalty(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.fields.number(name)? {
            Some(penalty) if penalty <= 0.0 => {
                Err(self.fields.wrong(name, "a positive number", &penalty.to_string()))
            }
            other => Ok(other.filter(|&penalty| penalty != 1.0)),
        }
    }

    fn ids(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let ids = self.fields.ids(name)?.unwrap_or_default();
        self.check(name, &ids)?;
        Ok(ids)
    }

    fn sequences(&self, name: &str) -> Result<Vec<Vec<u32>>, ModelError> {
        let list = self.list(name, "a list of lists of token ids", |value| {
            value.as_array()?.iter().map(id).collect::<Option<Vec<u32>>>()
        })?;
        list.iter().try_for_each(|ids| self.check(name, ids))?;
        Ok(list)
    }

    fn biases(&self, name: &str) -> Result<Vec<(Vec<u32>, f32)>, ModelError> {
        let list = self.list(name, "a list of pairs of token ids and a number", |value| {
            let [ids, bias] = value.as_array()?.as_slice() else { return None };
            Some((ids.as_array()?.iter().map(id).collect::<Option<Vec<u32>>>()?, bias.as_f64()? as f32))
        })?;
        list.iter().try_for_each(|(ids, _)| self.check(name, ids))?;
        Ok(list)
    }

    /// Ids, of which those outside the vocabulary (-1 means none) suppress nothing.
    fn suppressed(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let list = self.list(name, "a list of token ids", Value::as_i64)?;
        Ok(list.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
    }

    fn decay(&self, name: &str) -> Result<Option<(usize, f64)>, ModelError> {
        let Some(value) = self.fields.value(name) else { return Ok(None) };
        let pair = value.as_array().and_then(|pair| match pair.as_slice() {
            [start, factor] => Some((usize::try_from(start.as_u64()?).ok()?, factor.as_f64()?)),
            _ => None,
        });
        let expected = "a pair of a number of tokens and a factor";
        pair.map(Some).ok_or_else(|| self.fields.wrong(name, expected, &kind(value)))
    }

    fn list<T>(
        &self,
        name: &str,
        expected: &str,
        item: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, ModelError> {
        let Some(value) = self.fields.value(name) else { return Ok(Vec::new()) };
        let list = value.as_array().and_then(|list| list.iter().map(item).collect());
        list.ok_or_else(|| self.fields.wrong(name, expected, &kind(value)))
    }

    fn check(&self, name: &str, ids: &[u32]) -> Result<(), ModelError> {
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(id) => {
                let expected = format!("ids below vocab_size = {}", self.vocab);
                Err(self.fields.wrong(name, &expected, &id.to_string()))
            }
            None => Ok(()),
        }
    }
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
