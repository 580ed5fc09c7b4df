//! The architectures: what each reads in config.json, and of which parts its decoder is made.
//!
//! A family is a file here: a [`Family`] that says how its decoder differs from the others and reads what its
//! configuration alone has. The forward pass is shared: [`Decoder`](crate::Decoder).

mod gemma;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen;
mod windows;

use burn::tensor::Device;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Dtypes};
use crate::config::{Activation, Architecture, Config};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::fields::Fields;
use crate::lm::Model;

/// An architecture: its names, its parts, and how its configuration is read and written.
#[derive(Debug)]
pub(crate) struct Family {
    pub architecture: Architecture,
    /// The name in `architectures` of config.json.
    pub name: &'static str,
    /// That name in a checkpoint without an output matrix.
    pub base_name: &'static str,
    /// The name in `model_type` of config.json.
    pub model_type: &'static str,
    pub parts: Parts,
    pub defaults: Defaults,
    /// Reads config.json: [`common`](crate::config::common::common), and what this family alone has.
    pub read: fn(&Fields<'_>) -> Result<Config, ModelError>,
    /// The keys of config.json that this family alone has.
    pub write: fn(&Config) -> Value,
    /// Puts what this family alone has into a small configuration.
    pub small: fn(Config) -> Config,
}

/// How a decoder differs from Llama's where no configuration says so.
#[derive(Debug)]
pub(crate) struct Parts {
    pub norms: Norms,
    /// What is added to the weight of a norm before it multiplies.
    pub norm_offset: f64,
    pub qk_norm: Option<QkNorm>,
    /// Query, key and value projections are one matrix, gate and up projections another.
    pub fused: bool,
    /// Embeddings are multiplied by the square root of the width.
    pub scaled_embedding: bool,
}

/// Where the norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norms {
    /// Before attention and before the feed-forward part.
    Before,
    /// Behind both, before what they give is added to the stream.
    Behind,
    /// Before and behind both.
    Around,
}

/// What queries and keys are normed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkNorm {
    /// Each head by itself.
    Head,
    /// All heads together.
    Projection,
}

/// What config.json means where it says nothing: the defaults of the configuration in transformers.
#[derive(Debug)]
pub(crate) struct Defaults {
    pub context: usize,
    /// As many as query heads where there is no number.
    pub kv_heads: Option<usize>,
    /// The width over the number of heads where there is no number.
    pub head_dim: Option<usize>,
    pub norm_eps: f64,
    pub tied: bool,
    /// The key that names the activation.
    pub activation_key: &'static str,
    pub activation: Activation,
}

/// Llama's.
const PARTS: Parts =
    Parts { norms: Norms::Before, norm_offset: 0.0, qk_norm: None, fused: false, scaled_embedding: false };

/// Those of most families.
const DEFAULTS: Defaults = Defaults {
    context: 2048,
    kv_heads: None,
    head_dim: None,
    norm_eps: 1e-6,
    tied: false,
    activation_key: "hidden_act",
    activation: Activation::Silu,
};

impl Architecture {
    pub(crate) fn family(self) -> &'static Family {
        match self {
            Architecture::Llama => &llama::LLAMA,
            Architecture::Mistral => &mistral::MISTRAL,
            Architecture::Qwen2 => &qwen::QWEN2,
            Architecture::Qwen3 => &qwen::QWEN3,
            Architecture::Gemma2 => &gemma::GEMMA2,
            Architecture::Gemma3 => &gemma::GEMMA3,
            Architecture::Phi3 => &phi3::PHI3,
            Architecture::Olmo2 => &olmo2::OLMO2,
        }
    }
}

/// A model with the weights of a checkpoint, and its configuration as the checkpoint has it: what it holds may
/// overrule what its configuration says.
pub(crate) fn load(
    config: &Config,
    checkpoint: &mut Checkpoint<'_>,
    device: &Device,
    dtypes: Dtypes,
) -> Result<(Box<Model>, Config), ModelError> {
    let decoder = Decoder::build(config, checkpoint, device, dtypes)?;
    let config = decoder.config().clone();
    Ok((Box::new(decoder), config))
}
