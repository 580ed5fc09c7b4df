use crate::certificate::Optimality;
use crate::joint::{Joint, JointMap, TOLERANCE, extremes, ratio};
use crate::{Gaussian, TransportError};
use brenier_linalg::{ThinSvd, gram, product, relative_floor, symmetric_eigenvalues, symmetrize, thin_svd};
use brenier_map::Affine;
use faer::Mat;

/// The optimal map between two Gaussians,
///
/// ```text
/// T(x) = m_t + A (x - m_s),   A = c I + Q (A_r - c I) Q^T,   c = sqrt(e_t / e_s)
/// ```
///
/// with `Q` (`[d, r]`) an orthonormal basis of the joint span of the two factors, and `A_r` the optimal map inside it.
#[derive(Debug, Clone)]
pub struct Monge {
    pub(crate) map: JointMap,
    pub(crate) optimality: Optimality,
}

/// The optimal map from `source` to `target`, checked against every law that makes it optimal.
///
/// In the basis `Q`, with `F_s = W diag(s) V^T` and `F_t V diag(s) = . diag(g) U^T` (two singular value
/// decompositions, so that no covariance is squared),
///
/// ```text
/// A_r = I + V ( diag(1/s) U diag(g) U^T diag(1/s) - I ) V^T
/// ```
///
/// which is the optimal map on the range of the source (`s^2` above `dim * eps` of the largest) and the identity on
/// its null space, where an optimal map does not exist. If both isotropic parts are zero, `c = 1`.
///
/// That no map is cheaper is shown by the nuclear norm of the factors' product. [`fit`](crate::fit()) on fewer rows than
/// columns, both covariances regularised, shows it by duality instead, which holds for any positive definite `A`:
///
/// ```text
/// W2^2 >= |m_t - m_s|^2 + tr S_s + tr S_t - tr(A S_s) - tr(A^{-1} S_t)
/// ```
///
/// # Errors
/// [`TransportError::Widths`]; [`TransportError::Certificate`] if the result is off by more than rounding explains.
///
/// References: M. Knott & C. S. Smith, "On the optimal mapping of distributions", J. Optim. Theory Appl. 43, 1984;
/// G. Peyré & M. Cuturi, "Computational Optimal Transport", 2019, remark 2.31; C. Bouveyron & M. Corneli, 2026 (the
/// low-rank-plus-isotropic form).
pub fn monge(source: &Gaussian, target: &Gaussian) -> Result<Monge, TransportError> {
    monge_in(Joint::of(source, target)?)
}

/// [`monge`] between the two of these.
pub(crate) fn monge_in(joint: Joint) -> Result<Monge, TransportError> {
    let range = joint.range_of_source()?;
    let (kept, s, scale) = (range.kept, range.deviations(), joint.scale());

    let inner = {
        let mut across = product(joint.of_target.as_ref(), range.axes());
        for (column, s) in across.as_mut().col_iter_mut().zip(s) {
            column.iter_mut().for_each(|x| *x *= s);
        }
        let ThinSvd { values, right: mut half } = thin_svd(across.as_ref())?;
        drop(across);
        // diag(1/s) U diag(g) U^T diag(1/s), as a Gram matrix: exactly symmetric and positive semi-definite.
        for (column, g) in half.as_mut().col_iter_mut().zip(values) {
            column.iter_mut().zip(s).for_each(|(x, s)| *x = *x * g.sqrt() / s);
        }
        gram(half.as_ref())
    };
    let mut all = symmetric_eigenvalues(inner.as_ref())?;
    let mut matrix = range.beside_identity(inner);
    symmetrize(&mut matrix);

    if kept < joint.basis.rank {
        all.push(1.0);
    }
    if joint.rest() > 0.0 {
        all.push(scale);
    }
    let (mut optimality, sizes) = joint.measure(matrix.as_ref(), range)?;
    [optimality.min_eigenvalue, optimality.max_eigenvalue] = extremes(&all);
    check_laws(&mut optimality, joint.longest(), sizes.target, sizes.source, sizes.cost)?;
    Ok(Monge { map: joint.map(scale, matrix), optimality })
}

impl Monge {
    /// What was measured of the map.
    pub fn optimality(&self) -> &Optimality {
        &self.optimality
    }

    /// `A`, `[d, d]`: for small dimensions, such as the K coordinates of a PCA.
    pub fn matrix(&self) -> Mat<f64> {
        self.map.matrix()
    }

    /// The map as a row operator: dense where the span is everything (`r = d`), else a multiple of the identity plus
    /// rank `r`.
    pub fn affine(&self) -> Affine {
        self.map.clone().into_affine()
    }
}

/// Refuses a map whose laws, as measured, are off by more than rounding explains: `dim` is the longest sum, `size_t`
/// and `size_s` are `|S_t|_F` and `|S_s|_F`, and `size_of_cost` is the sum of what the cost is a difference of.
pub(crate) fn check_laws(
    o: &mut Optimality,
    dim: usize,
    size_t: f64,
    size_s: f64,
    size_of_cost: f64,
) -> Result<(), TransportError> {
    // Singular values are known to eps * sqrt(condition); the constants cover sums over the dimension.
    o.tolerance = TOLERANCE * relative_floor(dim + 16) * o.condition.sqrt();
    // Beside an identity, A is known to eps and not to eps |A|; this is what that does to A S_s A.
    let beside = if o.floored > 0 {
        (o.max_eigenvalue * size_s / size_t.max(f64::MIN_POSITIVE)).max(1.0)
    } else {
        1.0
    };
    let smallest = if o.max_eigenvalue > 0.0 { (-o.min_eigenvalue / o.max_eigenvalue).max(0.0) } else { 0.0 };
    for (law, found, times) in [
        ("A = A^T", o.symmetry, 1.0),
        ("A positive semi-definite", smallest, 1.0),
        ("A S_s A = S_t", o.push_forward_covariance, beside),
        ("transport cost = W2^2", ratio((o.transport_cost - o.w2_squared).abs(), size_of_cost), 1.0),
    ] {
        let allowed = o.tolerance * times;
        if found.is_nan() || found > allowed {
            return Err(TransportError::Certificate { law, found, allowed });
        }
    }
    Ok(())
}
