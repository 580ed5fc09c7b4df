//! A burn model that knows nothing of Brenier, hooked: `cargo run --release -p brenier --example foreign_model`.
//!
//! `gpt` stands for a model of your own. What it takes to capture from it, to edit it and to read its logits is the
//! `impl ResidualModel` below.

use std::error::Error;
use std::ops::Range;

use brenier::capture::{Request, capture};
use brenier::hooks::{Edit, Intervention};
use brenier::residual::{
    Batch, DType, Device, HookPoint, KvCache, ResidualError, ResidualModel, Row, Site, Spec, Tap, Tensor,
    logit_lens,
};

pub(crate) struct Hooked {
    pub(crate) model: gpt::Gpt,
    spec: Spec,
}

impl Hooked {
    pub(crate) fn new(model: gpt::Gpt, device: &Device) -> Self {
        let ([vocab, hidden], [context, _]) = (model.words.weight.dims(), model.places.weight.dims());
        let (architecture, layers) = ("Gpt".to_owned(), model.blocks.len() as u16);
        let (device, dtype, weights) = (device.clone(), DType::F32, DType::F32);
        let spec = Spec { architecture, layers, hidden, vocab, context, device, dtype, weights };
        Self { model, spec }
    }
}

impl ResidualModel for Hooked {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        batch.check(&self.spec)?;
        Ok(self.model.words.forward(batch.ids()) + self.model.places.forward(batch.positions()))
    }

    fn blocks(
        &self,
        layers: Range<u16>,
        mut x: Tensor<3>,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        let hidden = batch.sight(0..batch.tokens(), None).hidden;
        for layer in layers {
            let (index, expected) = (usize::from(layer), batch.past());
            let (block, found) =
                (&self.model.blocks[index], cache.as_ref().map_or(0, |cache| cache.tokens(index)));
            if found != expected {
                return Err(ResidualError::CacheLength { expected, found });
            }
            x = tap.see(HookPoint::resid_pre(layer), batch, x)?;
            let [q, k, v] = block.heads(block.norm_1.forward(x.clone()));
            let (k, v) = match cache.as_deref_mut() {
                Some(cache) => cache.extend(index, k, v),
                None => (k, v),
            };
            let attention =
                tap.see(HookPoint::attn_out(layer), batch, block.attend(q, k, v, hidden.clone()))?;
            x = tap.see(HookPoint::resid_mid(layer), batch, x + attention)?;
            let mlp =
                tap.see(HookPoint::mlp_out(layer), batch, block.mlp(block.norm_2.forward(x.clone())))?;
            x = tap.see(HookPoint::resid_post(layer), batch, x + mlp)?;
        }
        Ok(x)
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        self.model.head.forward(self.model.norm.forward(x))
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let model = Hooked::new(gpt::Gpt::new(48, 32, 4, 16, &device), &device);
    let layers = model.spec().layers;
    let prompts = [vec![3, 14, 15, 9, 2], vec![6, 5]];

    // Activations of both prompts at every block.
    let request = Request { points: Site::ResidPost.all_layers(layers).collect(), ..Request::default() };
    for (name, rows) in capture(&model, &prompts, &request, &mut (), &mut |_| {})?.tensors {
        println!("{name}: {} rows of {}", rows.nrows(), rows.ncols());
    }

    // The likeliest next token by layer, as the model is and with a steering vector added at block 1.
    let batch = Batch::new(&[Row::prompt(&prompts[0])], &device)?;
    let steer = Edit { strength: 8.0, ..Edit::add(HookPoint::resid_mid(1), vec![1.0; 32])? };
    let mut steer = Intervention::new(model.spec(), &[steer])?;
    let lens = |tap: &mut dyn Tap| logit_lens(&model, &batch, Site::ResidPost.all_layers(layers), tap);
    for ((at, before), (_, after)) in lens(&mut ())?.into_iter().zip(lens(&mut steer)?) {
        let best = |logits: Tensor<2>| logits.argmax(1).into_scalar::<i64>();
        println!("{at}: token {}, steered {}", best(before), best(after));
    }
    Ok(())
}

/// A small GPT in plain burn.
pub(crate) mod gpt {
    use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::{Bool, Device, Tensor, activation};

    pub(crate) struct Gpt {
        pub(crate) words: Embedding,
        pub(crate) places: Embedding,
        pub(crate) blocks: Vec<Block>,
        pub(crate) norm: LayerNorm,
        pub(crate) head: Linear,
    }

    pub(crate) struct Block {
        pub(crate) norm_1: LayerNorm,
        pub(crate) qkv: Linear,
        pub(crate) out: Linear,
        pub(crate) norm_2: LayerNorm,
        pub(crate) up: Linear,
        pub(crate) down: Linear,
    }

    const HEADS: usize = 4;

    impl Gpt {
        pub(crate) fn new(
            vocab: usize,
            width: usize,
            layers: usize,
            context: usize,
            device: &Device,
        ) -> Self {
            let norm = || LayerNormConfig::new(width).init(device);
            let linear = |from, to| LinearConfig::new(from, to).init(device);
            let block = |_| Block {
                norm_1: norm(),
                qkv: linear(width, 3 * width),
                out: linear(width, width),
                norm_2: norm(),
                up: linear(width, 4 * width),
                down: linear(4 * width, width),
            };
            Self {
                words: EmbeddingConfig::new(vocab, width).init(device),
                places: EmbeddingConfig::new(context, width).init(device),
                blocks: (0..layers).map(block).collect(),
                norm: norm(),
                head: linear(width, vocab),
            }
        }
    }

    impl Block {
        /// Queries, keys and values, `[rows, heads, tokens, width / heads]`.
        pub(crate) fn heads(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
            let [rows, tokens, width] = x.dims();
            let all = self.qkv.forward(x).reshape([rows, tokens, 3 * HEADS, width / HEADS]).swap_dims(1, 2);
            [0, 1, 2].map(|part| all.clone().narrow(1, part * HEADS, HEADS))
        }

        /// `hidden` says where a token must not look, `[rows, 1, tokens, columns]`.
        pub(crate) fn attend(
            &self,
            q: Tensor<4>,
            k: Tensor<4>,
            v: Tensor<4>,
            hidden: Option<Tensor<4, Bool>>,
        ) -> Tensor<3> {
            let [rows, heads, tokens, width] = q.dims();
            let scores = q.matmul(k.swap_dims(2, 3)) / (width as f64).sqrt();
            let scores = match hidden {
                Some(hidden) => {
                    let shape = scores.dims();
                    scores.mask_fill(hidden.expand(shape), -1e30)
                }
                None => scores,
            };
            let mixed = activation::softmax(scores, 3).matmul(v).swap_dims(1, 2);
            self.out.forward(mixed.reshape([rows, tokens, heads * width]))
        }

        pub(crate) fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
            self.down.forward(activation::gelu(self.up.forward(x)))
        }
    }
}
