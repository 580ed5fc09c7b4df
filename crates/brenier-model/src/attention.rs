//! Grouped-query attention over a batch that is padded on the left.

use brenier_residual::KvCache;
use burn::module::Module;
use burn::tensor::{Bool, Tensor, activation};

use crate::layers::{Linear, widen};
use crate::rope::Rotation;

/// A score so low that its weight is exactly zero beside any other, and finite: a padding token, which may look
/// nowhere, gets some average and not NaN.
const LOWEST: f64 = -1e30;

/// Causal self-attention: `softmax(q k^T / sqrt(head_dim)) v`, heads in groups that share keys and values.
///
/// Rotation, scores and softmax are computed at least in f32, whatever the dtype of the model: products of queries
/// and keys of real checkpoints exceed the range of f16.
#[derive(Module, Debug)]
pub struct Attention {
    /// `hidden` to `heads * head_dim`.
    pub q_proj: Linear,
    /// `hidden` to `kv_heads * head_dim`.
    pub k_proj: Linear,
    /// `hidden` to `kv_heads * head_dim`.
    pub v_proj: Linear,
    /// `heads * head_dim` to `hidden`.
    pub o_proj: Linear,
    #[module(skip)]
    pub(crate) shape: HeadShape,
}

/// Numbers and width of heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// What all layers share in one step of a batch.
pub(crate) struct Step {
    pub rotation: Rotation,
    /// `[rows, 1, tokens, columns]`; true where a token must not look.
    pub hidden: Option<Tensor<4, Bool>>,
}

impl Attention {
    pub(crate) fn forward(
        &self,
        layer: usize,
        x: Tensor<3>,
        step: &Step,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let [rows, tokens, _] = x.dims();
        let HeadShape { heads, kv_heads, head_dim } = self.shape;
        let dtype = x.dtype();
        let split = |x: Tensor<3>, heads: usize| x.reshape([rows, tokens, heads, head_dim]);
        let q = step.rotation.rotate(widen(split(self.q_proj.forward(x.clone()), heads)));
        let k = step.rotation.rotate(widen(split(self.k_proj.forward(x.clone()), kv_heads)));
        let v = split(self.v_proj.forward(x), kv_heads).swap_dims(1, 2);
        // The cache holds keys in the dtype of the model; without one they are rounded all the same.
        let k = k.cast(dtype).swap_dims(1, 2);
        let (k, v) = match cache {
            Some(cache) => cache.extend(layer, k, v),
            None => (k, v),
        };
        let columns = k.dims()[2];

        // The query heads of a group become rows of their key head: every product stays a plain batched one.
        let group = heads / kv_heads * tokens;
        let q = (q / (head_dim as f64).sqrt()).swap_dims(1, 2).reshape([rows, kv_heads, group, head_dim]);
        let scores = q.matmul(widen(k).swap_dims(2, 3)).reshape([rows, heads, tokens, columns]);
        let scores = match &step.hidden {
            Some(hidden) => scores.mask_fill(hidden.clone().expand([rows, heads, tokens, columns]), LOWEST),
            None => scores,
        };
        let weights = activation::softmax(scores, 3).cast(dtype).reshape([rows, kv_heads, group, columns]);
        let mixed = weights.matmul(v).reshape([rows, heads, tokens, head_dim]).swap_dims(1, 2);
        self.o_proj.forward(mixed.reshape([rows, tokens, heads * head_dim]))
    }
}
