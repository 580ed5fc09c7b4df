//! What can go wrong with the organism.

use std::path::PathBuf;

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
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
