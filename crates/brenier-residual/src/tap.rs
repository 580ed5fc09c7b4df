//! Watching and editing a forward pass.

use burn::tensor::Tensor;

use crate::{Batch, HookPoint};

/// Something that sees, and may replace, activations while a model runs.
///
/// Taps compose: `()` does nothing, `(a, b)` runs `a` and then `b` on what `a` returned, and `&mut T`
/// is a tap where `T` is. So `(intervene, record)` records edited activations and
/// `(record, intervene)` the originals.
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
    fn visit(&mut self, at: HookPoint, batch: &Batch, x: Tensor<3>) -> Tensor<3>;

    /// The last block that this tap wants to see, when nothing after it matters to it. A tap that edits
    /// returns `None`: what it changes must reach the logits.
    fn last_layer(&self) -> Option<u16> {
        None
    }
}

impl Tap for () {
    fn wants(&self, _: HookPoint) -> bool {
        false
    }

    fn visit(&mut self, _: HookPoint, _: &Batch, x: Tensor<3>) -> Tensor<3> {
        x
    }
}

impl<A: Tap, B: Tap> Tap for (A, B) {
    fn wants(&self, at: HookPoint) -> bool {
        self.0.wants(at) || self.1.wants(at)
    }

    fn visit(&mut self, at: HookPoint, batch: &Batch, x: Tensor<3>) -> Tensor<3> {
        let x = if self.0.wants(at) { self.0.visit(at, batch, x) } else { x };
        if self.1.wants(at) { self.1.visit(at, batch, x) } else { x }
    }

    fn last_layer(&self) -> Option<u16> {
        // An editor before a recorder does not make the recorder need the logits, but only the caller
        // knows that it wants no logits: both must agree.
        Some(self.0.last_layer()?.max(self.1.last_layer()?))
    }
}

impl<T: Tap + ?Sized> Tap for &mut T {
    fn wants(&self, at: HookPoint) -> bool {
        (**self).wants(at)
    }

    fn visit(&mut self, at: HookPoint, batch: &Batch, x: Tensor<3>) -> Tensor<3> {
        (**self).visit(at, batch, x)
    }

    fn last_layer(&self) -> Option<u16> {
        (**self).last_layer()
    }
}
