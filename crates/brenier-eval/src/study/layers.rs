//! Source and target, layer by layer, and in two components.

use brenier_linalg::{Rows, center, mean, pca, product};
use brenier_residual::HookPoint;
use brenier_transport::{Covariance, Gaussian, Method, w2};
use faer::{Mat, MatRef};

use super::candidates::{Candidate, LayerRows};
use crate::{EvalError, LayerInfo, Scatter};

/// How far apart the classes are on validation, along the difference of the training means.
pub(super) fn layer_info(rows: &LayerRows, candidates: &[Candidate]) -> Result<LayerInfo, EvalError> {
    let (source, target) = (Rows::new(rows.source.as_ref())?, Rows::new(rows.target.as_ref())?);
    let direction: Vec<f64> = mean(source).iter().zip(mean(target)).map(|(s, t)| s - t).collect();
    let project = |rows: MatRef<'_, f64>| -> Vec<f64> {
        (0..rows.nrows()).map(|i| (0..rows.ncols()).map(|j| rows[(i, j)] * direction[j]).sum()).collect()
    };
    let (s, t) = (project(rows.source_val.as_ref()), project(rows.target_val.as_ref()));
    let gaussian = |rows: &Mat<f64>| Gaussian::from_rows(rows.as_ref(), Covariance::Sample);
    let gate = candidates.iter().find(|one| one.method == Method::Gated && one.layer == rows.layer);
    let held_out = gate.and_then(|one| one.fit.certificate.held_out.as_ref());
    Ok(LayerInfo {
        layer: rows.layer,
        auc: auc(&s, &t),
        fisher: fisher(&s, &t),
        w2: w2(&gaussian(&rows.source_val)?, &gaussian(&rows.target_val)?)?,
        gate_auc: held_out.and_then(|quality| quality.gate.as_ref()).map(|gate| gate.auc),
        baseline_refusal_score: None,
        refusal_score: None,
        refusal_rate: None,
        answer_rate: None,
    })
}

/// Validation rows before and after a map, in the two leading components of the pooled training rows.
pub(super) fn scatter(rows: &LayerRows, candidate: &Candidate) -> Result<Option<Scatter>, EvalError> {
    let pooled = Mat::from_fn(rows.source.nrows() + rows.target.nrows(), rows.source.ncols(), |i, j| {
        let n = rows.source.nrows();
        if i < n { rows.source[(i, j)] } else { rows.target[(i - n, j)] }
    });
    let pooled = Rows::new(pooled.as_ref())?;
    let middle = mean(pooled);
    // Fewer than two directions: there is no plane to look at.
    let Ok(axes) = pca(pooled, &middle, None, 2) else { return Ok(None) };
    let place = |rows: &Mat<f64>| -> Result<Vec<[f64; 2]>, EvalError> {
        let flat = product(center(Rows::new(rows.as_ref())?, &middle).as_ref(), axes.basis.as_ref());
        Ok((0..flat.nrows()).map(|i| [flat[(i, 0)], flat[(i, 1)]]).collect())
    };
    let mapped = |rows: &Mat<f64>| -> Result<Mat<f64>, EvalError> {
        let mut rows = rows.clone();
        candidate.fit.map.apply_rows(rows.as_mut(), 1.0)?;
        Ok(rows)
    };
    Ok(Some(Scatter {
        at: HookPoint::resid_post(rows.layer).to_string(),
        method: candidate.method.to_string(),
        axes: ["component 1".to_owned(), "component 2".to_owned()],
        source: place(&rows.source_val)?,
        target: place(&rows.target_val)?,
        transported: place(&mapped(&rows.source_val)?)?,
        target_after: place(&mapped(&rows.target_val)?)?,
    }))
}

/// The chance that a source value is larger than a target value, ties counting half.
fn auc(source: &[f64], target: &[f64]) -> f64 {
    let wins = |s: f64| {
        target
            .iter()
            .map(|&t| {
                if s > t {
                    1.0
                } else if s == t {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    source.iter().map(|&s| wins(s)).sum::<f64>() / (source.len() * target.len()).max(1) as f64
}

/// `(m_s - m_t)^2 / (var_s + var_t)`, 0 where neither varies and the means agree.
fn fisher(source: &[f64], target: &[f64]) -> f64 {
    let moments = |values: &[f64]| {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n)
    };
    let ((ms, vs), (mt, vt)) = (moments(source), moments(target));
    let gap = (ms - mt).powi(2);
    // A perfect separation of points without spread is large, not infinite: JSON has no infinity.
    if gap == 0.0 { 0.0 } else { gap / (vs + vt).max(gap * f64::EPSILON) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separation_by_hand() {
        assert_eq!(auc(&[2.0, 3.0], &[1.0, 2.0]), 3.5 / 4.0);
        assert_eq!(auc(&[1.0], &[2.0]), 0.0);
        // Means 2 and 0, variances 1 and 1.
        assert_eq!(fisher(&[1.0, 3.0], &[-1.0, 1.0]), 2.0);
        assert_eq!(fisher(&[1.0], &[1.0]), 0.0);
        assert!(fisher(&[1.0], &[2.0]).is_finite());
    }
}
