//! The seam between activation tools and any decoder-only language model.
//!
//! A model implements [`ResidualModel`]; whatever watches or edits it implements [`Tap`]. Neither
//! knows the other: a tap is an argument of the forward pass, never registered state.
//!
//! * [`HookPoint`] names a place in the model, in TransformerLens' terms.
//! * [`Batch`] carries token ids, their positions, the attention mask, and which tokens are padding,
//!   prompt or generated ([`TokenSet`]).
//! * [`KvCache`] carries the keys and values of tokens already read.
//! * [`read_back`] is the way from the device to the host, which only finite numbers pass; [`Overflow`] says where a
//!   pass stopped being finite.
//!
//! No tokenizer, file or terminal is known here, and no tensor library but burn.
#![deny(missing_docs)]

mod batch;
mod cache;
mod error;
mod hook;
mod model;
mod overflow;
mod read;
mod tap;

pub use batch::{Batch, Row, Sight, TokenKind, TokenSet};
pub use cache::KvCache;
pub use error::ResidualError;
pub use hook::{HookPoint, Site};
pub use model::{ResidualModel, Spec};
pub use overflow::{Cause, Origin, Overflow, Place};
pub use read::{read_back, read_likeliest, read_logits};
pub use tap::Tap;
