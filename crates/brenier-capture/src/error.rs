//! What can be wrong with a capture or an activation file.

use std::path::PathBuf;

use brenier_linalg::LinalgError;
use brenier_residual::{Overflow, ResidualError};

use crate::Share;

/// Errors of this crate. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A name that is no position.
    #[error(
        "unknown position `{name}`: expected `last`, `all`, or a negative offset such as `-5..` (the last five tokens)"
    )]
    UnknownPosition {
        /// The name as given.
        name: String,
    },
    /// Nothing to capture from.
    #[error("no prompt: expected at least one")]
    NoPrompts,
    /// Nothing to capture.
    #[error("no hook point and no logits: expected at least one place to capture")]
    NoPoints,
    /// A text that is no share.
    #[error("unknown share `{name}`: expected e.g. `0/4`, the first of four; shares count from 0")]
    UnknownShare {
        /// The text as given.
        name: String,
    },
    /// A share without a prompt.
    #[error("share {share} (counted from 0) of {prompts} prompts has none: take fewer shares")]
    EmptyShare {
        /// The share.
        share: Share,
        /// Prompts in all shares together.
        prompts: usize,
    },
    /// A place outside the model.
    #[error("{point}: the model has {layers} layers, counted from 0")]
    LayerOutside {
        /// The hook point.
        point: String,
        /// Layers of the model.
        layers: u16,
    },
    /// A prompt with fewer tokens than were asked for.
    #[error(
        "prompt {prompt} (counted from 0) has {found} tokens, but position -{wanted}.. needs {wanted}: ask for fewer, or leave it out"
    )]
    ShortPrompt {
        /// Index of the prompt.
        prompt: usize,
        /// Tokens asked for.
        wanted: usize,
        /// Tokens it has.
        found: usize,
    },
    /// A prompt that the model cannot take.
    #[error("prompt {prompt} (counted from 0): {source}")]
    Prompt {
        /// Index of the prompt.
        prompt: usize,
        /// What is wrong with it.
        source: ResidualError,
    },
    /// A batch that the model cannot take, or a device that fails.
    #[error(transparent)]
    Batch(#[from] ResidualError),
    /// An activation that is not finite.
    #[error("prompt {prompt}, token {token} (both counted from 0), tensor `{tensor}`: {overflow}")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
        /// Index of the token in its prompt.
        token: usize,
        /// The tensor that was to hold it.
        tensor: String,
        /// Where the pass stopped being finite.
        overflow: Overflow,
    },
    /// A file that cannot be written.
    #[error("{0}")]
    Write(#[from] brenier_files::WriteError),
    /// A file that the system does not let us read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is truncated or no safetensors file.
    #[error("{} is not a sound safetensors file: {reason}; it may be truncated, capture or download it again", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A tensor that is not `[n, d]`.
    #[error("{}: tensor `{tensor}`: expected shape [n, d] (one activation a row), found {shape:?}; take one position so that it has two dimensions", path.display())]
    Rank {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor of another element type.
    #[error("{}: tensor `{tensor}`: expected F32, F64, F16 or BF16, found {dtype}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
    /// A tensor without rows or columns.
    #[error("{}: tensor `{tensor}` is empty: shape {shape:?}", path.display())]
    EmptyTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A file that holds no activations.
    #[error("{} holds no activations: expected [n, d] tensors in F32, F64, F16 or BF16, found {found}", path.display())]
    NoTensors {
        /// The file.
        path: PathBuf,
        /// The names in it.
        found: String,
    },
    /// A name that the file does not have.
    #[error("{}: no tensor `{tensor}`; it has {found}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        tensor: String,
        /// The names in it.
        found: String,
    },
    /// A row index that does not fit the rows.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", path.display())]
    RowIndex {
        /// The file.
        path: PathBuf,
        /// The index tensor.
        tensor: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Two files without a tensor of the same name.
    #[error("no tensor name in common: {} has {left_names}; {} has {right_names}", left.display(), right.display())]
    NothingInCommon {
        /// One file.
        left: PathBuf,
        /// The names in it.
        left_names: String,
        /// The other file.
        right: PathBuf,
        /// The names in it.
        right_names: String,
    },
    /// A directory of shards without some of its rows.
    #[error("{} is incomplete: {missing} is missing; capture it first", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A manifest that cannot be read as one.
    #[error("{} is not the manifest of captured shards: {reason}", path.display())]
    NotManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A part with other rows than its manifest says.
    #[error("{}: tensor `{tensor}`: expected shape {expected:?}, as the manifest has it, found {found:?}", path.display())]
    PartShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape by the manifest.
        expected: [usize; 2],
        /// Its shape in the file.
        found: [usize; 2],
    },
    /// Files of another capture where one was to go on.
    #[error("{} is of another capture: {differences}; use another directory", path.display())]
    OtherCapture {
        /// The manifest.
        path: PathBuf,
        /// What differs.
        differences: String,
    },
    /// Moments of another capture where one was to go on.
    #[error("the moments to go on from are of another capture: {differences}; use another file")]
    OtherMoments {
        /// What differs.
        differences: String,
    },
    /// Moments of shares that do not make up a capture.
    #[error("the moments are not those of all shares of one capture: {what} (shares count from 0)")]
    Shares {
        /// What is wrong.
        what: String,
    },
    /// The plan in a file of moments.
    #[error("the plan of the capture in the metadata cannot be used: {reason}")]
    Plan {
        /// What is wrong with it.
        reason: String,
    },
    /// Rows that no moments can be made of.
    #[error("tensor `{tensor}`: {source}")]
    Moments {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: LinalgError,
    },
    /// A store of moments that failed.
    #[error("{0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Things that were to be made alike and are not.
    #[error("not made in the same way: {differences}")]
    Mismatch {
        /// What differs, with the values.
        differences: String,
    },
}

impl CaptureError {
    pub(crate) fn plan(reason: impl std::fmt::Display) -> Self {
        Self::Plan { reason: reason.to_string() }
    }

    pub(crate) fn moments(tensor: &str, source: LinalgError) -> Self {
        Self::Moments { tensor: tensor.to_owned(), source }
    }
}
