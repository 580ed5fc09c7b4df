use crate::certificate::Optimality;
use crate::fit::Pair;
use crate::{FitOptions, Gaussian, Pooling, Shift, TransportError, monge};
use brenier_linalg::{Pca, Rows, center, mean, pca, product};
use brenier_map::{Affine, LowRank};
use faer::Mat;

/// A PCA-OT map, and the coordinates that a gate needs.
pub(crate) struct PcaOt {
    pub affine: Affine,
    pub optimality: Optimality,
    pub shrinkage: [f64; 2],
    pub pca: Pca,
    pub center: Vec<f64>,
    /// The classes in the K coordinates about `center`.
    pub source: Mat<f64>,
    pub target: Mat<f64>,
}

/// `T(x) = x + shift + P (A_K - I) P^T (x - m_s)`.
///
/// `P`: `[d, K]`, the top K principal axes of the pooled rows; `A_K` the optimal map in these coordinates. The
/// identity on the complement is part of the map: lifting `P A_K P^T` alone would delete the complement.
///
/// Reference: G. Nanfack, E. Belilovsky & E. Dohmatob, arXiv 2603.04355, 2026.
pub(crate) fn pca_ot(pair: &Pair<'_>, options: &FitOptions) -> Result<PcaOt, TransportError> {
    let (source_mean, target_mean) = (mean(pair.source), mean(pair.target));
    let (n_s, n_t) = (pair.source.count(), pair.target.count());
    let share = match options.pooling {
        Pooling::Rows => n_s as f64 / (n_s + n_t) as f64,
        Pooling::Classes => 0.5,
    };
    let about: Vec<f64> =
        source_mean.iter().zip(&target_mean).map(|(s, t)| share * s + (1.0 - share) * t).collect();
    let (s, t) = (pair.source.view(), pair.target.view());
    let pooled =
        Mat::from_fn(n_s + n_t, pair.dim(), |i, j| if i < n_s { s[(i, j)] } else { t[(i - n_s, j)] });
    let weights: Vec<f64> = (0..n_s + n_t)
        .map(|i| if i < n_s { share / n_s as f64 } else { (1.0 - share) / n_t as f64 })
        .collect();
    let pca = pca(Rows::new(pooled.as_ref())?, &about, Some(&weights), options.components)?;

    let coordinates = |rows: Rows<'_>| product(center(rows, &about).as_ref(), pca.basis.as_ref());
    let (source, target) = (coordinates(pair.source), coordinates(pair.target));
    let reg = options.reg_abs.unwrap_or(0.0);
    let gaussian =
        |z: &Mat<f64>| Gaussian::estimate(Rows::new(z.as_ref())?, options.covariance, options.shrinkage, reg);
    let ((in_source, shrunk_source), (in_target, shrunk_target)) = (gaussian(&source)?, gaussian(&target)?);
    let monge = monge(&in_source, &in_target)?;

    let mut correction = monge.matrix();
    for i in 0..options.components {
        correction[(i, i)] -= 1.0;
    }
    let offset = match options.shift {
        Shift::Full => target_mean.iter().zip(&source_mean).map(|(t, s)| t - s).collect(),
        Shift::Subspace => {
            let step = Mat::from_fn(options.components, 1, |k, _| in_target.mean()[k] - in_source.mean()[k]);
            let lifted = product(pca.basis.as_ref(), step.as_ref());
            (0..pair.dim()).map(|j| lifted[(j, 0)]).collect()
        }
    };
    let affine = Affine::LowRank(LowRank {
        scale: 1.0,
        mean: source_mean,
        offset,
        u: product(pca.basis.as_ref(), correction.as_ref()),
        v: pca.basis.clone(),
    });
    let shrinkage = [shrunk_source, shrunk_target];
    let optimality = monge.optimality().clone();
    Ok(PcaOt { affine, optimality, shrinkage, pca, center: about, source, target })
}
