//! Rotary position embedding in Hugging Face's rotate-half convention.

use std::collections::BTreeMap;

use brenier_residual::Batch;
use burn::tensor::{DType, Tensor, TensorData};

use crate::config::{Rope, RopeScaling};
use crate::layers::wide;

/// Inverse frequencies, one for each two entries that are rotated together.
///
/// Frequency i of n is theta^(-i / n), stretched as the configuration says. Rounded to f32 at every step, as in
/// transformers: at position 10 000 the last bit of a frequency is a thousandth of a radian.
#[derive(Debug, Clone)]
pub(crate) struct Frequencies {
    values: Vec<f32>,
    /// Those of longer rows.
    longer: Longer,
    /// Factor of cosines and sines.
    factor: f32,
}

/// The frequencies of rows beyond some number of tokens.
#[derive(Debug, Clone)]
enum Longer {
    Same,
    Other {
        beyond: usize,
        values: Vec<f32>,
    },
    /// Those of a base that grows with the row.
    Growing {
        beyond: usize,
        theta: f32,
        factor: f32,
    },
}

impl Frequencies {
    pub(crate) fn new(rope: &Rope, head_dim: usize) -> Self {
        let width = rope.width(head_dim);
        let plain = powers(rope.theta, width);
        let one = |values| Self { values, longer: Longer::Same, factor: 1.0 };
        match &rope.scaling {
            RopeScaling::Default => one(plain.iter().map(|power| 1.0 / power).collect()),
            RopeScaling::Linear { factor } => {
                one(plain.iter().map(|power| 1.0 / power / *factor as f32).collect())
            }
            &RopeScaling::Dynamic { factor, original_context } => {
                let (theta, factor) = (rope.theta as f32, factor as f32);
                let longer = Longer::Growing { beyond: original_context, theta, factor };
                Self { longer, ..one(plain.iter().map(|power| 1.0 / power).collect()) }
            }
            &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let numbers = [factor, low_freq_factor, high_freq_factor].map(|x| x as f32);
                one(plain.iter().map(|power| llama3(1.0 / power, numbers, original_context as f32)).collect())
            }
            &RopeScaling::Yarn { factor, attention_factor, .. } => {
                let kept = kept_by_yarn(rope, width);
                let blend = |(power, kept): (&f32, f32)| {
                    1.0 / (factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
                };
                let values = plain.iter().zip(kept).map(blend).collect();
                Self { factor: attention_factor as f32, ..one(values) }
            }
            RopeScaling::LongRope { short, long, attention_factor, original_context } => {
                let divided = |by: &[f64]| {
                    plain.iter().zip(by).map(|(power, &by)| 1.0 / (by as f32 * power)).collect::<Vec<f32>>()
                };
                let longer = Longer::Other { beyond: *original_context, values: divided(long) };
                Self { values: divided(short), longer, factor: *attention_factor as f32 }
            }
        }
    }

    /// Those of short rows.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The number of tokens beyond which a row is read with other frequencies from its first token on.
    pub(crate) fn switch(&self) -> Option<usize> {
        match self.longer {
            Longer::Other { beyond, .. } => Some(beyond),
            // Dynamic scaling leaves the keys of tokens already read as they are, as in transformers.
            Longer::Same | Longer::Growing { .. } => None,
        }
    }

    /// Cosines and sines of all positions in a batch, at least in f32 for a model of this dtype.
    pub(crate) fn rotation(&self, batch: &Batch, dtype: DType) -> Rotation {
        let (tokens, half) = (batch.tokens(), self.values.len());
        // Rows that are padded alike have the same positions and lengths.
        let alike = (1..batch.rows()).all(|row| batch.padding(row) == batch.padding(0));
        let rows = if alike { 1 } else { batch.rows() };
        let last = (0..rows).map(|row| batch.position(row, tokens - 1)).max().unwrap_or(0);
        let first = (0..rows).map(|row| batch.position(row, 0)).min().unwrap_or(0);
        // Each position once for rows with the same frequencies, which share almost all of them.
        let mut tables: BTreeMap<usize, Vec<(f32, f32)>> = BTreeMap::new();
        let size = rows * tokens * 2 * half;
        let (mut cos, mut sin) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for row in 0..rows {
            let kind = self.kind(batch.span(row).end);
            let table = tables.entry(kind).or_insert_with(|| {
                let frequencies = self.of_kind(kind);
                let angles = |position| frequencies.iter().map(move |f| (position as f32 * f).sin_cos());
                (first..=last)
                    .flat_map(angles)
                    .map(|(sin, cos)| (sin * self.factor, cos * self.factor))
                    .collect()
            });
            for token in 0..tokens {
                let at = (batch.position(row, token) - first) * half;
                let angles = &table[at..at + half];
                cos.extend(angles.iter().chain(angles).map(|angle| angle.1));
                sin.extend(angles.iter().map(|angle| -angle.0));
                sin.extend(angles.iter().map(|angle| angle.0));
            }
        }
        let tensor = |values: Vec<f32>| {
            let data = TensorData::new(values, [rows, tokens, 1, 2 * half]);
            Tensor::<4>::from_data(data, (batch.device(), wide(dtype)))
        };
        Rotation { cos: tensor(cos), sin: tensor(sin) }
    }

    /// Rows with the same frequencies have the same number: 0 for short ones.
    fn kind(&self, length: usize) -> usize {
        match self.longer {
            Longer::Other { beyond, .. } if length > beyond => 1,
            Longer::Growing { beyond, .. } if length > beyond => length,
            _ => 0,
        }
    }

    fn of_kind(&self, kind: usize) -> Vec<f32> {
        match &self.longer {
            _ if kind == 0 => self.values.clone(),
            Longer::Same => self.values.clone(),
            Longer::Other { values, .. } => values.clone(),
            &Longer::Growing { beyond, theta, factor } => {
                let width = 2 * self.values.len();
                let stretch = factor * kind as f32 / beyond as f32 - (factor - 1.0);
                let theta = theta * stretch.powf((width as f64 / (width as f64 - 2.0)) as f32);
                powers(f64::from(theta), width).iter().map(|power| 1.0 / power).collect()
            }
        }
    }
}

/// theta^(i / n), the inverses of plain frequencies.
fn powers(theta: f64, width: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / width as f32;
    (0..width / 2).map(|i| theta.powf(f64::from(exponent(i))) as f32).collect()
}

fn llama3(frequency: f32, [factor, low, high]: [f32; 3], context: f32) -> f32 {
    let wavelength = std::f32::consts::TAU / frequency;
    if wavelength > context / low {
        frequency / factor
    } else if wavelength < context / high {
        frequency
    } else {
        let keep = (context / wavelength - low) / (high - low);
        (1.0 - keep) * frequency / factor + keep * frequency
    }
}

/// For each frequency, how far YaRN keeps it: from 1 for those that turn often to 0.
fn kept_by_yarn(rope: &Rope, width: usize) -> Vec<f32> {
    let RopeScaling::Yarn { original_context, beta_fast, beta_slow, truncate, .. } = rope.scaling else {
        return vec![1.0; width / 2];
    };
    // The index of the frequency that turns so often within the old context.
    let index = |turns: f64| {
        let wavelength = original_context as f64 / (turns * std::f64::consts::TAU);
        width as f64 * wavelength.ln() / (2.0 * rope.theta.ln())
    };
    let (mut low, mut high) = (index(beta_fast), index(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(width as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    (0..width / 2).map(|i| 1.0 - ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0)).collect()
}

/// The rotation of every token of a batch, computed once for all layers.
///
/// The sines of the first half carry the minus sign of rotate-half, so that
/// `rotate(x) = x * cos + swap_halves(x) * sin`.
pub(crate) struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// Rotates the first entries of the heads in `[rows, tokens, heads, head_dim]`.
    pub(crate) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let (width, all) = (self.cos.dims()[3], x.dims()[3]);
        let half = width / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        if width == all {
            return x * self.cos.clone() + swapped * self.sin.clone();
        }
        let rotated = x.clone().narrow(3, 0, width) * self.cos.clone() + swapped * self.sin.clone();
        Tensor::cat(vec![rotated, x.narrow(3, width, all - width)], 3)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::tensor::Device;

    use super::*;
    use brenier_residual::Row;

    #[test]
    fn rotation_is_by_position_times_frequency_and_keeps_lengths() {
        let rope = Rope { theta: 100.0, partial: 0.5, ..Rope::default() };
        let batch = Batch::new(&[Row::prompt(&[1, 1, 1, 1])], &Device::flex()).unwrap();
        let rotation = Frequencies::new(&rope, 8).rotation(&batch, DType::F32);
        let x = Tensor::<4>::from_data([[[[1.0f32, 0.0, 0.0, 2.0, 5.0, 6.0, 7.0, 8.0]]; 4]], &Device::flex());
        let y: Vec<f32> = rotation.rotate(x).into_data().iter::<f32>().collect();
        for (position, y) in y.chunks(8).enumerate() {
            // Pairs (0, 2) and (1, 3) turn by position * 1 and position * 1/10; the second half of the head stays.
            let (a, b) = (position as f32, position as f32 / 10.0);
            let expected = [a.cos(), -2.0 * b.sin(), a.sin(), 2.0 * b.cos(), 5.0, 6.0, 7.0, 8.0];
            for (y, e) in y.iter().zip(expected) {
                assert!((y - e).abs() < 4.0 * f32::EPSILON, "position {position}: {y} for {e}");
            }
        }
    }

    #[test]
    fn llama3_scaling_keeps_high_frequencies_and_divides_low_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let plain = Frequencies::new(&Rope { theta: 5e5, ..Rope::default() }, 128).values;
        let stretched = Frequencies::new(&Rope { theta: 5e5, scaling, ..Rope::default() }, 128).values;
        assert_eq!(stretched[0], plain[0]);
        assert_eq!(stretched[63], plain[63] / 8.0);
        let blended = stretched.iter().zip(&plain).filter(|(s, p)| s < p && **s > **p / 8.0).count();
        assert!(blended > 0, "some frequencies lie between");
        assert!(stretched.windows(2).all(|pair| pair[0] > pair[1]), "the order of frequencies is kept");
    }

    #[test]
    fn a_row_is_long_by_its_own_tokens() {
        let (short, long) = (vec![1.0, 1.0], vec![2.0, 4.0]);
        let scaling = RopeScaling::LongRope { short, long, attention_factor: 1.0, original_context: 2 };
        let frequencies = Frequencies::new(&Rope { scaling, ..Rope::default() }, 4);
        let rotate = |rows: &[Row<'_>]| -> Vec<f32> {
            let batch = Batch::new(rows, &Device::flex()).unwrap();
            frequencies.rotation(&batch, DType::F32).cos.into_data().iter::<f32>().collect()
        };
        let alone = [rotate(&[Row::prompt(&[1, 2, 3])]), rotate(&[Row::prompt(&[4, 5])])];
        let together = rotate(&[Row::prompt(&[1, 2, 3]), Row::prompt(&[4, 5])]);
        assert_eq!(together[..12], alone[0]);
        assert_eq!(together[16..], alone[1]);
        assert!((alone[0][4] - 0.5f32.cos()).abs() < f32::EPSILON, "long rows from their second token on");
        assert!((alone[1][4] - 1f32.cos()).abs() < f32::EPSILON);
    }
}
