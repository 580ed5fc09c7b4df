//! The decoder that Llama and its kin share.

use std::ops::Range;
use std::path::Path;

use brenier_residual::{Batch, KvCache, ResidualError, ResidualModel, Site, Spec, Tap};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::attention::{Attention, HeadShape, Step};
use crate::checkpoint::{Checkpoint, Dtypes, Read};
use crate::config::Config;
use crate::error::ModelError;
use crate::layers::{Embedding, Linear, Mlp, RmsNorm};
use crate::rope::Frequencies;
use crate::weights::{Fresh, Parameters};

/// A decoder-only transformer with pre-norm blocks. Its module tree has the names of Hugging Face checkpoints:
/// `model.layers.0.self_attn.q_proj.weight`.
///
/// Gradients flow through [`embed`](ResidualModel::embed), [`blocks`](ResidualModel::blocks) and
/// [`unembed`](ResidualModel::unembed) on a device with autodiff.
///
/// ```
/// use brenier_model::{Architecture, Config, Decoder};
/// use brenier_residual::{Batch, ResidualModel, Row};
/// use burn::tensor::Device;
///
/// let device = Device::flex();
/// let decoder = Decoder::init(&Config::small(Architecture::Llama), 7, &device);
/// let batch = Batch::new(&[Row::prompt(&[1, 2, 3]), Row::prompt(&[4])], &device)?;
/// assert_eq!(decoder.forward(&batch, None, &mut ())?.dims(), [2, 3, 256]);
/// # Ok::<(), brenier_residual::ResidualError>(())
/// ```
#[derive(Module, Debug)]
pub struct Decoder {
    /// Everything below the output matrix.
    pub model: Trunk,
    /// The output matrix; absent where the embedding table serves.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    config: Config,
    #[module(skip)]
    spec: Spec,
    #[module(skip)]
    frequencies: Frequencies,
}

/// Embedding, blocks and final norm.
#[derive(Module, Debug)]
pub struct Trunk {
    /// The embedding table.
    pub embed_tokens: Embedding,
    /// The blocks, in order.
    pub layers: Vec<Block>,
    /// The final norm, part of unembedding here.
    pub norm: RmsNorm,
}

/// One decoder block: attention and feed-forward part, each behind its norm, each adding to the stream.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward part.
    pub post_attention_layernorm: RmsNorm,
    /// Feed-forward part.
    pub mlp: Mlp,
}

impl Decoder {
    /// Fresh f32 weights: normal with the configuration's `initializer_range`, norms one, biases zero. The same
    /// seed gives the same weights on every device.
    #[must_use]
    pub fn init(config: &Config, seed: u64, device: &Device) -> Self {
        let dtypes = Dtypes { weights: DType::F32, activations: DType::F32 };
        match Self::build(config, &mut Fresh::new(config, seed, device), device, dtypes) {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }

    /// Reads the decoder of a directory, for training it: [`LanguageModel`](crate::LanguageModel) reads what stands
    /// beside it too, and any architecture. Weights are cast to `dtype`.
    ///
    /// # Errors
    /// As [`LanguageModel::load`](crate::LanguageModel::load).
    pub fn load(dir: &Path, device: &Device, dtype: DType) -> Result<Self, ModelError> {
        let config = Config::read(&dir.join("config.json"))?;
        let dtypes = Dtypes::on(device, dtype)?;
        let mut checkpoint = Checkpoint::open(dir, device, dtypes, Read::Values)?;
        let decoder = Self::build(&config, &mut checkpoint, device, dtypes)?;
        checkpoint.finish(&config)?;
        Ok(decoder)
    }

    /// A decoder whose parameters come from `parameters`, asked for by their checkpoint names.
    pub(crate) fn build<P: Parameters>(
        config: &Config,
        parameters: &mut P,
        device: &Device,
        dtypes: Dtypes,
    ) -> Result<Self, P::Error> {
        let Config { hidden, vocab, .. } = *config;
        let embed_tokens = Embedding { weight: parameters.embedding([vocab, hidden], config.tied)? };
        let layers = (0..config.layers)
            .map(|layer| Block::build(config, parameters, layer))
            .collect::<Result<_, _>>()?;
        let norm = norm(config, parameters, "model.norm")?;
        let head = parameters.head([vocab, hidden], config.tied)?;
        let lm_head = head.map(|weight| Linear { weight, bias: None });
        Ok(Self {
            model: Trunk { embed_tokens, layers, norm },
            // What the checkpoint holds may overrule the configuration.
            config: Config { tied: lm_head.is_none(), ..config.clone() },
            lm_head,
            spec: Spec {
                architecture: config.architecture.name().to_owned(),
                // `Config::check` keeps the number of layers within u16.
                layers: u16::try_from(config.layers).unwrap_or(u16::MAX),
                hidden,
                vocab,
                context: config.context,
                device: device.clone(),
                dtype: dtypes.activations,
                weights: dtypes.weights,
            },
            frequencies: Frequencies::new(&config.rope, config.head_dim),
        })
    }

    /// The configuration that this decoder was built from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// This decoder without autodiff, for running after (or in the middle of) training.
    #[must_use]
    pub fn for_inference(&self) -> Self {
        let mut decoder = self.valid();
        decoder.spec.device = decoder.spec.device.inner();
        decoder
    }

    /// Writes the weights as one safetensors file under their checkpoint names.
    ///
    /// # Errors
    /// The file cannot be written, or `dtype` is none of F32, F16 and BF16.
    pub fn save_safetensors(&self, path: &Path, dtype: DType) -> Result<(), ModelError> {
        crate::weights::save(self, path, dtype)
    }

    fn step(&self, batch: &Batch) -> Step {
        Step { rotation: self.frequencies.rotation(batch, self.spec.dtype), hidden: batch.hidden() }
    }
}

impl ResidualModel for Decoder {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        batch.check(&self.spec)?;
        Ok(self.model.embed_tokens.forward(batch.ids(), self.spec.dtype))
    }

    fn blocks(
        &self,
        layers: Range<u16>,
        mut x: Tensor<3>,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        let step = self.step(batch);
        let count = usize::from(layers.end.saturating_sub(layers.start));
        for (layer, block) in self.model.layers.iter().enumerate().skip(usize::from(layers.start)).take(count)
        {
            let found = cache.as_ref().map_or(0, |cache| cache.tokens(layer));
            if found != batch.past() {
                return Err(ResidualError::CacheLength { expected: batch.past(), found });
            }
            x = block.forward(layer, x, &step, cache.as_deref_mut(), batch, tap)?;
        }
        Ok(x)
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.model.norm.forward(x);
        match &self.lm_head {
            Some(head) => head.forward(x),
            None => self.model.embed_tokens.unembed(x),
        }
    }
}

impl Block {
    fn build<P: Parameters>(config: &Config, parameters: &mut P, layer: usize) -> Result<Self, P::Error> {
        let Config {
            hidden, intermediate, heads, kv_heads, head_dim, qkv_bias, output_bias, mlp_bias, ..
        } = *config;
        let (query, key) = (heads * head_dim, kv_heads * head_dim);
        let at = |part: &str| format!("model.layers.{layer}.{part}");
        Ok(Self {
            input_layernorm: norm(config, parameters, &at("input_layernorm"))?,
            self_attn: Attention {
                q_proj: linear(parameters, &at("self_attn.q_proj"), [query, hidden], qkv_bias)?,
                k_proj: linear(parameters, &at("self_attn.k_proj"), [key, hidden], qkv_bias)?,
                v_proj: linear(parameters, &at("self_attn.v_proj"), [key, hidden], qkv_bias)?,
                o_proj: linear(parameters, &at("self_attn.o_proj"), [hidden, query], output_bias)?,
                shape: HeadShape { heads, kv_heads, head_dim },
            },
            post_attention_layernorm: norm(config, parameters, &at("post_attention_layernorm"))?,
            mlp: Mlp {
                gate_proj: linear(parameters, &at("mlp.gate_proj"), [intermediate, hidden], mlp_bias)?,
                up_proj: linear(parameters, &at("mlp.up_proj"), [intermediate, hidden], mlp_bias)?,
                down_proj: linear(parameters, &at("mlp.down_proj"), [hidden, intermediate], mlp_bias)?,
            },
        })
    }

    fn forward(
        &self,
        layer: usize,
        x: Tensor<3>,
        step: &Step,
        cache: Option<&mut KvCache>,
        batch: &Batch,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        let mut see = |site: Site, x: Tensor<3>| {
            // Layers are fewer than u16::MAX: `Config::check`.
            tap.see(site.at(layer as u16), batch, x)
        };
        let x = see(Site::ResidPre, x)?;
        let attention = self.self_attn.forward(layer, self.input_layernorm.forward(x.clone()), step, cache);
        let x = x + see(Site::AttnOut, attention)?;
        let x = see(Site::ResidMid, x)?;
        let mlp = self.mlp.forward(self.post_attention_layernorm.forward(x.clone()));
        let x = x + see(Site::MlpOut, mlp)?;
        see(Site::ResidPost, x)
    }
}

fn linear<P: Parameters>(
    parameters: &mut P,
    name: &str,
    shape: [usize; 2],
    bias: bool,
) -> Result<Linear, P::Error> {
    Ok(Linear {
        weight: parameters.matrix(&format!("{name}.weight"), shape)?,
        bias: if bias { Some(parameters.bias(&format!("{name}.bias"), shape[0])?) } else { None },
    })
}

fn norm<P: Parameters>(config: &Config, parameters: &mut P, name: &str) -> Result<RmsNorm, P::Error> {
    let weight = parameters.gain(&format!("{name}.weight"), config.hidden)?;
    Ok(RmsNorm { weight, eps: config.norm_eps })
}
