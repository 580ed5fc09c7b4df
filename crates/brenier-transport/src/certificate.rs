use crate::gaussian::Gaussian;
use crate::samples::along;
use crate::sliced::{apart, directions};
use crate::{
    Bootstrap, Covariance, EntropicLaws, ErasureLaws, Method, Samples, Shift, Sliced, SlicedOptions,
    TransportError, w2,
};
use brenier_linalg::product;
use brenier_map::{Gate, RowMap};
use faer::{Mat, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows that a thread maps at once where no more than their place along some directions is wanted.
const AT_ONCE: usize = 16;

/// What is known of a fit: how it was made, the laws that it obeys, and what it does to rows.
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
    /// The laws of optimality, for optimal maps, in the coordinates in which the map is optimal (the K principal
    /// components, or all d).
    pub optimality: Option<Optimality>,
    /// The laws of an entropic map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropic: Option<EntropicLaws>,
    /// The laws of an erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<ErasureLaws>,
    /// The same measures as `optimality`, of the control: it pushes forward, and its `symmetry` and its `transport_cost`
    /// above `w2_squared` show that it is not optimal. Eigenvalues are those of `(A + A^T) / 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Optimality>,
    /// The mixtures of a mixture map and their plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture: Option<crate::MixtureLaws>,
    /// How the gate was calibrated, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<crate::Calibration>,
    /// Intervals over resamples of the rows, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// What the moments that the map was fitted to may have lost of the rows, if it was fitted to moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<crate::Sketch>,
    /// What the map does to the rows it was fitted on.
    pub train: Quality,
    /// What it does to rows kept out of the fit, if any were given.
    pub held_out: Option<Quality>,
}

/// The laws that make a map the optimal one. They are checked together, since none of them alone proves it.
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
    /// `W2^2` between the source and the reachable part of the target, found apart from the map: by the nuclear norm, or
    /// as the lower bound that duality gives (see [`monge`](crate::monge())). Equals the cost.
    pub w2_squared: f64,
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
    #[serde(with = "crate::unknown")]
    pub w2_after: f64,
    /// `w2_after / w2_before`; none where the two coincide already.
    pub w2_ratio: Option<f64>,
    /// Root mean square step of the source rows.
    #[serde(with = "crate::unknown")]
    pub source_step: f64,
    /// Root mean square step of the target rows, which should stay where they are.
    #[serde(with = "crate::unknown")]
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

/// Measures a map on rows.
pub(crate) fn measure<'a>(
    map: &RowMap,
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    covariance: Covariance,
) -> Result<Quality, TransportError> {
    let (source, target) = (source.into(), target.into());
    // One after the other: each copy of the rows is as large as they are.
    let target_step = step(target, moved(map, target.rows())?.as_ref())?;
    let goal = Gaussian::from_rows(target, covariance)?;
    let w2_before = w2(&Gaussian::from_rows(source, covariance)?, &goal)?;
    let moved_source = moved(map, source.rows())?;
    let source_step = step(source, moved_source.as_ref())?;
    let w2_after = w2(&Gaussian::from_rows(source.with_rows(moved_source.as_ref()), covariance)?, &goal)?;
    drop(moved_source);
    Ok(Quality {
        w2_before,
        w2_after,
        w2_ratio: (w2_before > 0.0).then(|| w2_after / w2_before),
        source_step,
        target_step,
        gate: map
            .gate()
            .map(|gate| Gated::of(gate, source, target))
            .transpose()?
            .map(|gated| gated.quality()),
        sliced: None,
    })
}

/// What a gate says of two sets of rows, read once.
pub(crate) struct Gated {
    /// `p(x)` of each source row.
    pub source: Vec<f64>,
    /// `p(x)` of each target row.
    pub target: Vec<f64>,
    auc: f64,
    /// The rows' shares of the weight of their class, if they have any.
    shares: [Option<Vec<f64>>; 2],
}

impl Gated {
    pub(crate) fn of<'a>(
        gate: &Gate,
        source: impl Into<Samples<'a>>,
        target: impl Into<Samples<'a>>,
    ) -> Result<Self, TransportError> {
        let (source, target) = (source.into(), target.into());
        let shares = [source.shares()?, target.shares()?];
        let (source, target) = (gate.log_odds(source.rows())?, gate.log_odds(target.rows())?);
        let auc = match &shares {
            [None, None] => auc(&source, &target),
            [of_source, of_target] => {
                weighted_auc(&source, &target, of_source.as_deref(), of_target.as_deref())
            }
        };
        let open = |odds: Vec<f64>| odds.into_iter().map(|odds| gate.probability(odds)).collect();
        Ok(Self { source: open(source), target: open(target), auc, shares })
    }

    pub(crate) fn quality(&self) -> GateQuality {
        let [of_source, of_target] = &self.shares;
        GateQuality {
            auc: self.auc,
            mean_source: average(&self.source, of_source.as_deref()),
            mean_target: average(&self.target, of_target.as_deref()),
        }
    }
}

/// The sliced distance from the target before and after a map.
pub(crate) fn measure_sliced<'a>(
    map: &RowMap,
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    options: &SlicedOptions,
) -> Result<Sliced, TransportError> {
    let (source, target) = (source.into(), target.into());
    let u = directions(source.rows().ncols(), options.directions, options.seed);
    let goal = product(target.rows(), u.as_ref());
    let goal = along(&goal, target.weights())?;
    let distance = |z: Mat<f64>| Ok::<_, TransportError>(apart(along(&z, source.weights())?, goal));
    Ok(Sliced {
        before: distance(product(source.rows(), u.as_ref()))?,
        after: distance(moved_along(map, source.rows(), u.as_ref())?)?,
        directions: options.directions,
    })
}

/// Area under the ROC curve by ranks (the Mann-Whitney statistic), ties counted half.
fn auc(positive: &[f64], negative: &[f64]) -> f64 {
    let mut sorted = negative.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins: f64 = positive
        .iter()
        .map(|x| {
            let below = sorted.partition_point(|y| y < x);
            let up_to = sorted.partition_point(|y| y <= x);
            0.5 * (below + up_to) as f64
        })
        .sum();
    wins / (positive.len() * negative.len()) as f64
}

/// Where rows lie along directions once they are mapped, a few rows at a time: a copy of all of them would be as large as
/// they are. `[n, l]`
fn moved_along(
    map: &RowMap,
    rows: MatRef<'_, f64>,
    directions: MatRef<'_, f64>,
) -> Result<Mat<f64>, TransportError> {
    let mut out = Mat::zeros(rows.nrows(), directions.ncols());
    let blocks = out.as_mut().par_row_chunks_mut(AT_ONCE).enumerate();
    blocks.try_for_each(|(index, mut out)| {
        let block = moved(map, rows.subrows(index * AT_ONCE, out.nrows()))?;
        out.copy_from(product(block.as_ref(), directions));
        Ok::<_, TransportError>(())
    })?;
    Ok(out)
}

fn moved(map: &RowMap, rows: MatRef<'_, f64>) -> Result<Mat<f64>, TransportError> {
    let mut out = rows.to_owned();
    map.apply_rows(out.as_mut(), 1.0)?;
    Ok(out)
}

fn step(before: Samples<'_>, after: MatRef<'_, f64>) -> Result<f64, TransportError> {
    let n = after.nrows();
    let shares = before.shares()?.unwrap_or_else(|| vec![1.0 / n as f64; n]);
    let columns = before.rows().col_iter().zip(after.col_iter());
    let squares = columns.map(|(before, after)| {
        let steps = after.iter().zip(before.iter()).zip(&shares);
        steps.map(|((after, before), share)| share * (after - before).powi(2)).sum::<f64>()
    });
    Ok(squares.sum::<f64>().sqrt())
}

fn average(values: &[f64], shares: Option<&[f64]>) -> f64 {
    match shares {
        None => values.iter().sum::<f64>() / values.len() as f64,
        Some(shares) => values.iter().zip(shares).map(|(x, w)| w * x).sum(),
    }
}

/// The same chance for rows drawn by their shares (equal ones where there are none).
fn weighted_auc(
    positive: &[f64],
    negative: &[f64],
    of_positive: Option<&[f64]>,
    of_negative: Option<&[f64]>,
) -> f64 {
    let share =
        |shares: Option<&[f64]>, i: usize, n: usize| shares.map_or(1.0 / n as f64, |shares| shares[i]);
    let n = negative.len();
    let mut sorted: Vec<(f64, f64)> =
        negative.iter().enumerate().map(|(i, &x)| (x, share(of_negative, i, n))).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Mass below the first, the second, .. and below all.
    let mut below = vec![0.0; n + 1];
    for (i, (_, w)) in sorted.iter().enumerate() {
        below[i + 1] = below[i] + w;
    }
    let wins = |x: f64| {
        let lower = sorted.partition_point(|y| y.0 < x);
        let up_to = sorted.partition_point(|y| y.0 <= x);
        0.5 * (below[lower] + below[up_to])
    };
    positive.iter().enumerate().map(|(i, &x)| share(of_positive, i, positive.len()) * wins(x)).sum()
}

#[cfg(test)]
mod tests {
    use super::{auc, weighted_auc};

    #[test]
    fn auc_counts_pairs_and_halves_ties() {
        assert_eq!(auc(&[2.0, 3.0], &[0.0, 1.0]), 1.0);
        assert_eq!(auc(&[0.0, 1.0], &[2.0, 3.0]), 0.0);
        assert_eq!(auc(&[1.0, 1.0], &[1.0]), 0.5);
        assert_eq!(auc(&[0.0, 2.0], &[1.0, 2.0]), (0.0 + 1.5) / 4.0);
    }

    #[test]
    fn weighted_auc_counts_mass() {
        let (x, y) = ([0.0, 2.0, 1.0], [1.0, 2.0]);
        assert!((weighted_auc(&x, &y, None, None) - auc(&x, &y)).abs() < 1e-15);
        // 0 wins nothing, 2 wins over 1 and half of 2, 1 wins half of 1.
        let found = weighted_auc(&x, &y, Some(&[0.5, 0.2, 0.3]), Some(&[0.9, 0.1]));
        assert!((found - (0.2 * (0.9 + 0.05) + 0.3 * 0.45)).abs() < 1e-15);
    }
}
