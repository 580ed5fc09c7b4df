//! What models call: functions on tensors of any device.

use burn::tensor::{DType, Device, Int, Tensor};

/// A projection: `y = x W^T`, in the dtype of `x`.
///
/// Where `x` is f32 and `weight` is bf16, products and sums are f32 on every device. On the flex backend without
/// autodiff, weights are read as bf16, once, and no copy of them is made; elsewhere they are widened as a whole, as a
/// part of the autodiff graph where there is one. A bf16 `x` is widened and the product rounded.
///
/// The value of a row of `y` depends on that row of `x` and on the weights alone, to the last bit: neither on the rows
/// beside it nor on the number of threads. (On the flex backend; burn's own product makes no such promise.)
///
/// # Shapes
/// * `x`: `[.., k]`
/// * `weight`: `[n, k]`, as checkpoints store it
/// * output: `[.., n]`
///
/// # Rounding
/// With the unit roundoff `u = 2^-24`, for each element `|y - exact| <= k u / (1 - k u) * sum_p |x_p w_p|`: the bound of
/// any order of summation. Widening a bf16 is exact. Infinities and NaN spread as in any sum; subnormal numbers count.
///
/// # Memory
/// One copy of at most 256 rows of `x` at a time, beside the output. A transposed `weight` (one whose rows do not lie in
/// one piece) is copied.
///
/// # Panics
/// The last dimensions of `x` and `weight` differ, or the two are on different devices.
///
/// # Examples
/// ```
/// use brenier_kernels::linear;
/// use burn::tensor::{DType, Device, Tensor};
///
/// let device = Device::flex();
/// let weight = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device).cast(DType::BF16);
/// let x = Tensor::<3>::from_data([[[1.0, 0.5]]], &device);
/// let y = linear(x, weight);
/// assert_eq!(y.dtype(), DType::F32);
/// assert_eq!(y.try_to_vec_as::<f32>().unwrap(), [2.0, 5.0, 8.0]);
/// ```
#[must_use]
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    let [n, k] = weight.dims();
    let mut shape = x.dims();
    assert!(
        shape.last() == Some(&k),
        "the last dimension of x must be that of the weight: expected {k}, found x of shape {shape:?}"
    );
    let rows = shape[..D - 1].iter().product();
    let y = product(x.reshape([rows, k]), weight);
    shape[D - 1] = n;
    y.reshape(shape)
}

/// Rows of an embedding table, in `dtype`. Only these rows are converted, never the table.
///
/// # Shapes
/// * `table`: `[vocab, hidden]`
/// * `ids`: `[rows, tokens]`
/// * output: `[rows, tokens, hidden]`
///
/// # Panics
/// An id is not below `vocab`.
///
/// # Examples
/// ```
/// use brenier_kernels::embedding;
/// use burn::tensor::{DType, Device, Int, Tensor};
///
/// let device = Device::flex();
/// let table = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device).cast(DType::BF16);
/// let ids = Tensor::<2, Int>::from_data([[1, 0, 1]], &device);
/// let rows = embedding(table, ids, DType::F32);
/// assert_eq!(rows.dims(), [1, 3, 2]);
/// assert_eq!(rows.try_to_vec_as::<f32>().unwrap(), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
/// ```
#[must_use]
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>, dtype: DType) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids).cast(dtype)
}

/// The dtype that activations should have beside weights of `weights`: f32 beside bf16 on the flex backend, which
/// computes in f32 anyhow; elsewhere that of the weights.
///
/// # Examples
/// ```
/// use brenier_kernels::activation_dtype;
/// use burn::tensor::{DType, Device};
///
/// assert_eq!(activation_dtype(&Device::flex(), DType::F64), DType::F64);
/// # #[cfg(feature = "flex")]
/// assert_eq!(activation_dtype(&Device::flex(), DType::BF16), DType::F32);
/// ```
#[must_use]
pub fn activation_dtype(device: &Device, weights: DType) -> DType {
    #[cfg(feature = "flex")]
    if weights == DType::BF16 && crate::flex::serves(device) {
        return DType::F32;
    }
    let _ = device;
    weights
}

/// `[m, k]` and `[n, k]` to `[m, n]`.
fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::flex::product(&x, &weight) {
        return y;
    }
    let weight = weight.cast(x.dtype());
    x.matmul(weight.transpose())
}
