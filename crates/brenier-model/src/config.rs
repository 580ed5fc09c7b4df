//! `config.json`: what a checkpoint says about its model.

pub(crate) mod common;
mod keys;
mod rope;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::ModelError;
use crate::fields::Fields;
use crate::{llama, qwen2};

/// The architectures that this crate implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1 to 3.x.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 2] = [Architecture::Llama, Architecture::Qwen2];

    /// The name in `architectures` of config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
        }
    }

    /// The name in `architectures` of config.json of a checkpoint without an output matrix.
    pub(crate) fn base_name(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaModel",
            Architecture::Qwen2 => "Qwen2Model",
        }
    }

    /// The name in `model_type` of config.json.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }
}

/// How positions are stretched beyond the context that a model was first trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// Ratio of the new context to the old.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a linear blend between.
    Llama3 {
        /// Ratio of the new context to the old.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context before stretching, in tokens.
        original_context: usize,
    },
}

/// Rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Stretching of positions.
    pub scaling: RopeScaling,
}

/// A decoder in numbers: `config.json` with defaults filled in and checked.
///
/// ```
/// use brenier_model::{Architecture, Config};
///
/// let config = Config { layers: 2, hidden: 16, ..Config::small(Architecture::Llama) };
/// let again = Config::from_json(&config.to_json())?;
/// assert_eq!((again.layers, again.hidden), (2, 16));
/// # Ok::<(), brenier_model::ModelError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which architecture.
    pub architecture: Architecture,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward part.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Most tokens that a row may have.
    pub context: usize,
    /// What is added to the mean square in RMS norms.
    pub norm_eps: f64,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub output_bias: bool,
    /// Whether the projections of the feed-forward part have biases.
    pub mlp_bias: bool,
    /// Whether the output matrix is the embedding table.
    pub tied: bool,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// First token of every text, where there is one.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// The dtype that the checkpoint names, e.g. `bfloat16`.
    pub dtype: Option<String>,
}

impl Config {
    /// Reads `config.json`. What is worth a warning in it, [`LanguageModel`](crate::LanguageModel) tells.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, names an architecture that is not implemented, has a field
    /// that is missing or unusable, contradicts itself, or asks for what the forward pass does not do.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        Self::from_fields(&Fields::new(path, &crate::fields::read_object(path)?))
    }

    /// Reads the content of a `config.json`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_json(json: &Value) -> Result<Self, ModelError> {
        let path = PathBuf::from("config.json");
        match json.as_object() {
            Some(object) => Self::from_fields(&Fields::new(&path, object)),
            None => Err(ModelError::Field {
                path,
                field: ".".to_owned(),
                expected: "a JSON object".to_owned(),
                found: crate::fields::kind(json),
            }),
        }
    }

    pub(crate) fn from_fields(fields: &Fields<'_>) -> Result<Self, ModelError> {
        let config = match common::architecture(fields)? {
            Architecture::Llama => llama::config(fields)?,
            Architecture::Qwen2 => qwen2::config(fields)?,
        };
        config.check(fields)?;
        keys::check_unread(fields)?;
        Ok(config)
    }

    /// A small model to start from; sizes are meant to be replaced.
    #[must_use]
    pub fn small(architecture: Architecture) -> Self {
        Self {
            architecture,
            vocab: 256,
            hidden: 64,
            intermediate: 128,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            context: 128,
            norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
            qkv_bias: architecture == Architecture::Qwen2,
            output_bias: false,
            mlp_bias: false,
            tied: false,
            initializer_range: 0.02,
            bos: None,
            eos: Vec::new(),
            dtype: None,
        }
    }

    /// The content of a `config.json`, in the layout that all versions of transformers read.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let scaling = match self.rope.scaling {
            RopeScaling::Default => Value::Null,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context,
            }),
        };
        let mut json = json!({
            "architectures": [self.architecture.name()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope.theta,
            "rope_scaling": scaling,
            "tie_word_embeddings": self.tied,
            "initializer_range": self.initializer_range,
            "bos_token_id": self.bos,
            "eos_token_id": match self.eos.as_slice() {
                [] => Value::Null,
                [one] => json!(one),
                many => json!(many),
            },
            "torch_dtype": self.dtype.as_deref().unwrap_or("float32"),
        });
        if self.architecture == Architecture::Llama {
            json["attention_bias"] = json!(self.qkv_bias);
            json["mlp_bias"] = json!(self.mlp_bias);
        }
        json
    }

    /// Parameters in all, the output matrix counted once where it is tied.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let bias = |used: bool, width: usize| if used { width } else { 0 };
        let attention = 2 * self.hidden * (query + key)
            + bias(self.qkv_bias, query + 2 * key)
            + bias(self.output_bias, self.hidden);
        let mlp =
            3 * self.hidden * self.intermediate + bias(self.mlp_bias, 2 * self.intermediate + self.hidden);
        let tables = if self.tied { 1 } else { 2 };
        self.layers * (attention + mlp + 2 * self.hidden) + self.hidden + tables * self.vocab * self.hidden
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), ModelError> {
        let sizes = [
            ("vocab_size", self.vocab),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.context),
        ];
        for (name, size) in sizes {
            if size == 0 {
                return Err(fields.wrong(name, "a positive number", "0"));
            }
            // Products of sizes are taken freely below; no model comes near this.
            if size > 1 << 28 {
                return Err(fields.wrong(name, "at most 268435456", &size.to_string()));
            }
        }
        if self.layers > usize::from(u16::MAX) {
            return Err(fields.wrong("num_hidden_layers", "at most 65535", &self.layers.to_string()));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", self.heads);
            return Err(fields.wrong("num_key_value_heads", &expected, &self.kv_heads.to_string()));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(fields.wrong("head_dim", "an even number", &self.head_dim.to_string()));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(fields.wrong("rms_norm_eps", "0 or more", &self.norm_eps.to_string()));
        }
        if !(self.rope.theta.is_finite() && self.rope.theta > 0.0) {
            return Err(fields.wrong("rope_theta", "a positive number", &self.rope.theta.to_string()));
        }
        match self.rope.scaling {
            RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. }
                if high_freq_factor <= low_freq_factor =>
            {
                let expected = format!("more than low_freq_factor = {low_freq_factor}");
                Err(fields.wrong("rope_scaling.high_freq_factor", &expected, &high_freq_factor.to_string()))
            }
            _ => Ok(()),
        }
    }
}
