//! Rotary position embedding in Hugging Face's rotate-half convention.

use brenier_residual::Batch;
use burn::tensor::{DType, Tensor, TensorData};

use crate::config::{Rope, RopeScaling};
use crate::layers::wide;

/// Inverse frequencies, `head_dim / 2` of them.
///
/// Frequency i is theta^(-2i / head_dim), stretched as the configuration says.
#[derive(Debug, Clone)]
pub(crate) struct Frequencies(Vec<f32>);

impl Frequencies {
    pub(crate) fn new(rope: &Rope, head_dim: usize) -> Self {
        // Rounded to f32 at every step, as in transformers: at position 10 000 the last bit of a frequency is a
        // thousandth of a radian.
        let plain = (0..head_dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            1.0 / rope.theta.powf(f64::from(exponent)) as f32
        });
        Self(plain.map(|frequency| scaled(frequency, rope.scaling)).collect())
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.0
    }

    /// Cosines and sines of all positions in a batch, at least in f32 for a model of this dtype.
    pub(crate) fn rotation(&self, batch: &Batch, dtype: DType) -> Rotation {
        let (rows, tokens, half) = (batch.rows(), batch.tokens(), self.0.len());
        let positions = || (0..rows).flat_map(|row| (0..tokens).map(move |token| batch.position(row, token)));
        let first = positions().min().unwrap_or(0);
        let last = positions().max().unwrap_or(0);
        // Each position once; rows of a batch share almost all of them.
        let table: Vec<(f32, f32)> = (first..=last)
            .flat_map(|position| self.0.iter().map(move |frequency| (position as f32 * frequency).sin_cos()))
            .collect();
        let size = rows * tokens * 2 * half;
        let (mut cos, mut sin) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for position in positions() {
            let angles = &table[(position - first) * half..(position - first + 1) * half];
            cos.extend(angles.iter().chain(angles).map(|angle| angle.1));
            sin.extend(angles.iter().map(|angle| -angle.0));
            sin.extend(angles.iter().map(|angle| angle.0));
        }
        let tensor = |values: Vec<f32>| {
            let data = TensorData::new(values, [rows, tokens, 1, 2 * half]);
            Tensor::<4>::from_data(data, (batch.device(), wide(dtype)))
        };
        Rotation { cos: tensor(cos), sin: tensor(sin) }
    }
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
    /// Rotates `[rows, tokens, heads, head_dim]`.
    pub(crate) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

fn scaled(frequency: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::Default => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let [factor, low, high] = [factor, low_freq_factor, high_freq_factor].map(|x| x as f32);
            let context = original_context as f32;
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
        let rope = Rope { theta: 100.0, scaling: RopeScaling::Default };
        let batch = Batch::new(&[Row::prompt(&[1, 1, 1, 1])], &Device::flex()).unwrap();
        let rotation = Frequencies::new(&rope, 4).rotation(&batch, DType::F32);
        let x = Tensor::<4>::from_data([[[[1.0f32, 0.0, 0.0, 2.0]]; 4]], &Device::flex());
        let y: Vec<f32> = rotation.rotate(x).into_data().iter::<f32>().collect();
        for (position, y) in y.chunks(4).enumerate() {
            // Pairs (0, 2) and (1, 3) turn by position * 1 and position * 1/10.
            let (a, b) = (position as f32, position as f32 / 10.0);
            let expected = [a.cos(), -2.0 * b.sin(), a.sin(), 2.0 * b.cos()];
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
        let plain = Frequencies::new(&Rope { theta: 5e5, scaling: RopeScaling::Default }, 128).0;
        let stretched = Frequencies::new(&Rope { theta: 5e5, scaling }, 128).0;
        assert_eq!(stretched[0], plain[0]);
        assert_eq!(stretched[63], plain[63] / 8.0);
        let blended = stretched.iter().zip(&plain).filter(|(s, p)| s < p && **s > **p / 8.0).count();
        assert!(blended > 0, "some frequencies lie between");
        assert!(stretched.windows(2).all(|pair| pair[0] > pair[1]), "the order of frequencies is kept");
    }
}
