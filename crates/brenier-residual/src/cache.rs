//! Keys and values of tokens already read.

use burn::tensor::Tensor;

/// The keys and values of every block for the tokens read so far.
///
/// One cache belongs to one batch: left padding stands in it as it stood in the batch.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
}

impl KvCache {
    /// An empty cache for a model of `layers` blocks.
    #[must_use]
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![None; layers] }
    }

    /// Tokens in the cache of block `layer`, padding included.
    #[must_use]
    pub fn tokens(&self, layer: usize) -> usize {
        self.layers.get(layer).and_then(Option::as_ref).map_or(0, |(keys, _)| keys.dims()[2])
    }

    /// Appends keys and values of new tokens and returns all of them.
    ///
    /// # Shapes
    /// `[rows, kv_heads, new, head_dim]` in, `[rows, kv_heads, past + new, head_dim]` out.
    pub fn extend(&mut self, layer: usize, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, None);
        }
        let slot = &mut self.layers[layer];
        let (keys, values) = match slot.take() {
            Some((k, v)) => (Tensor::cat(vec![k, keys], 2), Tensor::cat(vec![v, values], 2)),
            None => (keys, values),
        };
        *slot = Some((keys.clone(), values.clone()));
        (keys, values)
    }

    /// Keeps the given rows, in the given order: for dropping rows that have ended.
    pub fn select_rows(&mut self, rows: &[usize]) {
        for slot in self.layers.iter_mut() {
            if let Some((keys, values)) = slot.take() {
                let index = row_index(rows, &keys.device());
                *slot = Some((keys.select(0, index.clone()), values.select(0, index)));
            }
        }
    }
}

fn row_index(rows: &[usize], device: &burn::tensor::Device) -> Tensor<1, burn::tensor::Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Tensor::from_data(burn::tensor::TensorData::new(rows.clone(), [rows.len()]), device)
}
