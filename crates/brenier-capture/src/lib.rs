//! Recording activations: which tokens of which places of a model become rows of a matrix, and their file.
//!
//! * [`Recorder`] is the tap that watches; it keeps tensors on the device and reads nothing back while the
//!   model runs.
//! * [`capture`] runs a model over prompts and gives [`Activations`] in the order of the prompts.
//! * [`ActivationFile`] opens any safetensors file of `[n, d]` tensors, memory-mapped, tensor by tensor.
//!
//! Here, and nowhere else, a tensor becomes a matrix.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod activations;
mod batches;
mod capture;
mod error;
mod file;
mod matrix;
mod position;
mod provenance;
mod recorder;

pub use activations::{Activations, RowIndex, Rows};
pub use batches::batches;
pub use capture::{LOGITS, Request, capture};
pub use error::CaptureError;
pub use file::{ActivationFile, FORMAT, common_tensors};
pub use matrix::to_matrix;
pub use position::Position;
pub use provenance::{Comparison, Difference, Fact, Provenance, compare};
pub use recorder::Recorder;
