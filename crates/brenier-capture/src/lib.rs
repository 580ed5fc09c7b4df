//! Recording activations: which tokens of which places of a model become rows of a matrix, and their file.
//!
//! * [`Recorder`] is the tap that watches; it keeps tensors on the device and reads nothing back while the
//!   model runs.
//! * [`capture`] runs a model over prompts and gives [`Activations`] in the order of the prompts.
//! * [`capture_to`] hands the rows to an [`ActivationSink`] as they come, in bounded memory: to files
//!   ([`ShardWriter`]), or into means and covariances ([`MomentsSink`]). What is interrupted goes on, and [`Share`]s of
//!   the prompts go to several processes.
//! * [`ActivationFile`] opens any safetensors file of `[n, d]` tensors, memory-mapped, tensor by tensor.
//!
//! Here, and nowhere else, a tensor becomes a matrix. Rows lie one after the other from the device to the file and the
//! fit ([`RowMatrix`]).
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod activations;
mod batches;
mod capture;
mod error;
mod file;
mod moments;
mod position;
mod provenance;
mod recorder;
mod rows;
mod shards;
mod share;
mod sink;

pub use activations::{Activations, RowIndex};
pub use batches::batches;
pub use capture::{LOGITS, Request, capture, capture_to};
pub use error::CaptureError;
pub use file::{ActivationFile, FORMAT, common_names, common_tensors, file_format};
pub use moments::{CapturedMoments, MomentsSink, MomentsStore};
pub use position::Position;
pub use provenance::{Comparison, Difference, Fact, Provenance, compare};
pub use recorder::Recorder;
pub use rows::{RowMatrix, Rows};
pub use shards::{Former, SHARDS_FORMAT, ShardWriter};
pub use share::Share;
pub use sink::{ActivationSink, Part, PartPlan, Plan};
