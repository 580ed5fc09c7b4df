//! The tap that watches.

use std::collections::{BTreeMap, BTreeSet};

use brenier_residual::{HookPoint, ResidualError, Tap, TokenView};
use burn::tensor::{Int, Tensor, TensorData};

use crate::Position;

/// Keeps the chosen tokens of the chosen places, on the device, until they are [taken](Recorder::take).
///
/// One recorder serves one batch after another; take what it holds between them. What it hands to the model is
/// what it was given.
#[derive(Debug, Default)]
pub struct Recorder {
    points: BTreeSet<HookPoint>,
    position: Position,
    /// Chosen tokens of the batch at hand, made at its first visit.
    index: Option<Tensor<1, Int>>,
    seen: BTreeMap<HookPoint, Tensor<2>>,
}

impl Recorder {
    /// A recorder of these places and tokens.
    #[must_use]
    pub fn new(points: impl IntoIterator<Item = HookPoint>, position: Position) -> Self {
        Self { points: points.into_iter().collect(), position, index: None, seen: BTreeMap::new() }
    }

    /// What was seen since the last call, and makes ready for the next batch.
    ///
    /// # Shapes
    /// Each `[chosen tokens, hidden]`, row after row of the batch, a row's tokens in their order.
    pub fn take(&mut self) -> BTreeMap<HookPoint, Tensor<2>> {
        self.index = None;
        std::mem::take(&mut self.seen)
    }
}

impl Tap for Recorder {
    fn wants(&self, at: HookPoint) -> bool {
        self.points.contains(&at)
    }

    fn visit(
        &mut self,
        at: HookPoint,
        view: &dyn TokenView,
        x: Tensor<3>,
    ) -> Result<Tensor<3>, ResidualError> {
        let [rows, tokens, hidden] = x.dims();
        let index = self.index.get_or_insert_with(|| {
            let chosen: Vec<i64> = self.position.chosen(view).into_iter().map(|at| at as i64).collect();
            let count = chosen.len();
            Tensor::from_data(TensorData::new(chosen, [count]), &x.device())
        });
        if index.dims()[0] > 0 {
            let chosen = x.clone().reshape([rows * tokens, hidden]).select(0, index.clone());
            self.seen.insert(at, chosen);
        }
        Ok(x)
    }

    fn last_layer(&self) -> Option<u16> {
        // No place at all: block 0 is the least that a model can stop at.
        Some(self.points.iter().map(|at| at.layer).max().unwrap_or(0))
    }
}
