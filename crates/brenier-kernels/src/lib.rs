//! Products with bf16 weights on a CPU: the weights stay bf16 in memory and are widened in registers, activations and
//! sums are f32.
//!
//! Burn's flex backend converts a whole bf16 weight at every product. [`linear`] reads it as it lies in memory, once,
//! which takes half the time of f32 weights where memory is the limit, and no more where arithmetic is.
//!
//! * [`linear`]: the product `x W^T`, for projections and for the output matrix.
//! * [`embedding`]: rows of a table; only these are widened.
//! * [`activation_dtype`]: which dtype activations should have beside weights of some dtype.
//!
//! The functions take tensors of any device. The kernel serves tensors of the flex backend without autodiff, where this
//! crate's feature `flex` is on; everything else (GPUs, autodiff, other dtypes) goes through burn's own operations.
#![cfg_attr(not(feature = "flex"), forbid(unsafe_code))]

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod lanes;
#[cfg(feature = "flex")]
mod product;
mod tensor;
#[cfg(feature = "flex")]
mod tile;

pub use tensor::{activation_dtype, embedding, linear};
