//! `config.json`: what a checkpoint says about its model.

pub(crate) mod common;
mod keys;
pub(crate) mod rope;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use self::rope::{Rope, RopeScaling};
use crate::error::ModelError;
use crate::families::{Family, Norms, Parts, QkNorm};
use crate::fields::Fields;

/// The architectures that this crate implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1 to 3.x, SmolLM.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, the text model.
    Gemma3,
    /// Phi-3 and 3.5, Phi-4.
    Phi3,
    /// OLMo 2.
    Olmo2,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 8] = [
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Gemma2,
        Architecture::Gemma3,
        Architecture::Phi3,
        Architecture::Olmo2,
    ];

    /// The name in `architectures` of config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.family().name
    }

    /// The name in `architectures` of config.json of a checkpoint without an output matrix.
    pub(crate) fn base_name(self) -> &'static str {
        self.family().base_name
    }

    /// The name in `model_type` of config.json.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        self.family().model_type
    }
}

/// The function between the matrices of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// GELU by way of tanh.
    GeluTanh,
}

impl Activation {
    pub(crate) const ALL: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

    /// The name in config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Activation::Silu),
            "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            _ => None,
        }
    }
}

/// Sliding-window attention: in some layers a token sees itself and at most `tokens - 1` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Tokens that a token sees, itself included.
    pub tokens: usize,
    /// Which layers have the window, all where there is no list; those beyond the end of a list have none.
    pub layers: Option<Vec<bool>>,
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
    /// Function of the feed-forward part.
    pub activation: Activation,
    /// Rotary position embedding.
    pub rope: Rope,
    /// That of layers with a window, where it is another one.
    pub local_rope: Option<Rope>,
    /// Sliding window, where some layer has one.
    pub window: Option<Window>,
    /// Attention scores are divided by the square root of this, or of `head_dim`.
    pub query_scalar: Option<f64>,
    /// Attention scores are bent to stay within this: `c tanh(s / c)`.
    pub attention_softcap: Option<f64>,
    /// Logits are bent to stay within this.
    pub final_softcap: Option<f64>,
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
        let mut config = (common::architecture(fields)?.family().read)(fields)?;
        config.context = config.rope.stretched(config.context);
        config.check(fields)?;
        keys::check_unread(fields)?;
        Ok(config)
    }

    /// A small model to start from; sizes are meant to be replaced.
    #[must_use]
    pub fn small(architecture: Architecture) -> Self {
        let Family { defaults, small, .. } = architecture.family();
        small(Self {
            architecture,
            vocab: 256,
            hidden: 64,
            intermediate: 128,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            context: 128,
            activation: defaults.activation,
            norm_eps: 1e-5,
            rope: Rope::default(),
            local_rope: None,
            window: None,
            query_scalar: None,
            attention_softcap: None,
            final_softcap: None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            tied: false,
            initializer_range: 0.02,
            bos: None,
            eos: Vec::new(),
            dtype: None,
        })
    }

    /// The window of a layer.
    #[must_use]
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        let Window { tokens, layers } = self.window.as_ref()?;
        let windowed = |layers: &Vec<bool>| layers.get(layer).is_some_and(|&windowed| windowed);
        layers.as_ref().is_none_or(windowed).then_some(*tokens)
    }

    /// The rope of a layer.
    #[must_use]
    pub fn rope_of(&self, layer: usize) -> &Rope {
        match (&self.local_rope, self.window_of(layer)) {
            (Some(local), Some(_)) => local,
            _ => &self.rope,
        }
    }

    /// The content of `layer_types`.
    pub(crate) fn layer_types(&self) -> Vec<&'static str> {
        let kind = |windowed| if windowed { "sliding_attention" } else { "full_attention" };
        (0..self.layers).map(|layer| kind(self.window_of(layer).is_some())).collect()
    }

    /// The content of a `config.json`, in the layout that all versions of transformers read.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Family { defaults, write, .. } = self.architecture.family();
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
            "max_position_embeddings": self.rope.position_embeddings(self.context),
            defaults.activation_key: self.activation.name(),
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope.theta,
            "rope_scaling": self.rope.scaling(),
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
        if let (Some(json), Value::Object(own)) = (json.as_object_mut(), write(self)) {
            json.extend(own);
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
        let Parts { norms, qk_norm, .. } = self.architecture.family().parts;
        let norms = match norms {
            Norms::Before | Norms::Behind => 2,
            Norms::Around => 4,
        } * self.hidden
            + match qk_norm {
                None => 0,
                Some(QkNorm::Head) => 2 * self.head_dim,
                Some(QkNorm::Projection) => query + key,
            };
        self.layers * (attention + mlp + norms) + self.hidden + tables * self.vocab * self.hidden
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
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(fields.wrong("rms_norm_eps", "0 or more", &self.norm_eps.to_string()));
        }
        self.rope.check(fields, self.head_dim)?;
        self.local_rope.as_ref().map_or(Ok(()), |rope| rope.check(fields, self.head_dim))
    }
}
