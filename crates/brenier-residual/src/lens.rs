//! The logit lens.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::{Batch, HookPoint, ResidualError, ResidualModel, Tap, tap_fn};

/// The logits after the last token of every row that the activations at each place would give, if they were what
/// leaves the last block: final norm and output matrix on the residual stream of an earlier layer.
///
/// `tap` runs first, so that the lens sees an intervention; `&mut ()` leaves the model as it is. At `resid_post` of the
/// last block these are the model's own logits. Blocks after the last place are not run.
///
/// # Shapes
/// Each `[rows, vocab]`, on the device.
///
/// Reference: nostalgebraist, "interpreting GPT: the logit lens", LessWrong 2020.
///
/// # Errors
/// A layer outside the model; as [`ResidualModel::blocks`].
pub fn logit_lens(
    model: &dyn ResidualModel,
    batch: &Batch,
    at: impl IntoIterator<Item = HookPoint>,
    tap: &mut dyn Tap,
) -> Result<BTreeMap<HookPoint, Tensor<2>>, ResidualError> {
    let at: Vec<HookPoint> = at.into_iter().collect();
    let layers = model.spec().layers;
    if let Some(&at) = at.iter().find(|at| at.layer >= layers) {
        return Err(ResidualError::LayerOutside { at, layers });
    }
    let end = at.iter().map(|at| at.layer + 1).max().unwrap_or(0);
    let mut seen = BTreeMap::new();
    let last = tap_fn(at, |at, tokens, x| {
        seen.insert(at, x.clone().narrow(1, tokens.tokens() - 1, 1));
        Ok(x)
    });
    model.blocks(0..end, model.embed(batch)?, batch, None, &mut (tap, last))?;
    Ok(seen.into_iter().map(|(at, x)| (at, model.unembed(x).squeeze_dim(1))).collect())
}
