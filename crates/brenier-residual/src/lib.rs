//! The seam between activation tools and any decoder-only language model.
//!
//! A model implements [`ResidualModel`]; whatever watches or edits it implements [`Tap`]. Neither
//! knows the other: a tap is an argument of the forward pass, never registered state.
//!
//! A [`Tap`] knows the tokens through [`TokenView`], which [`Batch`] is, and nothing else of the model.
//!
//! * [`HookPoint`] names a place in the model, in TransformerLens' terms.
//! * [`Batch`] carries token ids, their positions, the attention mask, and which tokens are padding,
//!   prompt or generated ([`TokenSet`]).
//! * [`KvCache`] carries the keys and values of tokens already read.
//! * [`read_back`] is the way from the device to the host, which only finite numbers pass; [`Overflow`] says where a
//!   pass stopped being finite.
//!
//! * [`tap_fn`] is a tap of a closure; [`logit_lens`] unembeds the stream of any layer.
//!
//! [`tensor`] is burn's tensor library, so that a program needs no second dependency on burn.
//!
//! No tokenizer, file or terminal is known here, and no tensor library but burn.
#![deny(missing_docs)]

mod batch;
mod cache;
mod error;
mod hook;
mod lens;
mod model;
mod overflow;
mod read;
mod shared_start;
mod tap;
mod tokens;

pub use batch::{Batch, Row, Sight, TokenKind, TokenSet};
pub use cache::KvCache;
pub use error::{ResidualError, TapError};
pub use hook::{HookPoint, Site};
pub use lens::logit_lens;
pub use model::{ResidualModel, Spec};
pub use overflow::{Cause, Origin, Overflow, Place};
pub use read::{read_back, read_likeliest, read_logits};
pub use shared_start::SharedStart;
pub use tap::{Tap, TapFn, tap_fn};
pub use tokens::TokenView;

pub use burn::tensor::{self, Bool, DType, Device, Int, Tensor, TensorData};
