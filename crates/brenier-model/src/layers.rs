//! Parts of a decoder block. Fields are named after the keys of Hugging Face checkpoints.

use brenier_kernels::{embedding, linear};
use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, activation};
use half::{bf16, f16};

use crate::config::Activation;

/// A projection as checkpoints store it: `y = x W^T + b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[output, input]`.
    pub weight: Param<Tensor<2>>,
    /// `[output]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `[rows, tokens, input]` to `[rows, tokens, output]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = linear(x, self.weight.val());
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}

/// The embedding table.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocab, hidden]`.
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    pub(crate) fn forward(&self, ids: Tensor<2, Int>, dtype: DType) -> Tensor<3> {
        embedding(self.weight.val(), ids, dtype)
    }

    /// Logits against the table itself, where it is the output matrix too.
    pub(crate) fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.weight.val())
    }
}

/// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * (offset + weight)`, over the last dimension.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`.
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) eps: f64,
    /// 0, or 1 where the weight is stored as what it differs from 1.
    #[module(skip)]
    pub(crate) offset: f64,
}

impl RmsNorm {
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = widen(x);
        let size = (x.clone() * x.clone()).mean_dim(D - 1).add_scalar(self.eps).sqrt();
        let weight = widen(self.weight.val());
        let weight = if self.offset == 0.0 { weight } else { weight.add_scalar(self.offset) };
        (x / size * weight.unsqueeze()).cast(dtype)
    }
}

/// The gated feed-forward part: `down(activation(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The matrices that widen the stream.
    pub gate_up: GateUp,
    /// `intermediate` to `hidden`.
    pub down_proj: Linear,
    #[module(skip)]
    pub(crate) activation: Activation,
}

/// Gate and up projections of a checkpoint.
#[derive(Module, Debug)]
pub enum GateUp {
    /// A matrix each.
    Separate(SeparateGateUp),
    /// One matrix.
    Fused(FusedGateUp),
}

/// Gate and up projections with a matrix each.
#[derive(Module, Debug)]
pub struct SeparateGateUp {
    /// `hidden` to `intermediate`.
    pub gate_proj: Linear,
    /// `hidden` to `intermediate`.
    pub up_proj: Linear,
}

/// Gate and up projections in one matrix.
#[derive(Module, Debug)]
pub struct FusedGateUp {
    /// `hidden` to twice `intermediate`, the gate first.
    pub gate_up_proj: Linear,
}

impl Mlp {
    /// Numbers between the matrices that exist at once: 64 MiB of f32 each for gate, up and their product.
    const AT_ONCE: usize = 1 << 24;

    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let width = self.down_proj.weight.dims()[1];
        self.in_pieces(x, Self::AT_ONCE / width)
    }

    /// So many tokens at once, or one.
    fn in_pieces(&self, x: Tensor<3>, at_once: usize) -> Tensor<3> {
        let [rows, tokens, hidden] = x.dims();
        if rows * tokens <= at_once {
            return self.of_some(x);
        }
        let pieces = x.reshape([1, rows * tokens, hidden]).split(at_once.max(1), 1);
        let pieces = pieces.into_iter().map(|x| self.of_some(x)).collect();
        Tensor::cat(pieces, 1).reshape([rows, tokens, hidden])
    }

    fn of_some(&self, x: Tensor<3>) -> Tensor<3> {
        let (gate, up) = match &self.gate_up {
            GateUp::Separate(SeparateGateUp { gate_proj, up_proj }) => {
                (gate_proj.forward(x.clone()), up_proj.forward(x))
            }
            GateUp::Fused(FusedGateUp { gate_up_proj }) => {
                let both = gate_up_proj.forward(x);
                let half = both.dims()[2] / 2;
                (both.clone().narrow(2, 0, half), both.narrow(2, half, half))
            }
        };
        let gate = match self.activation {
            Activation::Silu => activation::silu(gate),
            Activation::GeluTanh => {
                let dtype = gate.dtype();
                activation::gelu_approximate(widen(gate)).cast(dtype)
            }
        };
        self.down_proj.forward(gate * up)
    }
}

/// 16-bit floats as f32; wider ones as they are.
pub(crate) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dtype = wide(x.dtype());
    x.cast(dtype)
}

/// The dtype that [`widen`] gives.
pub(crate) fn wide(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

/// A number as a dtype holds it.
pub(crate) fn rounded(number: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(number).to_f64(),
        DType::BF16 => bf16::from_f64(number).to_f64(),
        DType::F32 => f64::from(number as f32),
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn pieces_of_tokens_do_not_show() {
        let device = Device::flex();
        let random = |shape: [usize; 2]| Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let linear = |shape| Linear { weight: Param::from_tensor(random(shape)), bias: None };
        let mlp = Mlp {
            gate_up: GateUp::Fused(FusedGateUp { gate_up_proj: linear([10, 4]) }),
            down_proj: linear([4, 5]),
            activation: Activation::GeluTanh,
        };
        let x = random([21, 4]).reshape([3, 7, 4]);
        let whole: Vec<f32> = mlp.of_some(x.clone()).into_data().iter::<f32>().collect();
        for at_once in [0, 1, 4, 7, 20, 21, 100] {
            let found = mlp.in_pieces(x.clone(), at_once);
            assert_eq!(found.dims(), [3, 7, 4]);
            for (found, whole) in found.into_data().iter::<f32>().zip(&whole) {
                assert!((found - whole).abs() < 1e-5, "{at_once} at once: {found} for {whole}");
            }
        }
    }
}
