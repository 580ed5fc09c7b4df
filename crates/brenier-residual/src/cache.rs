//! Keys and values of tokens already read.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The keys and values of every block for the tokens read so far.
///
/// One cache belongs to one batch: left padding stands in it as it stood in the batch. Memory is taken for more tokens
/// than there are, and new ones are written in place, so that a step does not copy those before it.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    /// Where set, the layers are of one row, and this says how the rows of a step begin with it.
    start: Option<Start>,
}

/// How many tokens each row takes from a common start, and to how many columns they are padded.
#[derive(Debug, Clone)]
struct Start {
    tokens: Arc<[usize]>,
    columns: usize,
}

impl Start {
    /// `[1, kv_heads, past, head_dim]` to `[rows, kv_heads, columns, head_dim]`.
    fn rows(&self, x: &Tensor<4>) -> Tensor<4> {
        // Burn does not narrow to nothing: a row that takes nothing is cut out of zeros.
        let [_, heads, _, width] = x.dims();
        let zeros = Tensor::zeros([1, heads, self.columns, width], (&x.device(), x.dtype()));
        let row = |&tokens: &usize| match tokens {
            0 => zeros.clone(),
            _ => shift(x.clone().narrow(2, 0, tokens), self.columns),
        };
        Tensor::cat(self.tokens.iter().map(row).collect(), 0)
    }
}

/// One block's part: `[rows, kv_heads, room, head_dim]`, of which the first `used` columns count.
#[derive(Debug, Clone)]
struct Layer {
    keys: Tensor<4>,
    values: Tensor<4>,
    used: usize,
}

impl KvCache {
    /// An empty cache for a model of `layers` blocks.
    #[must_use]
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![None; layers], start: None }
    }

    /// Tokens in the cache of block `layer`, padding included.
    #[must_use]
    pub fn tokens(&self, layer: usize) -> usize {
        let found = self.layers.get(layer).and_then(Option::as_ref);
        found.map_or(0, |layer| self.start.as_ref().map_or(layer.used, |start| start.columns))
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
        if let (Some(start), Some(layer)) = (&self.start, &*slot) {
            let join = |start, new| Tensor::cat(vec![start, new], 2);
            return (join(start.rows(&layer.keys), keys), join(start.rows(&layer.values), values));
        }
        let (keys, values, used) = match slot.take() {
            Some(Layer { keys: all_keys, values: all_values, used }) => {
                let new = keys.dims()[2];
                (append(all_keys, used, keys), append(all_values, used, values), used + new)
            }
            None => {
                let used = keys.dims()[2];
                (keys, values, used)
            }
        };
        let layer = slot.insert(Layer { keys, values, used });
        (layer.keys.clone().narrow(2, 0, used), layer.values.clone().narrow(2, 0, used))
    }

    /// Keeps the given rows, in the given order: for dropping rows that have ended, or for the same row many times.
    pub fn select_rows(&mut self, rows: &[usize]) {
        self.each(|x| {
            let index = row_index(rows, &x.device());
            x.select(0, index)
        });
    }

    /// Puts the rows of another cache below these. The one that is shorter is padded on the left, as
    /// [`Batch::append_rows`](crate::Batch::append_rows) pads its batch.
    pub fn append_rows(&mut self, other: Self) {
        for (slot, other) in self.layers.iter_mut().zip(other.layers) {
            let (Some(layer), Some(other)) = (slot.as_mut(), other) else { continue };
            let columns = layer.used.max(other.used);
            let join = |a: Tensor<4>, b: Tensor<4>| {
                let a = shift(a.narrow(2, 0, layer.used), columns);
                Tensor::cat(vec![a, shift(b.narrow(2, 0, other.used), columns)], 0)
            };
            let keys = join(layer.keys.clone(), other.keys);
            let values = join(layer.values.clone(), other.values);
            *slot = Some(Layer { keys, values, used: columns });
        }
    }

    /// Forgets the first columns, which are padding in every row;
    /// [`Batch::drop_columns`](crate::Batch::drop_columns) does so for the batch.
    pub fn drop_columns(&mut self, columns: usize) {
        if columns > 0 {
            self.each(|x| {
                let left = x.dims()[2].saturating_sub(columns);
                x.slice_dim(2, columns as i64..).narrow(2, 0, left)
            });
        }
    }

    /// Of a cache of one row: rows that begin with its first tokens, `tokens[i]` of them in row `i`, padded on the left
    /// to `columns`. For prompts that begin alike, and for one step: keys and values of the step are not kept, so that
    /// only those of one block exist at a time.
    #[must_use]
    pub(crate) fn shared_start(&self, tokens: &[usize], columns: usize) -> Self {
        Self { layers: self.layers.clone(), start: Some(Start { tokens: tokens.into(), columns }) }
    }

    /// Replaces keys and values of every block, without the room for more.
    fn each(&mut self, change: impl Fn(Tensor<4>) -> Tensor<4>) {
        for slot in &mut self.layers {
            if let Some(Layer { keys, values, used }) = slot.take() {
                let keys = change(keys.narrow(2, 0, used));
                let values = change(values.narrow(2, 0, used));
                let used = keys.dims()[2];
                *slot = Some(Layer { keys, values, used });
            }
        }
    }
}

/// Writes new columns behind the `used` ones, in place where there is room.
fn append(all: Tensor<4>, used: usize, new: Tensor<4>) -> Tensor<4> {
    let [rows, heads, room, width] = all.dims();
    let total = used + new.dims()[2];
    let all = if total <= room {
        all
    } else {
        // Half as much again: over a whole text, a column is copied some two times.
        let room = (total + total / 2).next_multiple_of(32);
        let larger = Tensor::zeros([rows, heads, room, width], (&all.device(), all.dtype()));
        larger.slice_assign([0..rows, 0..heads, 0..used, 0..width], all.narrow(2, 0, used))
    };
    all.slice_assign([0..rows, 0..heads, used..total, 0..width], new)
}

/// Pads on the left to a number of columns.
fn shift(x: Tensor<4>, columns: usize) -> Tensor<4> {
    let [rows, heads, used, width] = x.dims();
    if used == columns {
        return x;
    }
    let padding = Tensor::zeros([rows, heads, columns - used, width], (&x.device(), x.dtype()));
    Tensor::cat(vec![padding, x], 2)
}

fn row_index(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `[rows, 1, columns, 1]`.
    fn column(values: &[&[f32]]) -> Tensor<4> {
        let data = TensorData::new(values.concat(), [values.len(), 1, values[0].len(), 1]);
        Tensor::from_data(data, &Device::flex())
    }

    fn numbers(x: &Tensor<4>) -> Vec<Vec<f32>> {
        let [_, _, columns, _] = x.dims();
        x.clone().into_data().iter::<f32>().collect::<Vec<_>>().chunks(columns).map(<[f32]>::to_vec).collect()
    }

    fn filled(values: &[&[f32]]) -> KvCache {
        let mut cache = KvCache::new(1);
        cache.extend(0, column(values), column(values).neg());
        cache
    }

    /// What is in a cache: an extension by nothing gives it back.
    fn content(cache: &KvCache) -> Vec<Vec<f32>> {
        let layer = cache.layers[0].as_ref().unwrap();
        let (keys, values) = (&layer.keys, &layer.values);
        assert_eq!(numbers(&keys.clone().neg()), numbers(values), "keys and values go together");
        numbers(&keys.clone().narrow(2, 0, layer.used))
    }

    #[test]
    fn columns_are_appended_one_at_a_time_or_many() {
        let mut cache = filled(&[&[1.0], &[10.0]]);
        for step in 1..200 {
            let (new, other) = (step as f32 + 1.0, step as f32 + 10.0);
            let (keys, values) = cache.extend(0, column(&[&[new], &[other]]), column(&[&[-new], &[-other]]));
            let expected: Vec<f32> = (0..=step).map(|i| i as f32 + 1.0).collect();
            assert_eq!(numbers(&keys)[0], expected);
            assert_eq!(numbers(&values.neg())[1], (0..=step).map(|i| i as f32 + 10.0).collect::<Vec<_>>());
            assert_eq!(cache.tokens(0), step + 1);
        }
    }

    #[test]
    fn what_was_given_out_does_not_change() {
        let mut cache = filled(&[&[1.0, 2.0]]);
        let (before, _) = cache.extend(0, column(&[&[3.0]]), column(&[&[-3.0]]));
        let copy = cache.clone();
        cache.extend(0, column(&[&[4.0]]), column(&[&[-4.0]]));
        assert_eq!(numbers(&before), [[1.0, 2.0, 3.0]]);
        assert_eq!(content(&copy), [[1.0, 2.0, 3.0]]);
        assert_eq!(content(&cache), [[1.0, 2.0, 3.0, 4.0]]);
    }

    #[test]
    fn rows_are_dropped_joined_and_trimmed() {
        let mut cache = filled(&[&[0.0, 1.0], &[2.0, 3.0]]);
        cache.extend(0, column(&[&[4.0], &[5.0]]), column(&[&[-4.0], &[-5.0]]));
        cache.select_rows(&[0]);
        assert_eq!(content(&cache), [[0.0, 1.0, 4.0]]);
        cache.append_rows(filled(&[&[7.0]]));
        assert_eq!(content(&cache), [[0.0, 1.0, 4.0], [0.0, 0.0, 7.0]]);
        cache.drop_columns(1);
        assert_eq!(content(&cache), [[1.0, 4.0], [0.0, 7.0]]);
        assert_eq!(cache.tokens(0), 2);
        cache.append_rows(filled(&[&[6.0, 7.0, 8.0, 9.0]]));
        assert_eq!(content(&cache)[1..], [[0.0, 0.0, 0.0, 7.0], [6.0, 7.0, 8.0, 9.0]]);
    }

    #[test]
    fn rows_that_begin_alike_share_a_start_for_one_step() {
        let cache = filled(&[&[1.0, 2.0, 3.0]]);
        let mut rows = cache.shared_start(&[3, 0, 2], 3);
        assert_eq!(rows.tokens(0), 3);
        let new = || column(&[&[7.0], &[8.0], &[9.0]]);
        for _ in 0..2 {
            let (keys, values) = rows.extend(0, new(), new().neg());
            assert_eq!(numbers(&keys), [[1.0, 2.0, 3.0, 7.0], [0.0, 0.0, 0.0, 8.0], [0.0, 1.0, 2.0, 9.0]]);
            assert_eq!(numbers(&values.neg()), numbers(&keys));
            assert_eq!(rows.tokens(0), 3, "what a step adds is not kept");
        }
    }
}
