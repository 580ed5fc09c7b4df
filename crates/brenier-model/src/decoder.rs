//! The decoder that all families share.

use std::ops::Range;
use std::path::Path;

use brenier_residual::{Batch, KvCache, ResidualError, ResidualModel, Site, Spec, Tap};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::attention::{Attention, FusedQkv, Qkv, SeparateQkv, Settings, Step};
use crate::checkpoint::{Checkpoint, Dtypes, Read};
use crate::config::Config;
use crate::error::ModelError;
use crate::families::{Family, Norms, QkNorm};
use crate::layers::{Embedding, FusedGateUp, GateUp, Linear, Mlp, RmsNorm, SeparateGateUp, rounded};
use crate::rope::Frequencies;
use crate::weights::{Fresh, Parameters};

/// A decoder-only transformer, made of the parts that its [architecture](crate::Architecture) has. Its module tree has
/// the names of Hugging Face checkpoints: `model.layers.0.self_attn.q_proj.weight`.
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
    /// Those of all layers, or of layers with full attention and of layers with a window.
    #[module(skip)]
    frequencies: Vec<Frequencies>,
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

/// One decoder block: attention and feed-forward part, each adding to the stream, with norms before or behind them.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub input_layernorm: Option<RmsNorm>,
    /// Attention.
    pub self_attn: Attention,
    /// Norm behind attention; in blocks without norms behind, that before the feed-forward part.
    pub post_attention_layernorm: RmsNorm,
    /// Norm before the feed-forward part, in blocks with norms before and behind.
    pub pre_feedforward_layernorm: Option<RmsNorm>,
    /// Feed-forward part.
    pub mlp: Mlp,
    /// Norm behind the feed-forward part, in blocks with norms behind.
    pub post_feedforward_layernorm: Option<RmsNorm>,
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
        let norm = norm(config, parameters, "model.norm", hidden)?;
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
            frequencies: std::iter::once(&config.rope)
                .chain(&config.local_rope)
                .map(|rope| Frequencies::new(rope, config.head_dim))
                .collect(),
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

    fn step<'a>(&self, batch: &'a Batch) -> Step<'a> {
        let rotation = |frequencies: &Frequencies| frequencies.rotation(batch, self.spec.dtype);
        Step { rotations: self.frequencies.iter().map(rotation).collect(), batch }
    }

    /// The number of tokens that some row grows beyond in this step and from where on its tokens are read otherwise.
    fn switch(&self, batch: &Batch) -> Option<usize> {
        let grows = |row: usize, beyond: usize| {
            let span = batch.span(row);
            0 < span.start && span.start <= beyond && beyond < span.end
        };
        let mut switches = self.frequencies.iter().filter_map(Frequencies::switch);
        switches.find(|&beyond| (0..batch.rows()).any(|row| grows(row, beyond)))
    }
}

impl ResidualModel for Decoder {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        batch.check(&self.spec)?;
        let x = self.model.embed_tokens.forward(batch.ids(), self.spec.dtype);
        if !self.config.architecture.family().parts.scaled_embedding {
            return Ok(x);
        }
        // Rounded to the dtype of the model, as in transformers.
        let scale = rounded((self.config.hidden as f64).sqrt(), x.dtype());
        Ok(x * scale)
    }

    fn rereads(&self, batch: &Batch) -> bool {
        self.switch(batch).is_some()
    }

    fn blocks(
        &self,
        layers: Range<u16>,
        mut x: Tensor<3>,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        if let Some(tokens) = self.switch(batch) {
            return Err(ResidualError::StaleCache { tokens });
        }
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
        let logits = match &self.lm_head {
            Some(head) => head.forward(x),
            None => self.model.embed_tokens.unembed(x),
        };
        match self.config.final_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}

impl Block {
    fn build<P: Parameters>(config: &Config, parameters: &mut P, layer: usize) -> Result<Self, P::Error> {
        let hidden = config.hidden;
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let mut norm = |part: &str| norm(config, parameters, &name(part), hidden);
        let norms = config.architecture.family().parts.norms;
        let input_layernorm = if norms == Norms::Behind { None } else { Some(norm("input_layernorm")?) };
        let post_attention_layernorm = norm("post_attention_layernorm")?;
        let pre_feedforward_layernorm =
            if norms == Norms::Around { Some(norm("pre_feedforward_layernorm")?) } else { None };
        let post_feedforward_layernorm =
            if norms == Norms::Before { None } else { Some(norm("post_feedforward_layernorm")?) };
        Ok(Self {
            input_layernorm,
            self_attn: attention(config, parameters, layer, &name("self_attn"))?,
            post_attention_layernorm,
            pre_feedforward_layernorm,
            mlp: mlp(config, parameters, &name("mlp"))?,
            post_feedforward_layernorm,
        })
    }

    fn forward(
        &self,
        layer: usize,
        x: Tensor<3>,
        step: &Step<'_>,
        cache: Option<&mut KvCache>,
        batch: &Batch,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        let mut see = |site: Site, x: Tensor<3>| {
            // Layers are fewer than u16::MAX: `Config::check`.
            tap.see(site.at(layer as u16), batch, x)
        };
        let x = see(Site::ResidPre, x)?;
        let normed = |norm: Option<&RmsNorm>, x: Tensor<3>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        // The one norm between attention and feed-forward part stands before the latter.
        let (after_attention, before_mlp) = match &self.post_feedforward_layernorm {
            None => (None, Some(&self.post_attention_layernorm)),
            Some(_) => (Some(&self.post_attention_layernorm), self.pre_feedforward_layernorm.as_ref()),
        };
        let attention = normed(self.input_layernorm.as_ref(), x.clone());
        let attention = normed(after_attention, self.self_attn.forward(layer, attention, step, cache));
        let x = x + see(Site::AttnOut, attention)?;
        let x = see(Site::ResidMid, x)?;
        let mlp = self.mlp.forward(normed(before_mlp, x.clone()));
        let x = x + see(Site::MlpOut, normed(self.post_feedforward_layernorm.as_ref(), mlp))?;
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

fn norm<P: Parameters>(
    config: &Config,
    parameters: &mut P,
    name: &str,
    width: usize,
) -> Result<RmsNorm, P::Error> {
    let offset = config.architecture.family().parts.norm_offset;
    let weight = parameters.gain(&format!("{name}.weight"), width, (1.0 - offset) as f32)?;
    Ok(RmsNorm { weight, eps: config.norm_eps, offset })
}

fn attention<P: Parameters>(
    config: &Config,
    parameters: &mut P,
    layer: usize,
    name: &str,
) -> Result<Attention, P::Error> {
    let Config { hidden, heads, kv_heads, head_dim, qkv_bias, output_bias, .. } = *config;
    let Family { parts, .. } = config.architecture.family();
    let (query, key) = (heads * head_dim, kv_heads * head_dim);
    let mut projection = |part: &str, shape, bias| linear(parameters, &format!("{name}.{part}"), shape, bias);
    let qkv = if parts.fused {
        Qkv::Fused(FusedQkv { qkv_proj: projection("qkv_proj", [query + 2 * key, hidden], qkv_bias)? })
    } else {
        Qkv::Separate(SeparateQkv {
            q_proj: projection("q_proj", [query, hidden], qkv_bias)?,
            k_proj: projection("k_proj", [key, hidden], qkv_bias)?,
            v_proj: projection("v_proj", [key, hidden], qkv_bias)?,
        })
    };
    let o_proj = projection("o_proj", [hidden, query], output_bias)?;
    let widths = parts.qk_norm.map(|norm| match norm {
        QkNorm::Head => [head_dim, head_dim],
        QkNorm::Projection => [query, key],
    });
    let mut qk_norm = |part: &str, width: Option<usize>| {
        width.map(|width| norm(config, parameters, &format!("{name}.{part}"), width)).transpose()
    };
    Ok(Attention {
        qkv,
        o_proj,
        q_norm: qk_norm("q_norm", widths.map(|widths| widths[0]))?,
        k_norm: qk_norm("k_norm", widths.map(|widths| widths[1]))?,
        settings: Settings {
            heads,
            kv_heads,
            head_dim,
            scale: config.query_scalar.unwrap_or(head_dim as f64).sqrt().recip(),
            softcap: config.attention_softcap,
            // A window that no token can look beyond is none.
            window: config.window_of(layer).filter(|&tokens| tokens < config.context),
            qk_norm: parts.qk_norm,
            rotation: usize::from(config.local_rope.is_some() && config.window_of(layer).is_some()),
        },
    })
}

fn mlp<P: Parameters>(config: &Config, parameters: &mut P, name: &str) -> Result<Mlp, P::Error> {
    let Config { hidden, intermediate, mlp_bias, activation, .. } = *config;
    let mut projection = |part: &str, shape| linear(parameters, &format!("{name}.{part}"), shape, mlp_bias);
    let gate_up = if config.architecture.family().parts.fused {
        GateUp::Fused(FusedGateUp { gate_up_proj: projection("gate_up_proj", [2 * intermediate, hidden])? })
    } else {
        GateUp::Separate(SeparateGateUp {
            gate_proj: projection("gate_proj", [intermediate, hidden])?,
            up_proj: projection("up_proj", [intermediate, hidden])?,
        })
    };
    Ok(Mlp { gate_up, down_proj: projection("down_proj", [hidden, intermediate])?, activation })
}
