//! Parts of a decoder block. Fields are named after the keys of Hugging Face checkpoints.

use brenier_kernels::{embedding, linear};
use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, activation};

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

/// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[hidden]`.
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) eps: f64,
}

impl RmsNorm {
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        let x = widen(x);
        let size = (x.clone() * x.clone()).mean_dim(2).add_scalar(self.eps).sqrt();
        (x / size).cast(dtype) * self.weight.val().unsqueeze()
    }
}

/// The gated feed-forward part: `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `hidden` to `intermediate`.
    pub gate_proj: Linear,
    /// `hidden` to `intermediate`.
    pub up_proj: Linear,
    /// `intermediate` to `hidden`.
    pub down_proj: Linear,
}

impl Mlp {
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = activation::silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
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
