//! What can be wrong with a batch or with a name.

/// Errors of the seam. Each says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResidualError {
    /// A batch without a single token.
    #[error("empty batch: expected at least one row with at least one token")]
    EmptyBatch,
    /// A row that holds no token.
    #[error("row {row} is empty: expected at least one token")]
    EmptyRow {
        /// Index of the row in the batch.
        row: usize,
    },
    /// A prompt longer than its row.
    #[error("row {row}: the prompt is said to be {prompt} tokens long, but the row has {tokens}")]
    PromptBeyondRow {
        /// Index of the row in the batch.
        row: usize,
        /// Claimed length of the prompt.
        prompt: usize,
        /// Tokens in the row.
        tokens: usize,
    },
    /// A token id that the model has no embedding for.
    #[error("row {row}, token {token}: id {id} is outside the vocabulary of {vocab}")]
    IdOutsideVocabulary {
        /// Index of the row in the batch.
        row: usize,
        /// Index of the token in its row, padding not counted.
        token: usize,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A row longer than the context of the model.
    #[error("row {row} has {tokens} tokens, but the model's context holds {context}")]
    BeyondContext {
        /// Index of the row in the batch.
        row: usize,
        /// Tokens in the row.
        tokens: usize,
        /// Tokens the model can attend to.
        context: usize,
    },
    /// A step that does not fit the batch it continues.
    #[error("the next step has {found} ids, but the batch has {expected} rows")]
    StepWidth {
        /// Rows of the batch.
        expected: usize,
        /// Ids given.
        found: usize,
    },
    /// A cache filled by another batch.
    #[error("the cache holds {found} tokens, but the batch continues after {expected}")]
    CacheLength {
        /// Tokens that the batch says were read before it.
        expected: usize,
        /// Tokens in the cache.
        found: usize,
    },
    /// A name that is no hook point.
    #[error("unknown hook point `{name}`: expected e.g. `blocks.5.hook_resid_post`")]
    UnknownHookPoint {
        /// The name as given.
        name: String,
    },
    /// A name that is no site.
    #[error("unknown site `{name}`: expected one of resid_pre, resid_mid, resid_post, attn_out, mlp_out")]
    UnknownSite {
        /// The name as given.
        name: String,
    },
    /// Numbers that could not be read back from the device.
    #[error("cannot read from the device: {reason}")]
    Device {
        /// What the backend said, in one line.
        reason: String,
    },
    /// A number read back from the device that is not finite.
    #[error(
        "row {row}, column {column} of what the model gave (counted from 0) is {value}: expected finite numbers"
    )]
    NotFinite {
        /// Row of the tensor, from 0.
        row: usize,
        /// Column of the tensor, from 0.
        column: usize,
        /// The number.
        value: f32,
    },
}

impl ResidualError {
    pub(crate) fn device(error: &dyn std::fmt::Display) -> Self {
        Self::Device { reason: error.to_string().split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}
