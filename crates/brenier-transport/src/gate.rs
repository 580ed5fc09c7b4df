use crate::pca_ot::Axes;
use crate::samples::along;
use crate::{FitOptions, Gaussian, Shrinkage, Side, TransportError};
use brenier_linalg::{JointBasis, gram, product, symmetric_inverse_root};
use brenier_map::Gate;
use faer::Mat;

/// The posterior that a row belongs to the source, as a quadratic form in the K coordinates `z`:
///
/// ```text
/// log p / (1 - p) = log(pi / (1 - pi)) + log N(z; m_s, S_s) - log N(z; m_t, S_t)
/// ```
///
/// Coordinates are scaled to unit pooled variance, so that the form's entries are of the order of one whatever the
/// unit of the activations, and so that shrinkage towards a sphere makes sense when the axes differ in size.
/// Returns the gate and the shrinkage intensities of the two covariances.
///
/// Reference: J. Delon & A. Desolneux, "A Wasserstein-type distance in the space of Gaussian mixture models",
/// SIAM J. Imaging Sci. 13, 2020 (the barycentric map of a mixture).
pub(crate) fn gate_along(axes: &Axes, options: &FitOptions) -> Result<(Gate, [f64; 2]), TransportError> {
    let k = axes.basis.ncols();
    let roots: Vec<f64> = axes.eigenvalues.iter().map(|value| value.sqrt()).collect();
    let whiten = |z: &Mat<f64>| Mat::from_fn(z.nrows(), k, |i, j| z[(i, j)] / roots[j]);
    let (source, source_shrinkage) =
        natural(&whiten(&axes.source), axes.weights(Side::Source), Side::Source, options)?;
    let (target, target_shrinkage) =
        natural(&whiten(&axes.target), axes.weights(Side::Target), Side::Target, options)?;
    let prior = options.gate.prior;
    let gate = Gate {
        basis: Mat::from_fn(axes.basis.nrows(), k, |i, j| axes.basis[(i, j)] / roots[j]),
        center: axes.center.clone(),
        constant: (prior / (1.0 - prior)).ln() + source.constant - target.constant,
        linear: source.linear.iter().zip(&target.linear).map(|(s, t)| s - t).collect(),
        quadratic: &source.quadratic - &target.quadratic,
        temperature: options.gate.temperature,
        threshold: options.gate.threshold,
    };
    Ok((gate, [source_shrinkage, target_shrinkage]))
}

/// `log N(z; m, S)` without `-(K/2) log 2 pi`, as `constant + linear . z + z^T quadratic z`.
struct Natural {
    constant: f64,
    linear: Vec<f64>,
    quadratic: Mat<f64>,
}

fn natural(
    rows: &Mat<f64>,
    weights: Option<&[f64]>,
    side: Side,
    options: &FitOptions,
) -> Result<(Natural, f64), TransportError> {
    let k = rows.ncols();
    let shrinkage: Shrinkage = options.gate.shrinkage;
    let (gaussian, intensity) =
        Gaussian::estimate(along(rows, weights)?, options.covariance, shrinkage, 0.0)?;
    let factor = gaussian.factor_in(&JointBasis { vectors: None, rank: k });
    let root = symmetric_inverse_root(gram(factor.as_ref().transpose()).as_ref())?;
    if root.floored > 0 {
        return Err(TransportError::GateDegenerate { side, rank: k - root.floored, components: k });
    }
    let precision = gram(root.matrix.as_ref());
    let mean = Mat::from_fn(k, 1, |j, _| gaussian.mean()[j]);
    let linear = product(precision.as_ref(), mean.as_ref());
    let at_mean: f64 = (0..k).map(|j| linear[(j, 0)] * mean[(j, 0)]).sum();
    let natural = Natural {
        constant: -0.5 * (root.log_determinant + at_mean),
        linear: (0..k).map(|j| linear[(j, 0)]).collect(),
        quadratic: Mat::from_fn(k, k, |i, j| -0.5 * precision[(i, j)]),
    };
    Ok((natural, intensity))
}
