//! Grouped-query attention over a batch that is padded on the left.

use brenier_residual::{Batch, KvCache, Sight};
use burn::module::Module;
use burn::tensor::{Bool, Tensor, activation};

use crate::families::QkNorm;
use crate::layers::{Linear, RmsNorm, widen};
use crate::rope::Rotation;

/// A score so low that its weight is exactly zero beside any other, and finite: a padding token, which may look
/// nowhere, gets some average and not NaN.
const LOWEST: f64 = -1e30;

/// Scores that exist at once: 16 MiB of f32, which allocators give out again and again without new pages.
const AT_ONCE: usize = 1 << 22;

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
#[expect(clippy::large_enum_variant, reason = "one a layer, and burn has no modules in boxes")]
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
        let mixed = self.settings.mix(q.swap_dims(1, 2), k, v, step.batch, AT_ONCE);
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
}

impl Settings {
    /// Mixes values, some rows or some queries at once: of the scores, `at_once` or those of one query in one row exist
    /// together.
    ///
    /// # Shapes
    /// `q` and the result: `[rows, heads, tokens, head_dim]`; `k`, `v`: `[rows, kv_heads, columns, head_dim]`.
    fn mix(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, batch: &Batch, at_once: usize) -> Tensor<4> {
        let [rows, heads, tokens, _] = q.dims();
        let queries = self.queries_at_once(heads, tokens, k.dims()[2], at_once);
        let mut blocks = Vec::new();
        for start in (0..tokens).step_by(queries) {
            let queries = start..tokens.min(start + queries);
            let Sight { columns, hidden } = batch.sight(queries.clone(), self.window);
            let rows_at_once = (at_once / (heads * queries.len() * columns.len())).clamp(1, rows);
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
                parts.push(self.mix_block(of_rows(&q), of_rows(&k), of_rows(&v), hidden));
            }
            blocks.push(joined(parts, 0));
        }
        joined(blocks, 2)
    }

    /// Queries whose scores exist at once; with a window no more than it takes to read few columns twice.
    fn queries_at_once(&self, heads: usize, tokens: usize, columns: usize, at_once: usize) -> usize {
        const FEWEST: usize = 256;
        let of_window = self.window.map_or(tokens, |window| window.max(FEWEST));
        let columns = self.window.map_or(columns, |window| columns.min(window + of_window));
        (at_once / (heads * columns)).min(of_window).clamp(1, tokens)
    }

    fn mix_block(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        hidden: Option<Tensor<4, Bool>>,
    ) -> Tensor<4> {
        let [rows, heads, queries, head_dim] = q.dims();
        let [_, kv_heads, columns, _] = k.dims();
        // The query heads of a group become rows of their key head: every product stays a plain batched one.
        let group = heads / kv_heads * queries;
        let q = q.reshape([rows, kv_heads, group, head_dim]);
        let scores = q.matmul(widen(k).swap_dims(2, 3)).reshape([rows, heads, queries, columns]);
        let scores = match self.softcap {
            Some(cap) => (scores / cap).tanh() * cap,
            None => scores,
        };
        let scores = match hidden {
            Some(hidden) => scores.mask_fill(hidden.expand([rows, heads, queries, columns]), LOWEST),
            None => scores,
        };
        let weights =
            activation::softmax(scores, 3).cast(v.dtype()).reshape([rows, kv_heads, group, columns]);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use brenier_residual::Row;
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// The definition, number by number in f64.
    fn mixed(settings: &Settings, [q, k, v]: [&Tensor<4>; 3], batch: &Batch) -> Vec<f32> {
        let numbers = |x: &Tensor<4>| x.clone().into_data().iter::<f64>().collect::<Vec<_>>();
        let Settings { heads, kv_heads, head_dim, softcap, window, .. } = *settings;
        let (columns, [q, k, v]) = (k.dims()[2], [q, k, v].map(numbers));
        let mut out = Vec::new();
        for row in 0..batch.rows() {
            for head in 0..heads {
                let of_head = row * kv_heads + head / (heads / kv_heads);
                let of = |x: &[f64], column: usize| {
                    x[(of_head * columns + column) * head_dim..][..head_dim].to_vec()
                };
                for token in 0..batch.tokens() {
                    let at = batch.past() + token;
                    let q = &q[((row * heads + head) * batch.tokens() + token) * head_dim..][..head_dim];
                    let seen =
                        (batch.padding(row)..=at).filter(|j| window.is_none_or(|window| at - j < window));
                    let weighted: Vec<(f64, Vec<f64>)> = seen
                        .map(|column| {
                            let score: f64 = q.iter().zip(of(&k, column)).map(|(q, k)| q * k).sum();
                            let score = softcap.map_or(score, |cap| cap * (score / cap).tanh());
                            (score.exp(), of(&v, column))
                        })
                        .collect();
                    let sum: f64 = weighted.iter().map(|(weight, _)| weight).sum();
                    let entry =
                        |i: usize| weighted.iter().map(|(weight, v)| weight * v[i]).sum::<f64>() / sum;
                    out.extend((0..head_dim).map(|i| if sum > 0.0 { entry(i) as f32 } else { f32::NAN }));
                }
            }
        }
        out
    }

    #[test]
    fn any_number_of_scores_at_once_gives_what_the_definition_says() {
        let device = Device::flex();
        device.seed(5);
        let ids: Vec<u32> = (0..9).collect();
        let prompt =
            Batch::new(&[Row::prompt(&ids), Row::prompt(&ids[..4]), Row::prompt(&ids[..8])], &device);
        let prompt = prompt.unwrap();
        let batches = [prompt.clone(), prompt.columns(5..9), prompt.next(&[1, 2, 3]).unwrap()];
        for (window, softcap) in [(None, None), (Some(3), None), (Some(1), Some(0.5)), (None, Some(0.5))] {
            let settings = Settings {
                heads: 4,
                kv_heads: 2,
                head_dim: 6,
                scale: 1.0,
                softcap,
                window,
                qk_norm: None,
                rotation: 0,
            };
            for batch in &batches {
                let random = |heads, columns| {
                    Tensor::random([batch.rows(), heads, columns, 6], Distribution::Normal(0.0, 1.0), &device)
                };
                let columns = batch.past() + batch.tokens();
                let (q, k, v) = (random(4, batch.tokens()), random(2, columns), random(2, columns));
                let expected = mixed(&settings, [&q, &k, &v], batch);
                for at_once in [1, 37, 80, 150, 400, 1000, AT_ONCE] {
                    let found = settings.mix(q.clone(), k.clone(), v.clone(), batch, at_once);
                    assert_eq!(found.dims(), q.dims());
                    for (found, expected) in found.into_data().iter::<f32>().zip(&expected) {
                        // What a padding token gets is any number.
                        let near = expected.is_nan() || (found - expected).abs() < 1e-5;
                        assert!(found.is_finite() && near, "{at_once} at once: {found} for {expected}");
                    }
                }
            }
        }
    }
}
