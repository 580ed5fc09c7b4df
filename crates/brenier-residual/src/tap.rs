//! Watching and editing a forward pass.

use std::collections::BTreeSet;

use burn::tensor::Tensor;

use crate::{HookPoint, ResidualError, TokenView};

/// Something that sees, and may replace, activations while a model runs.
///
/// Taps compose: `()` does nothing, `(a, b)` runs `a` and then `b` on what `a` returned, and `&mut T` and `Box<T>`
/// are taps where `T` is. So `(intervene, record)` records edited activations and `(record, intervene)` the
/// originals. [`tap_fn`] makes a tap of a closure.
///
/// A tap must not read tensors back to the host in [`visit`](Tap::visit): that synchronises the
/// device once per layer. Keep the tensor and read it when the pass is over.
pub trait Tap {
    /// Whether [`visit`](Tap::visit) is to be called at this place. Unwanted places cost nothing.
    fn wants(&self, at: HookPoint) -> bool;

    /// Sees the activations at a place and returns what the model goes on with.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, tokens, hidden]`, in the model's dtype.
    ///
    /// # Errors
    /// Whatever makes the tap unable to do its part; the pass ends there. A failure of the tap's own travels as
    /// [`ResidualError::tap`].
    fn visit(
        &mut self,
        at: HookPoint,
        tokens: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError>;

    /// Visits where this tap wants to: what a model calls at each of its places.
    ///
    /// # Errors
    /// As [`visit`](Tap::visit).
    fn see(
        &mut self,
        at: HookPoint,
        tokens: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        if self.wants(at) { self.visit(at, tokens, x) } else { Ok(x) }
    }

    /// The last block that this tap wants to see, when nothing after it matters to it. A tap that edits
    /// returns `None`: what it changes must reach the logits.
    fn last_layer(&self) -> Option<u16> {
        None
    }
}

/// A tap that calls `visit` at the given places.
///
/// ```
/// use brenier_residual::{Batch, Device, HookPoint, ResidualError, Row, Tap, Tensor, TokenSet, TokenView, tap_fn};
///
/// // Doubles the last token of the prompt.
/// let mut double = tap_fn([HookPoint::resid_mid(3)], |_, tokens, x| {
///     let chosen = tokens.chosen(TokenSet::Last).unsqueeze_dim::<3>(2).expand(x.dims());
///     Ok(x.clone().mask_where(chosen, x * 2.0))
/// });
/// assert!(double.wants(HookPoint::resid_mid(3)) && !double.wants(HookPoint::resid_post(3)));
///
/// let batch = Batch::new(&[Row::prompt(&[5, 6])], &Device::flex())?;
/// let x = Tensor::<3>::from_data([[[1.0], [2.0]]], batch.device());
/// let y = double.visit(HookPoint::resid_mid(3), &batch, x)?;
/// assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 4.0]);
/// # Ok::<(), ResidualError>(())
/// ```
pub fn tap_fn<F>(at: impl IntoIterator<Item = HookPoint>, visit: F) -> TapFn<F>
where
    F: FnMut(HookPoint, &dyn TokenView, Tensor<3>) -> Result<Tensor<3>, ResidualError>,
{
    TapFn { at: at.into_iter().collect(), visit }
}

/// The tap that [`tap_fn`] makes.
#[derive(Debug, Clone)]
pub struct TapFn<F> {
    at: BTreeSet<HookPoint>,
    visit: F,
}

impl<F> Tap for TapFn<F>
where
    F: FnMut(HookPoint, &dyn TokenView, Tensor<3>) -> Result<Tensor<3>, ResidualError>,
{
    fn wants(&self, at: HookPoint) -> bool {
        self.at.contains(&at)
    }

    fn visit(
        &mut self,
        at: HookPoint,
        tokens: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        (self.visit)(at, tokens, x)
    }
}

impl Tap for () {
    fn wants(&self, _: HookPoint) -> bool {
        false
    }

    fn visit(&mut self, _: HookPoint, _: &dyn TokenView, x: Tensor<3>) -> Result<Tensor<3>, ResidualError> {
        Ok(x)
    }
}

impl<A: Tap, B: Tap> Tap for (A, B) {
    fn wants(&self, at: HookPoint) -> bool {
        self.0.wants(at) || self.1.wants(at)
    }

    fn visit(
        &mut self,
        at: HookPoint,
        tokens: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        let x = self.0.see(at, tokens, x)?;
        self.1.see(at, tokens, x)
    }

    fn last_layer(&self) -> Option<u16> {
        // An editor before a recorder does not make the recorder need the logits, but only the caller
        // knows that it wants no logits: both must agree.
        Some(self.0.last_layer()?.max(self.1.last_layer()?))
    }
}

macro_rules! forwarded {
    ($($tap:ty),*) => {$(
        impl<T: Tap + ?Sized> Tap for $tap {
            fn wants(&self, at: HookPoint) -> bool {
                (**self).wants(at)
            }

            fn visit(
                &mut self,
                at: HookPoint,
                tokens: &dyn TokenView,
                x: Tensor<3>,
            ) -> Result<Tensor<3>, ResidualError> {
                (**self).visit(at, tokens, x)
            }

            fn last_layer(&self) -> Option<u16> {
                (**self).last_layer()
            }
        }
    )*};
}

forwarded!(&mut T, Box<T>);
