//! What prompts have in common at their start, read once for all of them.

use crate::batch::{Batch, Row};
use crate::cache::KvCache;
use crate::error::ResidualError;
use crate::model::ResidualModel;
use crate::tap::Tap;

/// Fewer tokens in common are read with each prompt.
const WORTH_SHARING: usize = 4;

/// The tokens that prompts begin with, a chat template's system message for one, as keys and values.
///
/// What precedes a token is the same in each prompt, so it is computed once: prompts of 40 tokens of which 30 are the
/// template's cost a quarter. Results are the same but for rounding.
#[derive(Debug, Clone)]
pub struct SharedStart {
    tokens: usize,
    cache: KvCache,
}

impl SharedStart {
    /// Reads what all prompts begin with through the first `layers` blocks, under a tap. The last `keep` tokens of each
    /// prompt are left out, however much they are alike. `None` where it is not worth it, or the model does not use the
    /// cache.
    ///
    /// # Errors
    /// As [`ResidualModel::blocks`].
    pub fn read(
        model: &dyn ResidualModel,
        prompts: &[&[u32]],
        keep: usize,
        layers: u16,
        tap: &mut dyn Tap,
    ) -> Result<Option<Self>, ResidualError> {
        let (Some(first), true) = (prompts.first(), prompts.len() > 1) else { return Ok(None) };
        let tokens = prompts.iter().fold(first.len(), |tokens, prompt| {
            let alike = first.iter().zip(prompt.iter()).take_while(|(a, b)| a == b).count();
            tokens.min(alike).min(prompt.len().saturating_sub(keep.max(1)))
        });
        if tokens < WORTH_SHARING {
            return Ok(None);
        }
        // As a part of a prompt: its tokens are none of the last.
        let (batch, _) = Batch::new(&[Row::prompt(first)], &model.spec().device)?.split(tokens);
        let mut cache = KvCache::new(usize::from(model.spec().layers));
        model.blocks(0..layers, model.embed(&batch)?, &batch, Some(&mut cache), tap)?;
        // A model that keeps no keys and values has nothing to share.
        let kept = (0..usize::from(layers)).all(|layer| cache.tokens(layer) == tokens);
        Ok(kept.then_some(Self { tokens, cache }))
    }

    /// How many tokens are shared.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// What is left to read of a batch of such prompts, and the cache that it continues: for this one step, of which it
    /// keeps nothing. All of it and none where the
    /// model [reads](ResidualModel::rereads) rows of this length in another way from their first token on.
    ///
    /// A row that is padded on the left takes as much less from the shared start, so that in all rows the same columns
    /// are left.
    #[must_use]
    pub fn rest(&self, model: &dyn ResidualModel, batch: Batch) -> (Batch, Option<KvCache>) {
        let columns = self.tokens.min(batch.tokens() - 1);
        let shared: Vec<usize> =
            (0..batch.rows()).map(|row| columns.saturating_sub(batch.padding(row))).collect();
        let (_, rest) = batch.split(columns);
        if model.rereads(&rest) {
            return (batch, None);
        }
        (rest, Some(self.cache.shared_start(&shared, columns)))
    }
}
