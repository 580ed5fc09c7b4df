//! Maps inside the forward pass.
//!
//! An [`Intervention`] is a [`Tap`](brenier_residual::Tap) made of [`Edit`]s: a map, where it acts, on which
//! tokens, and how strongly. At a place it wants, a chosen token's activation `x` becomes
//!
//! ```text
//! x + strength p(x) (T(x) - x)
//! ```
//!
//! with the map `T` and the gate `p` of a [`RowMap`](brenier_map::RowMap). Every other token keeps every
//! bit, and so does everything when all strengths are 0.
//!
//! The arithmetic is f32 (f64 in an f64 model), whatever the model's dtype; the result is rounded once, to
//! that. What is large is subtracted first: coordinates are read from `x - mean` and `x - center`. Nothing
//! is read back from the device.
//!
//! [`Patches`] replace the activations of single tokens by given ones.
//!
//! This crate holds the only way from a matrix to a tensor.
#![deny(missing_docs)]

mod device;
mod error;
mod intervention;
mod patch;

pub use error::HookError;
pub use intervention::{Edit, Intervention};
pub use patch::{Patch, Patches};
