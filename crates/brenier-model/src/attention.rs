//! Grouped-query attention over a batch that is padded on the left.

use brenier_residual::{Batch, KvCache, Sight};
use burn::module::Module;
use burn::tensor::{DType, Tensor, activation};

use crate::families::QkNorm;
use crate::layers::{Linear, RmsNorm, widen};
use crate::rope::Rotation;

/// A score so low that its weight is exactly zero beside any other, and finite: a padding token, which may look
/// nowhere, gets some average and not NaN.
const LOWEST: f64 = -1e30;

/// Scores that exist at once: 64 MiB of f32.
const AT_ONCE: usize = 1 << 24;

/// Causal self-attention: `softmax(scale q k^T) v`, heads in groups that share keys and values, in some layers within a
/// window.
///
/// Rotation, scores and softmax are computed at least in f32, whatever the dtype of the model: products of queries
/// and keys of real checkpoints exceed the range of f16.
#[derive(Module, Debug)]
pub struct Attention {
    /// The matrices of queries, keys and values.
    pub qkv: Qkv,
    /// `heads * head_dim` to `hidden`.
    pub o_proj: Linear,
    /// Norm of the queries, where the family has one.
    pub q_norm: Option<RmsNorm>,
    /// Norm of the keys, where the family has one.
    pub k_norm: Option<RmsNorm>,
    #[module(skip)]
    pub(crate) settings: Settings,
}

/// Query, key and value projections of a checkpoint.
#[derive(Module, Debug)]
pub enum Qkv {
    /// A matrix each.
    Separate(SeparateQkv),
    /// One matrix.
    Fused(FusedQkv),
}

/// Query, key and value projections with a matrix each.
#[derive(Module, Debug)]
pub struct SeparateQkv {
    /// `hidden` to `heads * head_dim`.
    pub q_proj: Linear,
    /// `hidden` to `kv_heads * head_dim`.
    pub k_proj: Linear,
    /// `hidden` to `kv_heads * head_dim`.
    pub v_proj: Linear,
}

/// Query, key and value projections in one matrix.
#[derive(Module, Debug)]
pub struct FusedQkv {
    /// `hidden` to `(heads + 2 kv_heads) * head_dim`: queries, keys, values.
    pub qkv_proj: Linear,
}

/// What an attention layer is told by the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f64,
    pub softcap: Option<f64>,
    pub window: Option<usize>,
    pub qk_norm: Option<QkNorm>,
    /// Which rotation of a step is this layer's.
    pub rotation: usize,
}

/// What all layers share in one step of a batch.
pub(crate) struct Step<'a> {
    pub batch: &'a Batch,
    pub rotations: Vec<Rotation>,
}

impl Attention {
    pub(crate) fn forward(
        &self,
        layer: usize,
        x: Tensor<3>,
        step: &Step<'_>,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let [rows, tokens, _] = x.dims();
        let Settings { heads, kv_heads, head_dim, scale, .. } = self.settings;
        let dtype = x.dtype();
        let (q, k, v) = self.project(x);
        let q = self.rotated(q, self.q_norm.as_ref(), heads, step) * scale;
        // The cache holds keys in the dtype of the model; without one they are rounded all the same.
        let k = self.rotated(k, self.k_norm.as_ref(), kv_heads, step).cast(dtype).swap_dims(1, 2);
        let v = v.reshape([rows, tokens, kv_heads, head_dim]).swap_dims(1, 2);
        let (k, v) = match cache {
            Some(cache) => cache.extend(layer, k, v),
            None => (k, v),
        };
        let mixed = self.mix(q.swap_dims(1, 2), k, v, step.batch, dtype);
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([rows, tokens, heads * head_dim]))
    }

    fn project(&self, x: Tensor<3>) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        match &self.qkv {
            Qkv::Separate(SeparateQkv { q_proj, k_proj, v_proj }) => {
                (q_proj.forward(x.clone()), k_proj.forward(x.clone()), v_proj.forward(x))
            }
            Qkv::Fused(FusedQkv { qkv_proj }) => {
                let Settings { heads, kv_heads, head_dim, .. } = self.settings;
                let (query, key) = (heads * head_dim, kv_heads * head_dim);
                let all = qkv_proj.forward(x);
                let part = |start, width| all.clone().narrow(2, start, width);
                (part(0, query), part(query, key), part(query + key, key))
            }
        }
    }

    /// Splits into heads, norms and rotates: `[rows, tokens, heads, head_dim]`.
    fn rotated(&self, x: Tensor<3>, norm: Option<&RmsNorm>, heads: usize, step: &Step<'_>) -> Tensor<4> {
        let [rows, tokens, _] = x.dims();
        let split = |x: Tensor<3>| x.reshape([rows, tokens, heads, self.settings.head_dim]);
        let x = match (norm, self.settings.qk_norm) {
            (Some(norm), Some(QkNorm::Projection)) => split(norm.forward(x)),
            (Some(norm), _) => norm.forward(split(x)),
            (None, _) => split(x),
        };
        step.rotations[self.settings.rotation].rotate(widen(x))
    }

    /// Mixes values, some rows or some queries at once, so that scores of all do not exist together.
    ///
    /// # Shapes
    /// `q` and the result: `[rows, heads, tokens, head_dim]`; `k`, `v`: `[rows, kv_heads, columns, head_dim]`.
    fn mix(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, batch: &Batch, dtype: DType) -> Tensor<4> {
        let [rows, heads, tokens, _] = q.dims();
        let queries = self.queries_at_once(heads, tokens, k.dims()[2]);
        let mut blocks = Vec::new();
        for start in (0..tokens).step_by(queries) {
            let queries = start..tokens.min(start + queries);
            let Sight { columns, hidden } = batch.sight(queries.clone(), self.settings.window);
            let rows_at_once = (AT_ONCE / (heads * queries.len() * columns.len())).clamp(1, rows);
            let (q, k, v) = (
                part(q.clone(), 2, queries.start, queries.len()),
                part(k.clone(), 2, columns.start, columns.len()),
                part(v.clone(), 2, columns.start, columns.len()),
            );
            let mut parts = Vec::new();
            for start in (0..rows).step_by(rows_at_once) {
                let count = rows_at_once.min(rows - start);
                let of_rows = |x: &Tensor<4>| part(x.clone(), 0, start, count);
                let hidden = hidden.as_ref().map(|hidden| match hidden.dims()[0] {
                    1 => hidden.clone(),
                    _ => hidden.clone().narrow(0, start, count),
                });
                parts.push(self.mix_block(of_rows(&q), of_rows(&k), of_rows(&v), hidden, dtype));
            }
            blocks.push(joined(parts, 0));
        }
        joined(blocks, 2)
    }

    /// Queries whose scores exist at once; with a window no more than it takes to read few columns twice.
    fn queries_at_once(&self, heads: usize, tokens: usize, columns: usize) -> usize {
        const FEWEST: usize = 256;
        let of_window = self.settings.window.map_or(tokens, |window| window.max(FEWEST));
        let columns = self.settings.window.map_or(columns, |window| columns.min(window + of_window));
        (AT_ONCE / (heads * columns)).min(of_window).clamp(1, tokens)
    }

    fn mix_block(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        hidden: Option<Tensor<4, burn::tensor::Bool>>,
        dtype: DType,
    ) -> Tensor<4> {
        let [rows, heads, queries, head_dim] = q.dims();
        let [_, kv_heads, columns, _] = k.dims();
        // The query heads of a group become rows of their key head: every product stays a plain batched one.
        let group = heads / kv_heads * queries;
        let q = q.reshape([rows, kv_heads, group, head_dim]);
        let scores = q.matmul(widen(k).swap_dims(2, 3)).reshape([rows, heads, queries, columns]);
        let scores = match self.settings.softcap {
            Some(cap) => (scores / cap).tanh() * cap,
            None => scores,
        };
        let scores = match hidden {
            Some(hidden) => scores.mask_fill(hidden.expand([rows, heads, queries, columns]), LOWEST),
            None => scores,
        };
        let weights = activation::softmax(scores, 3).cast(dtype).reshape([rows, kv_heads, group, columns]);
        weights.matmul(v).reshape([rows, heads, queries, head_dim])
    }
}

/// A part of a tensor; the tensor itself where it is all of it.
fn part(x: Tensor<4>, dim: usize, start: usize, length: usize) -> Tensor<4> {
    if length == x.dims()[dim] { x } else { x.narrow(dim, start, length) }
}

fn joined(mut parts: Vec<Tensor<4>>, dim: usize) -> Tensor<4> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, dim) }
}
