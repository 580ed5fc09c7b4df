//! What a map does to rows, by moving them.

use crate::certificate::{GateQuality, Quality};
use crate::error::TransportError;
use crate::gaussian::{Gaussian, w2};
use crate::samples::Samples;
use brenier_linalg::{Covariance, Rows, add_product, mean, singular_values, squared_norm};
use brenier_map::{Gate, MapError, RowMap};
use faer::{Mat, MatRef};
use rayon::prelude::*;

/// Measures a map on rows: what it does to them where it is applied. `before`: W2 before, if it is known.
pub(crate) fn measure<'a>(
    map: &RowMap,
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    covariance: Covariance,
    before: Option<f64>,
) -> Result<Quality, TransportError> {
    let (source, target) = (source.into(), target.into());
    // One after the other: each copy of the rows is as large as they are.
    let target_step = mean_step(target, &moved(map, target.rows())?.squared_steps)?;
    let w2_before = match before {
        Some(before) => before,
        None => w2(&Gaussian::from_rows(source, covariance)?, &Gaussian::from_rows(target, covariance)?)?,
    };
    let after = moved(map, source.rows())?;
    let source_step = mean_step(source, &after.squared_steps)?;
    let w2_after = distance(source, after.rows, target, covariance)?;
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

/// Columns of the target that are centred at once.
const STRIP: usize = 256;
/// Rows that a thread moves at once.
const AT_ONCE: usize = 32;

/// W2 between the Gaussians of `moved` rows, as columns, which have the weights of `source`, and of the target's. Of few rows
/// no copy is made beside them.
fn distance(
    source: Samples<'_>,
    mut moved: Mat<f64>,
    target: Samples<'_>,
    covariance: Covariance,
) -> Result<f64, TransportError> {
    let (d, n) = moved.shape();
    if n.max(target.rows().nrows()) > d {
        let moved = Gaussian::from_rows(source.with_rows(moved.transpose()), covariance)?;
        return w2(&moved, &Gaussian::from_rows(target, covariance)?);
    }
    let (rows, goal) = (source.with_rows(moved.transpose()).check()?, target.check()?);
    let roots = |rows: Rows<'_>| -> Vec<f64> {
        rows.covariance_weights(covariance).into_iter().map(f64::sqrt).collect()
    };
    let (from, to, roots, goal_roots) = (mean(rows), mean(goal), roots(rows), roots(goal));
    let apart: f64 = from.iter().zip(&to).map(|(a, b)| (a - b) * (a - b)).sum();
    for (i, root) in roots.iter().enumerate() {
        moved.col_as_slice_mut(i).iter_mut().zip(&from).for_each(|(x, mean)| *x = (*x - mean) * root);
    }
    let (mut across, mut trace) = (Mat::<f64>::zeros(n, goal.count()), squared_norm(moved.as_ref()));
    for start in (0..d).step_by(STRIP) {
        let width = STRIP.min(d - start);
        let strip = Mat::from_fn(goal.count(), width, |i, j| {
            (goal.view()[(i, start + j)] - to[start + j]) * goal_roots[i]
        });
        trace += squared_norm(strip.as_ref());
        add_product(&mut across, moved.as_ref().subrows(start, width).transpose(), strip.transpose());
    }
    let nuclear: f64 = singular_values(across.as_ref())?.iter().sum();
    Ok((apart + (trace - 2.0 * nuclear).max(0.0)).sqrt())
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

/// Rows that a map has moved.
pub(crate) struct Moved {
    /// The rows as columns, `[d, n]`: a map takes rows fastest that lie one after the other.
    pub rows: Mat<f64>,
    /// `|T(x) - x|^2`. `[n]`.
    pub squared_steps: Vec<f64>,
}

/// Moves a copy of the rows.
pub(crate) fn moved(map: &RowMap, rows: MatRef<'_, f64>) -> Result<Moved, TransportError> {
    let mut out =
        Moved { rows: Mat::zeros(rows.ncols(), rows.nrows()), squared_steps: vec![0.0; rows.nrows()] };
    let blocks = out.rows.as_mut().par_col_chunks_mut(AT_ONCE).zip(out.squared_steps.par_chunks_mut(AT_ONCE));
    blocks.zip(rows.par_row_chunks(AT_ONCE)).enumerate().try_for_each(
        |(index, ((mut block, steps), rows))| {
            for (j, column) in rows.col_iter().enumerate() {
                column.iter().enumerate().for_each(|(i, x)| block[(j, i)] = *x);
            }
            let before = block.to_owned();
            map.apply_rows(block.as_mut().transpose_mut(), 1.0).map_err(|error| match error {
                MapError::Overflow { row, column, number } => {
                    MapError::Overflow { row: index * AT_ONCE + row, column, number }
                }
                error => error,
            })?;
            for (i, step) in steps.iter_mut().enumerate() {
                let places = block.as_ref().col(i).iter().zip(before.col(i).iter());
                *step = places.map(|(after, before)| (after - before).powi(2)).sum();
            }
            Ok::<_, TransportError>(())
        },
    )?;
    Ok(out)
}

/// Root of the mean of squared steps, each with the weight of its row.
fn mean_step(rows: Samples<'_>, squared: &[f64]) -> Result<f64, TransportError> {
    Ok(average(squared, rows.shares()?.as_deref()).sqrt())
}

fn average(values: &[f64], shares: Option<&[f64]>) -> f64 {
    match shares {
        None => values.iter().sum::<f64>() / values.len() as f64,
        Some(shares) => values.iter().zip(shares).map(|(x, w)| w * x).sum(),
    }
}

/// Area under the ROC curve for rows drawn by their shares (equal ones where there are none).
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
