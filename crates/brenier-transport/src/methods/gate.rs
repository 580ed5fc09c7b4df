use crate::error::{Side, TransportError};
use crate::gaussian::Gaussian;
use crate::methods::axes::Axes;
use crate::options::FitOptions;
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
    let estimate = |side: usize| {
        axes.whitened(side)?.gaussian(options.covariance, options.gate.shrinkage, 0.0, axes.count())
    };
    let ((source, of_source), (target, of_target)) = (estimate(0)?, estimate(1)?);
    let gate = gate_between(&axes.basis, &axes.deviations(), &axes.center, [&source, &target], options)?;
    Ok((gate, [of_source, of_target]))
}

/// The gate between two Gaussians in coordinates `z = diag(1/roots) basis^T (x - center)`.
fn gate_between(
    basis: &Mat<f64>,
    roots: &[f64],
    center: &[f64],
    [source, target]: [&Gaussian; 2],
    options: &FitOptions,
) -> Result<Gate, TransportError> {
    let k = basis.ncols();
    let (source, target) = (natural(source, Side::Source)?, natural(target, Side::Target)?);
    let prior = options.gate.prior;
    Ok(Gate {
        basis: Mat::from_fn(basis.nrows(), k, |i, j| basis[(i, j)] / roots[j]),
        center: center.to_vec(),
        constant: (prior / (1.0 - prior)).ln() + source.constant - target.constant,
        linear: source.linear.iter().zip(&target.linear).map(|(s, t)| s - t).collect(),
        quadratic: &source.quadratic - &target.quadratic,
        temperature: options.gate.temperature,
        threshold: options.gate.threshold,
    })
}

/// `log N(z; m, S)` without `-(K/2) log 2 pi`, as `constant + linear . z + z^T quadratic z`.
struct Natural {
    constant: f64,
    linear: Vec<f64>,
    quadratic: Mat<f64>,
}

fn natural(gaussian: &Gaussian, side: Side) -> Result<Natural, TransportError> {
    let k = gaussian.dim();
    let factor = gaussian.factor_in(&JointBasis { vectors: None, rank: k });
    let root = symmetric_inverse_root(gram(factor.as_ref().transpose()).as_ref())?;
    if root.floored > 0 {
        return Err(TransportError::GateDegenerate { side, rank: k - root.floored, components: k });
    }
    let precision = gram(root.matrix.as_ref());
    let mean = Mat::from_fn(k, 1, |j, _| gaussian.mean()[j]);
    let linear = product(precision.as_ref(), mean.as_ref());
    let at_mean: f64 = (0..k).map(|j| linear[(j, 0)] * mean[(j, 0)]).sum();
    Ok(Natural {
        constant: -0.5 * (root.log_determinant + at_mean),
        linear: (0..k).map(|j| linear[(j, 0)]).collect(),
        quadratic: Mat::from_fn(k, k, |i, j| -0.5 * precision[(i, j)]),
    })
}
