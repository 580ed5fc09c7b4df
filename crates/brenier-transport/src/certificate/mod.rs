//! What is known of a fit.

pub(crate) mod bootstrap;
pub(crate) mod certify;
pub(crate) mod effect;
pub(crate) mod sketch;
pub(crate) mod sliced;
pub(crate) mod unknown;

use crate::calibrate::Calibration;
use crate::certificate::bootstrap::Bootstrap;
use crate::certificate::sketch::Sketch;
use crate::certificate::sliced::Sliced;
use crate::methods::entropic::EntropicLaws;
use crate::methods::leace::ErasureLaws;
use crate::methods::mixture_ot::MixtureLaws;
use crate::options::{Method, Shift};
use serde::{Deserialize, Serialize};

/// What is known of a fit: how it was made, the conditions that it meets, and what it does to rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The method.
    pub method: Method,
    /// Width of the rows, d.
    pub dim: usize,
    /// Number of source rows (of those with a weight above 0).
    pub source_rows: usize,
    /// Number of target rows (of those with a weight above 0).
    pub target_rows: usize,
    /// Effective numbers of source and target rows, `(sum w)^2 / sum w^2`, if rows had weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rows: Option<[f64; 2]>,
    /// Divisor of covariances: `sample` (n - 1; `1 - sum w^2` for shares w of the weight) or `population` (n; 1).
    pub covariance: String,
    /// K, for methods in principal components.
    pub components: Option<usize>,
    /// Share of the pooled variance that the K components hold.
    pub explained: Option<f64>,
    /// Which part of the mean moves, for methods in principal components.
    pub shift: Option<Shift>,
    /// The part of the target's spread that the source is given, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_spread: Option<f64>,
    /// Shrinkage intensities applied to the source's and the target's covariance of the map.
    pub shrinkage: Option<[f64; 2]>,
    /// Shrinkage intensities applied to the two covariances of the gate.
    pub gate_shrinkage: Option<[f64; 2]>,
    /// Absolute regulariser added to both covariances, in squared units of the activations.
    pub reg_abs: f64,
    /// Number of latent directions of each class's probabilistic PCA, if the map is between these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<usize>,
    /// Effective rank of the source, `tr(S)^2 / tr(S^2)` of its empirical covariance.
    pub effective_rank_source: f64,
    /// Effective rank of the target.
    pub effective_rank_target: f64,
    /// Spectral norm of the linear part of the (ungated) map.
    pub norm: f64,
    /// AcT: coordinates left alone because they do not vary.
    pub skipped: Option<usize>,
    /// The conditions of optimality, for optimal maps, in the coordinates in which the map is optimal (the K principal
    /// components, or all d).
    pub optimality: Option<Optimality>,
    /// The conditions of an entropic map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropic: Option<EntropicLaws>,
    /// The conditions of an erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<ErasureLaws>,
    /// The same measures as `optimality`, of the control: it pushes forward, and its `symmetry` and its `transport_cost`
    /// above `w2_squared` show that it is not optimal. Eigenvalues are those of `(A + A^T) / 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Optimality>,
    /// The mixtures of a mixture map and their plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture: Option<MixtureLaws>,
    /// How the gate was calibrated, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Intervals over resamples of the rows, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// What the moments that the map was fitted to may have lost of the rows, if it was fitted to moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<Sketch>,
    /// What the map does to the rows it was fitted on.
    pub train: Quality,
    /// What it does to rows kept out of the fit, if any were given.
    pub held_out: Option<Quality>,
}

/// The conditions that make a map the optimal one. They are checked together: none of them alone suffices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Optimality {
    /// Directions in which the source varies, and on which the map is the optimal one.
    pub rank: usize,
    /// Directions of the joint span in which the source does not vary: its eigenvalue lies at or under the floor, and
    /// the map is the identity plus the shift of the mean.
    pub floored: usize,
    /// The floor, relative to the source's largest eigenvalue.
    pub floor: f64,
    /// Condition number of the source's covariance above the floor.
    pub condition: f64,
    /// `|T(m_s) - m_t|` over the size of means and spread.
    pub push_forward_mean: f64,
    /// `|A S_s A - S_t|_F` on the range of the source, over `|S_t|_F` (of the regularised covariances, if regularised).
    pub push_forward_covariance: f64,
    /// Share of the target's variance outside the range of the source, which a map that leaves the source's null space
    /// as it is cannot produce.
    pub unreachable: f64,
    /// `|A - A^T|_F / |A|_F`.
    pub symmetry: f64,
    /// Smallest eigenvalue of A.
    pub min_eigenvalue: f64,
    /// Largest eigenvalue of A.
    pub max_eigenvalue: f64,
    /// `tr((A - I) S_s (A - I)) + |m_t - m_s|^2`, the mean squared length of a step.
    pub transport_cost: f64,
    /// `W2^2` between the source and the reachable part of the target, found apart from the map: by the nuclear norm. Equals
    /// the cost.
    pub w2_squared: f64,
    /// `|Q^T Q - I|_F / sqrt(r)` of the basis `Q` that the returned map reads and writes with, as 16 random combinations
    /// of its columns show it; none where it reads all coordinates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orthonormality: Option<f64>,
    /// How far what this basis reads of the rows is off the coordinates in which the map was found, and their variance
    /// outside of it (unless it is made to leave some out), relative, as 16 random combinations of the rows show it; none
    /// where there is no basis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<f64>,
    /// What rounding can explain in any of these, relative.
    pub tolerance: f64,
}

/// What a map does to a set of rows, measured on the rows themselves (gate included, strength 1), each by its weight. Of a
/// fit from moments, what follows from these; what cannot be known without rows is NaN here, and `null` in JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// W2 between the empirical Gaussians of source and target, in the units of the activations.
    pub w2_before: f64,
    /// The same after the source rows are mapped.
    #[serde(with = "crate::certificate::unknown")]
    pub w2_after: f64,
    /// `w2_after / w2_before`; none where the two coincide already.
    pub w2_ratio: Option<f64>,
    /// Root mean square step of the source rows.
    #[serde(with = "crate::certificate::unknown")]
    pub source_step: f64,
    /// Root mean square step of the target rows, which should stay where they are.
    #[serde(with = "crate::certificate::unknown")]
    pub target_step: f64,
    /// How well the gate tells the classes apart.
    pub gate: Option<GateQuality>,
    /// The sliced distance from the target, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliced: Option<Sliced>,
}

/// How well a gate tells source from target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateQuality {
    /// Area under the ROC curve: the chance that a source row has higher log-odds than a target row (ties count half).
    pub auc: f64,
    /// Mean p(x) over the source rows.
    pub mean_source: f64,
    /// Mean p(x) over the target rows.
    pub mean_target: f64,
}
