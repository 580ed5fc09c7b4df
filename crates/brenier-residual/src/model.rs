//! What a model must offer to be watched and edited.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};

use crate::{Batch, KvCache, ResidualError, Tap};

/// The facts of a model that its users need.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The architecture's name as its checkpoint gives it, e.g. `LlamaForCausalLM`.
    pub architecture: String,
    /// Number of decoder blocks.
    pub layers: u16,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Most tokens that a row may have.
    pub context: usize,
    /// The device that holds the weights.
    pub device: Device,
    /// The dtype that activations have.
    pub dtype: DType,
    /// The dtype that weights are held in. Some devices compute in a wider one.
    pub weights: DType,
}

impl Spec {
    /// Name of the weights' dtype, as options and files have it: `f32`, `bf16`.
    #[must_use]
    pub fn dtype_name(&self) -> String {
        format!("{:?}", self.weights).to_lowercase()
    }

    /// Checks that a prompt can be put to the model and leaves room for `room` more tokens: the one check of ids that
    /// everything in front of a model makes.
    ///
    /// # Errors
    /// No token, more tokens than the context holds, an id outside the vocabulary.
    pub fn check_ids(&self, ids: &[u32], room: usize) -> Result<(), ResidualError> {
        self.check(ids.len(), room, ids.iter().copied().enumerate())
    }

    /// [`check_ids`](Self::check_ids) of `tokens` tokens, of which `ids` are looked at, each with its position.
    pub(crate) fn check(
        &self,
        tokens: usize,
        room: usize,
        ids: impl Iterator<Item = (usize, u32)>,
    ) -> Result<(), ResidualError> {
        let Spec { context, vocab, .. } = *self;
        if tokens == 0 {
            return Err(ResidualError::NoToken);
        }
        if tokens.saturating_add(room) > context {
            return Err(ResidualError::BeyondContext { tokens, room, context });
        }
        let unknown = ids.into_iter().find(|&(_, id)| id as usize >= vocab);
        unknown.map_or(Ok(()), |(token, id)| Err(ResidualError::UnknownId { token, id, vocab }))
    }
}

/// A decoder-only model, cut where its users need it: embedding, any run of blocks, unembedding.
///
/// The cuts let an edit at block `l` recompute blocks `l..` alone, a recorder stop after the last block
/// it wants, and a caller unembed only the rows it needs.
pub trait ResidualModel {
    /// The facts of this model.
    fn spec(&self) -> &Spec;

    /// Embeds token ids: the residual stream that enters block 0, `[rows, tokens, hidden]`.
    ///
    /// # Errors
    /// What [`Batch::check`] finds.
    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError>;

    /// Runs the blocks `layers` on a residual stream and calls `tap` at the places it wants.
    ///
    /// With a cache, keys and values of this step are appended to it.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, tokens, hidden]`.
    ///
    /// # Errors
    /// A cache that does not hold the `batch.past()` tokens before this step, or that [`rereads`](Self::rereads) says is
    /// of no use for it.
    fn blocks(
        &self,
        layers: Range<u16>,
        x: Tensor<3>,
        batch: &Batch,
        cache: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError>;

    /// Whether what a cache holds of these rows is not what the model would compute together with this step: a model
    /// that reads rows beyond some length in another way (LongRoPE). Then they have to be read anew, from their first
    /// token to this step.
    fn rereads(&self, _batch: &Batch) -> bool {
        false
    }

    /// Final norm and output matrix: logits `[rows, tokens, vocab]` of a stream `[rows, tokens, hidden]`.
    fn unembed(&self, x: Tensor<3>) -> Tensor<3>;

    /// The whole way: logits of every token of the batch, `[rows, tokens, vocab]`.
    ///
    /// # Errors
    /// As [`embed`](Self::embed) and [`blocks`](Self::blocks).
    fn forward(
        &self,
        batch: &Batch,
        cache: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        let x = self.blocks(0..self.spec().layers, self.embed(batch)?, batch, cache, tap)?;
        Ok(self.unembed(x))
    }

    /// Logits after the last token of every row alone, `[rows, vocab]`: the output matrix is applied once a
    /// row, not once a token.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn forward_last(
        &self,
        batch: &Batch,
        cache: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<2>, ResidualError> {
        let x = self.blocks(0..self.spec().layers, self.embed(batch)?, batch, cache, tap)?;
        let last = x.dims()[1] - 1;
        let x = x.narrow(1, last, 1);
        Ok(self.unembed(x).squeeze_dim(1))
    }

    /// Runs for the sake of the tap alone: no logits, and no block after the tap's last.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn observe(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<(), ResidualError> {
        let layers = self.spec().layers;
        let end = tap.last_layer().map_or(layers, |last| layers.min(last.saturating_add(1)));
        self.blocks(0..end, self.embed(batch)?, batch, None, tap)?;
        Ok(())
    }
}
