//! What can be wrong with a batch or with a name.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::HookPoint;

/// Errors of the seam. Each says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResidualError {
    /// A batch without a single token.
    #[error("empty batch: expected at least one row with at least one token")]
    EmptyBatch,
    /// A row of a batch that is not what it should be.
    #[error("row {row} (counted from 0): {source}")]
    Row {
        /// Index of the row in the batch.
        row: usize,
        /// What is wrong with it.
        source: Box<ResidualError>,
    },
    /// A row or a prompt that holds no token.
    #[error("it has no token: expected at least one")]
    NoToken,
    /// A prompt longer than its row.
    #[error("the prompt is said to be {prompt} tokens long, but the row has {tokens}")]
    PromptBeyondRow {
        /// Claimed length of the prompt.
        prompt: usize,
        /// Tokens in the row.
        tokens: usize,
    },
    /// A token id that the model has no embedding for.
    #[error(
        "token {token} (counted from 0) has the id {id}, which is outside the model's vocabulary of {vocab}; was it made \
         with another tokenizer?"
    )]
    UnknownId {
        /// Index of the token in its row, padding not counted.
        token: usize,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A row longer than the context of the model, or one that leaves too little room in it.
    #[error("{tokens} tokens, but the model's context holds {context}{}; shorten it", needed(*.room))]
    BeyondContext {
        /// Tokens in the row.
        tokens: usize,
        /// Tokens that have to fit in after them.
        room: usize,
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
    /// A cache of tokens that the model reads in another way now.
    #[error(
        "a row has grown beyond {tokens} tokens, from where on the model reads all of its tokens in another way: expected \
         it to be read anew, from its first token"
    )]
    StaleCache {
        /// Tokens up to which a row is read in the way of the cache.
        tokens: usize,
    },
    /// A name that is no hook point.
    #[error("unknown hook point `{name}`: expected e.g. `blocks.5.hook_resid_post`")]
    UnknownHookPoint {
        /// The name as given.
        name: String,
    },
    /// A name that is no choice of tokens.
    #[error("unknown tokens `{name}`: expected one of all, prompt, last, generated, last+generated")]
    UnknownTokens {
        /// The name as given.
        name: String,
    },
    /// A name that is no site.
    #[error("unknown site `{name}`: expected one of resid_pre, resid_mid, resid_post, attn_out, mlp_out")]
    UnknownSite {
        /// The name as given.
        name: String,
    },
    /// A layer that the model does not have.
    #[error("{at}: the model has {layers} layers, counted from 0")]
    LayerOutside {
        /// The place asked for.
        at: HookPoint,
        /// Number of layers of the model.
        layers: u16,
    },
    /// A tap that failed.
    #[error("{at}: {source}")]
    Tap {
        /// Where it failed.
        at: HookPoint,
        /// What it said.
        source: TapError,
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
    /// The failure of a tap at a place.
    ///
    /// ```
    /// use brenier_residual::{HookPoint, ResidualError};
    ///
    /// let error = ResidualError::tap(HookPoint::resid_post(2), std::fmt::Error);
    /// let ResidualError::Tap { source, .. } = error else { unreachable!() };
    /// assert!(source.get().is::<std::fmt::Error>());
    /// ```
    pub fn tap(at: HookPoint, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Tap { at, source: TapError(error.into().into()) }
    }

    pub(crate) fn device(error: &dyn std::fmt::Display) -> Self {
        Self::Device { reason: error.to_string().split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    pub(crate) fn in_row(self, row: usize) -> Self {
        Self::Row { row, source: Box::new(self) }
    }
}

/// The error of a tap, whatever its type. Two are equal if their texts are.
#[derive(Clone)]
pub struct TapError(Arc<dyn Error + Send + Sync>);

impl TapError {
    /// The error itself, to be downcast.
    #[must_use]
    pub fn get(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Debug for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for TapError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl PartialEq for TapError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// What a continuation takes of the context.
fn needed(room: usize) -> String {
    if room == 0 { String::new() } else { format!(", of which the continuation needs {room}") }
}
