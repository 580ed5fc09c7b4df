use crate::certificate::Optimality;
use crate::gaussian::bures_squared;
use crate::{Gaussian, Side, TransportError};
use brenier_linalg::{
    JointBasis, gram, joint_basis, product, product_with_transpose, relative_floor, squared_norm,
    squared_norm_of_gram, symmetric_eigen, symmetrize, thin_svd,
};
use brenier_map::{Affine, Dense, LowRank};
use faer::{Mat, MatRef};

/// How many times the rounding of one sum the laws may be off, at a condition number of 1.
const TOLERANCE: f64 = 100.0;

/// The optimal map between two Gaussians,
///
/// ```text
/// T(x) = m_t + A (x - m_s),   A = c I + Q (A_r - c I) Q^T,   c = sqrt(e_t / e_s)
/// ```
///
/// with `Q` (`[d, r]`) an orthonormal basis of the joint span of the two factors, and `A_r` the optimal map inside it.
#[derive(Debug, Clone)]
pub struct Monge {
    source_mean: Vec<f64>,
    target_mean: Vec<f64>,
    scale: f64,
    basis: JointBasis,
    matrix: Mat<f64>,
    optimality: Optimality,
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
    let d = source.dim();
    if d != target.dim() {
        return Err(TransportError::Widths { side: Side::Target, expected: d, found: target.dim() });
    }
    let basis = joint_basis(source.factor(), target.factor())?;
    let r = basis.rank;
    let (of_source, of_target) = (source.factor_in(&basis), target.factor_in(&basis));
    // An isotropic source spreads the null space evenly; without one the null space cannot be moved but as a whole.
    let scale = if source.isotropic > 0.0 { (target.isotropic / source.isotropic).sqrt() } else { 1.0 };

    let svd = thin_svd(of_source.as_ref())?;
    let largest = svd.values.first().copied().unwrap_or(0.0);
    let floor = relative_floor(d.max(of_source.nrows()));
    let kept = svd.values.iter().take_while(|&&s| s > 0.0 && s * s > floor * largest * largest).count();
    let range = svd.right.as_ref().subcols(0, kept);
    let s = &svd.values[..kept];

    let across = product(of_target.as_ref(), range);
    let across = Mat::from_fn(across.nrows(), kept, |i, j| across[(i, j)] * s[j]);
    let middle = thin_svd(across.as_ref())?;
    // diag(1/s) U diag(g) U^T diag(1/s), as a Gram matrix: exactly symmetric and positive semi-definite.
    let half =
        Mat::from_fn(kept, middle.values.len(), |i, j| middle.right[(i, j)] * middle.values[j].sqrt() / s[i]);
    let mut inner = gram(half.as_ref());
    let eigenvalues = symmetric_eigen(inner.as_ref())?.values;
    // The identity on the null space, by way of I + V (. - I) V^T; without one there is no need to lose digits of a
    // small A beside I.
    let whole = kept == r;
    if !whole {
        for i in 0..kept {
            inner[(i, i)] -= 1.0;
        }
    }
    let mut matrix = product_with_transpose(product(range, inner.as_ref()).as_ref(), range);
    if !whole {
        for i in 0..r {
            matrix[(i, i)] += 1.0;
        }
    }
    symmetrize(&mut matrix);

    let condition = if kept > 0 { (largest / s[kept - 1]).powi(2) } else { 1.0 };
    let mut all = eigenvalues;
    if kept < r {
        all.push(1.0);
    }
    if r < d {
        all.push(scale);
    }
    let optimality = Optimality {
        rank: kept,
        floored: r - kept,
        floor,
        condition,
        min_eigenvalue: all.iter().copied().fold(f64::INFINITY, f64::min),
        max_eigenvalue: all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ..Optimality::default()
    };
    let mut map = Monge {
        source_mean: source.mean.clone(),
        target_mean: target.mean.clone(),
        scale,
        basis,
        matrix,
        optimality,
    };
    map.prove(source, target, of_source.as_ref(), of_target.as_ref(), range)?;
    Ok(map)
}

impl Monge {
    /// What was measured of the map.
    pub fn optimality(&self) -> &Optimality {
        &self.optimality
    }

    /// `A`, `[d, d]`: for small dimensions, such as the K coordinates of a PCA.
    pub fn matrix(&self) -> Mat<f64> {
        let d = self.source_mean.len();
        match &self.basis.vectors {
            None => self.matrix.clone(),
            Some(vectors) => {
                let mut out =
                    product_with_transpose(self.correction(vectors.as_ref()).as_ref(), vectors.as_ref());
                for i in 0..d {
                    out[(i, i)] += self.scale;
                }
                out
            }
        }
    }

    /// The map as a row operator: dense where the span is everything (`r = d`), else a multiple of the identity plus
    /// rank `r`.
    pub fn affine(&self) -> Affine {
        let (from, to) = (&self.source_mean, &self.target_mean);
        match &self.basis.vectors {
            None => {
                let d = from.len();
                let moved = |i: usize| (0..d).map(|j| self.matrix[(i, j)] * from[j]).sum::<f64>();
                let bias = to.iter().enumerate().map(|(i, m)| m - moved(i)).collect();
                Affine::Dense(Dense { matrix: self.matrix.clone(), bias })
            }
            Some(vectors) => Affine::LowRank(LowRank {
                scale: self.scale,
                mean: from.clone(),
                offset: to.iter().zip(from).map(|(t, s)| t - self.scale * s).collect(),
                u: self.correction(vectors.as_ref()),
                v: vectors.clone(),
            }),
        }
    }

    /// `Q (A_r - c I)`, `[d, r]`.
    fn correction(&self, vectors: MatRef<'_, f64>) -> Mat<f64> {
        let mut inner = self.matrix.clone();
        for i in 0..inner.nrows() {
            inner[(i, i)] -= self.scale;
        }
        product(vectors, inner.as_ref())
    }

    /// Measures the laws of an optimal map and refuses one that breaks them. `range` spans the source's range inside
    /// the basis.
    fn prove(
        &mut self,
        source: &Gaussian,
        target: &Gaussian,
        of_source: MatRef<'_, f64>,
        of_target: MatRef<'_, f64>,
        range: MatRef<'_, f64>,
    ) -> Result<(), TransportError> {
        let (d, r) = (source.dim(), self.basis.rank);
        let a = self.matrix.as_ref();
        let reached = product(of_target, range);
        // Outside the span an isotropic source can be scaled to any isotropic target, and a flat one not at all.
        let (e_s, e_t, rest) = (source.isotropic, target.isotropic, (d - r) as f64);
        let outside = if e_s > 0.0 { rest * (e_s.sqrt() - e_t.sqrt()).powi(2) } else { 0.0 };
        let inside = squared_norm(reached.as_ref()) + if e_s > 0.0 { rest * e_t } else { 0.0 };
        let all = squared_norm(of_target) + rest * e_t;

        // A S_s A against S_t, both on the range of the source.
        let pushed = product(product(of_source, a).as_ref(), range);
        let got = gram(pushed.as_ref().transpose());
        let want = gram(reached.as_ref().transpose());
        let size = squared_norm_of_gram(of_target).sqrt();
        let off = squared_norm((&got - &want).as_ref()).sqrt();

        // The cost of moving, against the distance by the nuclear norm: two ways that share no decomposition.
        let mut step = self.matrix.clone();
        for i in 0..r {
            step[(i, i)] -= 1.0;
        }
        let apart: f64 = source.mean.iter().zip(&target.mean).map(|(x, y)| (x - y) * (x - y)).sum();
        let cost = squared_norm(product(of_source, step.as_ref()).as_ref()) + apart + outside;
        let distance = bures_squared(of_source, product_with_transpose(reached.as_ref(), range).as_ref())?
            + apart
            + outside;
        let scale_of_cost = apart + outside + squared_norm(of_source) + inside;

        let o = &mut self.optimality;
        o.symmetry =
            ratio(squared_norm((a.to_owned() - a.transpose()).as_ref()).sqrt(), squared_norm(a).sqrt());
        o.push_forward_covariance = ratio(off, size);
        o.unreachable = ratio((all - inside).max(0.0), all);
        o.transport_cost = cost;
        o.w2_squared = distance;
        let dim = d.max(of_source.nrows()).max(of_target.nrows());
        check_laws(o, dim, size, squared_norm_of_gram(of_source).sqrt(), scale_of_cost)
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

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { part }
}
