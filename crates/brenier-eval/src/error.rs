//! What can be wrong with a study.

use std::path::PathBuf;

use brenier_residual::{Overflow, ResidualError};

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
    /// A file or list without a prompt.
    #[error("{what}: expected at least one prompt")]
    NoPrompts {
        /// The file or list.
        what: String,
    },
    /// A prompt that cannot be put to the model.
    #[error("{what}, {place}: {source}")]
    Prompt {
        /// The file or list it stands in.
        what: String,
        /// Its place there, in words.
        place: String,
        /// What is wrong with it.
        source: Box<brenier_model::ModelError>,
    },
    /// A forward pass whose values are not finite.
    #[error("{what} {index}, token {token} (counted from 0): {overflow}")]
    Overflow {
        /// What was run, e.g. `source_val, prompt`.
        what: &'static str,
        /// Its index.
        index: usize,
        /// The token whose logits, or whose activation, are not finite.
        token: usize,
        /// Where the pass stopped being finite.
        overflow: Overflow,
    },
    /// A measure that is not finite.
    #[error("{what}: found {found}, expected a finite number")]
    NotFinite {
        /// What was measured.
        what: String,
        /// The number.
        found: f64,
    },
    /// A value that cannot be written as JSON.
    #[error("{what} cannot be written as JSON: {reason}")]
    Json {
        /// The value.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No method could be fitted anywhere.
    #[error(
        "no map could be fitted at any layer; the first failure was {method} at layer {layer} (counted from 0): {reason}"
    )]
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
    /// A batch that the model cannot take, or a device that fails.
    #[error(transparent)]
    Batch(#[from] ResidualError),
    /// No setting of any method could be measured.
    #[error("every setting of every method failed on validation; the first: {reason}")]
    NothingMeasured {
        /// What was wrong with the first.
        reason: String,
    },
}

impl EvalError {
    /// Whether the machine failed rather than what was asked of it: the next candidate would fare no better.
    pub(crate) fn is_of_machine(&self) -> bool {
        let device = |error: &ResidualError| matches!(error, ResidualError::Device { .. });
        match self {
            Self::Io { .. } => true,
            Self::Batch(error) => device(error),
            Self::Capture(brenier_capture::CaptureError::Batch(error)) => device(error),
            Self::Model(brenier_model::ModelError::Batch(error)) => device(error),
            _ => false,
        }
    }
}
