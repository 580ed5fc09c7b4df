//! What can go wrong with the organism.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrganismError {
    /// The tokenizer could not be trained.
    #[error("cannot train the tokenizer: {reason}")]
    Tokenizer {
        /// What the trainer reported.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{0}")]
    Write(#[from] brenier_files::WriteError),
}
