//! The published rule for the direction of a projection.
//!
//! Arditi et al., "Refusal in language models is mediated by a single direction", 2024, section 2.3 and appendix C.

use brenier_hooks::{Edit, Intervention};
use brenier_map::{Affine, LowRank, RowMap};
use brenier_residual::{HookPoint, TokenSet};
use faer::Mat;

use super::Run;
use super::candidates::LayerRows;
use super::sweep::Val;
use crate::forward::Tails;
use crate::{EvalError, SweepScores};

/// A direction is discarded at this share of the depth or later ...
const LATEST: f64 = 0.8;
/// ... or if it moves harmless predictions by more than this.
const LARGEST_KL: f64 = 0.1;

/// The rule, as far as directions were considered.
#[derive(Default)]
pub(super) struct Rule {
    /// Index and bypass score of the best so far.
    best: Option<(usize, f64)>,
}

impl Rule {
    /// Considers a direction: its index, the layer it was fitted at, what was measured when it was projected out, and
    /// the refusal score on target prompts when it was added.
    pub fn consider(
        &mut self,
        index: usize,
        layer: u16,
        found: &SweepScores,
        induced: Option<f64>,
        layers: u16,
    ) {
        let (Some(bypass), Some(induced), Some(kl)) = (found.refusal_score, induced, found.kl) else {
            return;
        };
        let late = f64::from(layer) >= (LATEST * f64::from(layers)).floor();
        let sound = kl <= LARGEST_KL && induced >= 0.0;
        if sound && !late && self.best.is_none_or(|(_, best)| bypass < best) {
            self.best = Some((index, bypass));
        }
    }

    /// The direction that the rule takes.
    pub fn best(&self) -> Option<usize> {
        self.best.map(|(index, _)| index)
    }
}

impl Run<'_> {
    /// Mean refusal score on target prompts when `m_s - m_t` is added at this layer.
    pub fn induced(&self, rows: &LayerRows, val: &Val, tails: &Tails<'_>) -> Result<Option<f64>, EvalError> {
        let d = rows.source.ncols();
        let mean = |rows: &Mat<f64>, j: usize| rows.col(j).iter().sum::<f64>() / rows.nrows().max(1) as f64;
        let offset = (0..d).map(|j| mean(&rows.source, j) - mean(&rows.target, j)).collect();
        let add =
            LowRank { scale: 1.0, mean: vec![0.0; d], offset, u: Mat::zeros(d, 0), v: Mat::zeros(d, 0) };
        let edit = Edit {
            at: HookPoint::resid_post(rows.layer),
            map: RowMap::new(Affine::LowRank(add))?,
            strength: 1.0,
            tokens: TokenSet::All,
        };
        let mut tap = Intervention::new(self.model().spec(), &[edit])?;
        Ok(val.measure(|see| tails.logits(&mut tap, see))?.target_refusal_score)
    }
}
