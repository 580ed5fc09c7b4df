//! What can be wrong with a study.

use std::path::PathBuf;

/// Errors of this crate. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file that a study needs.
    #[error("{} not found: {hint}", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        hint: String,
    },
    /// A file that cannot be written.
    #[error("{0}")]
    Write(#[from] brenier_files::WriteError),
    /// A file that the system does not let us read or remove.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A setting outside its range.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A prompt that does not fit the model.
    #[error("{what}, prompt {index}: {reason}")]
    Prompt {
        /// The file or list it stands in.
        what: String,
        /// Its index, from 1.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A number that is not finite where one was measured.
    #[error("{what}: found {found}, expected a finite number")]
    NotFinite {
        /// What was measured.
        what: String,
        /// The number.
        found: f64,
    },
    /// A tensor that could not be read back from the device.
    #[error("cannot read a tensor back from the device: {reason}")]
    Device {
        /// What the backend said.
        reason: String,
    },
    /// No method could be fitted anywhere.
    #[error("no map could be fitted at any layer; the first failure was {method} at layer {layer}: {reason}")]
    NothingFitted {
        /// The method of the first failure.
        method: String,
        /// Its layer.
        layer: u16,
        /// What was wrong.
        reason: String,
    },
    /// Capture.
    #[error(transparent)]
    Capture(#[from] brenier_capture::CaptureError),
    /// A fit or a measure of one.
    #[error(transparent)]
    Transport(#[from] brenier_transport::TransportError),
    /// A map.
    #[error(transparent)]
    Map(#[from] brenier_map::MapError),
    /// A map in the model.
    #[error(transparent)]
    Hook(#[from] brenier_hooks::HookError),
    /// Linear algebra of a plot.
    #[error(transparent)]
    Linalg(#[from] brenier_linalg::LinalgError),
    /// Prompts, template, tokenizer or generation.
    #[error(transparent)]
    Model(#[from] brenier_model::ModelError),
    /// A batch that the model cannot take.
    #[error(transparent)]
    Batch(#[from] brenier_residual::ResidualError),
}
